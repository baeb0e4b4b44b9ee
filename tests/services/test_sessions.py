"""What a running server is told of itself: what it has left and why, what extending does, what its device does."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import insert, select, update

from quotas.domain.extension import Standing
from quotas.domain.runs import Limit, Outcome, RunKind
from quotas.domain.sessions import Activity, Facts
from quotas.services import admission, check, sessions, time_left
from quotas.store import runs as runs_store
from quotas.store.database import Row
from quotas.store.tables import (
    allocations,
    device_grants,
    devices,
    nodes,
    notices,
    pool_devices,
    profiles,
    run_activity,
    run_pauses,
    runs,
)
from tests.services.centre import DAY, GPU_GFLOPS, POLICY, START, Centre

PLENTY = 10**9 * GPU_GFLOPS
HOUR = 3_600
FIRST = POLICY.hold + POLICY.stop_margin
"""The length of a first hold."""


def started(centre: Centre, budget: int = PLENTY, **asked: object) -> str:
    """Return the run of bob's server, which began at START."""
    centre.award("vision", budget)
    run_id = centre.admitted(START, **{"person": "bob", **asked}).run_id
    admission.started(centre.database, run_id, START)
    return run_id


def put(centre: Centre, table: Any, **values: object) -> None:
    with centre.database.write() as transaction:
        transaction.run(update(table).values(**values))


def row_of(centre: Centre, run_id: str) -> Row:
    with centre.database.read() as transaction:
        return transaction.one(select(runs).where(runs.c.id == run_id))


def facts_of(centre: Centre, run_id: str, now: int) -> Facts:
    found = sessions.facts(centre.database, run_id, now, POLICY)
    assert found is not None
    return found


def foretold(centre: Centre, run_id: str, now: int) -> tuple[int, Limit]:
    with centre.database.read() as transaction:
        left = time_left.of_open_run(transaction, runs_store.one(transaction, run_id), now, POLICY)
    return now + left.seconds, left.limit


def stopped(centre: Centre, run_id: str, now: int) -> tuple[int, Limit | None]:
    """Return when and why the loop, which comes by every ten seconds, stops the run."""
    for at in range(now, now + 2 * DAY, 10):
        found = admission.extend(centre.database, run_id, at, POLICY)
        if found.standing is Standing.ENDING and found.stop_at is not None and found.stop_at <= at + 10:
            return found.stop_at, found.limit
    raise AssertionError("nothing stopped it")


ENDS: dict[str, tuple[dict[str, int], Limit]] = {
    "idle": ({"idle_stop_at": START + 600}, Limit.IDLE),
    "idle, far ahead": ({"idle_stop_at": START + 2 * HOUR}, Limit.IDLE),
    "session": ({"session_ends_at": START + 3 * HOUR}, Limit.SESSION),
    "idle before its session ends": ({"idle_stop_at": START + 600, "session_ends_at": START + 900}, Limit.IDLE),
    "session ends before it is idle": ({"idle_stop_at": START + 900, "session_ends_at": START + 600}, Limit.SESSION),
    "device lost": ({"lost_stop_at": START + 900, "idle_stop_at": START + 1000}, Limit.DEVICE_LOST),
    "preempted": ({"preempt_at": START + 300, "session_ends_at": START + 301}, Limit.PREEMPTED),
    "preempted, told long before": ({"preempt_at": START + FIRST}, Limit.PREEMPTED),
}


@pytest.mark.parametrize("case", ENDS)
def test_the_loop_stops_a_server_when_and_why_it_was_foretold(centre: Centre, case: str) -> None:
    run_id = started(centre)
    values, limit = ENDS[case]
    put(centre, runs, **values)
    expected = foretold(centre, run_id, START)
    assert expected[1] is limit
    assert stopped(centre, run_id, START) == expected


@pytest.mark.parametrize("seconds", [0, 40, 700, 5_000])
def test_a_budget_that_runs_out_is_foretold_to_the_second(centre: Centre, seconds: int) -> None:
    run_id = started(centre, GPU_GFLOPS * (FIRST + seconds))
    put(centre, runs, idle_stop_at=START + 5 * HOUR, session_ends_at=START + 5 * HOUR)
    expected = foretold(centre, run_id, START)
    assert expected == (START + FIRST + seconds - POLICY.stop_margin, Limit.BUDGET)
    assert stopped(centre, run_id, START) == expected


def test_devices_that_are_missing_soon_are_foretold(centre: Centre) -> None:
    run_id = started(centre)
    centre.phase(0, from_at=START + FIRST + 100)
    now = START + 400
    assert foretold(centre, run_id, now) == (START + FIRST + 100 - POLICY.stop_margin, Limit.CAPACITY)
    assert stopped(centre, run_id, now) == foretold(centre, run_id, now)


