"""Whether a server computes: since when its kernels, its terminals and its devices have done nothing, and what follows.

What is open in a browser is no work, as long as the server tells what its kernels do; of one that does not, the hub's
word on its last activity is taken, which counts open pages too. What is unknown is not idle: what computed when it fell
silent is taken to go on, and where neither the server nor the hub says anything, nobody is called idle.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.metering import BUCKET_SECONDS
from quotas.domain.runs import Outcome
from quotas.domain.units import PPM

ASLEEP_PPM = 10_000
"""A device that is busy for no more than this part of its time does no work. Drivers read use in whole percents, and a
device that nobody uses is read as one now and then, as asking it is work too."""
FRESH_SECONDS = 180
"""So long what was said last is taken for what is: agents and servers report every minute or oftener."""


class Then(StrEnum):
    """What follows from a look at a server."""

    KEEP = "keep"
    """Nothing changes."""
    MARK = "mark"
    """Its end is set, and its person is told."""
    CLEAR = "clear"
    """Its end is not set any more."""
    STOP = "stop"
    """The end that was set has come."""


@dataclass(frozen=True)
class ServerReport:
    """What a server said of itself at `reported_at`: how many kernels compute, and when one of its kernels or terminals
    last did something; None is never."""

    reported_at: int
    busy_kernels: int
    active_at: int | None = None


@dataclass(frozen=True)
class DeviceReading:
    """The newest utilisation of a device that the run holds."""

    read_at: int
    busy_ppm: int


@dataclass(frozen=True)
class Metered:
    """What was measured of the run's devices in the five minutes from `start_at` on, in device time."""

    start_at: int
    measured_milliseconds: int
    busy_milliseconds: int


@dataclass(frozen=True)
class Facts:
    """All that is known of a running server. Instants in seconds UTC.

    `started_at` is None while it is being prepared, `report` where it never said anything, `hub_active_at` where the
    hub was not asked. `kept_at` is when its person last said that they need it. `readings` are of devices whose use can
    be read, `metered` is in the order of time, and `devices` says how many it holds.
    """

    started_at: int | None
    kept_at: int | None = None
    report: ServerReport | None = None
    hub_active_at: int | None = None
    devices: int = 0
    readings: tuple[DeviceReading, ...] = ()
    metered: tuple[Metered, ...] = ()


@dataclass(frozen=True)
class Limits:
    """A server that has done nothing for `idle_seconds` is stopped, and its person is told `notice_seconds` before.

    `idle_seconds` None: it is never stopped for that.
    """

    idle_seconds: int | None
    notice_seconds: int

    @property
    def told_after(self) -> int:
        """After how many idle seconds the person is told: the notice is part of the limit, but for half of it."""
        idle = self.idle_seconds or 0
        return max(idle - self.notice_seconds, idle // 2)


@dataclass(frozen=True)
class Verdict:
    """What follows; with `MARK` since when the server has been idle, and when it is to be stopped."""

    then: Then
    since: int = 0
    stop_at: int = 0


def look(facts: Facts, stop_at: int | None, limits: Limits, now: int) -> Verdict:
    """Return what follows for a server whose end was set to `stop_at`, or was not. It is never set sooner than now plus
    the notice."""
    since = idle_since(facts, now)
    idle = limits.idle_seconds
    if idle is None or since is None:
        return Verdict(Then.KEEP if stop_at is None else Then.CLEAR)
    if stop_at is not None:
        if _has_worked(since, stop_at, limits, now):
            return Verdict(Then.CLEAR)
        return Verdict(Then.STOP if stop_at <= now else Then.KEEP)
    if since + limits.told_after > now:
        return Verdict(Then.KEEP)
    return Verdict(Then.MARK, since, max(since + idle, now + limits.notice_seconds))


def is_spared(facts: Facts, stop_at: int, limits: Limits, now: int) -> bool:
    """Return whether something is known that speaks against the end that was set, whatever else is unknown."""
    active_at = last_active(facts, now)
    return limits.idle_seconds is None or active_at is None or _has_worked(active_at, stop_at, limits, now)


def _has_worked(active_at: int, stop_at: int, limits: Limits, now: int) -> bool:
    """Return whether the server was active so late that its end would not be set, or to a later time."""
    return active_at + limits.told_after > now or active_at + (limits.idle_seconds or 0) > stop_at


def idle_since(facts: Facts, now: int) -> int | None:
    """Return since when nothing of the server has worked, `now` if something does; None where that is unknown."""
    return last_active(facts, now) if _server_is_known(facts, now) else None


def last_active(facts: Facts, now: int) -> int | None:
    """Return when the server last did something, as far as that is known; None while it is being prepared."""
    if facts.started_at is None:
        return None
    report = facts.report
    speaks = report is not None and _is_fresh(report.reported_at, now)
    instants = [
        facts.started_at,
        facts.kept_at,
        _devices_active_at(facts, now),
        None if speaks else facts.hub_active_at,
    ]
    if report is not None:
        # A computing kernel that fell silent is taken to go on: it may be why its server has no time to report.
        instants.append(now if report.busy_kernels > 0 else report.active_at)
    return min(max(at for at in instants if at is not None), now)


def outcome_of(outcome: Outcome, idle_stop_at: int | None, finished_at: float | None) -> Outcome:
    """Return as what a run counts that ended with `outcome`: idle, whoever ended it, once its end for that had come."""
    if idle_stop_at is None or finished_at is None or finished_at < idle_stop_at:
        return outcome
    return Outcome.IDLE if outcome in _ENDED_BY_ANYONE else outcome


_ENDED_BY_ANYONE = frozenset({Outcome.STOPPED, Outcome.EXITED, Outcome.STRAY})
"""Outcomes that say by what door the end came, and not why."""


def _is_fresh(at: int, now: int) -> bool:
    return now - at <= FRESH_SECONDS


def _server_is_known(facts: Facts, now: int) -> bool:
    if facts.hub_active_at is not None:
        return True
    return facts.report is not None and (facts.report.busy_kernels > 0 or _is_fresh(facts.report.reported_at, now))


def _devices_active_at(facts: Facts, now: int) -> int | None:
    """Return when one of the devices was last busy, or may have been; None where nothing says that it ever was."""
    busy = [each.read_at for each in facts.readings if each.busy_ppm > ASLEEP_PPM]
    found = [at if _is_fresh(at, now) else now for at in busy]
    until, goes_on = _metered(facts)
    if goes_on and not any(_is_fresh(each.read_at, now) for each in facts.readings):
        until = now
    return max([*found, *([] if until is None else [min(until, now)])], default=None)


def _metered(facts: Facts) -> tuple[int | None, bool]:
    """Return until when the devices were busy by their meters, and whether that is the last that these say.

    One busy device among several is enough. What was busy before a gap is taken to have been so to the gap's end.
    """
    until, goes_on = None, False
    for each in facts.metered:
        if each.measured_milliseconds <= 0:
            continue
        if goes_on:
            until = each.start_at
        goes_on = each.busy_milliseconds * max(facts.devices, 1) * PPM > ASLEEP_PPM * each.measured_milliseconds
        if goes_on:
            until = each.start_at + BUCKET_SECONDS
    return until, goes_on
