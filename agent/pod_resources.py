"""Which pod has which device, as the machine's kubelet says: its pod-resources API, a gRPC service on a Unix socket.

The kubelet's device manager chooses devices for pods, and only it knows which. The service is `v1.PodResourcesLister`
of Kubernetes (staging/src/k8s.io/kubelet/pkg/apis/podresources/v1/api.proto); of its messages the fields that are read
here are described below, and others are passed over, as protobuf does. Nothing is written, nor asked of the API server.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from quotas.domain.node_reports import PodDevices
from quotas.domain.terms_kubernetes import run_of_pod

LIST = "/v1.PodResourcesLister/List"
CALL_SECONDS = 2
REST_SECONDS = 10
"""After a call without an answer the kubelet is left alone for so long: samples wait for nobody."""
LARGEST_ANSWER_BYTES = 16 * 2**20
SHARED = "::"
"""NVIDIA's plugin adds it and a number to the id of a device that it gives to several pods."""

log = logging.getLogger("agent.pod_resources")

Fields = Mapping[str, tuple[tuple[str, int, str], ...]]
"""Message → its fields, each with its number and what it holds: a text, texts (``*``), or messages of that name."""

_FIELDS: Fields = {
    "ListPodResourcesRequest": (),
    "ListPodResourcesResponse": (("pod_resources", 1, "PodResources"),),
    "PodResources": (("name", 1, ""), ("namespace", 2, ""), ("containers", 3, "ContainerResources")),
    "ContainerResources": (("name", 1, ""), ("devices", 2, "ContainerDevices")),
    "ContainerDevices": (("resource_name", 1, ""), ("device_ids", 2, "*")),
}


def messages(package: str, fields_of: Fields) -> dict[str, Any]:
    """Return the messages of the package by their names, as classes of protobuf."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, fields in fields_of.items():
        described = file.message_type.add(name=message)
        for name, number, holds in fields:
            field = described.field.add(name=name, number=number, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_STRING)
            if holds:
                field.label = kinds.LABEL_REPEATED
            if holds not in {"", "*"}:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".{package}.{holds}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"{package}.{name}") for name in fields_of}
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}


_MESSAGES = messages("v1", _FIELDS)


@dataclass(frozen=True)
class Held:
    """Devices of one resource that a container of the pod has, by the ids of their plugin."""

    namespace: str
    pod: str
    resource: str
    ids: tuple[str, ...]


class Kubelet:
    """The kubelet behind the socket. It may be away, restart, and make the socket anew: each call begins afresh."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def list(self) -> list[Held]:
        """Return what every pod has. Raises OSError where the kubelet does not answer, or not in time."""
        options = [("grpc.max_receive_message_length", LARGEST_ANSWER_BYTES), ("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(f"unix:{self._socket}", options=options) as channel:
            ask = channel.unary_unary(
                LIST,
                request_serializer=_MESSAGES["ListPodResourcesRequest"].SerializeToString,
                response_deserializer=_MESSAGES["ListPodResourcesResponse"].FromString,
            )
            try:
                answer = ask(_MESSAGES["ListPodResourcesRequest"](), timeout=CALL_SECONDS)
            except grpc.RpcError as error:
                raise OSError(f"{error.code().name}: {error.details()}") from None
        return [
            Held(pod.namespace, pod.name, given.resource_name, tuple(given.device_ids))
            for pod in answer.pod_resources
            for container in pod.containers
            for given in container.devices
        ]


class Pods:
    """The pods that have devices, each since when. `known` says which device of the machine an id names, or "".

    `looked_at` is until when an earlier agent looked (seconds UTC), 0 where none did: what is there at the first look
    may be there since then.
    """

    def __init__(self, kubelet: Kubelet, known: Callable[[str], str], looked_at: float = 0.0) -> None:
        self._kubelet, self._known = kubelet, known
        self._looked_at = looked_at
        self._since: dict[tuple[str, str], float] = {}
        self._ask_again_at = 0.0
        self._answers = True

    def look(self) -> tuple[PodDevices, ...] | None:
        """Return the pods that have devices now; None where the kubelet cannot be asked."""
        if time.monotonic() < self._ask_again_at:
            return None
        at = time.time_ns() // 1_000_000 / 1000
        try:
            listed = self._kubelet.list()
        except OSError as error:
            self._ask_again_at = time.monotonic() + REST_SECONDS
            if self._answers:
                log.warning("which pod has which device is not known: the kubelet says %s", error)
            self._answers = False
            return None
        if not self._answers:
            log.info("the kubelet answers again")
        self._answers = True
        by_pod: dict[tuple[str, str], list[Held]] = {}
        for held in listed:
            by_pod.setdefault((held.namespace, held.pod), []).append(held)
        # A pod got its devices after the last look that did not name it.
        self._since = {key: self._since.get(key, min(self._looked_at or at, at)) for key in by_pod}
        self._looked_at = at
        found = (self._pod(key, held) for key, held in sorted(by_pod.items()))
        # Of others' pods only the devices count that this machine knows: a plugin may give out anything.
        return tuple(pod for pod in found if pod.uuids or (pod.unknown and run_of_pod(pod.pod) is not None))

    def _pod(self, key: tuple[str, str], listed: Iterable[Held]) -> PodDevices:
        uuids: dict[str, None] = {}
        unknown: dict[str, None] = {}
        shared = False
        for held in listed:
            for each in held.ids:
                own, replica, _ = each.partition(SHARED)
                uuid = self._known(own)
                shared = shared or bool(replica and uuid)
                if uuid:
                    uuids[uuid] = None
                else:
                    unknown[f"{held.resource} {each}"[:400]] = None
        return PodDevices(*key, self._since[key], tuple(uuids), tuple(unknown), shared)
