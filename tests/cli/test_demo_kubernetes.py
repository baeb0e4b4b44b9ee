"""`mudeung demo --backend kubernetes` without a cluster: what it says is missing, and the ways it goes over."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.demo import cluster, machines
from cli.demo.browser import Browser
from cli.demo.forward import Forward
from cli.demo.story import Differs

CALL_SECONDS = 60
FORWARDER = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *words):
        print(*words, file=sys.stderr)
port = int(sys.argv[-1].partition(":")[0])
http.server.HTTPServer((sys.argv[-2].removeprefix("--address="), port), Answer).serve_forever()
"""


def demo(*words: str, **variables: str) -> tuple[int, str]:
    """Return the exit code of a demonstration that ends before it has begun, and what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "demo", *words],
        capture_output=True,
        text=True,
        timeout=CALL_SECONDS,
        env={**os.environ, **variables},
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["--set", "--remove"])
def test_what_is_of_a_cluster_is_refused_on_one_machine(name: str) -> None:
    value = ["a=b"] if name == "--set" else []
    code, printed = demo("--lang", "en", name, *value)
    assert (code, printed) == (2, f"Error: {name} needs --backend kubernetes\n")


def test_a_device_and_none_are_not_both_had() -> None:
    code, printed = demo("--backend", "kubernetes", "--model", "h100", "--no-device", "--lang", "en")
    assert (code, printed) == (2, "Error: --model or --no-device, not both\n")


@pytest.mark.parametrize("name", ["Demo", "ends-", "a" * 27])
def test_a_name_that_is_no_namespace_is_refused(name: str) -> None:
    code, printed = demo("--backend", "kubernetes", "--namespace", name, "--lang", "en")
    assert code == 1
    assert printed.startswith(f"Error: namespace: {name!r}")


def test_an_unknown_device_is_refused() -> None:
    code, printed = demo("--backend", "kubernetes", "--model", "h1000", "--lang", "ko")
    assert (code, "model: 'h1000'" in printed, "오류" in printed) == (1, True, True)


def test_without_helm_or_kubectl_it_says_which_is_missing(tmp_path: Path) -> None:
    code, printed = demo("--backend", "kubernetes", "--lang", "en", PATH=str(tmp_path))
    assert (code, printed.startswith("Error: helm: it is not installed")) == (1, True)
    program = tmp_path / "helm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    code, printed = demo("--backend", "kubernetes", "--lang", "ko", PATH=str(tmp_path))
    assert (code, printed.startswith("오류: kubectl: 설치되어 있지 않거나")) == (1, True)
    code, printed = demo("--backend", "kubernetes", "--remove", "--lang", "en", PATH=str(tmp_path))
    assert (code, "Error: kubectl" in printed) == (1, True)


@pytest.mark.parametrize(
    ("model", "resource"),
    [("h100", "nvidia.com/gpu"), ("h200-mig-1g.18gb", "nvidia.com/mig-1g.18gb"), ("rngd", "furiosa.ai/rngd")],
)
def test_a_device_is_known_by_the_resource_of_its_plugin(model: str, resource: str) -> None:
    assert cluster.device_resource(model) == resource


def node(name: str = "one", **spec: Any) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True"}
    status = {"conditions": [ready], "allocatable": {"nvidia.com/gpu": "8", "cpu": "2"}}
    return {"metadata": {"name": name}, "spec": spec, "status": status}


def test_machines_that_take_no_pods_do_not_count() -> None:
    away = node("away")
    away["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    kept = node("kept", taints=[{"key": "team", "effect": "NoSchedule"}])
    for_devices = node("devices", taints=[{"key": "nvidia.com/gpu", "effect": "NoSchedule"}])
    rather_not = node("rather-not", taints=[{"key": "team", "effect": "PreferNoSchedule"}])
    found = machines.machines(
        [node(), away, kept, for_devices, rather_not, node("cordoned", unschedulable=True)], "nvidia.com/gpu"
    )
    assert [(each.name, each.devices) for each in found] == [("one", 8), ("devices", 8), ("rather-not", 8)]


@pytest.mark.parametrize(
    ("found", "resource", "said"),
    [
        ((node(unschedulable=True),), None, "none of its machines is ready"),
        ((node(),), "furiosa.ai/rngd", "no machine of the cluster offers furiosa.ai/rngd"),
    ],
)
def test_a_cluster_without_a_machine_or_the_device_is_refused(
    found: tuple[dict[str, Any], ...], resource: str | None, said: str
) -> None:
    with pytest.raises(machines.Problem, match=said) as problem:
        machines.machines(found, resource)
    assert "장비" in problem.value.korean


def container(ready: bool = False, **states: Any) -> dict[str, Any]:
    return {"name": "hub", "ready": ready, "restartCount": 2, "state": {}, **states}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, ""),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu."}]},
            "0/1 nodes: Insufficient cpu.",
        ),
        ({"containerStatuses": [container(state={"waiting": {"reason": "ContainerCreating"}})]}, ""),
        (
            {"containerStatuses": [container(state={"waiting": {"reason": "ImagePullBackOff", "message": "no"}})]},
            "ImagePullBackOff: no",
        ),
        (
            {"initContainerStatuses": [container(state={"running": {}}, lastState={"terminated": {"exitCode": 2}})]},
            "hub ended with 2, 2 times begun anew",
        ),
        ({"initContainerStatuses": [container(ready=True, state={"terminated": {"exitCode": 0}})]}, ""),
        (
            {"containerStatuses": [container(ready=True, state={}, lastState={"terminated": {"exitCode": 1}})]},
            "",
        ),
    ],
)
def test_what_keeps_a_pod_from_running_is_said(status: dict[str, Any], expected: str) -> None:
    assert cluster.trouble({"status": status}) == expected


def test_a_forwarded_port_that_breaks_is_opened_again(tmp_path: Path) -> None:
    program = tmp_path / "forward.py"
    program.write_text(FORWARDER)
    forward = Forward([sys.executable, str(program)], 80, "/")
    try:
        forward.open(30, lambda: None)
        process = forward.process
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        with contextlib.closing(Browser(forward.url)) as browser:
            assert browser.open("/").status == httpx.codes.OK  # it is asked again until the port is open
        assert forward.starts == 2
        assert "GET / HTTP/1.1" in forward.printed()
        last = forward.process
    finally:
        forward.close()
    assert last is not None
    assert last.poll() is not None
    with pytest.raises(httpx.ConnectError):
        httpx.get(forward.url, trust_env=False)


def test_a_port_that_never_answers_ends_the_wait(tmp_path: Path) -> None:
    program = tmp_path / "forward.py"
    program.write_text("import sys; sys.exit('no such service')")
    forward = Forward([sys.executable, str(program)], 80, "/")
    try:
        with pytest.raises(Differs, match="no such service"):
            forward.open(3, lambda: None)
    finally:
        forward.close()


@pytest.fixture
def rude() -> Iterator[tuple[str, list[bytes]]]:
    """A server that hangs up on the first request of two, and what it was asked."""
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                asked.append(client.recv(65536).split(b" ")[0])
                if len(asked) % 2 == 0:
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def test_only_what_reads_is_asked_twice(rude: tuple[str, list[bytes]]) -> None:
    url, asked = rude
    with contextlib.closing(Browser(url)) as browser:
        began = time.monotonic()
        assert browser.open("/").status == httpx.codes.OK
        assert time.monotonic() - began < 10
        assert asked == [b"GET", b"GET"]
        with pytest.raises(httpx.RemoteProtocolError):
            browser.answer("POST", "/", {}, token="t")
    assert asked == [b"GET", b"GET", b"POST"]
