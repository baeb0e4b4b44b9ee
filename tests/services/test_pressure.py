"""Who is extended no further as a pool shrinks: just enough, in the stated order, and nobody inside a hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import update

from quotas.domain.pools import CapacityPhase
from quotas.domain.priorities import Priority
from quotas.domain.units import show_instant
from quotas.services import admission, awards, check, pools, pressure, reservations
from quotas.store.database import Prepared, Transaction
from quotas.store.tables import allocations
from tests.services import classes
from tests.services.centre import GPU_GFLOPS, Centre
from tests.services.holders import BORROWED, GUARANTEED, NOW, OPPORTUNISTIC, POLICY, Holders

TICK = 120
BY: dict[str, Any] = {"actor": "operator"}


@pytest.fixture
def holders(centre: Centre) -> Holders:
    return Holders(centre)


def relieve(holders: Holders, now: int) -> int:
    changed = pressure.relieve(holders.centre.database, now, POLICY)
    assert pressure.relieve(holders.centre.database, now, POLICY) == 0, "it is said once"
    return changed


def go_on(holders: Holders, start: int, until: int) -> dict[str, int]:
    """Let the loop go round from `start` to `until`; return person → when they were stopped."""
    stopped: dict[str, int] = {}
    for now in range(start, until + 1, TICK):
        reservations.tick(holders.centre.database, now, POLICY)
        relieve(holders, now)
        for person in holders.extend_all(now):
            stopped[person] = now
        assert check.findings(holders.centre.database, now) == []
    return stopped


def phase(holders: Holders, healthy: int, at: int, now: int = NOW) -> None:
    size = max(healthy, 16)
    pools.add_phase(holders.centre.database, "main", CapacityPhase("h100", at, size, size, healthy), now=now, **BY)


def test_a_class_opens_in_a_full_pool_and_just_its_seats_come_free_in_order(holders: Holders) -> None:
    firm = [holders.start(GUARANTEED, used=0.1), holders.start(GUARANTEED, used=3), holders.start(GUARANTEED)]
    borrowed = [holders.start(BORROWED, used=1), holders.start(BORROWED, used=2)]
    idle = [holders.start(OPPORTUNISTIC) for _ in range(3)]
    opens_at = NOW + 7200
    holders.window(5, opens_at)
    stopped = go_on(holders, NOW, opens_at - 1)
    assert set(stopped) == {*idle, borrowed[0], borrowed[1]}
    assert all(opens_at - POLICY.stop_margin <= at < opens_at for at in stopped.values()), "paid for to the end"
    assert holders.open() == set(firm)
    for person in stopped:
        (kind, text), *more = holders.told(person)
        assert (kind, more) == ("run not extended", []), "told once"
        assert f"stopped at {show_instant(opens_at - POLICY.stop_margin)}: its device is reserved from" in text
    assert all(holders.told(person) == [] for person in firm)


def test_a_lecture_finds_its_seats_in_a_pool_that_was_full(holders: Holders) -> None:
    """From the approval to the claimed seats: a notebook that had no device of its own left in time."""
    centre = holders.centre
    learners = ["bob", *(f"learner{number}" for number in range(3))]
    for name in learners[1:]:
        centre.member("vision", name, "learner")
    centre.award("vision", classes.PLENTY)
    number = classes.approved(centre, seats=4).number
    before = classes.OPENS - 3 * 3600
    firm = [holders.start(GUARANTEED, before + place) for place in range(3)]
    weak = [holders.start(BORROWED, before), *(holders.start(OPPORTUNISTIC, before) for _ in range(4))]
    stopped = go_on(holders, before + 60, classes.OPENS + 60)
    assert set(stopped) == set(weak[1:])
    assert all(at < classes.OPENS for at in stopped.values())
    assert classes.seats(centre, number) == ("open", 4, 0, 0)
    for name in learners:
        assert centre.admitted(classes.OPENS + 60, person=name).priority is Priority.RESERVED
    assert holders.open() == {*firm, weak[0]}
    assert check.findings(centre.database, classes.OPENS + 60) == []


def test_of_those_alike_who_used_most_of_their_share_ends_then_who_began_last(holders: Holders) -> None:
    much = holders.start(GUARANTEED, NOW, used=4)
    last = holders.start(GUARANTEED, NOW + 60, used=1)
    others = [holders.start(GUARANTEED, NOW, used=1) for _ in range(6)]
    opens_at = NOW + 3600
    holders.window(2, opens_at)
    assert relieve(holders, opens_at - POLICY.horizon + 1) == 2
    assert holders.marks() == {much: opens_at, last: opens_at}
    assert set(go_on(holders, opens_at - POLICY.horizon + 1, opens_at)) == {much, last}
    assert holders.open() == set(others)


def test_nobody_is_asked_before_anyone_s_hold_could_reach_so_far(holders: Holders) -> None:
    for _ in range(8):
        holders.start(OPPORTUNISTIC)
    opens_at = NOW + 3600
    holders.window(8, opens_at)
    assert relieve(holders, opens_at - POLICY.horizon) == 0
    assert relieve(holders, opens_at - POLICY.horizon + 1) == 8


@pytest.mark.parametrize("healthy", [8, 6])
def test_power_is_cut_to_half_and_comes_back(holders: Holders, healthy: int) -> None:
    phase(holders, 16, NOW - 10, now=NOW - 10)
    firm = [holders.start(GUARANTEED, NOW + number, used=number / 10) for number in range(8)]
    weak = [holders.start(BORROWED, NOW + number) for number in range(4)]
    weaker = [holders.start(OPPORTUNISTIC, NOW + number) for number in range(4)]
    cut, back = NOW + 2 * 3600, NOW + 3 * 3600
    phase(holders, healthy, cut)
    phase(holders, 16, back)
    stopped = go_on(holders, NOW + 10, cut - 1)
    assert set(stopped) == {*weak, *weaker, *firm[healthy:]}
    assert all(cut - POLICY.stop_margin <= at for at in stopped.values())
    assert holders.open() == set(firm[:healthy])
    assert "fewer devices are in operation from" in holders.told(weak[0])[0][1]
    assert go_on(holders, cut, back - 1) == {}
    _, refused = holders.ask(GUARANTEED, back - 1)
    assert getattr(refused, "code", None) == "pool_full"
    for _ in range(16 - healthy):
        holders.start(GUARANTEED, back)
    assert go_on(holders, back, back + 3600) == {}


def test_a_cut_that_is_announced_late_stops_nobody_inside_a_hold(holders: Holders) -> None:
    firm = [holders.start(GUARANTEED, NOW + number) for number in range(4)]
    weak = [holders.start(OPPORTUNISTIC, NOW + number) for number in range(4)]
    held_until = NOW + POLICY.hold + POLICY.stop_margin
    cut = NOW + 300
    phase(holders, 4, cut, now=NOW + 60)
    stopped = go_on(holders, NOW + 60, NOW + 2 * 3600)
    assert set(stopped) == set(weak)
    assert all(held_until - POLICY.stop_margin <= at <= held_until + 3 for at in stopped.values())
    assert holders.open() == set(firm), "what the others overstay is not theirs to make up for"


def test_a_failed_device_shrinks_the_pool_at_once_and_the_present_hold_is_the_last(holders: Holders) -> None:
    firm = [holders.start(GUARANTEED) for _ in range(6)]
    borrowed = [holders.start(BORROWED, NOW + number) for number in range(2)]
    go_on(holders, NOW, NOW + 3000)
    now = NOW + 3060
    pools.drain(holders.centre.database, "main", "h100", 1, "XID 79 on node 3", now=now, **BY)
    assert relieve(holders, now) == 1
    assert holders.marks() == {borrowed[1]: now}
    (_, text), *_ = holders.told(borrowed[1])
    assert "devices are out of use (XID 79 on node 3)" in text
    stopped = go_on(holders, now + 60, now + POLICY.hold)
    assert set(stopped) == {borrowed[1]}
    assert f"stopped at {show_instant(stopped[borrowed[1]])}" in text or stopped[borrowed[1]] - TICK < now + POLICY.hold
    assert holders.open() == {*firm, borrowed[0]}
    _, refused = holders.ask(GUARANTEED, now + POLICY.hold)
    assert getattr(refused, "code", None) == "pool_full"


def test_who_may_go_on_after_all_is_told_best_placed_first(holders: Holders) -> None:
    firm = [holders.start(GUARANTEED) for _ in range(5)]
    borrowed, *idle = holders.start(BORROWED), holders.start(OPPORTUNISTIC), holders.start(OPPORTUNISTIC, NOW + 1)
    database, now = holders.centre.database, NOW + 60
    first = pools.drain(database, "main", "h100", 2, "a fan", now=now, **BY)
    assert relieve(holders, now) == 2
    pools.drain(database, "main", "h100", 1, "another", now=now, **BY)
    assert relieve(holders, now) == 1
    assert set(holders.marks()) == {borrowed, *idle}
    left = pools.undrain(database, first.id, count=1, now=now + 60, **BY)
    assert left is not None
    assert relieve(holders, now + 60) == 1
    assert set(holders.marks()) == set(idle)
    kinds = [kind for kind, _ in holders.told(borrowed)]
    assert kinds == ["run not extended", "run extended again"]
    for each in pools.open_drains(database):
        assert pools.undrain(database, each.id, now=now + 120, **BY) is None
    assert relieve(holders, now + 120) == 2
    assert holders.marks() == {}
    assert go_on(holders, now + 180, now + 7200) == {}
    assert holders.open() == {*firm, borrowed, *idle}


def test_someone_who_leaves_lets_the_best_placed_stay(holders: Holders) -> None:
    firm = [holders.start(GUARANTEED) for _ in range(4)]
    idle = [holders.start(OPPORTUNISTIC, NOW + number) for number in range(4)]
    opens_at = NOW + 3600
    window = holders.window(4, opens_at)
    now = opens_at - 1800
    go_on(holders, NOW, now)
    assert set(holders.marks()) == set(idle)
    holders.centre.settle(holders.run_of[firm[0]], NOW, now)
    assert relieve(holders, now) == 1
    assert set(holders.marks()) == set(idle[1:]), "the first of them to start"
    holders.change_window(window, state="cancelled")
    assert relieve(holders, now + 60) == 3
    assert holders.marks() == {}
    assert [kind for kind, _ in holders.told(idle[3])] == ["run not extended", "run extended again"]


def test_a_drain_between_two_extensions_of_the_same_round(holders: Holders) -> None:
    """The pool shrinks after half of the runs were extended: the marks are of the order, not of who came first."""
    idle = [holders.start(OPPORTUNISTIC, NOW + number) for number in range(4)]
    firm = [holders.start(GUARANTEED, NOW + number) for number in range(4)]
    database, now = holders.centre.database, NOW + 700
    relieve(holders, now)
    for person in idle:
        assert admission.extend(database, holders.run_of[person], now, POLICY).standing == "extended"
    pools.drain(database, "main", "h100", 4, "a rack", now=now, **BY)
    for person in firm:
        assert admission.extend(database, holders.run_of[person], now, POLICY).standing == "extended"
    stopped = go_on(holders, now + 20, now + 20 + 7200)
    assert set(stopped) == set(idle)
    assert all(at >= now + POLICY.hold for at in stopped.values()), "their extended hold was their last, and whole"


def test_who_is_over_before_anyone_could_be_asked_makes_no_shortage(holders: Holders) -> None:
    short = holders.start(GUARANTEED, seconds=600)
    long = holders.start(GUARANTEED, seconds=7200)
    others = [holders.start(OPPORTUNISTIC) for _ in range(6)]
    pools.drain(holders.centre.database, "main", "h100", 1, "a fan", now=NOW + 60, **BY)
    assert relieve(holders, NOW + 60) == 0, "a batch run ends in ten minutes"
    holders.centre.settle(holders.run_of[short], NOW, NOW + 600)
    pools.drain(holders.centre.database, "main", "h100", 7, "all of it", now=NOW + 660, **BY)
    assert relieve(holders, NOW + 660) == 6, "a batch run is held at its full length, the others are asked"
    assert set(holders.marks()) == set(others)
    assert long in holders.open()


def test_the_marks_stay_where_they_are_while_the_shares_move(holders: Holders) -> None:
    persons = [holders.start(GUARANTEED, used=1) for _ in range(8)]
    pools.drain(holders.centre.database, "main", "h100", 1, "a fan", now=NOW + 60, **BY)
    relieve(holders, NOW + 60)
    ((marked, _),) = holders.marks().items()
    other = next(person for person in persons if person != marked)
    allocation = holders.centre.projects[other]
    with holders.centre.database.write() as transaction:
        transaction.run(
            update(allocations).where(allocations.c.project_id == allocation).values(decayed_use=1e6 * GPU_GFLOPS**2)
        )
    assert relieve(holders, NOW + 120) == 0
    assert set(holders.marks()) == {marked}


def test_a_newcomer_takes_what_is_free_until_a_class_and_gives_way_to_nobody_firmer(holders: Holders) -> None:
    idle = [holders.start(OPPORTUNISTIC) for _ in range(4)]
    opens_at = NOW + 1200
    holders.window(4, opens_at)
    person, decision = holders.ask(GUARANTEED, NOW + 60)
    assert decision.ends_by == opens_at
    relieve(holders, NOW + 60)
    assert len(holders.marks()) == 1
    assert set(holders.marks()) < set(idle), "the firmer one may go on, and one of the others is asked"
    admission.started(holders.centre.database, holders.run_of[person], NOW + 61)
    assert set(go_on(holders, NOW + 80, opens_at + 3600)) < set(idle)
    assert person in holders.open()


def test_another_reason_that_ends_it_sooner_is_told_too(holders: Holders) -> None:
    person = holders.start(OPPORTUNISTIC)
    for _ in range(7):
        holders.start(GUARANTEED)
    opens_at = NOW + 2200
    holders.window(1, opens_at)
    relieve(holders, NOW)
    awards.suspend(holders.centre.database, person, reason="an audit", now=NOW + 10, **BY)
    stopped = go_on(holders, NOW + 20, opens_at)
    assert stopped[person] < opens_at - POLICY.stop_margin
    kinds = [kind for kind, _ in holders.told(person)]
    assert (kinds.count("run not extended"), kinds.count("run ending"), "run extended again" in kinds) == (1, 1, False)


@contextmanager
def statements() -> Iterator[list[Prepared]]:
    """Gather what is asked of the database in the block."""
    run, done = Transaction.run, []

    def noting(self: Transaction, prepared: Prepared, /, **parameters: Any) -> int:
        done.append(prepared)
        return run(self, prepared, **parameters)

    Transaction.run = noting  # type: ignore[method-assign]
    try:
        yield done
    finally:
        Transaction.run = run  # type: ignore[method-assign]


def test_where_nothing_is_short_no_hold_is_read(holders: Holders) -> None:
    for _ in range(8):
        holders.start(GUARANTEED)
    with statements() as done:
        assert pressure.relieve(holders.centre.database, NOW + 60, POLICY) == 0
    assert len(done) == 3, "the marks, the pools, and what is to come of the one model that is held"
