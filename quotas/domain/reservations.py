"""Reservations: devices kept for a project in dated windows, for those on its roster."""

from __future__ import annotations

from enum import StrEnum


class ReservationState(StrEnum):
    """Where a reservation stands."""

    REQUESTED = "requested"
    APPROVED = "approved"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    ENDED = "ended"


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
