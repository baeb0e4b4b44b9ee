"""How the runs of a platform end with it: real processes, stopped and charged once, whatever they were doing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.supervision import runs as ending
from quotas.domain.admission import Admitted, Request
from quotas.domain.launch import Launch
from quotas.domain.policy import Policy
from quotas.domain.profiles import Profile
from quotas.domain.runs import Outcome, RunKind, RunState, new_run_id
from quotas.home import Home, open_home
from quotas.services import admission, check, profiles, runs
from tests.centre import Centre

STUBBORN = "trap '' TERM; echo begun; while :; do sleep 0.1; done"


def nothing(_done: int, _total: int) -> None:
    return


@pytest.fixture
def home(centre: Centre, tmp_path: Path) -> Home:
    del centre
    return open_home(tmp_path / "home")


@pytest.fixture
def start(centre: Centre, home: Home) -> Callable[..., str]:
    """Hold a run of the member's and start its command; return its id once it has printed something, or ended."""

    def begin(command: str | None, person: str = "member") -> str:
        request = Request(new_run_id(), RunKind.NOTEBOOK, person, centre.project, "cpu-small", door="test")
        now = int(time.time())
        decision = admission.reserve(centre.database, request, now, Policy())
        assert isinstance(decision, Admitted)
        if command is None:
            return request.run_id
        profile = profiles.profile(centre.database, "cpu-small")
        assert isinstance(profile, Profile)
        words = ("/bin/sh", "-c", command)
        launch = Launch(request.run_id, RunKind.NOTEBOOK, person, centre.project, profile, words, str(home.projects))
        backend = home.backend()
        seen = backend.launch(launch)
        assert seen.started_at is not None
        admission.started(centre.database, request.run_id, seen.started_at)
        deadline = time.monotonic() + 10
        while not backend.log(request.run_id, 100) and time.monotonic() < deadline:
            time.sleep(0.02)
        return request.run_id

    return begin


def test_what_runs_is_stopped_and_charged_and_its_record_is_gone(
    centre: Centre, home: Home, start: Callable[..., str]
) -> None:
    told: list[tuple[int, int]] = []
    first, second = start("echo begun; sleep 600"), start("echo begun; sleep 600", "pi")
    assert ending.open_runs(centre.database) == (2, 0)
    stopped = ending.stop_all(home, centre.database, threading.Event(), lambda *each: told.append(each))
    assert (stopped.settled, stopped.left) == (2, ())
    assert told[-1] == (2, 2)
    for run_id in (first, second):
        run = runs.run(centre.database, run_id)
        assert run is not None
        assert (run.state, run.outcome) == (RunState.SETTLED, Outcome.STOPPED)
        assert run.charge == 50 * (run.seconds or 0) > 0
    assert home.backend().list_runs() == []
    assert check.findings(centre.database, int(time.time())) == []
    assert ending.stop_all(home, centre.database, threading.Event(), nothing).settled == 0


def test_what_ended_by_itself_and_what_never_started_are_told_apart(
    centre: Centre, home: Home, start: Callable[..., str]
) -> None:
    ended, held = start("echo done"), start(None, "pi")
    deadline = time.monotonic() + 10
    while (seen := home.backend().inspect(ended)) and seen.running and time.monotonic() < deadline:
        time.sleep(0.02)
    ending.stop_all(home, centre.database, threading.Event(), nothing)
    outcomes = {run.id: (run.outcome, run.charge) for run in runs.runs(centre.database)}
    assert outcomes[ended] == (Outcome.EXITED, 50)
    assert outcomes[held] == (Outcome.FAILED_TO_START, 0)


def test_a_second_ctrl_c_gives_nothing_time_to_end(centre: Centre, home: Home, start: Callable[..., str]) -> None:
    run_id = start(STUBBORN)
    hastened = threading.Event()
    threading.Timer(0.5, hastened.set).start()
    began = time.monotonic()
    assert ending.stop_all(home, centre.database, hastened, nothing).left == ()
    assert time.monotonic() - began < ending.GRACE_SECONDS / 2
    run = runs.run(centre.database, run_id)
    assert run is not None
    assert run.outcome is Outcome.STOPPED


def test_what_the_backend_does_not_answer_for_is_left_open(
    centre: Centre, start: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_id = start(None)
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    elsewhere = open_home(tmp_path / "home", backend="docker")
    stopped = ending.stop_all(elsewhere, centre.database, threading.Event(), nothing)
    assert stopped.left == (run_id,)
    run = runs.run(centre.database, run_id)
    assert run is not None
    assert run.state is RunState.HELD
