"""Pools, their dated phases and what of them is in use."""

from __future__ import annotations

from sqlalchemy import BigInteger, BindParameter, bindparam, delete, func, insert, literal, select, update

from quotas.domain.capacity import Strength, Supply
from quotas.domain.devices import peaks
from quotas.domain.pools import CapacityPhase, Drain
from quotas.domain.rates import Precision
from quotas.store import profiles as profiles_store
from quotas.store.capacity import healthy_at
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import capacity_phases, device_models, drains, pool_devices, pools

_ID = Prepared(select(pools.c.id).where(pools.c.code == bindparam("code")))
_PRESENT = Prepared(
    select(literal(1))
    .select_from(pool_devices)
    .where(pool_devices.c.pool_id == bindparam("pool_id"), pool_devices.c.device_model == bindparam("model"))
)
_PHASES = Prepared(
    select(
        pools.c.code,
        capacity_phases.c.device_model,
        capacity_phases.c.from_at,
        capacity_phases.c.installed,
        capacity_phases.c.powered,
        capacity_phases.c.healthy,
    )
    .join(pools, pools.c.id == capacity_phases.c.pool_id)
    .order_by(capacity_phases.c.from_at, pools.c.code)
)

phase_in_force = (
    select(func.max(capacity_phases.c.from_at))
    .where(
        capacity_phases.c.pool_id == pool_devices.c.pool_id,
        capacity_phases.c.device_model == pool_devices.c.device_model,
        capacity_phases.c.from_at <= bindparam("now"),
    )
    .correlate(pool_devices)
    .scalar_subquery()
)
_CAPACITY = Prepared(
    select(
        pools.c.code,
        pools.c.name_ko,
        pools.c.name_en,
        pools.c.simulated,
        pool_devices.c.device_model,
        device_models.c.name.label("device_name"),
        pool_devices.c.in_use,
        pool_devices.c.drained,
        pool_devices.c.reserved,
        func.coalesce(capacity_phases.c.installed, 0).label("installed"),
        func.coalesce(capacity_phases.c.powered, 0).label("powered"),
        func.coalesce(capacity_phases.c.healthy, 0).label("healthy"),
    )
    .select_from(pool_devices)
    .join(pools, pools.c.id == pool_devices.c.pool_id)
    .join(device_models, device_models.c.code == pool_devices.c.device_model)
    .outerjoin(
        capacity_phases,
        (capacity_phases.c.pool_id == pool_devices.c.pool_id)
        & (capacity_phases.c.device_model == pool_devices.c.device_model)
        & (capacity_phases.c.from_at == phase_in_force),
    )
    .order_by(pools.c.code, pool_devices.c.device_model)
)

_model: BindParameter[str] = bindparam("model")
_pool: BindParameter[int] = bindparam("pool_id", type_=BigInteger)
_count: BindParameter[int] = bindparam("count", type_=BigInteger)
_this = (pool_devices.c.pool_id == _pool, pool_devices.c.device_model == _model)
_DRAIN_DEVICES = Prepared(
    update(pool_devices)
    .where(*_this, pool_devices.c.drained + _count <= func.coalesce(healthy_at(bindparam("now")), 0))
    .values(drained=pool_devices.c.drained + _count)
)
_RETURN_DEVICES = Prepared(
    update(pool_devices).where(*_this, pool_devices.c.drained >= _count).values(drained=pool_devices.c.drained - _count)
)
_END_DRAIN = Prepared(
    update(drains)
    .where(drains.c.id == bindparam("drain_id"), drains.c.ended_at.is_(None))
    .values(ended_at=bindparam("at", type_=BigInteger))
)
_CANCEL_PHASE = Prepared(
    delete(capacity_phases).where(
        capacity_phases.c.pool_id == _pool,
        capacity_phases.c.device_model == _model,
        capacity_phases.c.from_at == bindparam("from_at", type_=BigInteger),
    )
)
_TERMS = Prepared(select(pools.c.backend_terms).where(pools.c.id == bindparam("pool_id")))
_DRAINS = select(drains, pools.c.code.label("pool")).join(pools, pools.c.id == drains.c.pool_id).order_by(drains.c.id)
_OPEN_DRAINS = Prepared(_DRAINS.where(drains.c.ended_at.is_(None)))
_ONE_DRAIN = Prepared(_DRAINS.where(drains.c.id == bindparam("drain_id")))


def add(transaction: Transaction, code: str, name_ko: str, name_en: str, simulated: bool) -> int:
    """The pool is stored without devices; return its id. Raises Conflict when its code is taken."""
    values = {"code": code, "name_ko": name_ko, "name_en": name_en, "simulated": int(simulated)}
    return transaction.insert(pools, values)


