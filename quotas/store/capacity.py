"""What stands against a hold that reaches into the future: windows that open, and phases with fewer devices."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    ScalarSelect,
    and_,
    bindparam,
    case,
    exists,
    func,
    literal,
    or_,
    select,
    union,
)

from quotas.domain.admission import PoolEvent
from quotas.domain.inventory import DeviceState
from quotas.domain.reservations import COMING, WindowState
from quotas.domain.runs import HoldState, RunKind
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import capacity_phases, devices, holds, nodes, pool_devices, reservation_windows, runs

_now: BindParameter[int] = bindparam("now", type_=BigInteger)
_until: BindParameter[int] = bindparam("until", type_=BigInteger)
_at: BindParameter[int] = bindparam("at", type_=BigInteger)
_model: BindParameter[str] = bindparam("model")


def _state(*states: WindowState) -> list[BindParameter[str]]:
    return [literal(state.value, literal_execute=True) for state in states]


# Said in the words of the index, so that windows of the past are not gone through.
_is_coming = reservation_windows.c.state.in_(_state(*COMING))
_opens_at = case((reservation_windows.c.opens_at > _now, reservation_windows.c.opens_at), else_=_now)

# A window that should be open and is not yet, as the loop is late, keeps its seats from this moment on.
_coming_windows = (
    _is_coming,
    reservation_windows.c.state.in_(_state(WindowState.SCHEDULED)),
    reservation_windows.c.opens_at < _until,
    reservation_windows.c.ends_at > _now,
)
_coming_phases = (capacity_phases.c.from_at > _now, capacity_phases.c.from_at < _until)
_INSTANTS = Prepared(
    union(
        select(reservation_windows.c.pool_id, _opens_at.label("at")).where(
            reservation_windows.c.device_model == _model, *_coming_windows
        ),
        select(capacity_phases.c.pool_id, capacity_phases.c.from_at).where(
            capacity_phases.c.device_model == _model, *_coming_phases
        ),
    ).order_by("at", "pool_id")
)

something_comes = or_(
    exists()
    .where(reservation_windows.c.device_model == pool_devices.c.device_model, *_coming_windows)
    .correlate(pool_devices),
    exists()
    .where(
        capacity_phases.c.pool_id == pool_devices.c.pool_id,
        capacity_phases.c.device_model == pool_devices.c.device_model,
        *_coming_phases,
    )
    .correlate(pool_devices),
)
"""Whether there are events of a row's pool from `now` on, before `until`: a column of a statement that reads
`pool_devices`, so that they need not be asked for."""


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


def _held(*conditions: ColumnElement[bool]) -> ScalarSelect[int]:
    return (
        select(func.coalesce(func.sum(holds.c.device_count), 0))
        .join(runs, runs.c.id == holds.c.run_id)
        .where(
            holds.c.state == literal(HoldState.OPEN.value, literal_execute=True),
            holds.c.device_model == pool_devices.c.device_model,
            holds.c.pool_id == pool_devices.c.pool_id,
            *conditions,
        )
        .correlate(pool_devices)
        .scalar_subquery()
    )


_ends_then = and_(holds.c.ends_by.is_not(None), holds.c.ends_by <= _at)
_rolls_on = and_(
    runs.c.kind == literal(RunKind.NOTEBOOK.value, literal_execute=True),
    holds.c.window_id.is_(None),
    runs.c.preempt_at.is_(None),
    or_(holds.c.ends_by.is_(None), holds.c.ends_by > _at),
)
_reaches_beyond = holds.c.until_at > _at
_held_by_others = _held(or_(_reaches_beyond, _rolls_on))
"""What is held at `at` as far as is known: also by those whose holds will only then reach so far."""
_held_beyond = _held(_reaches_beyond, or_(holds.c.ends_by.is_(None), holds.c.ends_by > _at))
"""What reaches beyond `at` already, without those that are to end then and were given a hold before that was known:
what they overstay is nobody else's to make up for."""
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
        _is_coming,
        reservation_windows.c.opens_at <= _at,
        or_(
            and_(reservation_windows.c.state.in_(_state(WindowState.SCHEDULED)), reservation_windows.c.ends_at > _at),
            and_(reservation_windows.c.state.in_(_state(WindowState.OPEN)), reservation_windows.c.release_at > _at),
            and_(reservation_windows.c.state.in_(_state(WindowState.RELEASED)), reservation_windows.c.ends_at > _at),
        ),
    )
    .correlate(pool_devices)
    .scalar_subquery()
)
being_cleaned = (
    select(func.count())
    .select_from(devices)
    .join(nodes, nodes.c.id == devices.c.node_id)
    .where(
        devices.c.device_model == pool_devices.c.device_model,
        devices.c.state == literal(DeviceState.CLEANING.value, literal_execute=True),
        nodes.c.pool_id == pool_devices.c.pool_id,
    )
    .correlate(pool_devices)
    .scalar_subquery()
)
"""How many devices of a row of `pool_devices` are being cleaned: out of use, and back in a moment by themselves."""

