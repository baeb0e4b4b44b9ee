"""Machines of a small centre, and their agents: each reports what it has and what befell that."""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass, field, replace

from sqlalchemy import select, update

from quotas.domain.node_reports import (
    Answer,
    Cleaned,
    DeviceEvent,
    DeviceKind,
    EventKind,
    FoundDevice,
    PodDevices,
    Report,
    Sample,
)
from quotas.domain.policy import Policy
from quotas.services import check, inventory, nodes
from quotas.services.inventory import DeviceView
from quotas.store.database import Database, Row
from quotas.store.tables import (
    audit_events,
    device_models,
    notices,
    persons,
    platform_roles,
    pool_devices,
    pools,
    profiles,
    project_profiles,
    run_pauses,
    runs,
)
from tests.services.centre import START, Centre

GIB = 2**30
H100 = "NVIDIA H100 80GB HBM3"
SLICE = "h100-mig-1g.10gb"
SLICE_UNITS = 16
POLICY = Policy()


def gpu(number: int, *, machine: str = "gpu-1", **changes: object) -> FoundDevice:
    """Return a whole H100 as an agent finds it."""
    found = FoundDevice(f"GPU-{machine}-{number:04}", DeviceKind.GPU, H100, 80 * GIB, number, 132)
    return replace(found, **changes)  # type: ignore[arg-type]


def cut(parent: FoundDevice, slices: int, *, units: int = SLICE_UNITS, profile: str = "1g.10gb") -> list[FoundDevice]:
    """Return the slices of a GPU that is cut, which is then found no more itself."""
    return [
        FoundDevice(
            f"MIG-{parent.uuid}-{profile}-{number}",
            DeviceKind.MIG,
            f"{H100} MIG {profile}",
            10 * GIB,
            100 * parent.position + number,
            units,
            profile,
            parent.uuid,
        )
        for number in range(slices)
    ]


@dataclass
class Machine:
    """A machine of the platform and what its agent knows: the devices, its token, its stream of reports."""

    database: Database
    name: str
    token: str
    devices: dict[str, FoundDevice] = field(default_factory=dict)
    stream: str = field(default_factory=lambda: str(uuid.uuid4()))
    sequences: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def has(self, *found: FoundDevice) -> list[str]:
        """From now on it has just these; return their UUIDs."""
        self.devices = {each.uuid: each for each in found}
        return list(self.devices)

    def list(self, now: int, **parts: object) -> Answer:
        """Report all devices as they are."""
        return self.report(now, devices=tuple(self.devices.values()), **parts)

    def report(self, now: int, **parts: object) -> Answer:
        return inventory.take_report(self.database, self.token, self.made(now, **parts), now, POLICY)

    def made(self, now: int, **parts: object) -> Report:
        """Return the next report, with these parts."""
        values: dict[str, object] = {"at": float(now), "agent_version": "0.1.0", "interval_seconds": 10, **parts}
        return Report(self.stream, next(self.sequences), **values)  # type: ignore[arg-type]

    def event(self, now: int, device: str, kind: EventKind, code: int | None = None, at: float | None = None) -> Answer:
        """Report that something befell a device, now or at `at`."""
        return self.report(now, events=(DeviceEvent(device, float(now) if at is None else at, kind, code),))

    def lose(self, now: int, device: str, at: float | None = None) -> Answer:
        return self.event(now, device, EventKind.LOST, at=at)

    def scrub(self, now: int, problem: str = "") -> list[str]:
        """Do as the platform asks: every device that is to be scrubbed was; return which."""
        asked = self.report(now).scrub
        self.report(now, cleaned=tuple(Cleaned(device, float(now), problem) for device in asked))
        return list(asked)

    def pods(self, now: int, *pods: PodDevices, **parts: object) -> Answer:
        """Report that these pods have devices, and no others."""
        return self.report(now, pods=pods, **parts)

    def sample(self, now: int, device: str, busy_ppm: int = 500_000) -> Answer:
        return self.report(now, samples=(Sample(device, float(now), 10.0, busy_ppm, GIB, 300_000),))


