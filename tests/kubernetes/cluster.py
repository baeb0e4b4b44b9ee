"""The cluster that ``KUBECONFIG`` names, a corner of it for a module of tests, and a door before it to shut."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
import yaml

from quotas.backends.kubernetes import KubernetesBackend
from quotas.backends.kubernetes_api import Api
from quotas.backends.port import BackendAway
from quotas.domain.launch import Launch
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.terms_kubernetes import Site

IMAGE = os.environ.get("MUDEUNG_TEST_CLUSTER_IMAGE", "python:3.12-slim")
"""An image with Python that the cluster has, or can get."""
MIB = 2**20
TINY = Profile("cpu-small", "CPU 소형", "Small CPU", IMAGE, 20, 64 * MIB, 256 * MIB)


def require() -> None:
    """Skip where no cluster answers."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    api = Api(10)
    try:
        api.get("/version")
    except BackendAway as away:
        pytest.skip(f"no cluster answers: {away}")
    finally:
        api.close()


@dataclass
class Corner:
    """Namespaces of a platform of its own: `site.namespace`, and those of its projects. All are gone in the end."""

    api: Api
    site: Site
    backends: list[KubernetesBackend] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)

    def backend(self, **changes: Any) -> KubernetesBackend:
        made = KubernetesBackend(replace(self.site, **changes), call_seconds=5)
        self.backends.append(made)
        return made

    def launch(self, line: str = "sleep 600", kind: RunKind = RunKind.NOTEBOOK, **changes: Any) -> Launch:
        """Return the launch of a shell line."""
        made = Launch(new_run_id(), kind, "kim", "vision", TINY, ("sh", "-c", line), "/no/folder")
        made = replace(made, **changes)
        self.runs[made.run_id] = made.project
        return made

    def pod(self, run_id: str) -> dict[str, Any]:
        """Return the run's pod as the cluster has it."""
        namespace = self.site.namespace_of(self.runs[run_id])
        found = self.api.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"mudeung.run={run_id}")["items"]
        assert len(found) == 1, found
        pod: dict[str, Any] = found[0]
        return pod

    def path(self, run_id: str) -> str:
        metadata = self.pod(run_id)["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"

    def namespaces(self) -> list[str]:
        selector = f"mudeung.home={self.site.namespace}"
        found = self.api.get("/api/v1/namespaces", labelSelector=selector)["items"]
        return [self.site.namespace, *(each["metadata"]["name"] for each in found)]

    def clear(self) -> None:
        """Nothing of it is left, and volumes that somebody made by hand can be claimed again."""
        for backend in self.backends:
            backend.close()
        mine = self.namespaces()
        for name in mine:
            for pod in self.api.get(f"/api/v1/namespaces/{name}/pods")["items"]:
                path = f"/api/v1/namespaces/{name}/pods/{pod['metadata']['name']}"
                self.api.patch(path, {"metadata": {"finalizers": None}})
            self.api.delete(f"/api/v1/namespaces/{name}", gracePeriodSeconds=0)
        until(lambda: not any(self.api.find(f"/api/v1/namespaces/{name}") for name in mine), seconds=90)
        for volume in self.api.get("/api/v1/persistentvolumes")["items"]:
            claim = volume["spec"].get("claimRef") or {}
            path = f"/api/v1/persistentvolumes/{volume['metadata']['name']}"
            if claim.get("namespace") not in mine:
                continue
            if "mudeung.home" in (volume["metadata"].get("labels") or {}):
                self.api.delete(path)
            elif "pv.kubernetes.io/provisioned-by" not in (volume["metadata"].get("annotations") or {}):
                self.api.patch(path, {"spec": {"claimRef": None}})


@contextlib.contextmanager
def corner() -> Iterator[Corner]:
    """Yield a corner of the cluster."""
    require()
    name = f"mdt-{secrets.token_hex(3)}"
    made = Corner(Api(20), Site(name, f"{name}-", home_bytes=MIB, project_bytes=MIB))
    made.api.post("/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        yield made
    finally:
        made.clear()
        made.api.close()


def until(condition: Callable[[], Any], seconds: float = 40) -> Any:
    """Return the condition's first true value. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s")


def kubeconfig(folder: Path, **changes: Any) -> Path:
    """Return a copy of the configuration in use, with another `server`, `token` or `user`."""
    content = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    content["clusters"][0]["cluster"].update({key: value for key, value in changes.items() if key == "server"})
    if "token" in changes:
        content["users"][0]["user"] = {"token": changes["token"]}
    path = folder / f"kubeconfig-{secrets.token_hex(3)}"
    path.write_text(yaml.safe_dump(content))
    return path


def server() -> tuple[str, int]:
    """Return where the API server is."""
    content = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    found = urlparse(content["clusters"][0]["cluster"]["server"])
    return str(found.hostname), found.port or 443


class Door:
    """A door before the API server: what comes to `url` goes on to it while the door is open.

    Shut, it hangs up on everyone; `silent`, it takes what comes and says nothing.
    """

    def __init__(self) -> None:
        self.way = "open"
        self._server = server()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._begin(self._serve)

    def _begin(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._listener.getsockname()[1]}"

    def become(self, way: str) -> None:
        self.way = way
        for each in list(self._sockets):
            _hang_up(each)

    def close(self) -> None:
        self.become("shut")
        _hang_up(self._listener)
        for thread in self._threads:
            thread.join(10)
        for each in (self._listener, *self._sockets):
            each.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.add(client)
            if self.way == "open":
                upstream = socket.create_connection(self._server)
                self._sockets.add(upstream)
                for one, other in ((client, upstream), (upstream, client)):
                    self._begin(self._pass_on, one, other)
            elif self.way == "shut":
                _hang_up(client)

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for each in (one, other):
            _hang_up(each)


def _hang_up(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
