"""On a cluster: which run has which device is what the machine's kubelet says, and it is kept as if it were assigned.

The ledger counts how many devices a run holds; the cluster chooses them. Here the two meet: samples, losses and
idleness then belong to the run, and a device that some other pod has is out of use.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from quotas.domain.inventory import DeviceState
from quotas.domain.node_reports import PodDevices
from quotas.domain.policy import Policy
from quotas.domain.runs import RunState
from quotas.domain.terms_kubernetes import run_of_pod
from quotas.domain.units import DAY_SECONDS
from quotas.services import device_health
from quotas.services import device_texts as texts
from quotas.store import audit, cluster_grants, grants
from quotas.store import devices as devices_store
from quotas.store.database import Row, Transaction

log = logging.getLogger("mudeung.cluster_devices")

LONGEST_NAMES = 1000


@dataclass(frozen=True)
class Told:
    """What a machine's kubelet said at `at` (seconds UTC), and by what prefix the namespaces of projects are known."""

    pods: tuple[PodDevices, ...]
    at: float
    prefix: str


def take(transaction: Transaction, node: Row, told: Told, now: int, policy: Policy) -> None:
    """Each open run whose pod has devices of the machine holds them; what other pods have is out of use.

    A pod is a run's by its name and its namespace. A run that has ended holds nothing; one that ended while its reports
    were on their way held its devices until then. A device that two pods have stays with the run that held it first.
    Where a later pod has a device alone, the earlier one's has ended, and so has what it held.
    """
    _Machine(transaction, node, told, now, policy).take()


