"""What is built of JupyterLab's extension is of its sources as they are, and lies where a package brings it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.platform import ROOT

CLIENT = ROOT / "client"
LAB = CLIENT / "lab"
BUILT = CLIENT / "mudeung_session" / "labextension" / "mudeung-session"


def test_what_was_built_is_of_these_sources() -> None:
    names = ["package.json", "tsconfig.json"]
    names += [f"{folder}/{path.name}" for folder in ("src", "style") for path in (LAB / folder).iterdir()]
    found = hashlib.sha256()
    for name in sorted(names):
        text = (LAB / name).read_bytes()
        found.update(f"{name}\0{len(text)}\0".encode())
        found.update(text)
    assert (BUILT / "sources.sha256").read_text().strip() == found.hexdigest(), "the sources changed: make lab"


def test_what_was_built_is_whole_and_small() -> None:
    package = json.loads((BUILT / "package.json").read_text())
    build = package["jupyterlab"]["_build"]
    assert (BUILT / build["load"]).is_file()
    files = [path for path in BUILT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 100_000
    assert [path.name for path in files if path.suffix == ".map"] == []
    assert package["version"] == json.loads((LAB / "package.json").read_text())["version"]


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((LAB / "package-lock.json").read_text())
    assert all("resolved" not in each for each in lock["packages"].values())
    assert lock["packages"][""]["name"] == "mudeung-session"


def test_a_wheel_brings_all_parts(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(words, cwd=CLIENT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name.partition(".data/data/")[2] for name in names} - {""}
    assert "share/jupyter/labextensions/mudeung-session/package.json" in inside
    assert "etc/jupyter/jupyter_server_config.d/mudeung_session.json" in inside
    assert "share/mudeung/terminal.sh" in inside
    assert "mudeung_session/extension.py" in names
    assert not any(name.startswith("mudeung_session/labextension") for name in names)
