"""What a device did for a run, in buckets of five minutes: exact sums, so that no order and no splitting changes them.

A sample stands for the time before it. Its part within a bucket is added to the bucket; what no sample covers is
nowhere, and shows as a gap beside the time for which the device was held. Times here are whole milliseconds UTC.
Busy time is kept as milliseconds times millionths (nanoseconds) and energy as milliwatts times milliseconds
(microjoules): both are whole numbers, so that parts add up to what they are parts of.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple

from quotas.domain.node_reports import Sample
from quotas.domain.units import PPM

MILLISECONDS = 1000
BUCKET_SECONDS = 300
HOUR_SECONDS = 3600
BUCKETS = HOUR_SECONDS // BUCKET_SECONDS
MOST_COVERED_MILLISECONDS = BUCKET_SECONDS * MILLISECONDS
"""A sample stands for so much time at most: what one reading says of more is no measurement."""
MOST_AHEAD_SECONDS = 300
"""A machine's clock may be so far ahead of the platform's; what is read later than that is not taken."""
MOST_MILLIWATTS = 100_000_000
MOST_BYTES = 2**50
"""No device draws more than 100 kW or has more than 1 PiB: what says so is broken, and must not break the sums."""
KEPT_DAYS = 400
"""For how long buckets are kept."""
FOREIGN = "foreign"
"""The kind of a device's event: a process on it is not of the run that holds it."""

_BUCKET = BUCKET_SECONDS * MILLISECONDS
_as_json = json.JSONEncoder(separators=(",", ":")).encode


class Bucket(NamedTuple):
    """What samples said of a run's devices in some time; device time in milliseconds.

    `measured` is the part of `seen` for which a utilisation was read. `most_memory_bytes` and `most_processes` are of
    one device. A sample is counted where it ends. A tuple, as it is made at each sample and written as it is.
    """

    samples: int = 0
    seen_milliseconds: int = 0
    measured_milliseconds: int = 0
    busy_nanoseconds: int = 0
    energy_microjoules: int = 0
    most_memory_bytes: int = 0
    most_processes: int = 0

    def plus(self, other: Bucket) -> Bucket:
        """Return both together."""
        return Bucket(
            self.samples + other.samples,
            self.seen_milliseconds + other.seen_milliseconds,
            self.measured_milliseconds + other.measured_milliseconds,
            self.busy_nanoseconds + other.busy_nanoseconds,
            self.energy_microjoules + other.energy_microjoules,
            max(self.most_memory_bytes, other.most_memory_bytes),
            max(self.most_processes, other.most_processes),
        )

    @property
    def busy_milliseconds(self) -> int:
        """The device time that was busy, rounded down."""
        return self.busy_nanoseconds // PPM

    @property
    def energy_millijoules(self) -> int:
        """The energy that was used, rounded down."""
        return self.energy_microjoules // 1000


NOTHING = Bucket()


@dataclass(frozen=True, slots=True)
class Reading:
    """What one sample says of the time from `start` to `end`."""

    start: int
    end: int
    busy_ppm: int | None = None
    power_milliwatts: int | None = None
    memory_bytes: int = 0
    processes: int = 0

    def within(self, start: int, end: int | None) -> Reading | None:
        """Return its part from `start` to `end`, which is None for no end; None where there is none."""
        start = max(start, self.start)
        end = self.end if end is None else min(end, self.end)
        if start >= end:
            return None
        return Reading(start, end, self.busy_ppm, self.power_milliwatts, self.memory_bytes, self.processes)

    def earlier(self, by: int) -> Reading:
        """Return it as of `by` milliseconds before."""
        return replace(self, start=self.start - by, end=self.end - by)


@dataclass(frozen=True, slots=True)
class Tenure:
    """A run has a device from `start` to `end`, None where it has it still."""

    run_id: str
    start: int
    end: int | None


def reading(sample: Sample) -> Reading | None:
    """Return what the sample says, or None for one that stands for no time. What cannot be is brought to what can."""
    if not (math.isfinite(sample.at) and math.isfinite(sample.covers_seconds)):
        return None
    end = round(sample.at * MILLISECONDS)
    # Rounded as instants, and not as a length: so one sample starts in the very millisecond in which the last ended.
    start = max(round((sample.at - sample.covers_seconds) * MILLISECONDS), end - MOST_COVERED_MILLISECONDS)
    if start >= end:
        return None
    return Reading(
        start,
        end,
        _possible(sample.busy_ppm, PPM),
        _possible(sample.power_milliwatts, MOST_MILLIWATTS),
        _possible(sample.memory_bytes, MOST_BYTES) or 0,
        len(sample.processes),
    )


def _possible(value: int | None, most: int) -> int | None:
    return None if value is None else min(max(value, 0), most)


def holder(tenures: Iterable[Tenure], at: int) -> Tenure | None:
    """Return which run has the device at `at`; of two that meet there, the one that had it before."""
    holding = [each for each in tenures if each.start <= at and (each.end is None or each.end >= at)]
    return min(holding, key=lambda each: each.start, default=None)


def pieces(read: Reading) -> Iterator[tuple[int, Bucket]]:
    """Yield the reading's part within each bucket: when the bucket begins, in seconds, and what to add to it."""
    start = read.start
    while start < read.end:
        bucket = start // _BUCKET
        end = min(read.end, (bucket + 1) * _BUCKET)
        length = end - start
        yield (
            bucket * BUCKET_SECONDS,
            Bucket(
                int(end == read.end),
                length,
                0 if read.busy_ppm is None else length,
                length * (read.busy_ppm or 0),
                length * (read.power_milliwatts or 0),
                read.memory_bytes,
                read.processes,
            ),
        )
        start = end


def together(buckets: Iterable[Bucket]) -> Bucket:
    """Return the sum of the buckets."""
    return reduce(Bucket.plus, buckets, NOTHING)


class Hour:
    """The twelve buckets of a run's hour, which samples are added to."""

    __slots__ = ("buckets",)

    def __init__(self, buckets: Iterable[Bucket] = (NOTHING,) * BUCKETS) -> None:
        self.buckets = list(buckets)

    def add(self, bucket_at: int, more: Bucket) -> None:
        """`more` is added to the bucket that begins at `bucket_at` (seconds UTC)."""
        index = bucket_at % HOUR_SECONDS // BUCKET_SECONDS
        self.buckets[index] = self.buckets[index].plus(more)

    @property
    def total(self) -> Bucket:
        """The sum of the buckets."""
        return together(self.buckets)

    def as_text(self) -> str:
        """Return the buckets as compact JSON: twelve lists of the fields of `Bucket`, 0 for a bucket of nothing."""
        return _as_json([0 if bucket == NOTHING else bucket for bucket in self.buckets])


def hour_of_text(text: str) -> Hour:
    """Return the hour that `Hour.as_text` wrote."""
    return Hour(Bucket(*fields) if fields else NOTHING for fields in json.loads(text))


def hour_of(at: int) -> int:
    """Return when the hour (UTC) of `at` begins."""
    return at - at % HOUR_SECONDS
