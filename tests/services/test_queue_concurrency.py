"""Many who join, step, start, cancel and stop at the same time: never more turns than devices, nothing half done."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from quotas.domain.admission import Admitted, Request
from quotas.domain.queue import DOOR, Mode
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import InvalidValue
from quotas.services import check, queue, queue_steps
from quotas.services.queue_entries import Entry
from quotas.store.tables import holds, queue_entries, runs
from tests.services.centre import Centre
from tests.services.test_concurrency import at_once
from tests.services.waiting import NOW, POLICY, Waiters

PEOPLE = [f"w{number:02}" for number in range(12)]


@pytest.fixture
def waiters(centre: Centre) -> Waiters:
    made = Waiters(centre)
    for name in PEOPLE:
        made.person(name)
    return made


def sound(waiters: Waiters, now: int) -> None:
    """The ledger is sound, and each turn is a hold that nobody has taken, and the other way round."""
    assert check.findings(waiters.centre.database, now) == []
    assert waiters.devices() <= 8
    with waiters.centre.database.read() as transaction:
        turns = transaction.rows(select(queue_entries.c.run_id).where(queue_entries.c.state == "turn"))
        held = transaction.rows(
            select(holds.c.run_id)
            .join(runs, runs.c.id == holds.c.run_id)
            .where(holds.c.state == "open", runs.c.door == DOOR)
        )
        twice = transaction.rows(
            select(queue_entries.c.person_id)
            .where(queue_entries.c.ended_at.is_(None))
            .group_by(queue_entries.c.person_id)
            .having(func.count() > 1)
        )
    assert {row.run_id for row in turns} == {row.run_id for row in held}
    assert twice == []


def test_joining_many_times_at_once_is_one_entry(waiters: Waiters) -> None:
    waiters.fill()

    def join() -> Any:
        request = Request(new_run_id(), RunKind.NOTEBOOK, "w00", "w00", "gpu")
        return queue.join(waiters.centre.database, request, Mode.OFFER, NOW, POLICY)

    found = at_once([join] * 8)
    assert len({entry.run_id for entry in found if isinstance(entry, Entry)}) == 1
    sound(waiters, NOW)


def test_steps_at_once_give_each_device_once(waiters: Waiters) -> None:
    waiters.fill(5)
    for name in PEOPLE:
        waiters.join(name)
    steps = at_once([lambda: queue_steps.step(waiters.centre.database, NOW + 1, POLICY)] * 6)
    assert sum(steps, Counter[str]())["turn"] == 3
    assert len(waiters.in_turn()) == 3
    sound(waiters, NOW + 1)


def test_a_turn_that_is_taken_cancelled_and_over_at_once_ends_once(waiters: Waiters) -> None:
    for name in PEOPLE[:4]:
        waiters.join(name)
    queue_steps.step(waiters.centre.database, NOW, POLICY)
    later = NOW + POLICY.offer
    calls: list[Callable[[], Any]] = [lambda: queue_steps.step(waiters.centre.database, later, POLICY)] * 2
    for name in PEOPLE[:4]:
        calls += [lambda name=name: waiters.start(name, later), lambda name=name: cancelled(waiters, name, later)]
    at_once(calls)
    assert set(waiters.states().values()) <= {"taken", "cancelled", "expired"}
    sound(waiters, later)


def cancelled(waiters: Waiters, name: str, now: int) -> bool:
    try:
        queue.cancel(waiters.centre.database, waiters.runs[name], actor=name, now=now)
    except InvalidValue:
        return False
    return True


def test_everything_at_once(waiters: Waiters) -> None:
    """Rounds of joins, steps, starts, cancels and stops of all people in any order, two profiles among them."""
    draw = random.Random(7)  # noqa: S311 - a repeatable draw, no secret
    started: list[str] = []

    def start(name: str, now: int, profile: str) -> None:
        decision = waiters.start(name, now, profile=profile)
        if isinstance(decision, Admitted):
            started.append(decision.run_id)

    def stop(now: int) -> None:
        if started:
            waiters.centre.settle(started.pop(), NOW, now)

    for number in range(6):
        now = NOW + 300 * number
        calls: list[Callable[[], Any]] = [lambda now=now: queue_steps.step(waiters.centre.database, now, POLICY)] * 2
        for name in PEOPLE:
            profile = draw.choice(["gpu", "gpu", "gpu-2"])
            calls.append(
                draw.choice(
                    [
                        lambda name=name, now=now, profile=profile: waiters.ask(name, now, profile=profile),
                        lambda name=name, now=now, profile=profile: start(name, now, profile),
                        lambda name=name, now=now: name in waiters.runs and cancelled(waiters, name, now),
                        lambda now=now: stop(now),
                    ]
                )
            )
        draw.shuffle(calls)
        at_once(calls)
        sound(waiters, now)
