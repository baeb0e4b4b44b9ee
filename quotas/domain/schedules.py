"""Schedules: a cron line with a time zone, or once; and their next instants."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from quotas.domain.units import InvalidValue, moment


class ExecutionState(StrEnum):
    """Where one execution of a schedule is. Only the runner's own end decides the state, never the notebook."""

    CLAIMED = "claimed"
    WAITING = "waiting"
    """It waits in the queue for devices."""
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    KERNEL_DIED = "kernel_died"
    OUT_OF_MEMORY = "out_of_memory"
    CANCELLED = "cancelled"
    LOST = "lost"
    REFUSED = "refused"


FINAL = frozenset(ExecutionState) - {ExecutionState.CLAIMED, ExecutionState.WAITING, ExecutionState.RUNNING}

SHORTEST_TIMEOUT_SECONDS = 60
LONGEST_TIMEOUT_SECONDS = 7 * 86_400
LONGEST_CRON = 120


@dataclass(frozen=True)
class Timing:
    """When a schedule fires: `cron` in `zone`, or `once_at` (seconds UTC); exactly one of the two is given."""

    zone: str
    cron: str | None = None
    once_at: int | None = None


def zone(name: str) -> ZoneInfo:
    """Return the time zone `name`; raise InvalidValue for one that does not exist."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidValue(
            "timezone",
            f"{name!r:.60} is not a time zone; write Asia/Seoul or another IANA name",
            f"{name!r:.60}은(는) 시간대가 아닙니다. Asia/Seoul과 같은 IANA 이름을 쓰세요",
        ) from None


def next_at(timing: Timing, after: int) -> int | None:
    """Return the first instant after `after` (both seconds UTC) at which it fires, or None when it never does again.

    A cron line follows Debian's cron at a change of clocks. Raises InvalidValue for a line that is none.
    """
    if timing.once_at is not None:
        return timing.once_at if timing.once_at > after else None
    local = moment(after).astimezone(zone(timing.zone))
    line = timing.cron or ""
    try:
        if len(line.split()) != 5:
            raise CronSimError("not five fields")
        found: datetime = next(CronSim(line, local))
    except CronSimError as error:
        raise InvalidValue(
            "cron",
            f"{timing.cron!r:.80} is not a cron line ({error}); write five fields, as in '30 2 * * 1-5'",
            f"{timing.cron!r:.80}은(는) cron 식이 아닙니다. '30 2 * * 1-5'처럼 다섯 항목을 쓰세요",
        ) from None
    except StopIteration:
        return None
    return int(found.timestamp())


def check_timing(timing: Timing, now: int) -> int:
    """Return the first instant at which the schedule fires; raise InvalidValue if it never does."""
    if (timing.cron is None) == (timing.once_at is None):
        raise InvalidValue(
            "cron", "give a cron line or one instant, not both", "cron 식과 한 번 실행 중 하나만 지정하세요"
        )
    if timing.cron is not None and len(timing.cron) > LONGEST_CRON:
        raise InvalidValue("cron", f"must be at most {LONGEST_CRON} characters", f"{LONGEST_CRON}자 이하여야 합니다")
    zone(timing.zone)
    first = next_at(timing, now)
    if first is None:
        raise InvalidValue(
            "cron" if timing.cron else "at",
            "never fires: no such day comes, or the instant has passed",
            "실행될 시각이 없습니다. 존재하지 않는 날짜이거나 이미 지난 시각입니다",
        )
    return first