def terms(transaction: Transaction, pool_id: int) -> str:
    """Return the pool's terms of backends, as JSON."""
    row = transaction.one(_TERMS, pool_id=pool_id)
    return "{}" if row is None else str(row.backend_terms)


def set_terms(transaction: Transaction, pool_id: int, terms_json: str) -> None:
    """The pool's terms of backends are these."""
    transaction.run(update(pools).where(pools.c.id == pool_id).values(backend_terms=terms_json))


def pool_id(transaction: Transaction, code: str) -> int | None:
    """Return the id of the pool, or None."""
    row = transaction.one(_ID, code=code)
    return None if row is None else int(row.id)


def add_phase(transaction: Transaction, pool: int, phase: CapacityPhase) -> None:
    """The phase is stored, and the row that counts the pool's devices in use exists.

    Raises Conflict when a phase of the same model begins at the same instant.
    """
    transaction.run(
        insert(capacity_phases).values(
            pool_id=pool,
            device_model=phase.device_model,
            from_at=phase.from_at,
            installed=phase.installed,
            powered=phase.powered,
            healthy=phase.healthy,
        )
    )
    if transaction.one(_PRESENT, pool_id=pool, model=phase.device_model) is None:
        transaction.run(insert(pool_devices).values(pool_id=pool, device_model=phase.device_model, in_use=0))


def capacity(transaction: Transaction, now: int) -> list[Row]:
    """Return one row for each pool and device model: the phase that holds now, and what is in use."""
    return transaction.rows(_CAPACITY, now=now)


def every_phase(transaction: Transaction) -> list[Row]:
    """Return every phase of every pool and model, in order of time."""
    return transaction.rows(_PHASES)


def cancel_phase(transaction: Transaction, pool: int, device_model: str, from_at: int) -> bool:
    """The phase is gone; return False where none of the model begins at that instant."""
    return transaction.run(_CANCEL_PHASE, pool_id=pool, model=device_model, from_at=from_at) == 1


def drain(transaction: Transaction, pool: int, device_model: str, count: int, now: int) -> bool:
    """The devices are out of use; return False where fewer are healthy and not drained yet."""
    return transaction.run(_DRAIN_DEVICES, pool_id=pool, model=device_model, count=count, now=now) == 1


def add_drain(transaction: Transaction, pool: int, drained: Drain, actor: str) -> int:
    """The drain is stored as open; return its id."""
    values = {
        "pool_id": pool,
        "device_model": drained.device_model,
        "count": drained.count,
        "reason": drained.reason,
        "since": drained.since,
        "actor": actor[:80],
    }
    return transaction.insert(drains, values)


def end_drain(transaction: Transaction, drain_id: int, now: int) -> bool:
    """The drain has ended; return False where it had ended before. Its devices are still out of use."""
    return transaction.run(_END_DRAIN, drain_id=drain_id, at=now) == 1


def return_devices(transaction: Transaction, pool: int, device_model: str, count: int) -> bool:
    """So many drained devices are in use again; return False where fewer are drained."""
    return transaction.run(_RETURN_DEVICES, pool_id=pool, model=device_model, count=count) == 1


def open_drains(transaction: Transaction) -> list[Drain]:
    """Return the open drains of all pools, oldest first."""
    return [_drain(row) for row in transaction.rows(_OPEN_DRAINS)]


def one_drain(transaction: Transaction, drain_id: int) -> Drain | None:
    """Return the drain, open or ended, or None."""
    row = transaction.one(_ONE_DRAIN, drain_id=drain_id)
    return None if row is None else _drain(row)


def _drain(row: Row) -> Drain:
    return Drain(row.id, row.pool, row.device_model, row.count, row.reason, row.since, row.ended_at)


def supplies(transaction: Transaction, precision: Precision) -> list[Supply]:
    """Return what every phase powers, in GFLOPS at `precision`; a device without a fact for it counts as nothing."""
    return [Supply(each.key, each.from_at, each.powered) for each in strengths(transaction, precision)]


def strengths(transaction: Transaction, precision: Precision) -> list[Strength]:
    """Return what every phase installs, powers and has healthy, in the same measure."""
    models, facts = profiles_store.device_model_list(transaction), profiles_store.facts(transaction)
    peak = peaks(models, facts, precision)
    found = []
    for row in transaction.rows(_PHASES):
        each = peak.get(row.device_model, 0)
        sizes = row.installed * each, row.powered * each, row.healthy * each
        found.append(Strength((row.code, row.device_model), row.from_at, *sizes))
    return found
