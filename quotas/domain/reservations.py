"""Reservations: devices kept for a project in dated windows, for those on its roster."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from quotas.domain import recurrence, states
from quotas.domain.policy import Policy
from quotas.domain.schedules import zone
from quotas.domain.texts import text
from quotas.domain.units import DAY_SECONDS, HOUR_SECONDS, InvalidValue, show_duration, show_instant

MOST_SEATS = 1_000
SHORTEST_SECONDS = 900
LONGEST_SECONDS = 14 * DAY_SECONDS
LONGEST_TITLE = 200


class ReservationState(StrEnum):
    """Where a reservation stands."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    ENDED = "ended"


RESERVATION_CHANGES: dict[ReservationState, frozenset[ReservationState]] = {
    ReservationState.REQUESTED: frozenset(
        {ReservationState.APPROVED, ReservationState.REJECTED, ReservationState.CANCELLED}
    ),
    ReservationState.APPROVED: frozenset({ReservationState.CANCELLED, ReservationState.ENDED}),
    ReservationState.REJECTED: frozenset(),
    ReservationState.CANCELLED: frozenset(),
    ReservationState.ENDED: frozenset(),
}


class WindowState(StrEnum):
    """Where one window stands.

    `scheduled`: no hold reaches past its opening unless there is room beside its seats. `open`: its seats are kept,
    claimed or not. `released`: its unclaimed seats are free for all again; who claimed one keeps it to the end.
    """

    SCHEDULED = "scheduled"
    OPEN = "open"
    RELEASED = "released"
    ENDED = "ended"
    CANCELLED = "cancelled"


ALLOWED_CHANGES: dict[WindowState, frozenset[WindowState]] = {
    WindowState.SCHEDULED: frozenset({WindowState.OPEN, WindowState.ENDED, WindowState.CANCELLED}),
    WindowState.OPEN: frozenset({WindowState.RELEASED, WindowState.ENDED, WindowState.CANCELLED}),
    WindowState.RELEASED: frozenset({WindowState.ENDED, WindowState.CANCELLED}),
    WindowState.ENDED: frozenset(),
    WindowState.CANCELLED: frozenset(),
}

COMING = (WindowState.SCHEDULED, WindowState.OPEN, WindowState.RELEASED)
"""States of a window that still has, or will have, seats."""


class Roster(StrEnum):
    """Who may claim a seat: the project's members as they are at each window, or those who are listed."""

    MEMBERS = "members"
    LISTED = "listed"


@dataclass(frozen=True)
class Asked:
    """What is asked for: `seats` of a profile, each window `seconds` long, the first at `starts_at` (seconds UTC).

    `rrule` repeats it in `zone`, None is once. `charge_idle`: seats that nobody claims are charged until they are
    released. `pool` and `roster` None: the pool in which it fits best, and all members of the project. Raises
    InvalidValue with the field and what is allowed.
    """

    project: str
    profile: str
    seats: int
    zone: str
    starts_at: int
    seconds: int
    title_ko: str
    title_en: str
    rrule: str | None = None
    charge_idle: bool = True
    pool: str | None = None
    roster: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        zone(self.zone)
        seats_allowed(self.seats)
        if not SHORTEST_SECONDS <= self.seconds <= LONGEST_SECONDS:
            shortest, longest = SHORTEST_SECONDS, LONGEST_SECONDS
            raise InvalidValue(
                "length",
                f"must be {show_duration(shortest)} to {show_duration(longest)}, not {self.seconds} s",
                f"{show_duration(shortest, 'ko')}~{show_duration(longest, 'ko')}이어야 합니다 (입력: {self.seconds}초)",
            )
        for field in ("title_ko", "title_en"):
            object.__setattr__(self, field, text(field, getattr(self, field), LONGEST_TITLE))
        if self.rrule is not None:
            object.__setattr__(self, "rrule", recurrence.canonical(self.rrule))


def seats_allowed(seats: int) -> int:
    """Return `seats` if a window may have so many; raise InvalidValue otherwise."""
    if not 1 <= seats <= MOST_SEATS:
        raise InvalidValue("seats", f"must be 1 to {MOST_SEATS}, not {seats}", f"1~{MOST_SEATS} (입력: {seats})")
    return seats