@dataclass
class Machines:
    """The small centre of the services' tests, whose pool `main` is not simulated; ``operator`` operates it."""

    centre: Centre

    def __post_init__(self) -> None:
        with self.database.write() as transaction:
            transaction.run(update(pools).values(simulated=0))
            values = {"username": "operator", "display_name": "operator", "language": "ko", "added_at": START}
            person = transaction.insert(persons, values | {"organisation_id": 1})
            transaction.insert(platform_roles, {"person_id": person, "role": "operator"})
        self.centre.people["operator"] = person

    @property
    def database(self) -> Database:
        return self.centre.database

    def add(self, name: str, now: int, *, pool: str = "main", assigns: bool = True) -> Machine:
        """The machine is added, and has not reported; its devices are a cluster's unless the ledger `assigns`."""
        token = nodes.add(self.database, name, pool, actor="op", now=now, assigns=assigns)
        return Machine(self.database, name, token)

    def with_gpus(
        self, count: int, now: int, *, name: str = "gpu-1", assigns: bool = True
    ) -> tuple[Machine, list[str]]:
        """A machine has reported so many H100; return it and their UUIDs."""
        machine = self.add(name, now, assigns=assigns)
        uuids = machine.has(*(gpu(number, machine=name) for number in range(count)))
        machine.list(now)
        return machine, uuids

    def add_slices(self) -> None:
        """The catalogue has slices of an H100, and a profile and a rate for one, offered to every project."""
        model = {"code": SLICE, "name": SLICE, "kind": "mig", "memory_bytes": 10 * GIB, "parent": "h100"}
        with self.database.write() as transaction:
            transaction.insert(device_models, model | {"units": SLICE_UNITS, "units_total": 132})
            values = {"code": "slice", "name_ko": "slice", "name_en": "slice", "image_code": "notebook"}
            sizes = {"cpu_millis": 1000, "memory_bytes": 1, "storage_bytes": 1, "backend_terms": "{}", "position": 9}
            device = {"device_model": SLICE, "device_count": 1}
            self.centre.profiles["slice"] = transaction.insert(profiles, values | sizes | device)
            for project in self.centre.projects.values():
                values = {"project_id": project, "profile_id": self.centre.profiles["slice"]}
                transaction.insert(project_profiles, values)
        self.centre.rate_card({"gpu": 1000, "gpu-2": 2000, "cpu": 10, "slice": 120}, START + 1)

    def views(self, *, retired: bool = False) -> dict[str, DeviceView]:
        return {view.uuid: view for view in inventory.devices(self.database, retired=retired)}

    def states(self, *, retired: bool = False) -> dict[str, str]:
        return {uuid: view.state.value for uuid, view in self.views(retired=retired).items()}

    def counts(self, model: str = "h100", pool: int = 1) -> tuple[int, int]:
        """Return (in use, drained) of the pool."""
        with self.database.read() as transaction:
            statement = select(pool_devices).where(pool_devices.c.pool_id == pool, pool_devices.c.device_model == model)
            row = transaction.one(statement)
        return row.in_use, row.drained

    def pauses(self, run_id: str) -> list[tuple[int, int | None]]:
        with self.database.read() as transaction:
            found = transaction.rows(select(run_pauses).where(run_pauses.c.run_id == run_id).order_by("since"))
        return [(row.since, row.until_at) for row in found]

    def run(self, run_id: str) -> Row:
        with self.database.read() as transaction:
            return transaction.one(select(runs).where(runs.c.id == run_id))

    def told(self, person: str) -> list[tuple[str, str]]:
        """Return (kind, text in English) of all that the person was told, in order."""
        with self.database.read() as transaction:
            statement = select(notices).where(notices.c.person_id == self.centre.people[person])
            return [(row.kind, row.text_en) for row in transaction.rows(statement.order_by(notices.c.id))]

    def audited(self, action: str) -> list[Row]:
        with self.database.read() as transaction:
            return transaction.rows(select(audit_events).where(audit_events.c.action == action).order_by("id"))

    def sound(self, now: int) -> None:
        """Every invariant holds."""
        assert check.findings(self.database, now) == []
