"""supervisord with small programs: what it starts again, when it gives up, and that it ends with its head."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cli.session import Session
from cli.supervision import leftovers, lock, supervisor
from cli.supervision.programs import Program
from cli.supervision.supervisor import State, Supervisor, SupervisorGone
from cli.up import Platform, Stop
from quotas.home import Home, open_home

STEADY = Program("steady", ("sleep", "600"))
FLAKY = Program("flaky", ("sh", "-c", "echo this is why; exit 3"))
DEAF = Program("deaf", ("sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"), stop_seconds=600)


def wait_until(holds: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def log(home: Home, name: str) -> str:
    path = home.log / f"{name}.log"
    return path.read_text() if path.exists() else ""


def names(home: Home) -> list[str]:
    """Return what the programs of the home run as."""
    found = []
    for each in leftovers.living(home.path):
        with contextlib.suppress(psutil.Error):
            found.append(each.environ()["MUDEUNG_PROGRAM"] + " " + each.name())
    return found


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with a path that is too long for a socket."""
    return open_home(tmp_path / ("deep" * 25) / "home")


@pytest.fixture
def running(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr(supervisor, "RETRIES", 1)
    monkeypatch.setattr(tempfile, "tempdir", str(home.path))  # the folder for temporary files is no shorter
    watched = Supervisor(home)
    watched.launch((STEADY, FLAKY, DEAF), {})
    wait_until(lambda: "deaf" in log(home, "deaf") and "steady sleep" in names(home), "both have begun")
    yield watched
    # As `up` ends: what is deaf may have been started again just now, and then outlives the watching process.
    watched.kill("deaf")
    watched.terminate(20)
    leftovers.end(home.path, term_seconds=1)
    assert leftovers.living(home.path) == []


def test_what_ends_is_started_again_until_it_is_given_up(running: Supervisor, home: Home) -> None:
    wait_until(lambda: running.states()["flaky"].given_up, "flaky is given up")
    assert (home.log / "flaky.log").read_text().splitlines() == ["this is why"] * 2
    assert running.states()["flaky"].failing
    running.start("flaky")
    wait_until(lambda: (home.log / "flaky.log").read_text().count("this is why") > 2, "flaky is tried again")
    running.start("steady")
    assert running.states()["steady"].alive


def test_what_is_told_to_stop_stays_stopped_and_the_deaf_are_killed(running: Supervisor) -> None:
    running.tell_to_stop("steady", "deaf", "flaky")
    wait_until(lambda: running.states()["steady"].state == "STOPPED", "steady stops")
    assert running.states()["deaf"].alive
    running.kill("deaf")
    wait_until(lambda: running.states()["deaf"].state == "STOPPED", "deaf is killed")
    running.tell_to_stop("steady")


def test_programs_know_the_home_and_their_secrets_and_run_nowhere_else(running: Supervisor, home: Home) -> None:
    steady = psutil.Process(running.states()["steady"].pid)
    assert steady.environ()["MUDEUNG_HOME"] == str(home.path)
    assert steady.cwd() == str(home.hub)
    assert steady.name() == "sleep"


def test_programs_end_when_supervisord_is_killed(running: Supervisor, home: Home) -> None:
    assert running.process is not None
    os.kill(running.process.pid, signal.SIGKILL)
    wait_until(lambda: "steady sleep" not in names(home), "steady ends with it")
    with pytest.raises(SupervisorGone):
        running.states()
    assert not running.lives()
    assert "deaf sh" in names(home)
    leftovers.end(home.path, term_seconds=0.5)
    assert names(home) == []


def test_a_program_ends_with_the_process_that_started_it(home: Home) -> None:
    (home.hub / "programs.json").write_text('{"late": {"command": ["sleep", "600"], "environment": {}}}')
    script = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-m', 'cli.supervision.child', 'late'],"
        " stdout=subprocess.DEVNULL); sys.stdin.read()"
    )
    environment = {**os.environ, "MUDEUNG_HOME": str(home.path), "MUDEUNG_PROGRAM": "late"}
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, env=environment) as parent:
        wait_until(lambda: "late sleep" in names(home), "late runs")
        parent.kill()
    wait_until(lambda: names(home) == [], "late ends")


def test_a_program_that_was_given_up_is_told_once(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    before, given_up = State("portal", "RUNNING", 12, 1, ""), State("portal", "FATAL", 0, 1, "")
    with lock.alone(home.path) as held:
        platform = Platform(Session(home.path, "en", 0), home, {}, Stop(), held)
        for _ in range(3):
            platform._notice(before, given_up)
        platform._notice(given_up, State("portal", "STARTING", 13, 2, ""))
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("portal does not start; see ")
    assert second.startswith("portal ended and was started again; see ")
