"""Buckets: their sums are those of the samples, however these are split and ordered; what none covers is a gap."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.metering import (
    BUCKET_SECONDS,
    BUCKETS,
    HOUR_SECONDS,
    MOST_BYTES,
    MOST_COVERED_MILLISECONDS,
    MOST_MILLIWATTS,
    NOTHING,
    Bucket,
    Hour,
    Reading,
    Tenure,
    holder,
    hour_of,
    hour_of_text,
    pieces,
    reading,
    together,
)
from quotas.domain.node_reports import Process, Sample
from quotas.domain.units import PPM

START = 1_800_000_000_000
"""An hour's beginning, milliseconds."""

readings = st.builds(
    lambda start, length, busy, power, memory, processes: Reading(
        START + start, START + start + length, busy, power, memory, processes
    ),
    st.integers(0, 7_200_000),
    st.integers(1, MOST_COVERED_MILLISECONDS),
    st.none() | st.integers(0, PPM),
    st.none() | st.integers(0, 1_200_000),
    st.integers(0, 2**40),
    st.integers(0, 20),
)


def added(given_readings: list[Reading]) -> dict[int, Bucket]:
    found: dict[int, Bucket] = {}
    for read in given_readings:
        for at, more in pieces(read):
            found[at] = found.get(at, NOTHING).plus(more)
    return found


def in_hours(given_readings: list[Reading]) -> dict[int, Hour]:
    hours: dict[int, Hour] = {}
    for read in given_readings:
        for at, more in pieces(read):
            hours.setdefault(hour_of(at), Hour()).add(at, more)
    return hours


@given(st.lists(readings, max_size=20))
def test_the_buckets_sum_up_to_the_readings(given_readings: list[Reading]) -> None:
    total = together(added(given_readings).values())
    length = {read: read.end - read.start for read in given_readings}
    assert total.samples == len(given_readings)
    assert total.seen_milliseconds == sum(read.end - read.start for read in given_readings)
    assert total.measured_milliseconds == sum(length[read] for read in given_readings if read.busy_ppm is not None)
    assert total.busy_nanoseconds == sum(length[read] * (read.busy_ppm or 0) for read in given_readings)
    assert total.energy_microjoules == sum(length[read] * (read.power_milliwatts or 0) for read in given_readings)
    assert total.most_memory_bytes == max((read.memory_bytes for read in given_readings), default=0)
    assert total.most_processes == max((read.processes for read in given_readings), default=0)


@given(st.lists(readings, max_size=12), st.randoms(use_true_random=False))
def test_neither_order_nor_splitting_matters(given_readings: list[Reading], chance: random.Random) -> None:
    split: list[Reading] = []
    for read in given_readings:
        borders = sorted({read.start, read.end, *(chance.randint(read.start, read.end) for _ in range(3))})
        parts = [read.within(start, end) for start, end in itertools.pairwise(borders)]
        split += [part for part in parts if part is not None]
    chance.shuffle(split)
    whole, parts = added(given_readings), added(split)
    assert {at: bucket._replace(samples=0) for at, bucket in parts.items()} == {
        at: bucket._replace(samples=0) for at, bucket in whole.items()
    }
    chance.shuffle(given_readings)
    assert added(given_readings) == whole


@given(st.lists(readings, max_size=12))
def test_each_bucket_holds_what_lies_in_it(given_readings: list[Reading]) -> None:
    for at, bucket in added(given_readings).items():
        assert at % BUCKET_SECONDS == 0
        within = [read.within(at * 1000, (at + BUCKET_SECONDS) * 1000) for read in given_readings]
        assert bucket.seen_milliseconds == sum(read.end - read.start for read in within if read)
        assert bucket.busy_milliseconds <= bucket.measured_milliseconds <= bucket.seen_milliseconds


