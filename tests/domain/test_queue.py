"""The order of the waiting queue, and the devices that are kept for those before."""

from __future__ import annotations

import pytest

from quotas.domain.fair_share import steady_use
from quotas.domain.priorities import WISHES, Priority
from quotas.domain.queue import (
    ALLOWED_CHANGES,
    OWN_REASONS,
    PASSED_OVER,
    WAITABLE,
    EntryState,
    Place,
    Room,
    Share,
    Waiting,
    in_order,
    looked_at,
)
from quotas.domain.refusals import Code

GUARANTEED, BORROWED, OPPORTUNISTIC = WISHES
UNUSED, FULL = Share(0.0, 100), Share(steady_use(100), 100)


def entry(run_id: str, project: str = "a", wish: Priority = GUARANTEED, at: int = 0, devices: int = 1) -> Waiting:
    return Waiting(run_id, project, wish, at, devices)


def order(*entries: Waiting, **shares: Share) -> list[str]:
    return [each.run_id for each in in_order(entries, shares)]


class TestOrder:
    def test_the_firmer_class_comes_first_whoever_used_more(self) -> None:
        found = order(
            entry("3", "idle", OPPORTUNISTIC), entry("2", "idle", BORROWED), entry("1", "busy"), busy=FULL, idle=UNUSED
        )
        assert found == ["1", "2", "3"]

    def test_of_a_class_whoever_used_least_of_its_share_comes_first(self) -> None:
        small = Share(FULL.use, 50)
        found = order(
            entry("3", "small", at=1), entry("2", "busy", at=2), entry("1", "idle", at=3), busy=FULL, idle=UNUSED,
            small=small,
        )  # fmt: skip
        assert found == ["1", "2", "3"]
        assert (UNUSED.factor, FULL.factor, small.factor) == (1.0, 0.5, 0.25)

    def test_what_is_held_counts_at_once(self) -> None:
        assert UNUSED.with_held(1).factor < 1.0
        found = order(entry("2", "a", at=1), entry("1", "b", at=2), a=UNUSED.with_held(1), b=UNUSED)
        assert found == ["1", "2"]

    def test_of_one_project_whoever_came_first_and_at_last_the_id(self) -> None:
        assert order(entry("3", at=5), entry("2", at=4), entry("1", at=5), a=UNUSED) == ["2", "1", "3"]

    def test_a_project_without_a_share_comes_last_of_its_class(self) -> None:
        found = order(entry("3", "none", at=1), entry("2", "busy", at=2), busy=FULL)
        assert found == ["2", "3"]


class TestRoom:
    def test_what_one_before_could_use_is_kept_for_it(self) -> None:
        room = Room([Place(1, usable=8, free=3), Place(2, usable=2, free=1)])
        head = entry("1", devices=4)
        assert not room.has_room(head)
        room.keep(head, lent=False)
        assert room.closed_to(entry("2")) == {1}
        assert room.has_room(entry("2")), "in the second pool four devices will never be free"
        room.take(2, 1)
        assert not room.has_room(entry("3"))
        assert not room.has_room(entry("4", wish=OPPORTUNISTIC))

    def test_those_who_give_way_may_use_what_is_lent(self) -> None:
        room = Room([Place(1, usable=8, free=3)])
        room.keep(entry("1", devices=4), lent=True)
        assert not room.has_room(entry("2", wish=BORROWED))
        assert room.has_room(entry("3", wish=OPPORTUNISTIC, devices=3))
        assert not room.has_room(entry("4", wish=OPPORTUNISTIC, devices=4))

    def test_what_no_pool_has_keeps_nothing(self) -> None:
        room = Room([Place(1, usable=2, free=1)])
        impossible = entry("1", devices=3)
        assert not room.could_hold(impossible)
        room.keep(impossible, lent=False)
        assert room.has_room(entry("2"))


class TestLookedAt:
    def test_all_of_a_few(self) -> None:
        assert looked_at([entry("1"), entry("2")], 2, now=7) == {"1", "2"}

    @pytest.mark.parametrize("pause", [1, 3, 10, 60])
    def test_of_many_each_in_time(self, pause: int) -> None:
        many = [entry(f"{number:03}") for number in range(200)]
        seen: set[str] = set()
        for number in range(400):
            some = looked_at(many, 16, now=1_800_000_000 + number * pause)
            assert len(some) == 16
            seen |= some
        assert seen == {each.run_id for each in many}


class TestTables:
    def test_an_end_is_an_end(self) -> None:
        open_states = {EntryState.WAITING, EntryState.TURN}
        assert {state for state, following in ALLOWED_CHANGES.items() if following} == open_states
        assert set(ALLOWED_CHANGES) == set(EntryState)
        assert all(EntryState.WAITING not in following for following in ALLOWED_CHANGES.values())

    def test_a_refusal_is_of_the_devices_or_of_the_project_or_an_end(self) -> None:
        assert WAITABLE.isdisjoint(OWN_REASONS)
        assert set(PASSED_OVER) == {*OWN_REASONS, Code.POOL_FULL, Code.RESERVED_SOON}
