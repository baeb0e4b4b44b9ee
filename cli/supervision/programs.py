"""The programs that make up a platform, with the command and environment of each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cli.session import Problem
from quotas.home import VARIABLE, Home
from spawners.servers import hub_url

ROOT = Path(__file__).resolve().parent.parent.parent
"""The project's folder: the hub's configuration and the proxy lie beside the packages."""
PROXY = Path("node_modules", "configurable-http-proxy", "bin", "configurable-http-proxy")
OLDEST_NODE = 20
OVERRIDES = "MUDEUNG_OVERRIDES"


@dataclass(frozen=True)
class Program:
    """One program: it has `stop_seconds` to end after SIGTERM."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: int = 10


def programs(home: Home) -> tuple[Program, ...]:
    """Return the programs in the order in which they start; they end in the opposite one."""
    token = {"CONFIGPROXY_AUTH_TOKEN": home.secret("proxy_token")}
    return (
        Program("proxy", proxy_command(home), token, stop_seconds=1),
        Program("hub", (sys.executable, "-m", "jupyterhub", "-f", str(ROOT / "jupyterhub_config.py")), token, 20),
        Program("reconciler", (sys.executable, "-m", "spawners.reconciler"), stop_seconds=20),
        Program("idleness", (sys.executable, "-m", "spawners.idleness")),
        Program("scheduler", (sys.executable, "-m", "batch", "scheduler")),
        Program("portal", (sys.executable, "-m", "portal")),
    )


def proxy_command(home: Home) -> tuple[str, ...]:
    """Return the proxy's command.

    Raises Problem where it, or Node, is not installed, BackendAway where the containers' network cannot be made.
    """
    if not (ROOT / PROXY).exists():
        raise Problem(
            f"{ROOT / PROXY} is missing; `make setup` installs it", f"{PROXY} 없음. `make setup`을 실행하세요"
        )
    return (
        node(),
        str(ROOT / PROXY),
        *("--ip", home.settings.host, "--port", str(home.settings.port)),
        *("--api-ip", "127.0.0.1", "--api-port", str(home.ports()["proxy_api"])),
        *("--error-target", f"{hub_url(home)}/hub/error"),
        *("--log-level", "warn"),
    )


def node() -> str:
    """Return the Node to use: the one on PATH, or else the one that was installed beside Python. Raises Problem."""
    for found in (shutil.which("node"), str(Path(sys.executable).with_name("node"))):
        if found and _is_recent(found):
            return found
    raise Problem(
        f"the proxy needs Node {OLDEST_NODE} or newer; `make setup` installs one",
        f"프록시에는 Node {OLDEST_NODE} 이상이 필요합니다. `make setup`을 실행하세요",
    )


def _is_recent(path: str) -> bool:
    program = f"process.exit(process.versions.node.split('.')[0] >= {OLDEST_NODE} ? 0 : 1)"
    try:
        return subprocess.run([path, "-e", program], capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def environment(home: Home, overrides: Mapping[str, object]) -> dict[str, str]:
    """Return the environment of every program: it tells them the home and what the command line set otherwise."""
    own = {
        VARIABLE: str(home.path),
        OVERRIDES: json.dumps({key: value for key, value in overrides.items() if value is not None}),
        "PYTHONUNBUFFERED": "1",
        "MUDEUNG_PYTHON": sys.executable,
    }
    return {**os.environ, **own}


def write(path: Path, listed: tuple[Program, ...]) -> None:
    """The file holds the programs, as `python -m cli.supervision.child` reads them; they have secrets in them."""
    path.touch(mode=0o600)
    path.write_text(json.dumps({program.name: asdict(program) for program in listed}))
