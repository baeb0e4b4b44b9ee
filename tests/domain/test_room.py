"""Devices that are not spoken for over time: against a plain count second by second."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.reservations import Window
from quotas.domain.room import SHIFT_SECONDS, Bounds, Need, Room, fits, shifts

INSTANT = st.integers(0, 60)
NEEDS = st.lists(
    st.builds(lambda at, length, n: Need(at, at + length, n), INSTANT, st.integers(1, 30), st.integers(1, 4))
)
PHASES = st.lists(st.tuples(INSTANT, st.integers(0, 9)), unique_by=lambda phase: phase[0])


def counted(phases: list[tuple[int, int]], drained: int, needs: list[Need], at: int) -> int:
    begun = [phase for phase in phases if phase[0] <= at]
    healthy = max(begun)[1] if begun else 0
    return max(healthy - drained, 0) - sum(need.devices for need in needs if need.from_at <= at < need.to_at)


@given(PHASES, st.integers(0, 3), NEEDS, INSTANT, st.integers(1, 40), st.integers(1, 9))
def test_it_is_what_is_counted_second_by_second(
    phases: list[tuple[int, int]], drained: int, needs: list[Need], at: int, length: int, devices: int
) -> None:
    room = Room(phases, drained, needs)
    there = {each: counted(phases, drained, needs, each) for each in range(at, at + length)}
    assert room.least(at, at + length) == min(there.values())
    missing = [each for each, number in there.items() if number < devices]
    expected = (missing[0], missing[-1] + 1) if missing else None
    assert room.short(at, at + length, devices) == expected


def test_windows_say_how_many_fit_and_when_they_do_not() -> None:
    room = Room([(0, 8)], 1, [Need(100, 200, 5), Need(150, 160, 1)])
    before, within = Window(10, 20, 30, 100), Window(90, 110, 120, 300)
    first, second = fits(room, [before, within], 3, 2)
    assert (first.fit, first.short, first.from_at, first.to_at) == (3, 0, None, None)
    assert (second.fit, second.short, second.from_at, second.to_at) == (0, 3, 100, 200)


HOUR = 3_600
NINE = 1_800_230_400
"""2027-01-18 09:00 KST."""
SEOUL = ZoneInfo("Asia/Seoul")
ANY = Bounds(0, 2**40, SEOUL)


def lecture(begins: int, hours: int = 2) -> Window:
    return Window(begins - 600, begins, begins + 900, begins + hours * HOUR)


def taken(begins: int, hours: int) -> Need:
    return Need(begins, begins + hours * HOUR, 8)


class TestAnotherTime:
    def test_the_nearest_before_and_after_on_the_same_day(self) -> None:
        room = Room([(0, 8)], 0, [taken(NINE, 1)])
        assert shifts(room, [lecture(NINE)], 8, ANY) == (-2 * HOUR, HOUR + SHIFT_SECONDS)

    def test_it_must_suit_every_window(self) -> None:
        week = 7 * 24 * HOUR
        room = Room([(0, 8)], 0, [taken(NINE, 1), taken(NINE + week + 2 * HOUR, 2)])
        assert shifts(room, [lecture(NINE), lecture(NINE + week)], 8, ANY) == (-2 * HOUR, 5 * HOUR - SHIFT_SECONDS)

    def test_never_on_another_day(self) -> None:
        room = Room([(0, 8)], 0, [taken(NINE - 8 * HOUR, 24)])
        assert shifts(room, [lecture(NINE)], 8, ANY) == (None, None)

    @pytest.mark.parametrize(
        ("bounds", "expected"),
        [
            (Bounds(NINE - HOUR, 2**40, SEOUL), (None, HOUR + SHIFT_SECONDS)),
            (Bounds(0, NINE + 3 * HOUR, SEOUL), (-2 * HOUR, None)),
        ],
    )
    def test_never_in_the_past_nor_after_the_award(
        self, bounds: Bounds, expected: tuple[int | None, int | None]
    ) -> None:
        room = Room([(0, 8)], 0, [taken(NINE, 1)])
        assert shifts(room, [lecture(NINE)], 8, bounds) == expected
