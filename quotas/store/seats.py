"""The seats of a reservation's window: which one a person finds free, and how it is taken and given back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, and_, bindparam, case, func, literal, select, update

from quotas.domain.reservations import COMING, WindowState
from quotas.store.database import Prepared
from quotas.store.tables import (
    holds,
    persons,
    profiles,
    projects,
    reservation_roster,
    reservation_windows,
    runs,
)

_now: BindParameter[int] = bindparam("now")


def _word(constant: str | int) -> BindParameter[Any]:
    return literal(constant, literal_execute=True)


_given = [_word(state.value) for state in (WindowState.OPEN, WindowState.RELEASED)]
_coming = [_word(state.value) for state in COMING]
_window = reservation_windows.alias("window")
free_seat = (
    select(func.min(_window.c.id))
    .select_from(_window)
    .join(
        reservation_roster,
        and_(
            reservation_roster.c.reservation_id == _window.c.reservation_id,
            reservation_roster.c.person_id == persons.c.id,
            reservation_roster.c.removed_at.is_(None),
        ),
    )
    .where(
        _window.c.project_id == projects.c.id,
        _window.c.profile_id == profiles.c.id,
        _window.c.state.in_(_coming),  # in the words of its index
        _window.c.state.in_(_given),
        _window.c.opens_at <= _now,
        _window.c.ends_at > _now,
        _window.c.kept > _word(0),
    )
    .correlate(projects, profiles, persons)
    .scalar_subquery()
)
"""The window in which the person has a seat to take with the profile; the first of several, NULL for none."""

# One open run of a person on a project: their earlier seat of the same window was settled, and is seen.
_own, _earlier = runs.alias("own"), runs.alias("earlier")
_had_one_before = (
    select(_word(1))
    .select_from(holds)
    .join(_earlier, _earlier.c.id == holds.c.run_id)
    .join(_own, _own.c.person_id == _earlier.c.person_id)
    .where(
        _own.c.id == bindparam("run"),
        holds.c.window_id == bindparam("window_id"),
        holds.c.device_count > _word(0),
        holds.c.run_id != bindparam("run"),
    )
    .exists()
)

TAKE_SEAT = Prepared(
    update(reservation_windows)
    .where(
        reservation_windows.c.id == bindparam("window_id"),
        reservation_windows.c.state.in_(_given),
        reservation_windows.c.kept > _word(0),
        reservation_windows.c.ends_at > _now,
    )
    .values(
        kept=reservation_windows.c.kept - _word(1),
        claimed=case(
            (reservation_windows.c.state != _word(WindowState.OPEN.value), reservation_windows.c.claimed),
            (reservation_windows.c.claimed >= reservation_windows.c.seats, reservation_windows.c.claimed),
            (_had_one_before, reservation_windows.c.claimed),
            else_=reservation_windows.c.claimed + _word(1),
        ),
    )
)
"""`claimed` rises with each person who takes a seat for the first time: so many seats are not released, and from then
on there are no more."""

GIVE_SEAT = Prepared(
    update(reservation_windows)
    .where(
        reservation_windows.c.id == bindparam("window_id"),
        reservation_windows.c.state.in_(_given),
        reservation_windows.c.ends_at > _now,
        reservation_windows.c.kept < reservation_windows.c.seats,
    )
    .values(kept=reservation_windows.c.kept + _word(1))
)
"""To the end of the window a seat that was claimed stays the roster's."""
