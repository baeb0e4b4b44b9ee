"""Pools, their dated phases and what of them is in use."""

from __future__ import annotations

from sqlalchemy import bindparam, func, insert, literal, select

from quotas.domain.capacity import Supply
from quotas.domain.devices import peaks
from quotas.domain.pools import CapacityPhase
from quotas.domain.rates import Precision
from quotas.store import profiles as profiles_store
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import capacity_phases, device_models, pool_devices, pools

_ID = Prepared(select(pools.c.id).where(pools.c.code == bindparam("code")))
_PRESENT = Prepared(
    select(literal(1))
    .select_from(pool_devices)
    .where(pool_devices.c.pool_id == bindparam("pool_id"), pool_devices.c.device_model == bindparam("model"))
)
_PHASES = Prepared(
    select(pools.c.code, capacity_phases.c.device_model, capacity_phases.c.from_at, capacity_phases.c.powered)
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


def add(transaction: Transaction, code: str, name_ko: str, name_en: str, simulated: bool) -> int:
    """The pool is stored without devices; return its id. Raises Conflict when its code is taken."""
    values = {"code": code, "name_ko": name_ko, "name_en": name_en, "simulated": int(simulated)}
    return transaction.insert(pools, values)


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


def supplies(transaction: Transaction, precision: Precision) -> list[Supply]:
    """Return what every phase powers, in GFLOPS at `precision`; a device without a fact for it counts as nothing."""
    models, facts = profiles_store.device_model_list(transaction), profiles_store.facts(transaction)
    peak = peaks(models, facts, precision)
    return [
        Supply((row.code, row.device_model), row.from_at, row.powered * peak.get(row.device_model, 0))
        for row in transaction.rows(_PHASES)
    ]
