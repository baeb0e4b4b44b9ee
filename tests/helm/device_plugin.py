"""A device plugin for a machine of the cluster, run in a pod of it: `python device_plugin.py RESOURCE ID…`.

It is what a maker's plugin is to the kubelet: it registers the resource, lists its devices by their ids, all healthy,
and prints which of them a pod is given. There is nothing behind them, so that a container is given no file.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from agent.pod_resources import messages

FOLDER = Path("/var/lib/kubelet/device-plugins")
"""Where the kubelet looks, on every machine: the path is fixed in it."""
VERSION = "v1beta1"
MESSAGES = messages(
    VERSION,
    {
        "Empty": (),
        "DevicePluginOptions": (),
        "RegisterRequest": (("version", 1, ""), ("endpoint", 2, ""), ("resource_name", 3, "")),
        "Device": (("ID", 1, ""), ("health", 2, "")),
        "ListAndWatchResponse": (("devices", 1, "Device"),),
        "ContainerAllocateRequest": (("devices_ids", 1, "*"),),
        "AllocateRequest": (("container_requests", 1, "ContainerAllocateRequest"),),
        "ContainerAllocateResponse": (),
        "AllocateResponse": (("container_responses", 1, "ContainerAllocateResponse"),),
    },
)


class Plugin:
    """The devices of one resource."""

    def __init__(self, ids: list[str]) -> None:
        self._ids = ids

    def options(self, _request: Any, _context: Any) -> Any:
        return MESSAGES["DevicePluginOptions"]()

    def list_and_watch(self, _request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        listed = MESSAGES["ListAndWatchResponse"]()
        for each in self._ids:
            listed.devices.add(ID=each, health="Healthy")
        yield listed
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait()

    def allocate(self, request: Any, _context: Any) -> Any:
        answer = MESSAGES["AllocateResponse"]()
        for each in request.container_requests:
            print("given:", *each.devices_ids, flush=True)
            answer.container_responses.add()
        return answer


def serve(resource: str, ids: list[str]) -> None:
    """The kubelet has the resource as long as this runs."""
    plugin = Plugin(ids)
    calls = {
        "GetDevicePluginOptions": (grpc.unary_unary_rpc_method_handler, plugin.options, "Empty"),
        "ListAndWatch": (grpc.unary_stream_rpc_method_handler, plugin.list_and_watch, "Empty"),
        "Allocate": (grpc.unary_unary_rpc_method_handler, plugin.allocate, "AllocateRequest"),
    }
    handlers = {
        name: handler(done, MESSAGES[asked].FromString, lambda answer: answer.SerializeToString())
        for name, (handler, done, asked) in calls.items()
    }
    socket = FOLDER / f"{resource.replace('/', '-')}.sock"
    socket.unlink(missing_ok=True)
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"{VERSION}.DevicePlugin", handlers),))
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    request = MESSAGES["RegisterRequest"](version=VERSION, endpoint=socket.name, resource_name=resource)
    with grpc.insecure_channel(f"unix:{FOLDER / 'kubelet.sock'}") as channel:
        register = channel.unary_unary(
            f"/{VERSION}.Registration/Register",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=MESSAGES["Empty"].FromString,
        )
        register(request, timeout=10)
    print("registered", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
