"""When a turn in the queue is to be expected, and from what that follows.

Those before take the devices in their order, as they come free. A run whose end is known (a batch run's time limit, a
reserved window, a run that is to be stopped) counts until then; any other one as long as runs on such devices took
lately, and when it has gone on for longer, for half of that from now on. It is an expectation and no promise.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from quotas.domain.units import show_duration, show_instant

SAMPLE = 50
"""From how many of the last runs that ended the mean length is taken."""


@dataclass(frozen=True)
class Occupied:
    """Devices in use since `since`; `until` where it is known. Instants in seconds UTC."""

    devices: int
    since: int
    until: int | None = None


@dataclass(frozen=True)
class Wanted:
    """Devices that one before waits for, and for how many seconds, where that is known."""

    devices: int
    seconds: int | None = None


@dataclass(frozen=True)
class Coming:
    """From `at` on there are so many devices more."""

    at: int
    devices: int


@dataclass(frozen=True)
class History:
    """The mean length of the last `runs` that ended, in whole seconds; of none it is not known."""

    runs: int = 0
    mean_seconds: int | None = None


@dataclass(frozen=True)
class Line:
    """How things stand for one device model: what an expectation is made from.

    `usable` devices can be used at all, `free` of them now.
    """

    usable: int
    free: int
    occupied: tuple[Occupied, ...] = ()
    coming: tuple[Coming, ...] = ()
    history: History = History()


@dataclass(frozen=True)
class Estimate:
    """When the turn is expected (seconds UTC), None where nothing says so; the rest is from what it follows.

    `certain`: it follows from known ends alone.
    """

    at: int | None
    certain: bool
    entries_before: int
    devices_before: int
    usable: int
    free: int
    history: History = History()
    known_ends: int = 0

    def sentence(self, language: str, now: int) -> str:
        """Return the expectation and how it was made, for people."""
        return self._ko(now) if language == "ko" else self._en(now)

    def _en(self, now: int) -> str:
        before = f"{self.entries_before} before you want {self.devices_before} devices"
        basis = [before if self.entries_before else "nobody waits before you", f"{self.free} of {self.usable} are free"]
        if self.history.mean_seconds is not None:
            took = show_duration(self.history.mean_seconds)
            basis.append(f"the last {self.history.runs} runs on them took {took} on average")
        if self.known_ends:
            basis.append(f"{self.known_ends} of those that run have a known end")
        if self.at is None:
            why = "no run has ended yet that says how long one takes"
            if self.history.mean_seconds is not None:
                why = "there are not as many devices as things stand"
            return f"No time can be given, as {why}: {'; '.join(basis)}."
        word = "At the latest at" if self.certain else "About"
        return f"{word} {show_instant(self.at)} (in {show_duration(max(self.at - now, 0))}): {'; '.join(basis)}."

    def _ko(self, now: int) -> str:
        before = f"앞선 {self.entries_before}건이 {self.devices_before}대 대기 중"
        basis = [
            before if self.entries_before else "앞선 대기 없음",
            f"전체 {self.usable}대 중 {self.free}대 사용 가능",
        ]
        if self.history.mean_seconds is not None:
            took = show_duration(self.history.mean_seconds, "ko")
            basis.append(f"최근 실행 {self.history.runs}건의 평균 시간 {took}")
        if self.known_ends:
            basis.append(f"실행 중인 {self.known_ends}건은 종료 시각이 정해짐")
        text = ", ".join(basis)
        if self.at is None:
            why = "아직 종료된 실행이 없어" if self.history.mean_seconds is None else "현재 장치 수가 부족하여"
            return f"{why} 예상 시각을 알 수 없습니다: {text}."
        word = "늦어도 " if self.certain else "약 "
        wait = show_duration(max(self.at - now, 0), "ko")
        return f"{word}{show_instant(self.at)} ({wait} 후): {text}."


@dataclass(order=True)
class _Free:
    at: int
    guessed: bool
    devices: int = field(compare=False)


def estimate(needed: int, before: Sequence[Wanted], line: Line, now: int) -> Estimate:
    """Return when `needed` devices are expected to be free for one who waits behind `before`."""
    heap = [*_ends(line, now), *(_Free(max(each.at, now), False, each.devices) for each in line.coming)]
    heapq.heapify(heap)
    mean, free, at, guessed = line.history.mean_seconds, line.free, now, False
    for each in (*before, Wanted(needed)):
        while free < each.devices and heap:
            soonest = heapq.heappop(heap)
            free += soonest.devices
            at, guessed = max(at, soonest.at), guessed or soonest.guessed
        if free < each.devices:
            return _told(None, before, line, certain=False)
        free -= each.devices
        length = each.seconds if each.seconds is not None else mean
        if length is not None:
            heapq.heappush(heap, _Free(at + length, each.seconds is None, each.devices))
    return _told(at, before, line, certain=not guessed)


def _ends(line: Line, now: int) -> Iterable[_Free]:
    """Yield when devices in use come free, those of which nothing is known left out."""
    mean = line.history.mean_seconds
    for each in line.occupied:
        if each.until is not None:
            yield _Free(max(each.until, now), False, each.devices)
        elif mean is not None:
            end = each.since + mean
            yield _Free(end if end > now else now + max(mean // 2, 1), True, each.devices)


def _told(at: int | None, before: Sequence[Wanted], line: Line, *, certain: bool) -> Estimate:
    return Estimate(
        at=at,
        certain=certain,
        entries_before=len(before),
        devices_before=sum(each.devices for each in before),
        usable=line.usable,
        free=max(line.free, 0),
        history=line.history,
        known_ends=sum(each.until is not None for each in line.occupied),
    )