@dataclass
class _Machine:
    """A machine's devices by UUID, and by id the run that holds each, with its project, while the report is taken."""

    transaction: Transaction
    node: Row
    told: Told
    now: int
    policy: Policy
    devices: dict[str, Row] = field(init=False)
    holders: dict[int, tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        known = devices_store.of_node(self.transaction, self.node.id)
        self.devices = {row.uuid: row for row in known if row.state != DeviceState.RETIRED.value}
        self._read_holders()

    def _read_holders(self) -> None:
        rows = cluster_grants.held(self.transaction, self.node.id)
        self.holders = {row.device_id: (row.run_id, row.project) for row in rows}

    def take(self) -> None:
        of_runs: defaultdict[str, list[PodDevices]] = defaultdict(list)
        others: dict[str, PodDevices] = {}
        rows: dict[str, Row] = {}
        for pod in self.told.pods:
            run_id = self._run_of(pod, rows)
            if run_id is None:
                others.update(dict.fromkeys(pod.uuids, pod))
            else:
                of_runs[run_id].append(pod)
            if pod.shared:
                self._tell_of_sharing(pod)
        listed = {run_id: self._listed(pods) for run_id, pods in of_runs.items()}
        for run_id, pods in of_runs.items():
            self._of_run(rows.get(run_id), run_id, pods, listed)
        self._occupied(others)

    def _run_of(self, pod: PodDevices, rows: dict[str, Row]) -> str | None:
        """Return the run whose pod it is; `rows` has those that had to be read."""
        run_id = run_of_pod(pod.pod)
        if run_id is None:
            return None
        project = next((each for held_by, each in self.holders.values() if held_by == run_id), None)
        if project is None:
            row = rows.get(run_id) or cluster_grants.run(self.transaction, run_id)
            if row is None:
                return None
            rows[run_id], project = row, row.project
        return run_id if pod.namespace == f"{self.told.prefix}{project}" else None

    def _listed(self, pods: Iterable[PodDevices]) -> dict[int, Row]:
        """Return by id the devices that the pods have and the machine has reported."""
        found = (self.devices.get(uuid) for pod in pods for uuid in pod.uuids)
        return {row.id: row for row in found if row is not None}

    def _of_run(self, run: Row | None, run_id: str, pods: list[PodDevices], listed: dict[str, dict[int, Row]]) -> None:
        wanted = listed[run_id]
        held = {device for device, (holder, _) in self.holders.items() if holder == run_id}
        if held and held == set(wanted):
            return
        run = run or cluster_grants.run(self.transaction, run_id)
        if run is None or not self._is_as_held(run, pods, wanted):
            return
        since = max(min(math.floor(min(pod.since for pod in pods)), self.now), run.opened_at)
        since = max([since, *(cluster_grants.free_since(self.transaction, device, run_id) for device in wanted)])
        if run.state == RunState.SETTLED.value:
            self._held_until_its_end(run, wanted, since)
            return
        before = {self.holders[device][0] for device in wanted if device in self.holders} - {run_id}
        if any(device in listed.get(other, {}) for other in before for device in wanted):
            log.warning("run %s has devices that others have, too: %s", run_id, ", ".join(sorted(before)))
            return
        for other in sorted(before | ({run_id} if held else set())):
            grants.release(self.transaction, other, since)
        for device in wanted:
            self._give(run_id, device, min(since, self.now))
        self._read_holders()

    def _is_as_held(self, run: Row, pods: list[PodDevices], wanted: dict[int, Row]) -> bool:
        """Return whether the run has what its hold says. What only the cluster can name is noted with it."""
        unknown = sorted(name for pod in pods for name in pod.unknown)
        if unknown:
            cluster_grants.name_devices(self.transaction, run.id, ", ".join(unknown)[:LONGEST_NAMES])
        if not wanted or len(wanted) + len(unknown) != run.device_count:
            return False
        paid_for = (run.device_model, run.pool_id)
        differing = [row for row in wanted.values() if (row.device_model, row.pool_id) != paid_for]
        if differing:
            found = ", ".join(f"{row.device_model or row.name} {row.uuid}" for row in differing)
            words = texts.operators_of_other_device(run, found, self.node)
            device_health.tell_operators(self.transaction, "device differs", run.id, words, self.now)
        return not differing and not unknown

    def _held_until_its_end(self, run: Row, wanted: dict[int, Row], since: int) -> None:
        """A report that was on its way while the run ended: what it held then, its samples are still to be taken."""
        if run.finished_at is None or self.told.at > run.finished_at or since > run.finished_at:
            return
        if not cluster_grants.was_told(self.transaction, run.id):
            for device in wanted:
                cluster_grants.give(self.transaction, run.id, device, since, run.finished_at)

    def _give(self, run_id: str, device: int, since: int) -> None:
        row = devices_store.by_id(self.transaction, device)
        if row.state == DeviceState.OCCUPIED.value:
            devices_store.set_state(self.transaction, row, DeviceState.AVAILABLE, self.now)
        cluster_grants.give(self.transaction, run_id, device, since)
        device_health.held_while_lost(self.transaction, row, since, self.now, self.policy)

    def _occupied(self, others: dict[str, PodDevices]) -> None:
        """What a pod has that is no run of the platform can be held by none; what none has any more can."""
        for uuid, before in self.devices.items():
            if uuid not in others and before.state != DeviceState.OCCUPIED.value:
                continue
            row = devices_store.by_id(self.transaction, before.id)
            pod = None if row.id in self.holders else others.get(uuid)
            if pod is None and row.state == DeviceState.OCCUPIED.value:
                devices_store.set_state(self.transaction, row, DeviceState.AVAILABLE, self.now)
            elif pod is not None and row.state == DeviceState.AVAILABLE.value:
                name = f"{pod.namespace}/{pod.pod}"
                devices_store.set_state(self.transaction, row, DeviceState.OCCUPIED, self.now, reason=name[:200])
                detail = {"device": uuid, "pod": name[:200]}
                audit.record(self.transaction, self.now, "platform", "device occupied", self.node.name, detail)

    def _tell_of_sharing(self, pod: PodDevices) -> None:
        words = texts.operators_of_sharing(self.node, f"{pod.namespace}/{pod.pod}")
        about = f"{self.node.id}:{self.now // DAY_SECONDS}"
        device_health.tell_operators(self.transaction, "device shared", about, words, self.now)
