"""Pods with devices, as a machine's kubelet tells of them: those of runs on `vision`, and others."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import select

from quotas.domain.node_reports import PodDevices, Sample
from quotas.domain.terms_kubernetes import pod_name
from quotas.services import admission
from quotas.store.tables import meter_hours
from tests.services.centre import DAY, START
from tests.services.machines import GIB, Machines, gpu

NOW = START + DAY


def began(machines: Machines, now: int = NOW, **asked: object) -> str:
    run_id = machines.centre.admitted(now, **asked).run_id
    admission.started(machines.database, run_id, now)
    return run_id


def pod(run_id: str, *uuids: str, since: float = NOW, **changes: object) -> PodDevices:
    """Return the pod of a run on `vision`, which has these devices."""
    return replace(PodDevices("mudeung-vision", pod_name(run_id), since, uuids), **changes)


def stranger(*uuids: str, since: float = NOW) -> PodDevices:
    return PodDevices("others", "training-0", since, uuids)


def uuid(number: int) -> str:
    return gpu(number).uuid


def held(machines: Machines) -> dict[str, str]:
    return {view.uuid: view.run_id for view in machines.views().values() if view.run_id is not None}


def metered(machines: Machines, run_id: str) -> int:
    """Return the seconds of device time that samples of the run cover."""
    with machines.database.read() as transaction:
        rows = transaction.rows(select(meter_hours.c.seen_milliseconds).where(meter_hours.c.run_id == run_id))
    return sum(row.seen_milliseconds for row in rows) // 1000


def used(now: int, device: str, seconds: float = 10.0) -> dict[str, tuple[Sample, ...]]:
    return {"samples": (Sample(device, float(now), seconds, 800_000, GIB, 500_000),)}
