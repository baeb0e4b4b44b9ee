"""The hub is killed (`kill -9`) at each step of a start and a stop: nothing is lost, nothing is charged twice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import func, select

from quotas.domain.runs import Outcome, RunState
from quotas.services import check
from quotas.services.runs import Run
from quotas.store.tables import charges
from tests.platform import CPU, RATES, Platform, running, wait_for

LEFT_SECONDS = 60
"""Within this time nothing may be left of a hub that was killed."""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running(tmp_path_factory.mktemp("killed"), hub=False, reconciler=True) as started:
        yield started


def killed_in(platform: Platform, moment: str, request: str) -> Run:
    """Start or stop ada's server with a hub that is killed then; return the run."""
    if request == "start":
        platform.start_hub(MUDEUNG_TEST_KILL=moment)
    else:
        platform.start_hub()
        platform.start_server("ada", "vision")
        platform.wait_ready("ada", "vision")
        platform.kill("hub")
        platform.start_hub(MUDEUNG_TEST_KILL=moment)
        platform.wait_ready("ada", "vision")
    with contextlib.suppress(httpx.HTTPError):
        (platform.start_server if request == "start" else platform.stop_server)("ada", "vision")
    platform.wait_until_gone("hub")
    return platform.runs("vision")[0]


def charged(platform: Platform, run: Run) -> int:
    with platform.database.read() as transaction:
        row = transaction.one(select(func.count()).where(charges.c.run_id == run.id))
    return int(row[0])


def nothing_is_left(platform: Platform, run: Run) -> Run:
    """Wait until the run is settled and nothing of it is in the backend; return it as it was settled."""
    began = time.monotonic()
    wait_for("its settlement", lambda: platform.runs("vision")[0].state is RunState.SETTLED, seconds=LEFT_SECONDS)
    wait_for("its end", lambda: platform.backend.list_runs() == [], seconds=LEFT_SECONDS)
    assert time.monotonic() - began < LEFT_SECONDS
    (found,) = [each for each in platform.runs("vision") if each.id == run.id]
    assert check.findings(platform.database, int(time.time())) == []
    return found


@pytest.mark.parametrize(
    ("moment", "outcome", "ran"),
    [
        ("before launch", Outcome.FAILED_TO_START, False),
        ("after launch", Outcome.STRAY, True),
        ("before save", Outcome.STRAY, True),
    ],
)
def test_a_kill_during_a_start(platform: Platform, moment: str, outcome: Outcome, ran: bool) -> None:
    run = killed_in(platform, moment, "start")
    assert run.state is (RunState.RUNNING if moment == "before save" else RunState.HELD)
    platform.start_hub()
    found = nothing_is_left(platform, run)
    assert found.outcome is outcome
    assert charged(platform, found) == int(ran)
    assert found.charge == (found.seconds or 0) * RATES[CPU]
    assert platform.server("ada", "vision") is None
    platform.kill("hub")


@pytest.mark.parametrize("moment", ["before launch", "before save"])
def test_a_new_start_after_the_kill_does_not_wait_for_the_loop(platform: Platform, moment: str) -> None:
    run = killed_in(platform, moment, "start")
    platform.kill("reconciler")
    platform.start_hub()
    answer = platform.start_server("ada", "vision")
    assert answer.status_code == 201, answer.text
    new, old = platform.runs("vision")[:2]
    assert old.id == run.id
    assert (old.state, new.state) == (RunState.SETTLED, RunState.RUNNING)
    assert [seen.run_id for seen in platform.backend.list_runs()] == [new.id]
    assert check.findings(platform.database, int(time.time())) == []
    platform.stop_server("ada", "vision")
    platform.kill("hub")
    platform.start_reconciler()


@pytest.mark.parametrize(
    ("moment", "outcomes"),
    [("before stop", {Outcome.STOPPED}), ("after stop", {Outcome.EXITED})],
)
def test_a_kill_during_a_stop(platform: Platform, moment: str, outcomes: set[Outcome]) -> None:
    run = killed_in(platform, moment, "stop")
    platform.start_hub()
    if moment == "before stop":
        platform.wait_ready("ada", "vision")  # what did not come to its stop goes on
        platform.stop_server("ada", "vision")
    found = nothing_is_left(platform, run)
    assert found.outcome in outcomes
    assert charged(platform, found) == 1
    platform.wait_stopped("ada", "vision")
    platform.kill("hub")


def test_a_stopped_server_is_charged_while_the_hub_stays_away(platform: Platform) -> None:
    run = killed_in(platform, "after stop", "stop")
    found = nothing_is_left(platform, run)
    assert found.outcome is Outcome.EXITED
    platform.start_hub()
    platform.wait_stopped("ada", "vision")
    platform.kill("hub")
