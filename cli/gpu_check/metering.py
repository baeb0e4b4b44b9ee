"""What the platform metered of a run beside what NVML says of the same time, read apart from it once a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from cli.demo.platform import OwnPlatform
from cli.demo.story import Differs
from cli.gpu_check import nvml
from cli.gpu_check.nvml import Poll

POLL_SECONDS = 1.0
MOST_POLLS = 86_400
END_SECONDS = 30.0
SHARE = 0.10
"""By which the platform's figures may differ, or by what an interval at either end of the run can make of them."""


@dataclass(frozen=True)
class Figures:
    """How a device was used in some time; None is what is not told."""

    seconds: float
    busy_seconds: float | None
    energy_joules: float | None
    most_memory_bytes: int | None


@dataclass
class Watch:
    """Reads devices with NVML in a thread of its own until it is ended; NVML is open from start to end.

    `sources` names for each device the functions that its figures are from.
    """

    polls: dict[str, list[Poll]] = field(default_factory=dict)
    sources: dict[str, dict[str, str]] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)
    _error: BaseException | None = field(default=None, repr=False)

    def start(self, uuids: Sequence[str]) -> None:
        self.polls = {uuid: [] for uuid in uuids}
        self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)
        self._thread.start()

    def of(self, uuid: str) -> list[Poll]:
        """Return the device's readings so far. Raises Differs where NVML has stopped answering."""
        self._raise()
        return list(self.polls[uuid])

    def end(self) -> None:
        """It reads no more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(END_SECONDS)
            self._thread = None

    def _raise(self) -> None:
        if self._error is not None:
            raise Differs("NVML to answer", f"{type(self._error).__name__}: {self._error}")

    def _run(self) -> None:
        try:
            with nvml.opened():
                readers = {uuid: nvml.Reader(uuid) for uuid in self.polls}
                self.sources = {uuid: reader.sources for uuid, reader in readers.items()}
                for _ in range(MOST_POLLS):
                    for uuid, reader in readers.items():
                        self.polls[uuid].append(reader.poll(time.time()))
                    if self._ended.wait(POLL_SECONDS):
                        return
        except Exception as error:  # noqa: BLE001 - it is raised where the reading is ended
            self._error = error


def figures(polls: Sequence[Poll], start: float, end: float) -> Figures:
    """Return what the polls say of the time from `start` to `end`, as far as they cover it.

    A poll's utilisation and power stand for the time since the one before; the energy counter is read between two
    polls as a straight line. Energy is the counter's, or else the power's over the time.
    """
    pieces = [
        (before, after, max(start, before.at), min(end, after.at))
        for before, after in pairwise(polls)
        if max(start, before.at) < min(end, after.at)
    ]
    seconds = sum(until - since for *_, since, until in pieces)
    busy = [after.busy * (until - since) for _, after, since, until in pieces if after.busy is not None]
    counted = [_counted(before, after, until - since) for before, after, since, until in pieces]
    drawn = [after.power_watts * (until - since) for _, after, since, until in pieces if after.power_watts is not None]
    energy = [each for each in counted if each is not None] or drawn
    within = [after.memory_bytes for _, after, *_ in pieces if after.memory_bytes is not None]
    return Figures(
        seconds,
        sum(busy) if busy else None,
        sum(energy) if energy else None,
        max(within) if within else None,
    )


def _counted(before: Poll, after: Poll, seconds: float) -> float | None:
    if before.energy_joules is None or after.energy_joules is None:
        return None
    return (after.energy_joules - before.energy_joules) * seconds / (after.at - before.at)


def most(polls: Sequence[Poll], told: Callable[[Poll], float | None]) -> float:
    """Return the largest of what the polls told, 0 where none did."""
    return max((value for value in map(told, polls) if value is not None), default=0.0)


def of_run(platform: OwnPlatform, run: str, least_seconds: float, limit_seconds: float) -> Figures:
    """Return what the platform metered of the run, once it covers so much or the limit has passed."""
    deadline = time.monotonic() + limit_seconds
    while True:
        parts = platform.read("usage", "--run", run)["intervals"]
        seen, measured, busy, energy = (
            sum(int(part[name]) for part in parts) / 1000
            for name in ("seen_milliseconds", "measured_milliseconds", "busy_milliseconds", "energy_millijoules")
        )
        if seen >= least_seconds or time.monotonic() > deadline:
            most = max((int(part["most_memory_bytes"]) for part in parts), default=0)
            return Figures(seen, busy if measured else None, energy or None, most)
        time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Compared:
    """One figure of both; `holds` is None where one of them has none."""

    name_en: str
    name_ko: str
    unit: str
    platform: float | None
    nvml: float | None
    allowed: float
    holds: bool | None

    def sentence(self, language: str) -> str:
        name = self.name_ko if language == "ko" else self.name_en
        ours, theirs = _shown(self.platform, self.unit), _shown(self.nvml, self.unit)
        if language == "ko":
            return f"{name}: 플랫폼 {ours}, NVML {theirs} (허용 차이 {_shown(self.allowed, self.unit)})"
        return f"{name}: platform {ours}, NVML {theirs} (may differ by {_shown(self.allowed, self.unit)})"


def _shown(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:,.1f} {unit}"


def unmatched(interval_seconds: float) -> float:
    """Return the seconds of a run that the platform's samples may leave uncovered."""
    return 2 * interval_seconds


def compare(platform: Figures, own: Figures, interval_seconds: float, most_watts: float) -> list[Compared]:
    """Return the figures beside each other: within a tenth, or what an interval at either end can make of them.

    The platform's samples do not begin and end with the run: up to an interval at its start is not covered, nor is up
    to one at its end. The memory's maximum is a reading of both: it may differ by a hundredth, or 64 MiB.
    """
    mebibyte = 2**20
    slack = unmatched(interval_seconds)
    memory = (own.most_memory_bytes or 0) / mebibyte
    return [
        _compared("covered time", "측정 시간", "s", (platform.seconds, own.seconds), slack),
        _compared("busy time", "연산 시간", "s", (platform.busy_seconds, own.busy_seconds), slack),
        _compared("energy", "전력량", "J", (platform.energy_joules, own.energy_joules), slack * most_watts),
        _compared(
            "largest memory",
            "최대 메모리",
            "MiB",
            (_mebibytes(platform.most_memory_bytes), _mebibytes(own.most_memory_bytes)),
            64.0,
            share=0.01 if memory else 0.0,
        ),
    ]


def _mebibytes(value: int | None) -> float | None:
    return None if value is None else value / 2**20


def _compared(
    name_en: str, name_ko: str, unit: str, both: tuple[float | None, float | None], least: float, share: float = SHARE
) -> Compared:
    ours, theirs = both
    allowed = max(least, share * abs(theirs or 0.0))
    holds = None if ours is None or theirs is None else abs(ours - theirs) <= allowed
    return Compared(name_en, name_ko, unit, ours, theirs, allowed, holds)
