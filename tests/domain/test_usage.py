"""Held beside busy: sums over a period, what is not known, and the five-minute intervals of a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.metering import BUCKET_SECONDS, KEPT_DAYS, Bucket
from quotas.domain.units import DAY_SECONDS, HOUR_SECONDS, InvalidValue
from quotas.domain.usage import Interval, Period, Use, intervals, overlap, period, spread, together

HOUR = 1_800_000_000
"""The beginning of an hour."""
uses = st.builds(Use, *(st.integers(0, 10**12) for _ in range(7)))


@given(st.lists(uses), st.randoms(use_true_random=False))
def test_sums_know_no_order(given_uses: list[Use], chance: object) -> None:
    total = together(given_uses)
    chance.shuffle(given_uses)  # type: ignore[attr-defined]
    assert together(given_uses) == total
    assert total.held_seconds == sum(use.held_seconds for use in given_uses)
    assert total.busy_milliseconds == sum(use.busy_milliseconds for use in given_uses)


def test_what_a_use_says() -> None:
    use = Use(3600, 1_800_000, 1_200_000, 900_000, 3_600_000_000)
    assert (use.seen_seconds, use.measured_seconds, use.busy_seconds) == (1800, 1200, 900)
    assert (use.idle_seconds, use.gap_seconds, use.busy_ppm, use.watt_hours) == (300, 1800, 750_000, 1000)
    assert Use(10, 20_000).gap_seconds == 0
    assert Use(10, 5_000).busy_ppm is None


def test_a_period_is_of_whole_hours() -> None:
    assert period(HOUR + 5, HOUR + 7) == Period(HOUR, HOUR + HOUR_SECONDS)
    assert period(HOUR, HOUR + HOUR_SECONDS) == Period(HOUR, HOUR + HOUR_SECONDS)
    assert period(HOUR, HOUR + KEPT_DAYS * DAY_SECONDS).until_at == HOUR + KEPT_DAYS * DAY_SECONDS
    for until_at in (HOUR, HOUR - 1, HOUR + KEPT_DAYS * DAY_SECONDS + 1):
        with pytest.raises(InvalidValue):
            period(HOUR, until_at)


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.lists(st.integers(0, 10_000), min_size=2, unique=True))
def test_parts_between_borders_sum_up_to_the_whole(start: int, length: int, borders: list[int]) -> None:
    borders.sort()
    end = start + length
    parts = dict(spread(start, end, borders))
    assert sum(parts.values()) == overlap(start, end, Period(borders[0], borders[-1]))
    assert all(seconds > 0 for seconds in parts.values())
    assert set(parts) <= set(borders[:-1])


def test_the_intervals_of_a_run_show_its_gaps() -> None:
    measured = Bucket(30, 600_000, 600_000, 600_000 * 250_000)
    held = [(HOUR + 100, HOUR + 700), (HOUR + 100, HOUR + 700)]
    found = intervals(held, {HOUR + 300: measured}, Period(HOUR, HOUR + HOUR_SECONDS))
    assert found == [
        Interval(HOUR, 400, Bucket()),
        Interval(HOUR + 300, 600, measured),
        Interval(HOUR + 600, 200, Bucket()),
    ]
    assert [each.gap_seconds for each in found] == [400, 0, 200]
    assert [each.busy_ppm for each in found] == [None, 250_000, None]


@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 4000)), max_size=5))
def test_the_intervals_hold_all_that_was_held_in_the_period(tenures: list[tuple[int, int]]) -> None:
    within = Period(HOUR, HOUR + HOUR_SECONDS)
    held = [(HOUR - 300 + start, HOUR - 300 + start + length) for start, length in tenures]
    found = intervals(held, {}, within)
    assert sum(each.held_seconds for each in found) == sum(overlap(*each, within) for each in held)
    assert all(each.at % BUCKET_SECONDS == 0 and within.from_at <= each.at < within.until_at for each in found)
    assert [each.at for each in found] == sorted({each.at for each in found})
