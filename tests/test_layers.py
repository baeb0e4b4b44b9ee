"""The layers hold: doors above services above store above domain, and no door imports another."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("quotas", "spawners", "batch", "portal", "cli")


def test_imports_keep_their_direction() -> None:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nobody_else_provides_our_package_names() -> None:
    others = {
        name: owners
        for name, owners in packages_distributions().items()
        if name in PACKAGES and set(owners) != {"mudeung"}
    }
    assert others == {}


def test_files_stay_readable() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}
