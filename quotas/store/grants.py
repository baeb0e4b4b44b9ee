"""Which run holds which device: chosen and granted with the hold, released with it."""

from __future__ import annotations

import json

from sqlalchemy import BigInteger, BindParameter, and_, bindparam, case, exists, func, insert, literal, select, update

from quotas.domain.inventory import (
    AFTER_RELEASE,
    OUT_OF_USE,
    AssignedDevice,
    Cleaning,
    DeviceState,
    FreeDevice,
    Loss,
)
from quotas.domain.runs import RunState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    device_grants,
    devices,
    holds,
    nodes,
    pool_devices,
    pools,
    profiles,
    projects,
    run_pauses,
    runs,
)

_run: BindParameter[str] = bindparam("run")
_model: BindParameter[str] = bindparam("model")
_pool: BindParameter[int] = bindparam("pool", type_=BigInteger)
_at: BindParameter[int] = bindparam("at", type_=BigInteger)


def _word(text: str) -> BindParameter[str]:
    return literal(text, literal_execute=True)


_by_cluster = nodes.c.assigns == literal(0, literal_execute=True)
cleaning_there = case((_by_cluster, _word(Cleaning.NONE.value)), else_=pools.c.cleaning).label("cleaning")
"""What happens to a machine's devices between two runs: its pool's choice, and nothing where a cluster gives them away.

The next pod may have such a device at once, and a scrub would take the memory that it is about to use."""

