"""Devices as their machines report them, their states, and what befell them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, BindParameter, and_, bindparam, func, insert, literal, or_, select, update

from quotas.domain.inventory import OUT_OF_USE, DeviceState, Loss
from quotas.domain.node_reports import DeviceEvent, FoundDevice
from quotas.store import grants
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    device_events,
    device_grants,
    device_models,
    devices,
    nodes,
    persons,
    pool_devices,
    pools,
    projects,
    runs,
)

_device: BindParameter[int] = bindparam("device", type_=BigInteger)
_node: BindParameter[int] = bindparam("node", type_=BigInteger)


def _word(text: str) -> BindParameter[str]:
    return literal(text, literal_execute=True)


_KNOWN = (
    select(
        devices,
        nodes.c.name.label("node"),
        nodes.c.removed_at.label("node_removed_at"),
        nodes.c.pool_id,
        pools.c.code.label("pool"),
        grants.cleaning_there,
    )
    .select_from(devices)
    .join(nodes, nodes.c.id == devices.c.node_id)
    .join(pools, pools.c.id == nodes.c.pool_id)
)
_OF_NODE = Prepared(_KNOWN.where(devices.c.node_id == _node).order_by(devices.c.id))
_BY_UUID = Prepared(_KNOWN.where(devices.c.uuid == bindparam("uuid")))
_BY_ID = Prepared(_KNOWN.where(devices.c.id == _device))
_OF_RUN = Prepared(
    _KNOWN.join(device_grants, device_grants.c.device_id == devices.c.id).where(
        device_grants.c.run_id == bindparam("run"), device_grants.c.released_at.is_(None)
    )
)
_SET_STATE = Prepared(
    update(devices)
    .where(devices.c.id == _device)
    .values(
        state=bindparam("state"),
        reason=bindparam("reason"),
        loss=bindparam("loss"),
        hold_back=None,
        since=bindparam("at", type_=BigInteger),
    )
)
_WORSE = Prepared(
    update(devices).where(devices.c.id == _device).values(loss=bindparam("loss"), reason=bindparam("reason"))
)
_HOLD_BACK = Prepared(update(devices).where(devices.c.id == _device).values(hold_back=bindparam("reason")))
_PRESENT = Prepared(
    select(literal(1))
    .select_from(pool_devices)
    .where(pool_devices.c.pool_id == bindparam("pool"), pool_devices.c.device_model == bindparam("model"))
)
_SCRUB = Prepared(
    select(devices.c.uuid)
    .where(
        devices.c.node_id == _node,
        devices.c.state == _word(DeviceState.CLEANING.value),
        devices.c.listed == literal(1, literal_execute=True),
        ~select(literal(1))
        .where(device_grants.c.device_id == devices.c.id, device_grants.c.released_at.is_(None))
        .exists(),
    )
    .order_by(devices.c.position, devices.c.id)
)
_LISTED_AT = Prepared(select(func.max(devices.c.seen_at).label("at")).where(devices.c.node_id == _node))
_ADD_EVENT = Prepared(
    insert(device_events).values(
        device_id=_device,
        at=bindparam("at", type_=BigInteger),
        kind=bindparam("kind"),
        code=bindparam("code"),
        text=bindparam("text"),
        run_id=bindparam("run"),
    )
)
_EVENTS = (
    select(
        device_events.c.at,
        device_events.c.kind,
        device_events.c.code,
        device_events.c.text,
        device_events.c.run_id,
        devices.c.uuid,
        nodes.c.name.label("node"),
    )
    .join(devices, devices.c.id == device_events.c.device_id)
    .join(nodes, nodes.c.id == devices.c.node_id)
    .order_by(device_events.c.at.desc(), device_events.c.id.desc())
    .limit(bindparam("limit"))
)
_LATEST_EVENTS = Prepared(_EVENTS)
_EVENTS_OF_ONE = Prepared(_EVENTS.where(device_events.c.device_id == _device))
_VIEWS = Prepared(
    select(
        devices,
        nodes.c.name.label("node"),
        nodes.c.pool_id,
        pools.c.code.label("pool"),
        grants.cleaning_there,
        device_models.c.units.label("model_units"),
        runs.c.id.label("run_id"),
        persons.c.username.label("person"),
        projects.c.code.label("project"),
    )
    .select_from(devices)
    .join(nodes, nodes.c.id == devices.c.node_id)
    .join(pools, pools.c.id == nodes.c.pool_id)
    .outerjoin(device_models, device_models.c.code == devices.c.device_model)
    .outerjoin(device_grants, and_(device_grants.c.device_id == devices.c.id, device_grants.c.released_at.is_(None)))
    .outerjoin(runs, runs.c.id == device_grants.c.run_id)
    .outerjoin(persons, persons.c.id == runs.c.person_id)
    .outerjoin(projects, projects.c.id == runs.c.project_id)
    .where(or_(devices.c.state != _word(DeviceState.RETIRED.value), bindparam("retired") == literal(1)))
    .order_by(pools.c.code, nodes.c.name, devices.c.position, devices.c.id)
)


def of_node(transaction: Transaction, node: int) -> list[Row]:
    """Return every device that the machine has, or had."""
    return transaction.rows(_OF_NODE, node=node)


def by_uuid(transaction: Transaction, uuid: str) -> Row | None:
    """Return the device, or None."""
    return transaction.one(_BY_UUID, uuid=uuid)


def by_id(transaction: Transaction, device: int) -> Row:
    """Return the device, which there is, as it is now."""
    return transaction.one(_BY_ID, device=device)


def beginning_with(transaction: Transaction, text: str, most: int = 5) -> list[Row]:
    """Return devices whose UUID begins with `text`."""
    return transaction.rows(_KNOWN.where(devices.c.uuid.startswith(text, autoescape=True)).limit(most))


def of_run(transaction: Transaction, run_id: str) -> list[Row]:
    """Return the devices that the run holds."""
    return transaction.rows(_OF_RUN, run=run_id)


def views(transaction: Transaction, *, retired: bool = False) -> list[Row]:
    """Return every device with its place, who holds it and its newest reading; `retired`: also what is no more."""
    return transaction.rows(_VIEWS, retired=int(retired))


def facts_of(found: FoundDevice) -> dict[str, Any]:
    """Return what the machine says of a device that stays so, as the columns have it."""
    return {
        "kind": found.kind.value,
        "name": found.name[:200],
        "memory_bytes": found.memory_bytes,
        "units": found.units,
        "mig_profile": found.mig_profile,
        "parent_uuid": found.parent_uuid,
        "paths": json.dumps(list(found.paths)),
        "position": found.position,
        "ecc": None if found.ecc is None else int(found.ecc),
    }


def add(transaction: Transaction, node: int, found: FoundDevice, device_model: str | None, now: int) -> int:
    """The device is stored as available; return its id. Raises Conflict for a UUID that is known."""
    own = {"node_id": node, "uuid": found.uuid, "device_model": device_model}
    times = {"since": now, "found_at": now, "seen_at": now, "state": DeviceState.AVAILABLE.value}
    return transaction.insert(devices, own | times | facts_of(found))


def change(transaction: Transaction, device: int, values: Mapping[str, Any]) -> None:
    """The device has the values. Not for its state, which its pool counts: see `set_state`."""
    transaction.run(update(devices).where(devices.c.id == device).values(**values))


def set_state(
    transaction: Transaction,
    row: Row,
    state: DeviceState,
    now: int,
    *,
    reason: str | None = None,
    loss: Loss | None = None,
) -> None:
    """The device, as it was read, is in the state from now on, and its pool counts it so."""
    values = {"state": state.value, "reason": reason, "loss": None if loss is None else loss.value}
    transaction.run(_SET_STATE, device=row.id, at=now, **values)
    more = int(state in OUT_OF_USE) - int(DeviceState(row.state) in OUT_OF_USE)
    if more and row.device_model is not None:
        grants.count_out(transaction, row.pool_id, row.device_model, more)


def set_loss(transaction: Transaction, device: int, loss: Loss, reason: str) -> None:
    """The lost device stays lost for another reason."""
    transaction.run(_WORSE, device=device, loss=loss.value, reason=reason)


def hold_back(transaction: Transaction, device: int, reason: str | None) -> None:
    """The device is quarantined once its run has ended; None: it is not."""
    transaction.run(_HOLD_BACK, device=device, reason=reason)


def must_be_counted(transaction: Transaction, pool: int, device_model: str) -> None:
    """The row that counts the pool's devices of the model exists."""
    if transaction.one(_PRESENT, pool=pool, model=device_model) is None:
        transaction.run(insert(pool_devices).values(pool_id=pool, device_model=device_model))


def to_scrub(transaction: Transaction, node: int) -> tuple[str, ...]:
    """Return the devices of the machine that wait to be scrubbed."""
    return tuple(row.uuid for row in transaction.rows(_SCRUB, node=node))


def listed_at(transaction: Transaction, node: int) -> int | None:
    """Return when the machine last listed its devices; None where it has none."""
    row = transaction.one(_LISTED_AT, node=node)
    return None if row is None or row.at is None else int(row.at)


def add_event(transaction: Transaction, device: int, event: DeviceEvent, run_id: str | None) -> None:
    """What befell the device is stored with the run that held it."""
    transaction.run(
        _ADD_EVENT,
        device=device,
        at=int(event.at),
        kind=event.kind.value,
        code=event.code,
        text=event.text[:400],
        run=run_id,
    )


def events(transaction: Transaction, limit: int, device: int | None = None) -> list[Row]:
    """Return the newest events, newest first, of one device or of all."""
    if device is None:
        return transaction.rows(_LATEST_EVENTS, limit=limit)
    return transaction.rows(_EVENTS_OF_ONE, limit=limit, device=device)
