"""Device time that was held beside device time that was busy: sums over a period, and what no sample covers.

Held is the time from a run's start to its device's release. A period is of whole hours, as what is kept of a run is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

from quotas.domain.metering import BUCKET_SECONDS, KEPT_DAYS, MILLISECONDS, NOTHING, Bucket, hour_of
from quotas.domain.units import DAY_SECONDS, HOUR_SECONDS, PPM, InvalidValue

MILLIJOULES_PER_WATT_HOUR = 3_600_000


@dataclass(frozen=True)
class Period:
    """From the beginning of one hour to the beginning of another, seconds UTC."""

    from_at: int
    until_at: int


@dataclass(frozen=True)
class Use:
    """Device time that was held, and what samples say: `seen` is covered by them, `measured` has a utilisation."""

    held_seconds: int = 0
    seen_milliseconds: int = 0
    measured_milliseconds: int = 0
    busy_milliseconds: int = 0
    energy_millijoules: int = 0
    most_memory_bytes: int = 0
    samples: int = 0

    def plus(self, other: Use) -> Use:
        """Return both together."""
        return Use(
            self.held_seconds + other.held_seconds,
            self.seen_milliseconds + other.seen_milliseconds,
            self.measured_milliseconds + other.measured_milliseconds,
            self.busy_milliseconds + other.busy_milliseconds,
            self.energy_millijoules + other.energy_millijoules,
            max(self.most_memory_bytes, other.most_memory_bytes),
            self.samples + other.samples,
        )

    @property
    def seen_seconds(self) -> int:
        return round(self.seen_milliseconds / MILLISECONDS)

    @property
    def measured_seconds(self) -> int:
        return round(self.measured_milliseconds / MILLISECONDS)

    @property
    def busy_seconds(self) -> int:
        return round(self.busy_milliseconds / MILLISECONDS)

    @property
    def idle_seconds(self) -> int:
        """Device time that is known to have been held and idle: what was not measured is not counted as idle."""
        return round((self.measured_milliseconds - self.busy_milliseconds) / MILLISECONDS)

    @property
    def gap_seconds(self) -> int:
        """Device time that was held and of which nothing is known."""
        return max(self.held_seconds - self.seen_seconds, 0)

    @property
    def busy_ppm(self) -> int | None:
        """The busy part of the measured time, or None where nothing was measured."""
        if self.measured_milliseconds == 0:
            return None
        return self.busy_milliseconds * PPM // self.measured_milliseconds

    @property
    def watt_hours(self) -> int:
        return round(self.energy_millijoules / MILLIJOULES_PER_WATT_HOUR)


def together(uses: Iterable[Use]) -> Use:
    """Return the sum of the uses."""
    return reduce(Use.plus, uses, Use())


def period(from_at: int, until_at: int) -> Period:
    """Return the whole hours that hold both instants. Raises InvalidValue for none, and for more than are kept."""
    start, end = hour_of(from_at), hour_of(until_at + HOUR_SECONDS - 1)
    if start >= end:
        raise InvalidValue("until", "must be after the beginning", "시작보다 뒤여야 합니다")
    if end - start > KEPT_DAYS * DAY_SECONDS:
        raise InvalidValue(
            "from", f"a period is of at most {KEPT_DAYS} days", f"기간은 최대 {KEPT_DAYS}일까지 지정할 수 있습니다"
        )
    return Period(start, end)


def overlap(start: int, end: int, period: Period) -> int:
    """Return how many seconds from `start` to `end` lie in the period."""
    return max(min(end, period.until_at) - max(start, period.from_at), 0)


def spread(start: int, end: int, borders: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield each border with the seconds from `start` to `end` that lie between it and the next one."""
    last: int | None = None
    for border in borders:
        if last is not None:
            seconds = overlap(start, end, Period(last, border))
            if seconds:
                yield last, seconds
        last = border


@dataclass(frozen=True)
class Interval:
    """Five minutes of a run: device time that it held, and what samples say of them."""

    at: int
    held_seconds: int
    bucket: Bucket

    @property
    def gap_seconds(self) -> int:
        return max(self.held_seconds - round(self.bucket.seen_milliseconds / MILLISECONDS), 0)

    @property
    def busy_ppm(self) -> int | None:
        """The busy part of what was measured, or None where nothing was."""
        measured = self.bucket.measured_milliseconds
        return self.bucket.busy_nanoseconds // measured if measured else None


def intervals(held: Iterable[tuple[int, int]], buckets: dict[int, Bucket], period: Period) -> list[Interval]:
    """Return the five-minute intervals of the period in which a device was held, or anything is known, in order.

    `held` are the beginning and the end of each device's time.
    """
    borders = range(period.from_at, period.until_at + 1, BUCKET_SECONDS)
    seconds: dict[int, int] = {}
    for start, end in held:
        within = range(
            max(period.from_at, start - start % BUCKET_SECONDS),
            min(period.until_at, end + BUCKET_SECONDS - 1) + 1,
            BUCKET_SECONDS,
        )
        for at, part in spread(start, end, within):
            seconds[at] = seconds.get(at, 0) + part
    known = sorted(at for at in seconds.keys() | buckets.keys() if at in borders[:-1])
    return [Interval(at, seconds.get(at, 0), buckets.get(at, NOTHING)) for at in known]