_held = exists().where(device_grants.c.device_id == devices.c.id, device_grants.c.released_at.is_(None))
_sibling, _sibling_grant = devices.alias("sibling"), device_grants.alias("sibling_grant")
_siblings_in_use = (
    select(func.count())
    .select_from(_sibling)
    .join(_sibling_grant, and_(_sibling_grant.c.device_id == _sibling.c.id, _sibling_grant.c.released_at.is_(None)))
    .where(_sibling.c.parent_uuid == devices.c.parent_uuid)
    .correlate(devices)
    .scalar_subquery()
)
_FREE = Prepared(
    select(devices.c.id, devices.c.node_id, devices.c.position, _siblings_in_use.label("siblings_in_use"))
    .join(nodes, nodes.c.id == devices.c.node_id)
    .where(
        devices.c.device_model == _model,
        devices.c.state == _word(DeviceState.AVAILABLE.value),
        nodes.c.pool_id == _pool,
        nodes.c.assigns == literal(1, literal_execute=True),
        nodes.c.removed_at.is_(None),
        ~_held,
    )
    .order_by(devices.c.id)
)
_HAS_NODES = Prepared(
    select(literal(1))
    .select_from(nodes)
    .where(nodes.c.pool_id == _pool, nodes.c.removed_at.is_(None), nodes.c.assigns == 1)
    .limit(1)
)
_GRANT = Prepared(insert(device_grants).values(run_id=_run, device_id=bindparam("device"), granted_at=_at))
_OF_RUN = Prepared(
    select(
        devices.c.id,
        devices.c.uuid,
        devices.c.kind,
        devices.c.name,
        devices.c.device_model,
        devices.c.position,
        devices.c.paths,
        devices.c.state,
        devices.c.loss,
        devices.c.hold_back,
        device_grants.c.released_at,
        nodes.c.pool_id,
        cleaning_there,
    )
    .join(devices, devices.c.id == device_grants.c.device_id)
    .join(nodes, nodes.c.id == devices.c.node_id)
    .join(pools, pools.c.id == nodes.c.pool_id)
    .where(device_grants.c.run_id == _run)
    .order_by(devices.c.position, devices.c.id)
)
_RELEASE = Prepared(
    update(device_grants)
    .where(device_grants.c.run_id == _run, device_grants.c.released_at.is_(None))
    .values(released_at=case((device_grants.c.granted_at > _at, device_grants.c.granted_at), else_=_at))
)
_SET_STATE = Prepared(
    update(devices)
    .where(devices.c.id == bindparam("device"), devices.c.state == bindparam("old"))
    .values(state=bindparam("new"), since=_at, reason=bindparam("reason"), loss=None, hold_back=None)
)
_COUNT_OUT = Prepared(
    update(pool_devices)
    .where(pool_devices.c.pool_id == _pool, pool_devices.c.device_model == _model)
    .values(drained=pool_devices.c.drained + bindparam("count", type_=BigInteger))
)
_PAUSES = Prepared(select(run_pauses.c.since, run_pauses.c.until_at).where(run_pauses.c.run_id == _run))
_END_PAUSES = Prepared(
    update(run_pauses)
    .where(run_pauses.c.run_id == _run, run_pauses.c.until_at.is_(None))
    .values(until_at=case((run_pauses.c.since > _at, run_pauses.c.since), else_=_at))
)
_HOLDER = Prepared(
    select(
        runs.c.id,
        runs.c.kind,
        runs.c.state,
        runs.c.person_id,
        runs.c.started_at,
        runs.c.lost_stop_at,
        projects.c.code.label("project"),
        profiles.c.code.label("profile"),
        holds.c.opened_at,
    )
    .select_from(device_grants)
    .join(runs, runs.c.id == device_grants.c.run_id)
    .join(holds, holds.c.run_id == runs.c.id)
    .join(projects, projects.c.id == runs.c.project_id)
    .join(profiles, profiles.c.id == runs.c.profile_id)
    .where(device_grants.c.device_id == bindparam("device"), device_grants.c.released_at.is_(None))
)
_EVER_HELD = Prepared(select(literal(1)).where(device_grants.c.device_id == bindparam("device")).limit(1))
_HELD_AND_LOST = Prepared(
    select(func.count().label("total"))
    .select_from(device_grants)
    .join(devices, devices.c.id == device_grants.c.device_id)
    .where(
        device_grants.c.run_id == _run,
        device_grants.c.released_at.is_(None),
        devices.c.state == _word(DeviceState.LOST.value),
    )
)
_REOPEN_PAUSE = Prepared(
    update(run_pauses)
    .where(run_pauses.c.run_id == _run, run_pauses.c.since == _at)
    .values(until_at=None, device_id=bindparam("device"), reason=bindparam("reason"))
)
_PAUSE = Prepared(
    insert(run_pauses).values(
        run_id=_run, since=_at, until_at=None, device_id=bindparam("device"), reason=bindparam("reason")
    )
)
_LOST_STOP = Prepared(
    update(runs).where(runs.c.id == _run, runs.c.state != _word(RunState.SETTLED.value)).values(lost_stop_at=_at)
)
OUT_OF_USE_DEVICES = (
    select(
        nodes.c.pool_id, devices.c.device_model, func.count().label("total"), func.max(devices.c.since).label("since")
    )
    .join(nodes, nodes.c.id == devices.c.node_id)
    .where(devices.c.state.in_([_word(state.value) for state in sorted(OUT_OF_USE)]), nodes.c.removed_at.is_(None))
    .group_by(nodes.c.pool_id, devices.c.device_model)
)
"""How many devices of a pool and model are out of use, and since when the last of them is."""


def is_assigned(transaction: Transaction, pool: int) -> bool:
    """Return whether the platform itself gives the pool's devices to runs: it has machines that report them."""
    return transaction.one(_HAS_NODES, pool=pool) is not None


def free(transaction: Transaction, pool: int, device_model: str) -> list[FreeDevice]:
    """Return the devices of the model that a run could hold now."""
    rows = transaction.rows(_FREE, pool=pool, model=device_model)
    return [FreeDevice(row.id, row.node_id, row.position, row.siblings_in_use) for row in rows]


def grant(transaction: Transaction, run_id: str, chosen: tuple[int, ...], now: int) -> None:
    """The run holds the devices. Raises Conflict where another run holds one of them."""
    for device in chosen:
        transaction.run(_GRANT, run=run_id, device=device, at=now)