def test_a_suspended_award_is_foretold(centre: Centre) -> None:
    run_id = started(centre)
    put(centre, allocations, suspended_at=START)
    assert foretold(centre, run_id, START) == (START + POLICY.hold, Limit.SUSPENDED)
    assert stopped(centre, run_id, START) == (START + POLICY.hold, Limit.SUSPENDED)


def test_a_batch_run_ends_at_its_time_limit_and_is_not_extended(centre: Centre) -> None:
    run_id = started(centre, kind=RunKind.BATCH, seconds=HOUR)
    assert foretold(centre, run_id, START) == (START + HOUR, Limit.TIMEOUT)
    extended = sessions.extend(centre.database, run_id, START + 60, POLICY)
    assert extended is not None
    assert not extended.extended
    assert extended.facts.remaining.stop_at == START + HOUR
    assert extended.facts.kept_at is None
    assert "cannot be extended" in extended.facts.extending.sentence("en")
    assert stopped(centre, run_id, START) == (START + HOUR, Limit.TIMEOUT)


def test_an_idle_server_goes_on_when_its_person_extends_it(centre: Centre) -> None:
    run_id = started(centre)
    put(centre, profiles, idle_seconds=HOUR, session_seconds=4 * HOUR)
    put(centre, runs, idle_stop_at=START + 700, session_ends_at=START + 4 * HOUR, warned_at=START)
    with centre.database.write() as transaction:
        said = {
            "person_id": centre.people["bob"],
            "kind": "run ending",
            "at": START,
            "text_ko": "곧",
            "text_en": "soon",
        }
        transaction.insert(notices, {**said, "about": f"{run_id}:idle:{START + 700}"})
        transaction.insert(notices, {**said, "about": run_id, "kind": "device lost"})
        transaction.insert(notices, {**said, "about": run_id.replace("-", "0")})
    now = START + 650
    before = facts_of(centre, run_id, now)
    assert (before.seconds_left, before.remaining.limit) == (50, Limit.IDLE)
    assert before.extending.possible
    assert before.extending.after.stop_at == now + 4 * HOUR
    assert [notice.text_en for notice in before.notices] == ["soon", "soon"]

    extended = sessions.extend(centre.database, run_id, now, POLICY)
    assert extended is not None
    assert extended.extended
    after = extended.facts
    assert (after.remaining.stop_at, after.remaining.limit) == (now + 4 * HOUR, Limit.SESSION)
    assert not after.extending.possible
    assert after.kept_at == now
    assert len(after.notices) == 1, "what was told of another matter is not read by this"
    row = row_of(centre, run_id)
    assert (row.idle_stop_at, row.session_ends_at, row.warned_at) == (None, now + 4 * HOUR, None)
    with centre.database.read() as transaction:
        assert runs_store.one(transaction, run_id).until_at == now + FIRST
        assert [each.read_at for each in transaction.rows(select(notices.c.read_at).order_by(notices.c.id))] == [
            now,
            None,
            None,
        ]
    assert stopped(centre, run_id, now) == (now + 4 * HOUR, Limit.SESSION)
    assert check.findings(centre.database, now) == []


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_limit_that_no_extension_moves_is_said(centre: Centre, language: str) -> None:
    run_id = started(centre, GPU_GFLOPS * (FIRST + 100))
    extended = sessions.extend(centre.database, run_id, START + 10, POLICY)
    assert extended is not None
    assert not extended.extended
    assert extended.facts.remaining.limit is Limit.BUDGET
    sentence = extended.facts.extending.sentence(language)
    assert {"en": "cannot be extended further: the project's budget", "ko": "과제의 잔여량이 소진"}[
        language
    ] in sentence
    assert "2027" in sentence
    assert "KST" in sentence


def test_a_server_that_is_being_stopped_is_not_extended(centre: Centre) -> None:
    run_id = started(centre)
    put(centre, runs, idle_stop_at=START + 600)
    extended = sessions.extend(centre.database, run_id, START + 600, POLICY)
    assert extended is not None
    assert not extended.extended
    assert row_of(centre, run_id).idle_stop_at == START + 600


def test_who_lost_the_right_to_run_extends_nothing(centre: Centre) -> None:
    run_id = started(centre)
    centre.end_project("vision")
    extended = sessions.extend(centre.database, run_id, START + 10, POLICY)
    assert extended is not None
    assert (extended.extended, extended.facts.seconds_left, extended.facts.remaining.limit) == (False, 0, Limit.RIGHTS)


def test_what_it_cost_and_what_is_left_add_up(centre: Centre) -> None:
    run_id = started(centre, 10 * HOUR * GPU_GFLOPS)
    for at in range(START, START + HOUR + 1, 300):
        admission.extend(centre.database, run_id, at, POLICY)
    found = facts_of(centre, run_id, START + HOUR)
    assert (found.charged, found.budget_left) == (HOUR * GPU_GFLOPS, 9 * HOUR * GPU_GFLOPS)
    assert found.budget_seconds == 9 * HOUR
    charge = centre.settle(run_id, START, START + HOUR)
    assert charge.amount == found.charged


