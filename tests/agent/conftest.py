"""A scenario of NVML for each test, a platform, and agents as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.monitor import Monitor
from tests.agent.platform import TOKEN, Platform, serving
from tests.nvml import library as nvml

ROOT = Path(__file__).resolve().parent.parent.parent
PROXIES = {name for name in os.environ if name.lower().endswith("_proxy")}


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NVML's library for this machine; CUDA's is beside it."""
    return nvml.build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def scenario(tmp_path: Path) -> nvml.Scenario:
    """Eight H100, two of them cut into seven slices each, all idle."""
    return nvml.Scenario.standard(tmp_path / "scenario")


@pytest.fixture
def loaded(library: Path, scenario: nvml.Scenario, monkeypatch: pytest.MonkeyPatch) -> nvml.Scenario:
    """The scenario, which `pynvml` in this process sees."""
    monkeypatch.setenv("MUDEUNG_NVML_SCENARIO", str(scenario.path))
    nvml.load(library, scenario)
    return scenario


@pytest.fixture
def empty_root(tmp_path: Path) -> Path:
    """A file system without NPUs."""
    (tmp_path / "root/dev").mkdir(parents=True)
    (tmp_path / "root/etc").mkdir()
    (tmp_path / "root/etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    return tmp_path / "root"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc without processes."""
    (tmp_path / "proc").mkdir()
    return tmp_path / "proc"


@pytest.fixture
def monitor(loaded: nvml.Scenario, empty_root: Path, proc: Path) -> Iterator[Monitor]:
    assert loaded.path.exists()
    made = Monitor(empty_root, proc)
    yield made
    made.close()


@pytest.fixture
def platform() -> Iterator[Platform]:
    made = Platform()
    with serving(made):
        yield made


@pytest.fixture
def surroundings(library: Path, scenario: nvml.Scenario) -> dict[str, str]:
    """The environment of an agent's process."""
    kept = {name: value for name, value in os.environ.items() if name not in PROXIES}
    return {**kept, **nvml.environment(library, scenario), "MUDEUNG_AGENT_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}


Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def run(platform: Platform, surroundings: dict[str, str], empty_root: Path, tmp_path: Path) -> Iterator[Run]:
    """Starts an agent as a process, with a state folder and an interval of a second; all have ended at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, module: str = "agent", **variables: str) -> subprocess.Popen[str]:
        own = ("--url", platform.url, "--state", str(tmp_path / "state"), "--interval", "1", "--root", str(empty_root))
        child = subprocess.Popen(
            [sys.executable, "-m", module, *own, "--lang", "en", *words],
            env={**surroundings, **variables},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
        child.communicate(timeout=10)


def always(milliseconds: int) -> Callable[[str, int], int]:
    """Return what says of every sample that it stands for so long."""
    return lambda _uuid, _at: milliseconds
