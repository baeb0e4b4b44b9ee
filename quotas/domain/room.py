"""How many devices of a pool are not spoken for over time, and whether windows of seats fit in."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from quotas.domain.reservations import Window
from quotas.domain.units import DAY_SECONDS, moment

SHIFT_SECONDS = 1_800
"""The step in which another time of the day is looked for."""


@dataclass(frozen=True)
class Need:
    """From `from_at` to `to_at` (exclusive, seconds UTC) so many devices are spoken for."""

    from_at: int
    to_at: int
    devices: int


class Room:
    """The devices of one model in one pool that are not spoken for, at any time; below zero where some are missing."""

    def __init__(self, phases: Iterable[tuple[int, int]], drained: int, needs: Iterable[Need]) -> None:
        """`phases` are (from when on, healthy devices); before the first there are none."""
        changes: defaultdict[int, int] = defaultdict(int)
        for need in needs:
            changes[need.from_at] += need.devices
            changes[need.to_at] -= need.devices
        healthy_from = dict(sorted(phases))
        self._times = sorted({*changes, *healthy_from})
        self._room: list[int] = []
        healthy = spoken_for = 0
        for at in self._times:
            healthy = healthy_from.get(at, healthy)
            spoken_for += changes.get(at, 0)
            self._room.append(max(healthy - drained, 0) - spoken_for)

    def _steps(self, from_at: int, to_at: int) -> Iterator[tuple[int, int]]:
        """Yield (until when, devices) from `from_at` on."""
        index = bisect_right(self._times, from_at) - 1
        while True:
            until = self._times[index + 1] if index + 1 < len(self._times) else to_at
            yield min(until, to_at), self._room[index] if index >= 0 else 0
            if until >= to_at:
                return
            index += 1

    def least(self, from_at: int, to_at: int) -> int:
        """Return the fewest devices that there are at one time between the two."""
        return min(devices for _, devices in self._steps(from_at, to_at))

    def short(self, from_at: int, to_at: int, devices: int) -> tuple[int, int] | None:
        """Return (from when, until when) fewer than `devices` are there, or None."""
        begins = ends = None
        at = from_at
        for until, there in self._steps(from_at, to_at):
            if there < devices:
                begins, ends = at if begins is None else begins, until
            at = until
        return None if begins is None or ends is None else (begins, ends)


@dataclass(frozen=True)
class Fit:
    """Of `wanted` seats so many `fit` in the window; when not all do, some are missing from `from_at` to `to_at`."""

    window: Window
    wanted: int
    fit: int
    from_at: int | None = None
    to_at: int | None = None

    @property
    def short(self) -> int:
        return self.wanted - self.fit


def fits(room: Room, windows: Sequence[Window], seats: int, devices_of_a_seat: int) -> tuple[Fit, ...]:
    """Return of each window how many of the seats fit in, from its opening to its end."""
    found = []
    for window in windows:
        there = max(room.least(window.opens_at, window.ends_at), 0) // devices_of_a_seat
        missing = room.short(window.opens_at, window.ends_at, seats * devices_of_a_seat)
        from_at, to_at = missing or (None, None)
        found.append(Fit(window, seats, min(there, seats), from_at, to_at))
    return tuple(found)


def all_fit(room: Room, windows: Iterable[Window], devices: int) -> bool:
    """Return whether so many devices are there in every window."""
    return all(room.least(window.opens_at, window.ends_at) >= devices for window in windows)


@dataclass(frozen=True)
class Bounds:
    """Between which instants (seconds UTC) windows may be, and in which zone a day is one."""

    from_at: int
    to_at: int
    zone: ZoneInfo


def shifts(room: Room, windows: Sequence[Window], devices: int, bounds: Bounds) -> tuple[int | None, int | None]:
    """Return the least seconds (below zero, above zero) by which all windows fit when they begin sooner, or later.

    Each stays on its day in the bounds' zone. None where there is no such time.
    """
    return _shift(room, windows, devices, bounds, -1), _shift(room, windows, devices, bounds, 1)


def _shift(room: Room, windows: Sequence[Window], devices: int, bounds: Bounds, sign: int) -> int | None:
    for step in range(1, DAY_SECONDS // SHIFT_SECONDS):
        seconds = sign * step * SHIFT_SECONDS
        moved = [_moved(window, seconds) for window in windows]
        if moved[0].starts_at < bounds.from_at or moved[-1].ends_at > bounds.to_at:
            return None
        if not all(_same_day(old, new, bounds.zone) for old, new in zip(windows, moved, strict=True)):
            return None
        if all_fit(room, moved, devices):
            return seconds
    return None


def _moved(window: Window, seconds: int) -> Window:
    return Window(
        window.opens_at + seconds, window.starts_at + seconds, window.release_at + seconds, window.ends_at + seconds
    )


def _same_day(old: Window, new: Window, where: ZoneInfo) -> bool:
    return moment(old.starts_at).astimezone(where).date() == moment(new.starts_at).astimezone(where).date()
