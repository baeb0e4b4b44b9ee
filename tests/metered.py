"""A machine with devices in a centre's pool, and samples as an agent on it would report them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import update

from quotas.domain.node_reports import Process, Sample
from quotas.services import metering
from quotas.store.database import Database
from quotas.store.tables import devices, nodes, pools

GIB = 2**30
WATTS_BUSY, WATTS_IDLE = 600, 100


@dataclass(frozen=True)
class Machine:
    """A machine of the pool, and its devices' UUIDs in the order of their positions."""

    database: Database
    node_id: int
    uuids: tuple[str, ...]

    def take(self, samples: list[Sample], now: int) -> None:
        with self.database.write() as transaction:
            metering.take(transaction, self.node_id, samples, now)


def machine(database: Database, now: int, *, name: str = "node-1", count: int = 2, simulated: bool = False) -> Machine:
    """The first pool's devices are on a machine, and the platform assigns them unless the pool is a simulated one."""
    pool_id, model = 1, "h100"
    uuids = tuple(f"GPU-{name}-{position}" for position in range(count))
    with database.write() as transaction:
        transaction.run(update(pools).where(pools.c.id == pool_id).values(simulated=int(simulated)))
        node = {"name": name, "pool_id": pool_id, "token_sha256": name.rjust(64, "0"), "added_at": now}
        reported = {"agent_version": "0.1.0", "interval_seconds": 10, "reported_at": now}
        node_id = transaction.insert(nodes, {**node, **reported, "added_by": "operator"})
        for position, uuid in enumerate(uuids):
            found = {"node_id": node_id, "uuid": uuid, "kind": "gpu", "name": "NVIDIA H100 80GB HBM3", "paths": "[]"}
            size = {"device_model": model, "memory_bytes": 80 * GIB, "units": 132, "position": position}
            times = dict.fromkeys(("since", "found_at", "seen_at"), now)
            transaction.insert(devices, {**found, **size, **times, "state": "available"})
    return Machine(database, node_id, uuids)


def samples(
    uuid: str,
    start: float,
    end: float,
    *,
    busy_ppm: int | None = 500_000,
    every: float = 10.0,
    memory_bytes: int = 10 * GIB,
    watts: int | None = WATTS_BUSY,
    processes: tuple[Process, ...] = (),
) -> Iterator[Sample]:
    """Yield what an agent that looks every so many seconds says of the device from `start` to `end`."""
    milliwatts = None if watts is None else watts * 1000
    at = start
    while at < end:
        covers = min(every, end - at)
        at += covers
        yield Sample(uuid, at, covers, busy_ppm, memory_bytes, milliwatts, processes)
