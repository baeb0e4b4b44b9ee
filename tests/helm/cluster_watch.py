"""What the cluster itself says of a release's pods: written down as it happens, beside the platform and without it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from quotas.backends.kubernetes_api import Api, ApiRefused
from quotas.backends.port import BackendAway
from quotas.domain.launch import RUN_LABEL
from tests.helm.conftest import Tools

PODS = "/api/v1/pods"
WATCH_SECONDS = 30
LAST = ("Succeeded", "Failed")


@dataclass
class Pod:
    """A run's pod: its container's own times, in whole seconds as the cluster gives them, None where there is none."""

    run: str
    uid: str
    namespace: str
    name: str
    devices: Mapping[str, int] = field(default_factory=dict)
    node: str = ""
    started_at: int | None = None
    finished_at: int | None = None
    over: bool = False
    gone: bool = False

    def seconds(self, opened_at: int) -> int | None:
        """Return what is to be charged: all of its time, once it was held; None where it did not run to an end."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(math.ceil(self.finished_at - max(self.started_at, opened_at)), 1)


class Witness:
    """The pods of the platform in `namespace`, by their uid; `most` is how many of a resource they ever asked for."""

    def __init__(self, namespace: str) -> None:
        self.api = Api(20)
        self.selector = f"mudeung.home={namespace},{RUN_LABEL}"
        self.most: dict[str, int] = {}
        self.strangers: set[str] = set()
        """Pods that the platform has not made, by their uid."""
        self._pods: dict[str, Pod] = {}
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="witness", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self.api.close()

    def pods(self, run: str | None = None) -> list[Pod]:
        """Return every pod that there ever was, or all of a run, strangers left out."""
        with self._lock:
            own = [each for each in self._pods.values() if each.uid not in self.strangers]
        return [each for each in own if run in (None, each.run)]

    def present(self) -> list[Pod]:
        """Return the pods that are there now, as the API server has them, strangers too."""
        found = self.api.get(PODS, labelSelector=self.selector)["items"]
        for each in found:
            self._note(each)
        there = {each["metadata"]["uid"] for each in found}
        with self._lock:
            return [each for each in self._pods.values() if each.uid in there]

    def asked(self, resource: str) -> int:
        """Return how many of the resource the pods ask for that run, or wait to."""
        return sum(each.devices.get(resource, 0) for each in list(self._pods.values()) if not (each.over or each.gone))

    def _follow(self) -> None:
        version = ""
        while not self._ending.is_set():
            try:
                if not version:
                    found = self.api.get(PODS, labelSelector=self.selector)
                    for each in found["items"]:
                        self._note(each)
                    there = {each["metadata"]["uid"] for each in found["items"]}
                    for pod in self.pods():
                        pod.gone |= pod.uid not in there
                    version = found["metadata"]["resourceVersion"]
                version = self._watch(version)
            except (ApiRefused, BackendAway, KeyError):
                version = ""
                time.sleep(0.5)

    def _watch(self, version: str) -> str:
        options = {"resourceVersion": version, "timeoutSeconds": str(WATCH_SECONDS), "labelSelector": self.selector}
        for event in self.api.watch(PODS, WATCH_SECONDS + 15, **options):
            if not event:
                continue
            if event["type"] == "ERROR" or self._ending.is_set():
                return ""
            self._note(event["object"], gone=event["type"] == "DELETED")
            version = event["object"]["metadata"]["resourceVersion"]
        return version

    def _note(self, found: Mapping[str, Any], *, gone: bool = False) -> None:
        metadata, status = found["metadata"], found["status"]
        state = next((each.get("state", {}) for each in status.get("containerStatuses") or ()), {})
        ended = state.get("terminated") or {}
        began = ended or state.get("running") or {}
        with self._lock:
            pod = self._pods.get(metadata["uid"])
            if pod is None:
                names = metadata["namespace"], metadata["name"]
                pod = self._pods[metadata["uid"]] = Pod(metadata["labels"][RUN_LABEL], metadata["uid"], *names)
                pod.devices = devices_of(found)
            pod.node = found["spec"].get("nodeName", "")
            pod.started_at = _instant(began.get("startedAt")) or pod.started_at
            pod.finished_at = _instant(ended.get("finishedAt")) or pod.finished_at
            pod.over |= bool(ended) or status.get("phase") in LAST
            pod.gone |= gone
            for name in pod.devices:
                self.most[name] = max(self.most.get(name, 0), self.asked(name))


def devices_of(pod: Mapping[str, Any]) -> dict[str, int]:
    """Return the extended resources that a pod asks for."""
    asked: dict[str, int] = {}
    for container in pod["spec"]["containers"]:
        for name, count in container.get("resources", {}).get("requests", {}).items():
            if "/" in name:
                asked[name] = asked.get(name, 0) + int(count)
    return asked


@dataclass(frozen=True)
class Machine:
    """A machine of the cluster: of each extended resource how many it has, and how many no pod asks for."""

    name: str
    devices: Mapping[str, int]
    free: Mapping[str, int]


def machines(tools: Tools) -> list[Machine]:
    """Return the machines that take pods, as they are now."""
    pods = tools.get("pods", "--all-namespaces", "--field-selector=status.phase!=Succeeded,status.phase!=Failed")
    found = []
    for node in tools.get("nodes")["items"]:
        name = node["metadata"]["name"]
        if node["spec"].get("taints") or node["spec"].get("unschedulable"):
            continue
        has = {key: int(count) for key, count in node["status"]["allocatable"].items() if "/" in key}
        here = [devices_of(each) for each in pods["items"] if each["spec"].get("nodeName") == name]
        free = {key: count - sum(each.get(key, 0) for each in here) for key, count in has.items()}
        found.append(Machine(name, has, free))
    return found


def _instant(text: object) -> int | None:
    return int(datetime.fromisoformat(text).timestamp()) or None if isinstance(text, str) else None
