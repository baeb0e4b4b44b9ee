"""A platform whose programs are killed, and whose cluster does not answer, while people work: nothing of it is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from quotas.domain.runs import RunState
from tests.helm import outage
from tests.helm.load import Load, Resident, keep_notebook, schedule, settle_in
from tests.helm.standing import OPEN, Standing, until
from tests.helm.world import PROJECT, SMALL

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

RESIDENTS, COMERS = ("member", "instructor", "learner1"), ("learner2", "learner3")
PLANNER, LATECOMER = "pi", "learner4"
LONG_SECONDS, SHORT_SECONDS = 120, 3
DUE = range(5, 95, 15)
OUTAGE_SECONDS = 120
BACK_SECONDS = 180


@dataclass
class Busy:
    """A platform at work: residents, those who come and go, and scheduled runs that are due one after the other."""

    standing: Standing
    residents: list[Resident]
    load: Load
    schedules: list[int]


@pytest.fixture(scope="module")
def residents(standing: Standing) -> Iterator[list[Resident]]:
    made = settle_in(standing, RESIDENTS)
    yield made
    for each in made:
        each.person.stop()
    standing.wait_until_whole()


@pytest.fixture(scope="module")
def busy(standing: Standing, residents: list[Resident]) -> Iterator[Busy]:
    planner = standing.person(PLANNER)
    paths = {seconds: keep_notebook(residents[0].person, seconds) for seconds in (LONG_SECONDS, SHORT_SECONDS)}
    schedules = [schedule(planner, paths[LONG_SECONDS], 2)]
    schedules += [schedule(planner, paths[SHORT_SECONDS], due) for due in DUE]
    load = Load(standing, residents, COMERS)
    until("someone who came and worked", lambda: all(load.came_to_work.values()), 200)
    yield Busy(standing, residents, load, schedules)
    load.close()


@pytest.mark.parametrize("program", ["hub", "proxy", "scheduler", "reconciler"])
def test_a_program_that_is_killed_comes_back_and_nobody_s_work_is_lost(busy: Busy, program: str) -> None:
    standing, load = busy.standing, busy.load
    (earlier,) = standing.pod_names(program)
    came = dict(load.came_to_work)
    hung_up, done = load.hung_up, load.writes.done
    standing.delete(program)
    until(f"another {program}", lambda: standing.pod_names(program) not in ([], [earlier]), BACK_SECONDS)
    standing.release.wait()
    until("requests that are answered", lambda: load.writes.done > done + 1, BACK_SECONDS)
    if program == "proxy":
        assert load.hung_up > hung_up
    else:
        # Neither a websocket nor a request passes through any of them.
        assert load.hung_up == hung_up
    printed = load.printed
    until("what a cell prints", lambda: load.printed > printed, BACK_SECONDS)
    for resident in busy.residents:
        resident.look(standing)
    _extended_from_now_on(standing, busy.residents)
    until("others who came and worked", lambda: all(load.came_to_work[name] > came[name] for name in COMERS), 200)


def _extended_from_now_on(standing: Standing, residents: list[Resident]) -> None:
    before = standing.runs()

    def extended() -> bool:
        now = standing.runs()
        return all(now[each.run]["until_at"] > before[each.run]["until_at"] for each in residents)

    until("holds that are extended", extended, BACK_SECONDS)


def test_all_that_was_asked_for_meanwhile_happened_once_or_was_told_as_failed(busy: Busy) -> None:
    standing, load = busy.standing, busy.load
    until("the end of every scheduled run", lambda: len(_ended(standing, busy.schedules)) == len(busy.schedules), 240)
    load.close()
    assert load.writes.done <= load.written() <= load.writes.asked, load.writes.words
    assert load.printed > 0
    standing.wait_until_whole()
    for each in busy.residents:
        each.look(standing)
        row = standing.runs()[each.run]
        assert row["state"] == RunState.RUNNING.value
    for name in COMERS:
        mine = [row for row in _rows(standing, name) if row["id"] not in load.earlier]
        assert all(row["state"] == RunState.SETTLED.value for row in mine)
        assert load.starts[name].done <= len(mine) <= load.starts[name].asked, load.starts[name].words
    for number, rows in _ended(standing, busy.schedules).items():
        assert [(row["execution"], row["charges"]) for row in rows] == [("succeeded", 1)], number
    standing.check()


def _ended(standing: Standing, schedules: list[int]) -> dict[int, list[dict[str, Any]]]:
    """Return the runs of each of the schedules whose run has ended and was charged, and is collected."""
    rows = [row for row in standing.runs().values() if row["schedule_id"] in schedules]
    going_on = ("claimed", "waiting", "running")
    ended = {row["schedule_id"] for row in rows if row["state"] not in OPEN and row["execution"] not in going_on}
    return {number: [row for row in rows if row["schedule_id"] == number] for number in ended}


def test_an_api_server_that_says_nothing_for_two_minutes_ends_nobody_s_work(
    standing: Standing, residents: list[Resident]
) -> None:
    how = outage.means()
    if isinstance(how, str):
        pytest.skip(how)
    if not standing.is_direct:
        pytest.skip("this machine reaches the platform by the API server only")
    planner, path = standing.person(PLANNER), keep_notebook(residents[0].person, OUTAGE_SECONDS)
    schedules = [schedule(planner, path, 2)]
    until("a run that goes on", lambda: _running(standing, schedules[0]), 90)
    schedules.append(schedule(planner, keep_notebook(residents[0].person, SHORT_SECONDS), OUTAGE_SECONDS // 3))
    earlier = set(standing.runs())
    standing.person(LATECOMER)
    began = time.time()
    with ThreadPoolExecutor(1) as threads, outage.stopped(how, standing.release.tools):
        refused = threads.submit(_start_in_vain, standing)
        while time.time() < began + OUTAGE_SECONDS:
            for each in residents:
                assert each.person.in_server("GET", "status", seconds=30).is_success
                assert each.person.server()
            time.sleep(2)
        told = refused.result(5)
        ended = time.time()
    assert "kubernetes" in told
    assert "실행 중인 서버는 유지됩니다" in told or "running servers go on" in told
    for each in residents:
        until(f"the server of {each.person.name}", lambda each=each: _same(each, standing), BACK_SECONDS)
        assert standing.runs()[each.run]["state"] == RunState.RUNNING.value
        assert _extensions(standing, each.run, began + 10, ended - 10) > 0
    until("the latecomer's hold to be given back", lambda: not _open(standing, LATECOMER), BACK_SECONDS)
    rows = [row for row in _rows(standing, LATECOMER) if row["id"] not in earlier]
    assert rows
    assert [row["charges"] for row in rows] == [0] * len(rows)
    until("a start that is taken", lambda: standing.person(LATECOMER).start(SMALL).is_success, BACK_SECONDS)
    standing.person(LATECOMER).wait_ready()
    standing.person(LATECOMER).stop()
    until("the end of the runs", lambda: len(_ended(standing, schedules)) == len(schedules), BACK_SECONDS)
    for number, found in _ended(standing, schedules).items():
        assert [(row["execution"], row["charges"]) for row in found] == [("succeeded", 1)], number
    standing.wait_until_whole()
    standing.check()


def _rows(standing: Standing, name: str) -> list[dict[str, Any]]:
    return [row for row in standing.runs().values() if row["person"] == name]


def _running(standing: Standing, number: int) -> bool:
    return any(row["schedule_id"] == number and row["execution"] == "running" for row in standing.runs().values())


def _open(standing: Standing, name: str) -> bool:
    return any(row["state"] in OPEN for row in _rows(standing, name))


def _same(resident: Resident, standing: Standing) -> bool:
    """Return whether the server is known and reached as before; a machine may be called lost for a moment."""
    try:
        resident.look(standing)
    except (httpx.HTTPError, OSError):
        return False
    return True


def _extensions(standing: Standing, run: str, since: float, until_at: float) -> int:
    """Return how often the run's hold was extended between the two moments, as the journal has it."""
    where = f"run_id = '{run}' AND at BETWEEN {int(since)} AND {int(until_at)}"
    return int(standing.release.database(f"SELECT count(*) FROM transfers WHERE {where}"))  # noqa: S608


def _start_in_vain(standing: Standing) -> str:
    """Return what is told to someone who starts a server, at once or by the page that follows the start."""
    person = standing.person(LATECOMER)
    answer = person.start(SMALL)
    if answer.status_code != httpx.codes.ACCEPTED:
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text
        return str(answer.json()["message"])
    path = f"/hub/api/users/{person.name}/servers/{PROJECT}/progress"
    lines = person.call("GET", path, seconds=90).text.splitlines()
    events = [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]
    assert events[-1].get("failed"), events
    return str(events[-1]["message"])
