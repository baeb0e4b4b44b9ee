"""Whether runs still have the devices that they hold.

A machine can have a device in order while a container has lost it: on some, `systemctl daemon-reload` takes the
GPUs from every container that runs. The agent cannot see that; the backend is asked.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby

from quotas.backends.port import Backend, BackendAway
from quotas.domain.policy import Policy
from quotas.domain.terms_local import NPU
from quotas.services import device_health
from quotas.store import probes as store
from quotas.store.database import Database
from quotas.store.probes import HeldDevice

log = logging.getLogger("mudeung.probes")

LOOK_SECONDS = 60
AGAIN_SECONDS = 300
"""After a run that could not be asked. What hangs there would otherwise gather one more question each minute."""
AT_ONCE = 8
MOST_RUNS = 64
"""How many runs are asked in one round: the rest, longest not asked, come in the next one."""
_OWN_NVIDIA_FILE = re.compile(r"/dev/nvidia\d+")


@dataclass(frozen=True)
class Found:
    """What was found of a device that a run holds: that it `lacks` it, or has it again."""

    run_id: str
    uuid: str
    lacks: bool


@dataclass
class Probes:
    """When each run is to be asked again."""

    due: dict[str, int] = field(default_factory=dict)

    def probe(self, database: Database, backend: Backend, now: int, policy: Policy) -> Counter[str]:
        """The charge of each run that lacks a device is paused, and goes on where it has it again; return how often."""
        done: Counter[str] = Counter()
        for found in self.look(database, backend, now):
            if found.lacks:
                news = device_health.taken_from(database, found.run_id, found.uuid, now, policy)
                done["taken"] += news
            else:
                news = device_health.given_back_to(database, found.run_id, found.uuid, now)
                done["given_back"] += news
        return +done

    def look(self, database: Database, backend: Backend, now: int) -> list[Found]:
        """Return what has changed: each run that is due was asked, none more often than every `LOOK_SECONDS`."""
        with database.read() as transaction:
            held = store.held(transaction)
        by_run = {run_id: list(devices) for run_id, devices in groupby(held, key=lambda device: device.run_id)}
        self.due = {run_id: at for run_id, at in self.due.items() if run_id in by_run}
        due = sorted((self.due.get(run_id, 0), run_id) for run_id in by_run if self.due.get(run_id, 0) <= now)
        asked = [run_id for _, run_id in due[:MOST_RUNS]]
        if not asked:
            return []
        with ThreadPoolExecutor(min(AT_ONCE, len(asked)), "probe") as threads:
            lacking = list(threads.map(lambda run_id: _lacking(backend, run_id, by_run[run_id]), asked))
        found: list[Found] = []
        for run_id, lacks in zip(asked, lacking, strict=True):
            self.due[run_id] = now + (AGAIN_SECONDS if lacks is None else LOOK_SECONDS)
            if lacks is not None:
                devices = by_run[run_id]
                found += [Found(run_id, each.uuid, each in lacks) for each in devices if (each in lacks) != each.taken]
        return found


def _lacking(backend: Backend, run_id: str, devices: Iterable[HeldDevice]) -> list[HeldDevice] | None:
    """Return the devices that the run has not; None where it cannot be asked."""
    files = {device: watched(device) for device in devices}
    try:
        gone = backend.lacks(run_id, list(dict.fromkeys(path for paths in files.values() for path in paths)))
    except BackendAway as away:
        log.warning("run %s: whether it has its devices is not known: %s", run_id, away)
        return None
    except Exception:
        log.exception("run %s: whether it has its devices is not known", run_id)
        return None
    return [device for device, paths in files.items() if not set(paths).isdisjoint(gone)]


def watched(device: HeldDevice) -> tuple[str, ...]:
    """Return the files whose loss is the loss of the device: of a GPU its own, as not every container has the rest."""
    if device.kind == NPU:
        return device.paths
    return tuple(path for path in device.paths if _OWN_NVIDIA_FILE.fullmatch(path))
