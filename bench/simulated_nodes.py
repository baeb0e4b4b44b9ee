"""What the bench has on a cluster with simulated machines: bound volumes, ends of pods, and nothing afterwards.

Simulated machines, as kwok plays them, have the label ``type=simulated`` and a taint of the same words. A pod that
lands there turns ready without running. What its kubelet would say of its end is said here; and volumes that are only
names are bound to their claims here, as a cluster's own controller binds a few in a second and is not what is measured.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from quotas.backends.kubernetes_api import Api, ApiRefused, Object
from quotas.backends.port import BackendAway

LABEL, VALUE = "type", "simulated"
SELECTOR = {LABEL: VALUE}
TOLERATION = {"key": LABEL, "operator": "Equal", "value": VALUE, "effect": "NoSchedule"}
OF_BENCH = "mudeung.bench"
AT_ONCE = 16
TRIES = 8
CLEAR_SECONDS = 300
GIB = 2**30

log = logging.getLogger("bench")


def capacity(api: Api) -> tuple[int, int]:
    """Return how many pods and how many GPUs the simulated machines take together."""
    nodes = api.get("/api/v1/nodes", labelSelector=f"{LABEL}={VALUE}")["items"]
    allocatable = [node["status"].get("allocatable", {}) for node in nodes]
    return tuple(sum(int(each.get(name, 0)) for each in allocatable) for name in ("pods", "nvidia.com/gpu"))  # type: ignore[return-value]


def add_disks(api: Api) -> None:
    """Simulated machines that say nothing of a disk have one, as every real machine has."""
    disk = {"ephemeral-storage": "8Ti"}
    for node in api.get("/api/v1/nodes", labelSelector=f"{LABEL}={VALUE}")["items"]:
        if "ephemeral-storage" not in node["status"].get("allocatable", {}):
            path = f"/api/v1/nodes/{node['metadata']['name']}/status"
            api.patch(path, {"status": {"allocatable": disk, "capacity": disk}})


def together(work: Callable[[Any], object], items: Iterable[Any]) -> None:
    """The work was done on every item, on some at the same time; what the cluster was too busy for, again."""

    def patiently(item: Any) -> None:
        for pause in range(TRIES):
            try:
                work(item)
            except (BackendAway, ApiRefused) as error:
                if pause + 1 == TRIES or (isinstance(error, ApiRefused) and error.status != 409):
                    raise
                time.sleep(0.1 * 2**pause)
            else:
                return

    with ThreadPoolExecutor(AT_ONCE, "cluster") as threads:
        list(threads.map(patiently, items))


@dataclass
class Ground:
    """What is the bench's on the cluster: all of it wears `name`, and is gone with :meth:`clear`."""

    api: Api
    name: str
    _stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def storage_class(self) -> str:
        return self.name

    @property
    def plain_namespace(self) -> str:
        return f"{self.name}-plain"

    def make(self) -> None:
        """The platform's own namespace, the plain hub's, and the storage class are there."""
        add_disks(self.api)
        labels = {OF_BENCH: self.name}
        for name in (self.name, self.plain_namespace):
            self.api.post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        kind = {"metadata": {"name": self.storage_class, "labels": labels}, "volumeBindingMode": "Immediate"}
        self.api.post("/apis/storage.k8s.io/v1/storageclasses", {**kind, "provisioner": "kubernetes.io/no-provisioner"})

    def namespaces(self) -> list[str]:
        """Return the bench's namespaces, those of projects included."""
        found = self.api.get("/api/v1/namespaces")["items"]
        names = [str(each["metadata"]["name"]) for each in found]
        return [name for name in names if name == self.name or name.startswith(f"{self.name}-")]

    def claim(self, name: str) -> None:
        """The plain hub's namespace has the claim of a person's volume."""
        spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": self.storage_class}
        spec["resources"] = {"requests": {"storage": str(GIB)}}  # type: ignore[assignment]
        path = f"/api/v1/namespaces/{self.plain_namespace}/persistentvolumeclaims"
        self.api.post(path, {"metadata": {"name": name}, "spec": spec})

    def bind_claims(self) -> int:
        """Every claim of the bench has a volume; return how many there are."""
        found = self.api.get("/api/v1/persistentvolumeclaims")["items"]
        ours = [claim for claim in found if claim["spec"].get("storageClassName") == self.storage_class]
        together(self._bind, [claim for claim in ours if claim.get("status", {}).get("phase") != "Bound"])
        return len(ours)

    def _bind(self, claim: Object) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        name = f"{self.name}-{metadata['uid']}"
        reference = {"kind": "PersistentVolumeClaim", "apiVersion": "v1"}
        reference |= {key: metadata[key] for key in ("namespace", "name", "uid")}
        size = spec["resources"]["requests"]
        volume = {
            "metadata": {"name": name, "labels": {OF_BENCH: self.name}},
            "spec": {
                "capacity": size,
                "accessModes": spec["accessModes"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": self.storage_class,
                "hostPath": {"path": "/nonexistent"},
                "claimRef": reference,
            },
        }
        if self.api.find(f"/api/v1/persistentvolumes/{name}") is None:
            self.api.post("/api/v1/persistentvolumes", volume)
        path = f"/api/v1/namespaces/{metadata['namespace']}/persistentvolumeclaims/{metadata['name']}"
        bound = {"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"}
        self.api.patch(path, {"metadata": {"annotations": bound}, "spec": {"volumeName": name}})
        status = {"phase": "Bound", "accessModes": spec["accessModes"], "capacity": size}
        self.api.patch(f"{path}/status", {"status": status})
        self.api.patch(f"/api/v1/persistentvolumes/{name}/status", {"status": {"phase": "Bound"}})

    @contextlib.contextmanager
    def ending_pods(self) -> Iterator[None]:
        """Pods of the platform that are told to end say that they have ended, within; nobody else tells of it."""
        thread = threading.Thread(target=self._tell_ends, name="ends", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()

    def _tell_ends(self) -> None:
        told: set[str] = set()
        with ThreadPoolExecutor(4, "ends") as threads:
            while not self._stopping.is_set():
                try:
                    found = self.api.get("/api/v1/pods", labelSelector=f"mudeung.home={self.name}")
                    version = found["metadata"]["resourceVersion"]
                    events = ({"type": "FOUND", "object": each} for each in found["items"])
                    self._hear(events, told, threads)
                    options = {"labelSelector": f"mudeung.home={self.name}", "resourceVersion": version}
                    self._hear(self.api.watch("/api/v1/pods", 30, timeoutSeconds="20", **options), told, threads)
                except (BackendAway, ApiRefused) as error:
                    log.debug("the ends of pods are looked for again: %s", error)
                    self._stopping.wait(0.2)

    def _hear(self, events: Iterable[Object], told: set[str], threads: ThreadPoolExecutor) -> None:
        for event in events:
            if self._stopping.is_set():
                return
            pod = event.get("object")
            if event.get("type") in (None, "ERROR", "DELETED", "BOOKMARK") or pod is None:
                continue
            uid = pod["metadata"]["uid"]
            if "deletionTimestamp" in pod["metadata"] and uid not in told and pod["spec"].get("nodeName"):
                told.add(uid)
                threads.submit(self._tell_end, pod)

    def _tell_end(self, pod: Object) -> None:
        metadata = pod["metadata"]
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        statuses = []
        for each in pod["status"].get("containerStatuses", ()):
            began = (each.get("state", {}).get("running") or {}).get("startedAt", at)
            over = {"exitCode": 0, "reason": "Completed", "startedAt": began, "finishedAt": at}
            statuses.append({**each, "ready": False, "state": {"terminated": over}})
        status = {"phase": "Succeeded", "containerStatuses": statuses}
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        try:
            self.api.patch(path, {"status": status})
        except (BackendAway, ApiRefused) as error:
            log.warning("the end of %s was not told: %s", metadata["name"], error)

    def clear(self) -> None:
        """Nothing of the bench is on the cluster. Raises TimeoutError."""
        names = self.namespaces()
        for kind, options in (("pods", {"gracePeriodSeconds": 0}), ("persistentvolumeclaims", {})):
            paths = []
            for name in names:
                folder = f"/api/v1/namespaces/{name}/{kind}"
                paths += [f"{folder}/{each['metadata']['name']}" for each in self.api.get(folder)["items"]]
            together(lambda path, options=options: self._end(path, **options), paths)
        volumes = self.api.get("/api/v1/persistentvolumes", labelSelector=f"{OF_BENCH}={self.name}")["items"]
        together(self._end, [f"/api/v1/persistentvolumes/{each['metadata']['name']}" for each in volumes])
        together(self.api.delete, [f"/api/v1/namespaces/{name}" for name in names])
        self.api.delete(f"/apis/storage.k8s.io/v1/storageclasses/{self.storage_class}")
        deadline = time.monotonic() + CLEAR_SECONDS
        while left := self.namespaces():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(left)} namespaces of {self.name} do not go: {left[:3]}")
            time.sleep(1)

    def _end(self, path: str, **options: object) -> None:
        try:
            self.api.patch(path, {"metadata": {"finalizers": None}})
        except ApiRefused as refused:
            if refused.status != 404:
                raise
        self.api.delete(path, **options)
