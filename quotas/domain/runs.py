"""A run: one server or one batch execution, from its hold to its charge."""

from __future__ import annotations

import secrets
import time
import uuid
from dataclasses import dataclass
from enum import StrEnum


class RunKind(StrEnum):
    """What a run is."""

    NOTEBOOK = "notebook"
    BATCH = "batch"
    SEATS = "seats"
    """Nothing that runs: what the unclaimed seats of a reservation's window cost its project."""


class RunState(StrEnum):
    """Where a run is between its hold and its charge."""

    HELD = "held"
    RUNNING = "running"
    SETTLED = "settled"


ALLOWED_CHANGES: dict[RunState, frozenset[RunState]] = {
    RunState.HELD: frozenset({RunState.RUNNING, RunState.SETTLED}),
    RunState.RUNNING: frozenset({RunState.SETTLED}),
    RunState.SETTLED: frozenset(),
}


class HoldState(StrEnum):
    """`posted`: charged; `voided`: released without a charge, as nothing ran."""

    OPEN = "open"
    POSTED = "posted"
    VOIDED = "voided"


class Outcome(StrEnum):
    """Why a run ended."""

    STOPPED = "stopped"
    """By its person, or by an operator."""
    EXITED = "exited"
    """By itself."""
    OUT_OF_MEMORY = "out_of_memory"
    """By its backend, as it used more memory than its profile has."""
    FAILED_TO_START = "failed_to_start"
    LIMIT = "limit"
    """Its hold could not be extended."""
    REVOKED = "revoked"
    """Its person or project lost the right to run."""
    PREEMPTED = "preempted"
    """It gave its borrowed devices back."""
    IDLE = "idle"
    """It held devices and computed nothing with them, or nobody attended it any more."""
    DEVICE_LOST = "device_lost"
    """It lost a device, and was not charged from then on."""
    STRAY = "stray"
    """Found running without a door that knows it, after a crash."""
    LOST = "lost"
    """Gone from its backend without an end time; charged until it was last seen."""


class Limit(StrEnum):
    """What binds the time that a run has left."""

    WINDOW = "window"
    BUDGET = "budget"
    AWARD_END = "award_end"
    TIMEOUT = "timeout"
    RIGHTS = "rights"
    SUSPENDED = "suspended"
    CAPACITY = "capacity"
    """Its devices are reserved for others from then on, or there are fewer of them."""
    SEAT = "seat"
    """The reservation's window ends."""
    PREEMPTED = "preempted"
    IDLE = "idle"
    """It holds devices and computes nothing with them."""
    SESSION = "session"
    """Nobody has extended it for as long as its profile allows."""
    DEVICE_LOST = "device_lost"
    """It lost a device."""


@dataclass(frozen=True)
class TimeLeft:
    """How long a run may go on as things stand, and which limit binds. `seconds` may be 0, never negative."""

    seconds: int
    limit: Limit


@dataclass(frozen=True)
class Reach:
    """How far an open run's hold can reach, beside its budget. Instants in seconds UTC, None where there is none.

    `at_most` are other ends that are known, each with its limit; of two at the same time the first is named.
    """

    until_at: int
    award_ends_at: int
    at_most: tuple[tuple[int, Limit], ...] = ()


def time_left(reach: Reach, available: int, gflops: int, now: int) -> TimeLeft:
    """Return how long a rolling hold can still reach: its window plus what the balance buys, up to the nearest end.

    `available` is the project's balance in GFLOPS·s, that nobody else is assumed to spend.
    """
    ends = (
        *reach.at_most,
        (reach.award_ends_at, Limit.AWARD_END),
        (reach.until_at + available // gflops, Limit.BUDGET),
    )
    at, limit = min(ends, key=lambda each: each[0])
    return TimeLeft(max(at - now, 0), limit)


def new_run_id() -> str:
    """Return a UUID version 7 (RFC 9562): milliseconds come first, so that new runs are neighbours on disk."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    value = (milliseconds << 80) | (7 << 76) | ((random >> 62) << 64) | (2 << 62) | (random & ((1 << 62) - 1))
    return str(uuid.UUID(int=value))


def charged_seconds(started_at: float, finished_at: float) -> int:
    """Return the whole seconds to charge: the difference rounded up, at least 1. The one rounding of a run's time.

    Both are read to the microsecond: a float of today's seconds is no finer, and 10 s must not become 11.
    """
    microseconds = round(finished_at * 1_000_000) - round(started_at * 1_000_000)
    return max(-(-microseconds // 1_000_000), 1)