_LENGTH = re.compile(r"(?:(?P<d>[0-9]{1,3})d)?(?:(?P<h>[0-9]{1,4})h)?(?:(?P<m>[0-9]{1,5})m(?:in)?)?", re.ASCII)


def parse_length(text: str) -> int:
    """Read ``3h``, ``1h30m``, ``90min`` or ``2d`` as seconds. Raises InvalidValue."""
    match = _LENGTH.fullmatch("".join(text.split()).lower()) if len(text) <= 40 else None
    if match is None or not any(match.groups()):
        raise InvalidValue(
            "length",
            f"{text!r:.60} is no length; write hours and minutes, as in 3h, 1h30m or 90m",
            f"{text!r:.60}은(는) 길이가 아닙니다. 3h, 1h30m, 90m처럼 시간과 분을 쓰세요",
        )
    days, hours, minutes = (int(match[unit] or 0) for unit in "dhm")
    return days * DAY_SECONDS + hours * HOUR_SECONDS + minutes * 60


@dataclass(frozen=True)
class Window:
    """One window in seconds UTC: seats can be claimed from `opens_at`; at `release_at` unclaimed ones are released."""

    opens_at: int
    starts_at: int
    release_at: int
    ends_at: int


@dataclass(frozen=True)
class Term:
    """From when to when (exclusive) the project's award runs, seconds UTC."""

    starts_at: int
    ends_at: int


def windows(asked: Asked, term: Term, now: int, policy: Policy) -> tuple[Window, ...]:
    """Return all windows, the earliest first. The seats of one never open before those of the one before have ended.

    Raises InvalidValue for a first window in the past, one outside of the award's term, windows that overlap each
    other, and what :func:`quotas.domain.recurrence.starts` refuses.
    """
    where = zone(asked.zone)
    if asked.starts_at < now:
        raise InvalidValue(
            "starts",
            f"must not be in the past: {show_instant(asked.starts_at, where)}; now it is {show_instant(now, where)}",
            f"과거일 수 없습니다: {show_instant(asked.starts_at, where)} (현재 {show_instant(now, where)})",
        )
    _must_be_within(asked, asked.starts_at, term, "starts")
    begins = recurrence.starts(asked.zone, asked.starts_at, asked.rrule)
    recurrence.must_not_overlap(begins, asked.seconds, where)
    _must_be_within(asked, begins[-1], term, "rrule")
    return derived(begins, asked.seconds, policy)


def derived(begins: Sequence[int], seconds: int, policy: Policy) -> tuple[Window, ...]:
    """Return the windows that begin at `begins`, in order, each `seconds` long."""
    return tuple(
        Window(
            opens_at=max(begin - policy.seats_early, before + seconds),
            starts_at=begin,
            release_at=min(begin + max(policy.seats_release, 1), begin + seconds),
            ends_at=begin + seconds,
        )
        for before, begin in pairwise((begins[0] - policy.seats_early - seconds, *begins))
    )


def _must_be_within(asked: Asked, begin: int, term: Term, field: str) -> None:
    where = zone(asked.zone)
    if begin < term.starts_at:
        at = show_instant(term.starts_at, where)
        raise InvalidValue(field, f"must not be before the award starts at {at}", f"배정 시작({at}) 이후여야 합니다")
    if begin + asked.seconds > term.ends_at:
        at, last = show_instant(term.ends_at, where), show_instant(begin, where)
        raise InvalidValue(
            field,
            f"the window at {last} would end after the award, which ends at {at}",
            f"{last} 예약이 배정 종료({at})를 넘습니다",
        )


def change(number: int, old: ReservationState, new: ReservationState) -> ReservationState:
    """Return `new` if the table allows the change; raise InvalidValue otherwise."""
    return states.change(RESERVATION_CHANGES, "reservation", str(number), old, new)


def unclaimed(seats: int, claimed: int) -> int:
    """Return how many seats nobody has claimed: so many are released, as who claimed one may come back to it."""
    return max(seats - claimed, 0)


def idle_seat_seconds(seats: int, idle_from: int, idle_to: int) -> int:
    """Return what `seats` that are kept for nobody come to, in whole seconds of one seat."""
    return seats * max(idle_to - idle_from, 0)
