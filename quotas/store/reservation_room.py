"""What windows of seats meet in a pool: its phases, holds and other windows; and what a project may reserve and pay."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, BindParameter, and_, bindparam, case, func, literal, select

from quotas.domain.reservations import COMING, WindowState
from quotas.domain.room import Need
from quotas.domain.runs import HoldState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.reservations import words
from quotas.store.tables import (
    capacity_phases,
    holds,
    pool_devices,
    pools,
    profiles,
    project_profiles,
    rate_cards,
    rates,
    reservation_windows,
)

_now: BindParameter[int] = bindparam("now", type_=BigInteger)
_from_at: BindParameter[int] = bindparam("from_at", type_=BigInteger)
_to_at: BindParameter[int] = bindparam("to_at", type_=BigInteger)
_state = reservation_windows.c.state
_comes = _state.in_(words(COMING))
"""Said in the words of the indexes, so that windows of the past are not gone through."""
(_scheduled,) = words([WindowState.SCHEDULED])
_open_hold: Any = holds.c.state == literal(HoldState.OPEN.value, literal_execute=True)
_card = select(func.max(rate_cards.c.version)).where(rate_cards.c.effective_from <= _now).scalar_subquery()

_PHASES = Prepared(
    select(capacity_phases.c.from_at, capacity_phases.c.healthy)
    .where(capacity_phases.c.device_model == bindparam("model"), capacity_phases.c.pool_id == bindparam("pool"))
    .order_by(capacity_phases.c.from_at)
)
_POOLS = Prepared(
    select(pools.c.id, pools.c.code, pool_devices.c.drained)
    .select_from(pools)
    .join(pool_devices, pool_devices.c.pool_id == pools.c.id)
    .where(pool_devices.c.device_model == bindparam("model"))
    .order_by(pools.c.code)
)
_RATED = Prepared(
    select(profiles.c.code, profiles.c.device_model, profiles.c.device_count)
    .join(project_profiles, project_profiles.c.profile_id == profiles.c.id)
    .join(rates, and_(rates.c.version == _card, rates.c.profile_id == profiles.c.id))
    .where(project_profiles.c.project_id == bindparam("project_id"), profiles.c.device_model.is_not(None))
    .order_by(rates.c.gflops.desc(), profiles.c.code)
)
_HELD = Prepared(
    select(holds.c.until_at, func.sum(holds.c.device_count).label("devices"))
    .where(
        _open_hold,
        holds.c.device_model == bindparam("model"),
        holds.c.pool_id == bindparam("pool"),
        holds.c.until_at > _from_at,
    )
    .group_by(holds.c.until_at)
)
_SEATS = Prepared(
    select(
        reservation_windows.c.opens_at,
        reservation_windows.c.ends_at,
        func.sum(
            reservation_windows.c.device_count
            * case((_state == _scheduled, reservation_windows.c.seats), else_=reservation_windows.c.kept)
        ).label("devices"),
    )
    .where(
        reservation_windows.c.device_model == bindparam("model"),
        reservation_windows.c.pool_id == bindparam("pool"),
        _comes,
        reservation_windows.c.ends_at > _from_at,
        reservation_windows.c.opens_at < _to_at,
    )
    .group_by(reservation_windows.c.opens_at, reservation_windows.c.ends_at)
)
_PROMISED = Prepared(
    select(
        reservation_windows.c.seats,
        rates.c.gflops,
        func.sum(reservation_windows.c.ends_at - reservation_windows.c.starts_at).label("seconds"),
    )
    .select_from(reservation_windows)
    .join(rates, and_(rates.c.version == _card, rates.c.profile_id == reservation_windows.c.profile_id))
    .where(
        reservation_windows.c.project_id == bindparam("project_id"),
        _comes,
        _state == _scheduled,
        reservation_windows.c.reservation_id != bindparam("except_id"),
    )
    .group_by(reservation_windows.c.seats, rates.c.gflops)
)


def pools_of(transaction: Transaction, device_model: str) -> list[Row]:
    """Return (id, code, drained) of the pools that have the model, by code."""
    return transaction.rows(_POOLS, model=device_model)


def profiles_with_devices(transaction: Transaction, project_id: int, now: int) -> list[Row]:
    """Return the profiles with devices that the project may start and that have a rate, the most capable first."""
    return transaction.rows(_RATED, project_id=project_id, now=now)


def phases(transaction: Transaction, device_model: str, pool_id: int) -> list[tuple[int, int]]:
    """Return (from when on, healthy devices) of each phase."""
    return [(row.from_at, row.healthy) for row in transaction.rows(_PHASES, model=device_model, pool=pool_id)]


def needs(transaction: Transaction, device_model: str, pool_id: int, from_at: int, to_at: int) -> list[Need]:
    """Return what is spoken for between the two: by holds as far as they reach, and by the seats of other windows."""
    pool = {"model": device_model, "pool": pool_id}
    held = [Need(from_at, row.until_at, int(row.devices)) for row in transaction.rows(_HELD, **pool, from_at=from_at)]
    seats = transaction.rows(_SEATS, **pool, from_at=from_at, to_at=to_at)
    return held + [Need(max(row.opens_at, from_at), row.ends_at, int(row.devices)) for row in seats]


def promised(transaction: Transaction, project_id: int, except_id: int, now: int) -> int:
    """Return what the project's other scheduled windows would cost at today's rates, in GFLOPS·s."""
    rows = transaction.rows(_PROMISED, project_id=project_id, except_id=except_id, now=now)
    return sum(int(row.seats) * int(row.gflops) * int(row.seconds) for row in rows)
