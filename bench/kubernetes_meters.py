"""Simulated machines report as real ones do: an agent on each says which pod has which device, and what it does.

A simulated machine has no kubelet that gives devices to pods, and no devices. Both are told here: each pod on it has
one of its GPUs for as long as it is there, and each GPU that a pod has is busy. What is said goes the real way, over
HTTP through the proxy to the portal, with the machine's token and in the agent's own words.
"""

from __future__ import annotations

import math
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from sqlalchemy import func, select

from agent.options import REPORT_PATH
from agent.wire import Contents, encode, parts
from quotas.backends.kubernetes_api import Api
from quotas.backends.kubernetes_seen import instant
from quotas.domain.node_reports import DeviceKind, FoundDevice, PodDevices, Process, Report, Sample
from quotas.services import nodes
from quotas.store.database import Database
from quotas.store.tables import charges, meter_hours
from tests.platform import Platform

NAME, MEMORY_BYTES = "NVIDIA H100 80GB HBM3", 80 * 2**30
INTERVAL_SECONDS = 10
BUSY_PPM, MILLIWATTS = 750_000, 600_000
ANSWER_SECONDS = 60


@dataclass
class Machine:
    """A simulated machine: its devices, and which pod has which, by the pod's UID."""

    name: str
    token: str
    devices: tuple[FoundDevice, ...]
    given: dict[str, FoundDevice] = field(default_factory=dict)
    sequence: int = 0
    stream: str = field(default_factory=lambda: str(uuid.uuid4()))

    def give(self, pods: Sequence[dict[str, Any]]) -> None:
        """Each of the pods has a device of its own; who is gone has none. Raises RuntimeError for too many."""
        there = {pod["metadata"]["uid"] for pod in pods}
        self.given = {uid: device for uid, device in self.given.items() if uid in there}
        taken = {device.uuid for device in self.given.values()}
        free = iter([device for device in self.devices if device.uuid not in taken])
        for uid in there - set(self.given):
            device = next(free, None)
            if device is None:
                raise RuntimeError(f"{self.name} has more pods than devices")
            self.given[uid] = device

    def report(self, pods: Sequence[dict[str, Any]], now: float, *, devices: bool) -> list[bytes]:
        """Return what its agent sends now, in parts as small as the agent makes them."""
        self.give(pods)
        held = [(pod, self.given[pod["metadata"]["uid"]]) for pod in pods]
        contents = Contents(
            self.devices if devices else None,
            tuple(self._sample(pod, device, now) for pod, device in held),
            pods=tuple(
                PodDevices(
                    pod["metadata"]["namespace"],
                    pod["metadata"]["name"],
                    instant(pod["status"]["startTime"]) or now,
                    (device.uuid,),
                )
                for pod, device in held
            ),
        )
        sent = []
        for part in parts(contents, Report(self.stream, 0, now, "bench", INTERVAL_SECONDS)):
            self.sequence += 1
            sent.append(encode(replace(part, sequence=self.sequence)))
        return sent

    def _sample(self, pod: dict[str, Any], device: FoundDevice, now: float) -> Sample:
        run = pod["metadata"]["labels"]["mudeung.run"]
        process = Process(1, 2**30, run)
        return Sample(device.uuid, now, float(INTERVAL_SECONDS), BUSY_PPM, 2**30, MILLIWATTS, (process,))


@dataclass
class Machines:
    """The cluster's simulated machines, as they report to the platform."""

    api: Api
    platform: Platform
    selector: str
    machines: dict[str, Machine] = field(default_factory=dict)

    def add(self, pool: str, selector: str, actor: str) -> None:
        """Every machine is in the pool, and has reported its devices."""
        now = int(time.time())
        for found in self.api.get("/api/v1/nodes", labelSelector=selector)["items"]:
            name = str(found["metadata"]["name"])
            gpus = int(found["status"]["allocatable"].get("nvidia.com/gpu", 0))
            listed = tuple(
                FoundDevice(f"GPU-{name}-{number}", DeviceKind.GPU, NAME, MEMORY_BYTES, number)
                for number in range(gpus)
            )
            token = nodes.add(self.platform.database, name, pool, actor=actor, now=now, assigns=False)
            self.machines[name] = Machine(name, token, listed)
        self.report(devices=True)

    def report(self, *, devices: bool = False) -> float:
        """Every machine has reported once; return how many seconds of its own time a report took on average."""
        of_machine: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for pod in self.api.get("/api/v1/pods", labelSelector=self.selector)["items"]:
            if pod.get("status", {}).get("startTime") and "deletionTimestamp" not in pod["metadata"]:
                of_machine[pod["spec"]["nodeName"]].append(pod)
        began, sent = time.monotonic(), 0
        with httpx.Client(timeout=ANSWER_SECONDS) as client:
            for name, machine in self.machines.items():
                for body in machine.report(of_machine[name], time.time(), devices=devices):
                    headers = {"authorization": f"Bearer {machine.token}", "content-type": "application/json"}
                    url = f"{self.platform.url}{REPORT_PATH}"
                    client.post(url, content=body, headers=headers).raise_for_status()
                    sent += 1
        return (time.monotonic() - began) / max(sent, 1)

    def meter(self, seconds: int) -> float:
        """For so long every machine has reported every few seconds; return the mean time of a report's answer."""
        took = []
        for _ in range(max(math.ceil(seconds / INTERVAL_SECONDS), 1)):
            began = time.monotonic()
            time.sleep(INTERVAL_SECONDS)
            took.append(self.report())
            time.sleep(max(0.0, INTERVAL_SECONDS - (time.monotonic() - began)))
        return sum(took) / len(took)


def metered(database: Database) -> tuple[int, int]:
    """Return how many runs have been metered, and for how many seconds together."""
    seen = func.sum(meter_hours.c.seen_milliseconds).label("seen")
    runs = func.count(func.distinct(meter_hours.c.run_id)).label("runs")
    with database.read() as transaction:
        row = transaction.one(select(runs, seen).select_from(meter_hours))
    return (0, 0) if row is None or row.seen is None else (int(row.runs), int(row.seen) // 1000)


def charged(database: Database) -> int:
    """Return how many runs were charged something."""
    count = func.count().label("runs")
    with database.read() as transaction:
        row = transaction.one(select(count).select_from(charges).where(charges.c.amount > 0))
    return 0 if row is None else int(row.runs)
