"""The stored data that breaks an invariant of reservations: one statement each, as in :mod:`quotas.store.check`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, ColumnElement, String, and_, bindparam, cast, func, literal, or_, select

from quotas.domain.priorities import Priority
from quotas.domain.reservations import WindowState
from quotas.domain.runs import HoldState, RunKind
from quotas.store.check import LIMIT
from quotas.store.database import Prepared
from quotas.store.pools import phase_in_force
from quotas.store.reservations import words
from quotas.store.tables import (
    capacity_phases,
    drains,
    holds,
    pool_devices,
    pools,
    reservation_roster,
    reservation_windows,
    reservations,
    runs,
)

_now: BindParameter[int] = bindparam("now")
_window = ("window " + cast(reservation_windows.c.id, String)).label("window")
_open_hold = holds.c.state == literal(HoldState.OPEN.value, literal_execute=True)
_reserved = holds.c.priority == literal(Priority.RESERVED.value, literal_execute=True)
_gives_seats = reservation_windows.c.state.in_(words([WindowState.OPEN, WindowState.RELEASED]))
_same_devices = and_(
    reservation_windows.c.pool_id == pool_devices.c.pool_id,
    reservation_windows.c.device_model == pool_devices.c.device_model,
)
_pool = (pools.c.code + " " + pool_devices.c.device_model).label("pool")


def _of_window(*conditions: ColumnElement[bool]) -> ColumnElement[Any]:
    return (
        select(func.count())
        .select_from(holds)
        .where(holds.c.window_id == reservation_windows.c.id, holds.c.device_count > 0, *conditions)
        .correlate(reservation_windows)
        .scalar_subquery()
    )


_kept = (
    select(func.coalesce(func.sum(reservation_windows.c.kept * reservation_windows.c.device_count), 0))
    .where(_same_devices)
    .correlate(pool_devices)
    .scalar_subquery()
)
RESERVED_DIFFERS = Prepared(
    select(_pool, pool_devices.c.reserved, _kept.label("kept_seats"))
    .select_from(pool_devices)
    .join(pools, pools.c.id == pool_devices.c.pool_id)
    .where(pool_devices.c.reserved != _kept)
    .limit(LIMIT)
)
KEPT_BY_NO_WINDOW = Prepared(
    select(_window, reservation_windows.c.state, reservation_windows.c.kept)
    .select_from(reservation_windows)
    .outerjoin(pool_devices, _same_devices)
    .where(reservation_windows.c.kept != 0, or_(~_gives_seats, pool_devices.c.pool_id.is_(None)))
    .limit(LIMIT)
)

_taken = _of_window(_open_hold)
TOO_MANY_SEATS = Prepared(
    select(
        _window,
        reservation_windows.c.seats,
        reservation_windows.c.claimed,
        reservation_windows.c.kept,
        _taken.label("taken"),
    )
    .where(
        or_(
            reservation_windows.c.claimed > reservation_windows.c.seats,
            reservation_windows.c.kept < 0,
            _taken > reservation_windows.c.claimed,
            and_(_gives_seats, reservation_windows.c.kept + _taken > reservation_windows.c.seats),
        )
    )
    .limit(LIMIT)
)

_for_idle_seats = runs.c.kind == literal(RunKind.SEATS.value, literal_execute=True)
SEAT_OF_A_STRANGER = Prepared(
    select(
        holds.c.run_id,
        holds.c.window_id,
        holds.c.priority,
        holds.c.opened_at,
        holds.c.until_at,
    )
    .select_from(holds)
    .join(runs, runs.c.id == holds.c.run_id)
    .outerjoin(reservation_windows, reservation_windows.c.id == holds.c.window_id)
    .outerjoin(
        reservation_roster,
        and_(
            reservation_roster.c.reservation_id == reservation_windows.c.reservation_id,
            reservation_roster.c.person_id == runs.c.person_id,
            reservation_roster.c.added_at <= holds.c.opened_at,
            or_(reservation_roster.c.removed_at.is_(None), reservation_roster.c.removed_at >= holds.c.opened_at),
        ),
    )
    .where(
        or_(_reserved, holds.c.window_id.is_not(None)),
        or_(
            ~_reserved,
            reservation_windows.c.id.is_(None),
            runs.c.project_id != reservation_windows.c.project_id,
            runs.c.profile_id != reservation_windows.c.profile_id,
            holds.c.opened_at < reservation_windows.c.opens_at,
            holds.c.until_at > reservation_windows.c.ends_at,
            and_(~_for_idle_seats, reservation_roster.c.person_id.is_(None)),
            and_(~_for_idle_seats, holds.c.pool_id != reservation_windows.c.pool_id),
        ),
    )
    .limit(LIMIT)
)

_healthy = func.coalesce(capacity_phases.c.healthy, 0) - pool_devices.c.drained
_last_drain = (
    select(func.max(drains.c.since))
    .where(
        drains.c.pool_id == pool_devices.c.pool_id,
        drains.c.device_model == pool_devices.c.device_model,
        drains.c.ended_at.is_(None),
    )
    .correlate(pool_devices)
    .scalar_subquery()
)
_last_approval = (
    select(func.max(reservations.c.decided_at))
    .select_from(reservation_windows)
    .join(reservations, reservations.c.id == reservation_windows.c.reservation_id)
    .where(_gives_seats, _same_devices)
    .correlate(pool_devices)
    .scalar_subquery()
)
_lasts = and_(
    _open_hold,
    holds.c.pool_id == pool_devices.c.pool_id,
    holds.c.device_model == pool_devices.c.device_model,
    holds.c.until_at > _now,
    # Who was to end before, as devices went missing, overstays: nobody else makes up for that.
    or_(holds.c.ends_by.is_(None), holds.c.ends_by > _now),
)
_held = select(func.coalesce(func.sum(holds.c.device_count), 0)).where(_lasts).correlate(pool_devices).scalar_subquery()

# What was admitted after the windows were approved fits beside their seats, unless devices went missing since.
ADMITTED_INTO_SEATS = Prepared(
    select(_pool, holds.c.run_id, _held.label("held"), pool_devices.c.reserved, _healthy.label("healthy"))
    .select_from(pool_devices)
    .join(pools, pools.c.id == pool_devices.c.pool_id)
    .outerjoin(
        capacity_phases,
        and_(
            capacity_phases.c.pool_id == pool_devices.c.pool_id,
            capacity_phases.c.device_model == pool_devices.c.device_model,
            capacity_phases.c.from_at == phase_in_force,
        ),
    )
    .join(
        holds,
        and_(
            _lasts,
            ~_reserved,
            holds.c.opened_at > func.coalesce(capacity_phases.c.from_at, -1),
            holds.c.opened_at > func.coalesce(_last_drain, -1),
            holds.c.opened_at > _last_approval,
        ),
    )
    .where(_held + pool_devices.c.reserved > _healthy)
    .limit(LIMIT)
)