_facts = (
    pool_devices.c.in_use,
    (pool_devices.c.drained - being_cleaned).label("drained"),
    func.coalesce(healthy_at(_at), 0).label("healthy"),
    _seats.label("seats"),
)
_this_pool = (pool_devices.c.device_model == _model, pool_devices.c.pool_id == bindparam("pool"))
_AT = Prepared(select(*_facts).where(*_this_pool))
_AT_BESIDE_OTHERS = Prepared(select(*_facts, _held_by_others.label("held")).where(*_this_pool))
_AT_AN_EXTENSION = Prepared(select(*_facts, _held_beyond.label("held")).where(*_this_pool))


def instants(transaction: Transaction, device_model: str, now: int, until: int) -> list[Row]:
    """Return (pool_id, at) of what changes from `now` on, before `until`, in order of time. Usually there is nothing.

    A change of a pool's phase, or the opening of a window; one that is overdue changes now.
    """
    return transaction.rows(_INSTANTS, model=device_model, now=now, until=until)


class Supply(NamedTuple):
    """The devices of one model in one pool at one moment; `drained` as things stand now, `seats` kept by then.

    What is being cleaned is not drained: it is back before anyone would have made room.
    """

    healthy: int
    drained: int
    seats: int

    @property
    def devices(self) -> int:
        """How many runs may hold; below zero when fewer are healthy than are drained or kept."""
        return self.healthy - self.drained - self.seats


def supply(transaction: Transaction, device_model: str, pool_id: int, at: int) -> Supply:
    """Return what there is at `at`; nothing of a model that the pool has not."""
    row = transaction.one(_AT, model=device_model, pool=pool_id, at=at)
    return Supply(0, 0, 0) if row is None else Supply(int(row.healthy), int(row.drained), int(row.seats))


def events(
    transaction: Transaction, device_model: str, now: int, until: int, *, extending: bool = False
) -> dict[int, tuple[PoolEvent, ...]]:
    """Return by pool what changes from `now` on, before `until`, and how many devices are not spoken for then.

    A new hold fits beside all that goes on: seats, full lengths, and notebooks that nobody has asked to end. One that
    is `extending` goes on itself, and fits beside what has been extended so far.
    """
    found: dict[int, tuple[PoolEvent, ...]] = {}
    statement = _AT_AN_EXTENSION if extending else _AT_BESIDE_OTHERS
    for instant in instants(transaction, device_model, now, until):
        row = transaction.one(statement, model=device_model, pool=instant.pool_id, at=instant.at)
        if row is not None:
            held = row.in_use if instant.at <= now else row.held
            room = int(row.healthy - row.drained - held - row.seats)
            found[instant.pool_id] = (*found.get(instant.pool_id, ()), PoolEvent(int(instant.at), room))
    return found
