"""What stands against a hold that reaches into the future: windows that open, and phases with fewer devices."""

from __future__ import annotations

from sqlalchemy import BigInteger, BindParameter, ScalarSelect, and_, bindparam, case, func, literal, or_, select, union

from quotas.domain.admission import PoolEvent
from quotas.domain.reservations import WindowState
from quotas.domain.runs import HoldState
from quotas.store.database import Prepared, Transaction
from quotas.store.tables import capacity_phases, holds, pool_devices, reservation_windows

_now: BindParameter[int] = bindparam("now", type_=BigInteger)
_until: BindParameter[int] = bindparam("until", type_=BigInteger)
_at: BindParameter[int] = bindparam("at", type_=BigInteger)
_model: BindParameter[str] = bindparam("model")


def _state(*states: WindowState) -> list[BindParameter[str]]:
    return [literal(state.value, literal_execute=True) for state in states]


_opens_at = case((reservation_windows.c.opens_at > _now, reservation_windows.c.opens_at), else_=_now)

# A window that should be open and is not yet, as the loop is late, keeps its seats from this moment on.
_INSTANTS = Prepared(
    union(
        select(reservation_windows.c.pool_id, _opens_at.label("at")).where(
            reservation_windows.c.device_model == _model,
            reservation_windows.c.state.in_(_state(WindowState.SCHEDULED)),
            reservation_windows.c.opens_at < _until,
            reservation_windows.c.ends_at > _now,
        ),
        select(capacity_phases.c.pool_id, capacity_phases.c.from_at).where(
            capacity_phases.c.device_model == _model,
            capacity_phases.c.from_at > _now,
            capacity_phases.c.from_at < _until,
        ),
    ).order_by("at", "pool_id")
)


def healthy_at(instant: BindParameter[int]) -> ScalarSelect[int]:
    """Return the healthy devices of a row of `pool_devices`, of the phase that holds at `instant`; NULL before any."""
    return (
        select(capacity_phases.c.healthy)
        .where(
            capacity_phases.c.pool_id == pool_devices.c.pool_id,
            capacity_phases.c.device_model == pool_devices.c.device_model,
            capacity_phases.c.from_at <= instant,
        )
        .order_by(capacity_phases.c.from_at.desc())
        .limit(literal(1, literal_execute=True))
        .correlate(pool_devices)
        .scalar_subquery()
    )


_held_beyond = (
    select(func.coalesce(func.sum(holds.c.device_count), 0))
    .where(
        holds.c.state == literal(HoldState.OPEN.value, literal_execute=True),
        holds.c.device_model == pool_devices.c.device_model,
        holds.c.pool_id == pool_devices.c.pool_id,
        holds.c.until_at > _at,
    )
    .correlate(pool_devices)
    .scalar_subquery()
)
_seats = (
    select(
        func.coalesce(
            func.sum(
                reservation_windows.c.device_count
                * case(
                    (
                        reservation_windows.c.state.in_(_state(WindowState.SCHEDULED)),
                        reservation_windows.c.seats,
                    ),
                    else_=reservation_windows.c.kept,
                )
            ),
            0,
        )
    )
    .where(
        reservation_windows.c.device_model == pool_devices.c.device_model,
        reservation_windows.c.pool_id == pool_devices.c.pool_id,
        or_(
            and_(
                reservation_windows.c.state.in_(_state(WindowState.SCHEDULED)),
                reservation_windows.c.opens_at <= _at,
                reservation_windows.c.ends_at > _at,
            ),
            and_(reservation_windows.c.state.in_(_state(WindowState.OPEN)), reservation_windows.c.release_at > _at),
            and_(reservation_windows.c.state.in_(_state(WindowState.RELEASED)), reservation_windows.c.ends_at > _at),
        ),
    )
    .correlate(pool_devices)
    .scalar_subquery()
)
_AT = Prepared(
    select(
        pool_devices.c.in_use,
        pool_devices.c.drained,
        func.coalesce(healthy_at(_at), 0).label("healthy"),
        _held_beyond.label("held_beyond"),
        _seats.label("seats"),
    ).where(pool_devices.c.device_model == _model, pool_devices.c.pool_id == bindparam("pool"))
)


def events(transaction: Transaction, device_model: str, now: int, until: int) -> dict[int, tuple[PoolEvent, ...]]:
    """Return by pool what changes from `now` on, before `until`, and how many devices are not spoken for then.

    Holds count as far as they reach, and the seats of a window from its opening on. Usually there is nothing.
    """
    found: dict[int, tuple[PoolEvent, ...]] = {}
    for instant in transaction.rows(_INSTANTS, model=device_model, now=now, until=until):
        row = transaction.one(_AT, model=device_model, pool=instant.pool_id, at=instant.at)
        if row is not None:
            held = row.in_use if instant.at <= now else row.held_beyond
            room = int(row.healthy - row.drained - held - row.seats)
            found[instant.pool_id] = (*found.get(instant.pool_id, ()), PoolEvent(int(instant.at), room))
    return found
