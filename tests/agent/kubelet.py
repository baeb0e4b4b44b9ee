"""The pod-resources service of a kubelet: a real gRPC server on a Unix socket, whose pods a test says.

Its messages are those of Kubernetes 1.36 with the fields that the agent does not read, so that it meets them, too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto
TEXT, NUMBER = Field.TYPE_STRING, Field.TYPE_INT64
ONE, MANY = Field.LABEL_OPTIONAL, Field.LABEL_REPEATED


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="test/podresources.proto", package="v1", syntax="proto3")
    described: dict[str, list[tuple[str, int, int, Any]]] = {
        "ListPodResourcesRequest": [],
        "NUMANode": [("ID", 1, ONE, NUMBER)],
        "NUMATopology": [("nodes", 1, MANY, "NUMANode")],
        "ContainerDevices": [
            ("resource_name", 1, ONE, TEXT),
            ("device_ids", 2, MANY, TEXT),
            ("topology", 3, ONE, "NUMATopology"),
        ],
        "ContainerMemory": [("memory_type", 1, ONE, TEXT), ("size", 2, ONE, NUMBER)],
        "ContainerResources": [
            ("name", 1, ONE, TEXT),
            ("devices", 2, MANY, "ContainerDevices"),
            ("cpu_ids", 3, MANY, NUMBER),
            ("memory", 4, MANY, "ContainerMemory"),
        ],
        "PodResources": [
            ("name", 1, ONE, TEXT),
            ("namespace", 2, ONE, TEXT),
            ("containers", 3, MANY, "ContainerResources"),
        ],
        "ListPodResourcesResponse": [("pod_resources", 1, MANY, "PodResources")],
    }
    for name, fields in described.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind in fields:
            added = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = Field.TYPE_MESSAGE, f".v1.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1.{name}")) for name in described}


MESSAGES = _messages()
Given = Mapping[tuple[str, str], Mapping[str, tuple[str, ...]]]
"""(namespace, pod) → resource → the ids of its devices."""


class Kubelet:
    """What the kubelet says; `hangs` is for how many seconds it says nothing, `status` what it fails with."""

    def __init__(self) -> None:
        self.pods: Given = {}
        self.hangs = 0.0
        self.status: grpc.StatusCode | None = None
        self.calls = 0

    def list(self, _request: Any, context: grpc.ServicerContext) -> Any:
        self.calls += 1
        time.sleep(self.hangs)
        if self.status is not None:
            context.abort(self.status, "as the test wants")
        answer = MESSAGES["ListPodResourcesResponse"]()
        for (namespace, name), given in self.pods.items():
            pod = answer.pod_resources.add(name=name, namespace=namespace)
            container = pod.containers.add(name="notebook", cpu_ids=[1, 2])
            container.memory.add(memory_type="memory", size=2**30)
            for resource, ids in given.items():
                devices = container.devices.add(resource_name=resource, device_ids=ids)
                devices.topology.nodes.add(ID=1)
            pod.containers.add(name="sidecar")
        return answer


@contextmanager
def serving(kubelet: Kubelet, socket: Path) -> Iterator[None]:
    """The kubelet answers at the socket within; at the end the socket is gone, as when it restarts."""
    server = grpc.server(ThreadPoolExecutor(2))
    answering = grpc.unary_unary_rpc_method_handler(
        kubelet.list,
        request_deserializer=MESSAGES["ListPodResourcesRequest"].FromString,
        response_serializer=MESSAGES["ListPodResourcesResponse"].SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": answering}),)
    )
    assert server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        yield
    finally:
        server.stop(grace=None).wait(5)
        socket.unlink(missing_ok=True)