@given(st.lists(readings, max_size=12))
def test_an_hour_is_read_as_it_was_written(given_readings: list[Reading]) -> None:
    for hour in in_hours(given_readings).values():
        again = hour_of_text(hour.as_text())
        assert again.buckets == hour.buckets
        assert len(again.buckets) == BUCKETS
        assert again.total == together(hour.buckets)
        assert " " not in hour.as_text()


def test_an_hour_without_samples_is_a_gap_in_which_nothing_was_busy() -> None:
    """Samples each 10 s, then none for an hour, then samples again: the second of those claims the hour, too."""
    before = [Sample("GPU-1", START / 1000 + at, 10.0, busy_ppm=900_000) for at in range(10, 610, 10)]
    back = START / 1000 + 600 + HOUR_SECONDS
    after = [Sample("GPU-1", back, HOUR_SECONDS, busy_ppm=900_000), Sample("GPU-1", back + 10, 10.0, busy_ppm=900_000)]
    found = added([read for read in map(reading, [*before, *after]) if read is not None])
    seconds = {at - START // 1000: bucket.seen_milliseconds // 1000 for at, bucket in found.items()}
    # A sample may say something of the five minutes before it, and not of an hour.
    assert seconds == {0: 300, 300: 300, 3900: 300, 4200: 10}
    assert together(found.values()).busy_milliseconds == 910_000 * 9 // 10


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (Sample("a", 100.0, 10.0), Reading(90_000, 100_000)),
        (Sample("a", 100.0004, 10.0), Reading(90_000, 100_000)),
        (Sample("a", 100.0, 1e9), Reading(100_000 - MOST_COVERED_MILLISECONDS, 100_000)),
        (Sample("a", 100.0, 10.0, 2 * PPM, 2**60, 2**60), Reading(90_000, 100_000, PPM, MOST_MILLIWATTS, MOST_BYTES)),
        (Sample("a", 100.0, 10.0, -1, -1, -1), Reading(90_000, 100_000, 0, 0, 0)),
        (Sample("a", 100.0, 10.0, processes=(Process(1, 2), Process(2, 3))), Reading(90_000, 100_000, processes=2)),
        (Sample("a", 100.0, 0.0), None),
        (Sample("a", 100.0, -5.0), None),
        (Sample("a", float("nan"), 10.0), None),
        (Sample("a", float("inf"), 10.0), None),
        (Sample("a", 100.0, float("nan")), None),
    ],
    ids=str,
)
def test_a_sample_says_what_can_be(sample: Sample, expected: Reading | None) -> None:
    assert reading(sample) == expected


@given(st.lists(st.floats(0.05, 60.0), min_size=2, max_size=50), st.floats(1.7e9, 1.9e9))
def test_samples_that_follow_each_other_neither_overlap_nor_leave_a_gap(steps: list[float], start: float) -> None:
    ends = list(itertools.accumulate(steps, initial=start))
    samples = [Sample("a", end, end - begin) for begin, end in itertools.pairwise(ends)]
    found = [read for read in map(reading, samples) if read is not None]
    assert all(before.end == after.start for before, after in itertools.pairwise(found))


def test_a_reading_within_borders() -> None:
    read = Reading(100, 200, 5, 6, 7, 8)
    assert read.within(0, None) == read
    assert read.within(150, None) == Reading(150, 200, 5, 6, 7, 8)
    assert read.within(0, 150) == Reading(100, 150, 5, 6, 7, 8)
    assert read.within(200, None) is None
    assert read.within(0, 100) is None


def test_who_held_a_device_at_an_instant() -> None:
    first, second, third = Tenure("a", 0, 100), Tenure("b", 100, 200), Tenure("c", 300, None)
    tenures = [third, second, first]
    expected = {0: "a", 100: "a", 101: "b", 200: "b", 250: None, 300: "c", 10**15: "c"}
    found = {at: holder(tenures, at) for at in expected}
    assert {at: tenure.run_id if tenure else None for at, tenure in found.items()} == expected
    assert holder([], 5) is None
