"""Many at once: seats, loops, decisions and admissions that meet each other."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from quotas.domain.admission import Admitted
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import RunKind
from quotas.services import admission, check, reservations
from quotas.services.reservations import Approval, DoesNotFit
from tests.services.centre import GPU_GFLOPS, POLICY, START, Centre
from tests.services.classes import (
    ENDS,
    HOUR,
    LECTURE,
    OPENS,
    PLENTY,
    RELEASE,
    approved,
    devices,
    leave,
    requested,
    seats,
    seats_runs,
    sound,
    tick,
    told,
)
from tests.services.test_concurrency import at_once

LEARNERS = [f"learner-{number}" for number in range(60)]
SEATS = 40


@pytest.fixture
def course(centre: Centre) -> Centre:
    """Sixty learners, a ceiling of two devices, and as many devices in the pool as a class has seats."""
    for name in LEARNERS:
        centre.member("vision", name, "learner")
    centre.award("vision", PLENTY, ceiling=2 * GPU_GFLOPS)
    centre.phase(SEATS, START + 1)
    return centre


def answers(decisions: list[Any]) -> Counter[str]:
    return Counter(each.priority.value if isinstance(each, Admitted) else each.code.value for each in decisions)


def everybody_asks(centre: Centre, now: int) -> list[Any]:
    return at_once([lambda name=name: centre.reserve(now, person=name) for name in LEARNERS])


def test_sixty_learners_claim_forty_seats_at_once(course: Centre) -> None:
    number = approved(course, seats=SEATS).number
    tick(course, OPENS)
    decisions = everybody_asks(course, OPENS)
    assert answers(decisions) == {"reserved": SEATS, Code.POOL_FULL.value: 20}
    assert seats(course, number) == ("open", 0, SEATS, SEATS)
    assert devices(course) == (SEATS, 0)
    refused = next(each for each in decisions if isinstance(each, Refused))
    assert "No h100 is free: 40 of 40 are in use and 0 reserved" in refused.message("en")
    sound(course, OPENS)


def test_who_finds_no_seat_is_admitted_as_anyone_where_the_pool_has_room(course: Centre) -> None:
    course.phase(SEATS + 10, START + 2)
    approved(course, seats=SEATS)
    tick(course, OPENS)
    decisions = everybody_asks(course, OPENS)
    # The ceiling of the project allows two more, whatever the pool has.
    assert answers(decisions) == {"reserved": SEATS, "guaranteed": 2, Code.CEILING.value: 18}
    assert devices(course) == (SEATS + 2, 0)
    sound(course, OPENS)


def test_loops_at_once_open_release_and_end_each_window_once(course: Centre) -> None:
    number = approved(course, seats=SEATS).number
    for now, state in ((OPENS, "open"), (RELEASE, "released"), (ENDS, "ended")):
        done = at_once([lambda now=now: reservations.tick(course.database, now, POLICY)] * 6)
        assert sum(sum(each.values()) for each in done) == 1
        assert seats(course, number)[0] == state
        sound(course, now)
    assert len(seats_runs(course)) == 1
    assert course.balances(1)["spent"] == SEATS * POLICY.seats_release * GPU_GFLOPS
    assert len(told(course, LEARNERS[0])) == 1


def test_claims_stops_and_the_release_at_once_lose_no_seat(course: Centre) -> None:
    number = approved(course, seats=SEATS).number
    tick(course, OPENS)
    runs = {name: course.admitted(OPENS, person=name).run_id for name in LEARNERS[:20]}
    calls: list[Callable[[], Any]] = [
        lambda run_id=run_id: leave(course, run_id, OPENS, RELEASE) for run_id in list(runs.values())[:10]
    ]
    calls += [lambda name=name: course.reserve(RELEASE, person=name) for name in LEARNERS[20:40]]
    calls += [lambda: tick(course, RELEASE)] * 3
    random.Random(3).shuffle(calls)  # noqa: S311 - a repeatable draw, no secret
    at_once(calls)
    state, kept, claimed, taken = seats(course, number)
    assert state == "released"
    assert kept + taken == claimed
    assert 20 <= claimed <= SEATS
    assert devices(course)[1] == kept
    sound(course, RELEASE)


def test_an_approval_and_admissions_at_once_never_give_a_device_twice(course: Centre) -> None:
    """In a dozen rounds a class for all devices is approved while others ask for runs that reach into it."""
    course.project("other", dict.fromkeys(LEARNERS[:12], "member"))
    course.award("other", PLENTY)
    outcomes: Counter[str] = Counter()
    for round_ in range(12):
        now = LECTURE - 2 * HOUR + 10 * round_
        number = requested(course, now=now, seats=SEATS)
        approve = lambda number=number, now=now: _approved(course, number, now)  # noqa: E731
        asks = [
            lambda name=name, now=now: course.reserve(
                now, person=name, project="other", kind=RunKind.BATCH, seconds=3 * HOUR
            )
            for name in LEARNERS[:12]
        ]
        calls: list[Callable[[], Any]] = [*asks[:6], approve, *asks[6:]]
        results = at_once(calls)
        is_approved, decisions = results.pop(6), results
        admitted = [each for each in decisions if isinstance(each, Admitted)]
        assert check.findings(course.database, now) == []
        assert not (is_approved and admitted)  # all seats, or runs that reach into them
        assert is_approved or admitted
        outcomes["approved" if is_approved else "refused"] += 1
        for each in admitted:
            admission.settle(course.database, each.run_id, admission.Ended(None, None, admission.Outcome.STOPPED), now)
        reservations.cancel(course.database, number, reason="", actor="operator", now=now)
    assert sum(outcomes.values()) == 12


def _approved(centre: Centre, number: int, now: int) -> bool:
    try:
        reservations.approve(centre.database, number, Approval(), actor="operator", now=now, policy=POLICY)
    except DoesNotFit:
        return False
    return True


def test_two_classes_for_the_same_hour_approved_at_once(course: Centre) -> None:
    numbers = [requested(course, seats=25) for _ in range(4)]
    done = at_once([lambda number=number: _approved(course, number, START) for number in numbers])
    assert sorted(done) == [False, False, False, True]


def test_one_decision_at_once_is_taken_once(course: Centre) -> None:
    number = requested(course)

    def decide() -> str:
        try:
            return str(_approved(course, number, START))
        except reservations.InvalidValue as refused:
            return refused.field

    assert Counter(at_once([decide] * 8)) == {"True": 1, "reservation": 7}


def test_a_cancellation_and_claims_at_once(course: Centre) -> None:
    number = approved(course, seats=SEATS).number
    tick(course, OPENS)
    calls: list[Callable[[], Any]] = [lambda name=name: course.reserve(LECTURE, person=name) for name in LEARNERS[:20]]
    calls.insert(10, lambda: reservations.cancel(course.database, number, reason="", actor="ada", now=LECTURE))
    at_once(calls)
    state, kept, _, taken = seats(course, number)
    assert (state, kept) == ("cancelled", 0)
    assert devices(course)[1] == 0
    assert devices(course)[0] >= taken
    sound(course, LECTURE)