def of_run(transaction: Transaction, run_id: str) -> tuple[AssignedDevice, ...]:
    """Return the devices that the run holds, or held."""
    return tuple(_assigned(row) for row in transaction.rows(_OF_RUN, run=run_id))


def release(transaction: Transaction, run_id: str, now: int) -> None:
    """The run holds no device; each waits for what its pool does between two runs, and is out of use meanwhile.

    One that is out of use already stays as it is, unless it was only the run that had lost it.
    """
    rows = [row for row in transaction.rows(_OF_RUN, run=run_id) if row.released_at is None]
    if not rows:
        return
    transaction.run(_RELEASE, run=run_id, at=now)
    for row in rows:
        old = DeviceState(row.state)
        if old is not DeviceState.AVAILABLE and row.loss != Loss.TAKEN.value:
            continue
        new = DeviceState.QUARANTINED if row.hold_back else AFTER_RELEASE[Cleaning(row.cleaning)]
        if new is not old:
            _change(transaction, row, old, new, now)


def _change(transaction: Transaction, row: Row, old: DeviceState, new: DeviceState, now: int) -> None:
    states = {"old": old.value, "new": new.value}
    more = int(new in OUT_OF_USE) - int(old in OUT_OF_USE)
    if transaction.run(_SET_STATE, device=row.id, reason=row.hold_back, at=now, **states) == 1 and more:
        count_out(transaction, row.pool_id, row.device_model, more)


def count_out(transaction: Transaction, pool: int, device_model: str, count: int) -> None:
    """So many devices more of the pool are out of use; fewer, where `count` is negative."""
    transaction.run(_COUNT_OUT, pool=pool, model=device_model, count=count)


def paused_seconds(transaction: Transaction, run_id: str, started_at: float, finished_at: float) -> int:
    """Return for how many whole seconds between the two instants the run is not charged."""
    total = 0
    for row in transaction.rows(_PAUSES, run=run_id):
        until_at = finished_at if row.until_at is None else min(row.until_at, finished_at)
        total += max(int(until_at) - max(row.since, int(started_at)), 0)
    return total


def holder(transaction: Transaction, device: int) -> Row | None:
    """Return the run that holds the device, or None."""
    return transaction.one(_HOLDER, device=device)


def was_ever_held(transaction: Transaction, device: int) -> bool:
    """Return whether a run holds the device, or held it."""
    return transaction.one(_EVER_HELD, device=device) is not None


def held_and_lost(transaction: Transaction, run_id: str) -> int:
    """Return how many of the devices that the run holds are lost."""
    row = transaction.one(_HELD_AND_LOST, run=run_id)
    return 0 if row is None else int(row.total)


def pause(transaction: Transaction, run_id: str, device: int, reason: str, since: int) -> int | None:
    """The run is not charged from `since` on, or from the end of its last pause; return which, None where it is one.

    Pauses never overlap: what they come to is taken off the run's time.
    """
    rows = transaction.rows(_PAUSES, run=run_id)
    if any(row.until_at is None for row in rows):
        return None
    since = max([since, *(row.until_at for row in rows)])
    values = {"run": run_id, "device": device, "reason": reason, "at": since}
    if transaction.run(_REOPEN_PAUSE, **values) == 0:
        transaction.run(_PAUSE, **values)
    return since


def stop_after_loss(transaction: Transaction, run_id: str, at: int | None) -> None:
    """The open run is to be stopped at `at`, as it lost a device; None: not for that."""
    transaction.run(_LOST_STOP, run=run_id, at=at)


def end_pauses(transaction: Transaction, run_id: str, at: int) -> None:
    """No pause of the run goes on."""
    transaction.run(_END_PAUSES, run=run_id, at=at)


def _assigned(row: Row) -> AssignedDevice:
    return AssignedDevice(row.uuid, row.kind, row.name, row.device_model, row.position, tuple(json.loads(row.paths)))
