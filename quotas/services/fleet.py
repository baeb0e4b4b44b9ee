"""The fleet at one moment, for its operators' page and for what watches it: machines, devices, who holds them, sums."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from quotas.domain.inventory import DeviceState
from quotas.domain.people import PlatformRole
from quotas.services import inventory, nodes, pools
from quotas.services.inventory import DeviceView, EventView
from quotas.services.nodes import NodeView
from quotas.services.periodic import HEARTBEAT
from quotas.services.pools import PoolView
from quotas.store import fleet as store
from quotas.store import people as people_store
from quotas.store import usage as usage_store
from quotas.store.database import Database, Transaction

HELD = "held"
"""The state of a device that a run holds, beside those of `DeviceState`."""
READING_SECONDS = 120
"""A reading that is older says nothing of now."""
REFUSED = "start refused"
SETTLED_SECONDS = 10
"""An event of the audit is counted when it is so old that no earlier one can still be committed."""
AUDIT_ROWS, AUDIT_PIECES = 10_000, 20


@dataclass(frozen=True)
class Holder:
    """The run that holds a device, since `since` (seconds UTC)."""

    run: str
    kind: str
    project: str
    since: int


@dataclass(frozen=True)
class Overview:
    """Machines with their devices, who holds them, how many wait for each model, and what befell devices last."""

    machines: tuple[tuple[NodeView, tuple[DeviceView, ...]], ...]
    holders: Mapping[str, Holder]
    waiting: Mapping[str, int]
    events: tuple[EventView, ...]


@dataclass(frozen=True)
class Project:
    """What a project's runs ever used: device time in seconds, energy in joules."""

    held_seconds: int = 0
    seen_seconds: float = 0.0
    measured_seconds: float = 0.0
    busy_seconds: float = 0.0
    energy_joules: float = 0.0


@dataclass(frozen=True)
class Figures:
    """What is told to those who watch the platform. `loop_at` is when its loop last went round, None for never."""

    machines: tuple[NodeView, ...]
    devices: tuple[DeviceView, ...]
    pools: tuple[PoolView, ...]
    holders: Mapping[str, Holder]
    projects: Mapping[str, Project]
    budgets: Mapping[tuple[str, str], int]
    open_runs: Mapping[tuple[str, str], int]
    waiting: Mapping[tuple[str, str], int]
    events: Mapping[str, int]
    loop_at: int | None


@dataclass
class Refusals:
    """Refused starts by their code, counted once each from the audit."""

    counted: Counter[str] = field(default_factory=Counter)
    after: int = 0

    def go_on(self, database: Database, now: int) -> None:
        """The events since the last time are counted, up to a number of them that keeps nobody waiting."""
        for _ in range(AUDIT_PIECES):
            with database.read() as transaction:
                rows = store.audit_after(transaction, self.after, AUDIT_ROWS)
            for row in rows:
                # Numbers are given before events are committed: what is new may still have one missing before it.
                if row.at > now - SETTLED_SECONDS:
                    return
                self.after = row.id
                if row.action == REFUSED:
                    self.counted[str(json.loads(row.detail).get("code", ""))] += 1
            if len(rows) < AUDIT_ROWS:
                return


def state_of(device: DeviceView) -> str:
    """Return the device's state; one that can be held and is held, is `HELD`."""
    return HELD if device.state is DeviceState.AVAILABLE and device.run_id is not None else device.state.value


def is_current(device: DeviceView, now: int) -> bool:
    """Return whether the device's newest reading is of now."""
    return device.read_at is not None and now - device.read_at <= READING_SECONDS


def may_see(database: Database, username: str) -> bool:
    """Return whether the person watches over the fleet: operators do."""
    with database.read() as transaction:
        found = people_store.one(transaction, username)
    return found is not None and PlatformRole.OPERATOR in found.platform_roles


def overview(database: Database, now: int, silence_seconds: int, events: int = 20) -> Overview:
    """Return the fleet as it is now, with the newest events of its devices."""
    devices: dict[str, list[DeviceView]] = {}
    for device in inventory.devices(database):
        devices.setdefault(device.node, []).append(device)
    machines = nodes.list_nodes(database, now, silence_seconds)
    with database.read() as transaction:
        holders = _holders(transaction)
        waiting: Counter[str] = Counter()
        for row in store.waiting(transaction):
            waiting[row.device_model] += row.number
    return Overview(
        tuple((machine, tuple(devices.get(machine.name, ()))) for machine in machines),
        holders,
        waiting,
        tuple(inventory.events(database, events)),
    )


def figures(database: Database, now: int, silence_seconds: int) -> Figures:
    """Return what is told to those who watch the platform."""
    machines = tuple(nodes.list_nodes(database, now, silence_seconds))
    devices = tuple(inventory.devices(database))
    with database.read() as transaction:
        return Figures(
            machines=machines,
            devices=devices,
            pools=tuple(pools.views(transaction, now)),
            holders=_holders(transaction),
            projects=_projects(transaction, now),
            budgets={(row.project, row.kind): int(row.amount) for row in store.budgets(transaction, now)},
            open_runs={(row.kind, row.project): row.number for row in store.open_runs(transaction)},
            waiting={(row.device_model, row.state): row.number for row in store.waiting(transaction)},
            events=store.events(transaction),
            loop_at=store.position_of_job(transaction, HEARTBEAT),
        )


def _holders(transaction: Transaction) -> dict[str, Holder]:
    return {row.uuid: Holder(row.run, row.kind, row.project, row.granted_at) for row in store.holders(transaction)}


def _projects(transaction: Transaction, now: int) -> dict[str, Project]:
    held = store.ever_held(transaction, now)
    found = {project: Project(seconds) for project, seconds in held.items()}
    for row in usage_store.ever_measured(transaction):
        found[row.project] = Project(
            held.get(row.project, 0),
            row.seen_milliseconds / 1000,
            row.measured_milliseconds / 1000,
            row.busy_milliseconds / 1000,
            row.energy_millijoules / 1000,
        )
    return found
