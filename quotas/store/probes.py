"""Devices whose runs are asked whether they still have them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import BindParameter, and_, literal, or_, select

from quotas.domain.inventory import DeviceState, Loss
from quotas.domain.runs import RunState
from quotas.store.database import Prepared, Transaction
from quotas.store.tables import device_grants, devices, nodes, runs


@dataclass(frozen=True)
class HeldDevice:
    """A device that a running run holds; `taken` when it is known that the run has it no more."""

    run_id: str
    uuid: str
    kind: str
    paths: tuple[str, ...]
    taken: bool


def _word(text: str) -> BindParameter[str]:
    return literal(text, literal_execute=True)


_HELD = Prepared(
    select(device_grants.c.run_id, devices.c.uuid, devices.c.kind, devices.c.paths, devices.c.loss)
    .join(devices, devices.c.id == device_grants.c.device_id)
    .join(nodes, nodes.c.id == devices.c.node_id)
    .join(runs, runs.c.id == device_grants.c.run_id)
    .where(
        device_grants.c.released_at.is_(None),
        runs.c.state == _word(RunState.RUNNING.value),
        nodes.c.assigns == literal(1, literal_execute=True),
        or_(
            devices.c.state == _word(DeviceState.AVAILABLE.value),
            and_(devices.c.state == _word(DeviceState.LOST.value), devices.c.loss == _word(Loss.TAKEN.value)),
        ),
    )
    .order_by(device_grants.c.run_id, devices.c.position, devices.c.id)
)


def held(transaction: Transaction) -> list[HeldDevice]:
    """Return the devices that running runs hold: those in order, and those that were taken from their run."""
    return [
        HeldDevice(row.run_id, row.uuid, row.kind, tuple(json.loads(row.paths)), row.loss == Loss.TAKEN.value)
        for row in transaction.rows(_HELD)
    ]