def held_device(centre: Centre, run_id: str) -> int:
    """The run holds a device of a machine; return its id."""
    with centre.database.write() as transaction:
        node = {"name": "n1", "pool_id": 1, "token_sha256": "0" * 64, "added_at": START, "added_by": "operator"}
        device = {
            "node_id": transaction.insert(nodes, node),
            "uuid": "GPU-1",
            "kind": "gpu",
            "name": "NVIDIA H100",
            "device_model": "h100",
            "memory_bytes": 1,
            "paths": "[]",
            "position": 0,
            "state": "available",
            "since": START,
            "found_at": START,
            "seen_at": START,
        }
        found = transaction.insert(devices, device)
        transaction.run(insert(device_grants).values(run_id=run_id, device_id=found, granted_at=START))
    return found


def test_how_busy_the_device_is_is_told_while_it_is_known(centre: Centre) -> None:
    run_id = started(centre)
    assert facts_of(centre, run_id, START).devices == ()
    held_device(centre, run_id)
    assert facts_of(centre, run_id, START).busy_ppm is None
    put(centre, devices, busy_ppm=830_000, read_at=START + 60)
    found = facts_of(centre, run_id, START + 70)
    assert (found.devices[0].name, found.busy_ppm, found.read_at) == ("NVIDIA H100", 830_000, START + 60)
    assert facts_of(centre, run_id, START + HOUR).busy_ppm is None, "an old reading says nothing of now"
    put(centre, devices, read_at=START - 10)
    assert facts_of(centre, run_id, START + 10).busy_ppm is None, "an earlier run's reading is none of this one's"


def test_a_lost_device_is_told_with_the_pause_of_the_charge(centre: Centre) -> None:
    run_id = started(centre)
    device = held_device(centre, run_id)
    put(centre, devices, state="lost")
    put(centre, runs, lost_stop_at=START + 1_000)
    put(centre, pool_devices, drained=1)
    with centre.database.write() as transaction:
        pause = {"run_id": run_id, "since": START + 100, "device_id": device, "reason": "Xid 79"}
        transaction.run(insert(run_pauses).values(**pause))
    found = facts_of(centre, run_id, START + 400)
    assert (found.remaining.limit, found.seconds_left) == (Limit.DEVICE_LOST, 600)
    assert (found.paused_since, found.paused_why, found.charged) == (START + 100, "Xid 79", 100 * GPU_GFLOPS)
    assert found.devices[0].state == "lost"


def test_what_a_server_says_of_itself_is_kept_and_never_goes_back(centre: Centre) -> None:
    run_id = started(centre)
    assert facts_of(centre, run_id, START).busy_kernels is None

    def said(kernels: int, active_at: int | None, now: int) -> tuple[int | None, int | None]:
        assert sessions.note_activity(centre.database, run_id, Activity(kernels, active_at), now)
        found = facts_of(centre, run_id, now)
        return found.busy_kernels, found.active_at

    assert said(1, START + 50, START + 60) == (1, START + 50)
    assert said(0, None, START + 120) == (0, START + 50)
    assert said(0, START + 40, START + 180) == (0, START + 50)
    assert said(2, START + 230, START + 225) == (2, START + 225), "a clock that is a little ahead"
    assert said(0, START + 10_000, START + 300) == (0, START + 225), "a broken clock is not believed"
    assert said(-3, START - 10, START + 360) == (0, START + 225)
    with centre.database.read() as transaction:
        assert transaction.one(select(run_activity.c.reported_at)).reported_at == START + 360


def test_a_person_may_need_a_server_that_never_said_anything(centre: Centre) -> None:
    run_id = started(centre)
    put(centre, runs, idle_stop_at=START + 600)
    assert sessions.extend(centre.database, run_id, START + 10, POLICY) is not None
    found = facts_of(centre, run_id, START + 20)
    assert (found.kept_at, found.busy_kernels) == (START + 10, None)


def test_an_ended_run_is_told_nothing_and_says_nothing(centre: Centre) -> None:
    run_id = started(centre)
    centre.settle(run_id, START, START + 60)
    assert sessions.facts(centre.database, run_id, START + 60, POLICY) is None
    assert sessions.extend(centre.database, run_id, START + 60, POLICY) is None
    assert not sessions.note_activity(centre.database, run_id, Activity(1, None), START + 60)
    assert centre.count(run_activity) == 0
    assert row_of(centre, run_id).outcome == Outcome.STOPPED.value


def test_its_person_and_the_projects_pis_see_a_run(centre: Centre) -> None:
    run_id = started(centre)
    centre.member("vision", "eve")
    centre.project("other", {"pia": "pi"})
    assert [sessions.owner(centre.database, name, run_id) for name in ("bob", "ada")] == ["bob", "bob"]
    assert [sessions.owner(centre.database, name, run_id) for name in ("eve", "pia", "nobody")] == [None] * 3
    assert sessions.owner(centre.database, "ada", "0" * 36) is None
