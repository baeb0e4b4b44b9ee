"""Servers on simulated machines: the parts of the measurement, and a small one of the whole on a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import kubernetes, loop_delay
from bench.kubernetes_meters import INTERVAL_SECONDS, MEMORY_BYTES, NAME, Machine
from bench.kubernetes_sides import places
from bench.simulated_nodes import LABEL, VALUE
from quotas.backends.kubernetes_api import Api
from quotas.domain.node_reports import DeviceKind, FoundDevice
from quotas.domain.runs import new_run_id
from tests.kubernetes.cluster import require

LIMIT_BYTES = 48 * 1024


def test_the_delay_of_a_loop_that_is_kept_busy_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "delays"

    async def work() -> tuple[float, float]:
        loop_delay.watch(str(path))
        await asyncio.sleep(0.1)
        since = time.monotonic()
        time.sleep(0.3)  # noqa: ASYNC251 - it is what is measured
        await asyncio.sleep(0.1)
        until = time.monotonic()
        await asyncio.sleep(loop_delay.PERIOD_SECONDS * loop_delay.WRITTEN_EVERY)
        return since, until

    since, until = asyncio.run(work())
    late = loop_delay.delays(path, since, until)
    assert late == sorted(late)
    assert 0.25 < late[-1] < 0.6
    assert loop_delay.share(late, 0.5) < 0.1
    assert loop_delay.delays(path, until + 1000, until + 2000) == []


def test_neighbours_are_of_different_projects_and_each_round_has_its_part() -> None:
    at = places(10, 4)
    assert [each.project for each in at[:5]] == ["p000", "p001", "p002", "p003", "p000"]
    assert len({each.person for each in at}) == 10
    parts = kubernetes.rounds_of(at, 3)
    assert [len(part) for part in parts] == [4, 4, 2]
    done: list[str] = []
    kubernetes.in_turn(lambda part: done.append(f"a{len(part)}"), lambda part: done.append(f"b{len(part)}"), parts)
    assert done == ["a4", "b4", "b4", "a4", "a2", "b2"]


def pod(node: str) -> dict[str, Any]:
    run = new_run_id()
    metadata = {"uid": run, "name": f"mudeung-{run}", "namespace": "p", "labels": {"mudeung.run": run}}
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"startTime": "2027-01-01T00:00:00Z"}}


def test_a_machine_says_of_each_pod_which_device_it_has_for_as_long_as_it_is_there() -> None:
    devices = tuple(FoundDevice(f"GPU-{n}", DeviceKind.GPU, NAME, MEMORY_BYTES, n) for n in range(200))
    machine = Machine("n", "token", devices)
    one, *others = [pod("n") for _ in range(150)]
    first = [json.loads(body) for body in machine.report([one], 2e9, devices=True)]
    (told,) = [each for part in first for each in part.get("pods") or []]
    had = told["uuids"][0]
    many = machine.report([one, *others], 2e9 + 10, devices=False)
    assert max(map(len, many)) <= LIMIT_BYTES
    parts = [json.loads(body) for body in many]
    assert [part["sequence"] for part in parts] == list(range(len(first) + 1, len(first) + len(parts) + 1))
    given = {each["pod"]: each["uuids"][0] for part in parts for each in part.get("pods") or []}
    assert given[told["pod"]] == had
    assert len(set(given.values())) == 150
    samples = [each for part in parts for each in part["samples"]]
    assert {each["uuid"] for each in samples} == set(given.values())
    assert {each["covers_seconds"] for each in samples} == {float(INTERVAL_SECONDS)}
    with pytest.raises(RuntimeError, match="more pods than devices"):
        machine.give([pod("n") for _ in range(201)])


@contextlib.contextmanager
def simulated_machine(api: Api) -> Iterator[None]:
    """A machine is played within, as kwok would: it is ready, and so is every pod that lands on it."""
    name, stopping = f"mdt-{secrets.token_hex(3)}", threading.Event()
    room = {"cpu": "64", "memory": "1Ti", "pods": "100", "nvidia.com/gpu": "40"}
    node = {
        "metadata": {"name": name, "labels": {LABEL: VALUE}},
        "spec": {"taints": [{"key": LABEL, "value": VALUE, "effect": "NoSchedule"}]},
    }
    api.post("/api/v1/nodes", node)

    def ready() -> dict[str, Any]:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": at, "lastTransitionTime": at}
        return {"status": {"allocatable": room, "capacity": room, "conditions": [{**condition, "reason": "Played"}]}}

    def play() -> None:
        while not stopping.wait(0.3):
            api.patch(f"/api/v1/nodes/{name}/status", ready())
            for found in api.get("/api/v1/pods", fieldSelector=f"spec.nodeName={name}")["items"]:
                play_pod(api, found)

    api.patch(f"/api/v1/nodes/{name}/status", ready())
    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(30)
        api.delete(f"/api/v1/nodes/{name}")


def play_pod(api: Api, found: dict[str, Any]) -> None:
    """One that has come is ready; one that is to go is gone, unless it is kept by its finalizer."""
    metadata = found["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if "deletionTimestamp" in metadata:
        api.delete(path, gracePeriodSeconds=0)
    elif not found["status"].get("podIP"):
        statuses = [
            {"name": each["name"], "image": each["image"], "imageID": "", "ready": True, "restartCount": 0}
            | {"state": {"running": {"startedAt": at}}}
            for each in found["spec"]["containers"]
        ]
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": at}
        address = {"podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}], "startTime": at}
        status = {"phase": "Running", "containerStatuses": statuses, "conditions": [condition], **address}
        api.patch(f"{path}/status", {"status": status})


@pytest.mark.kubernetes
def test_a_small_one_of_the_whole_comes_to_both_figures() -> None:
    require()
    with contextlib.closing(Api(20)) as api, simulated_machine(api):
        starts, memory = kubernetes.measure(4, 2, 2, 2, meter_seconds=INTERVAL_SECONDS)
        left = [each["metadata"]["name"] for each in api.get("/api/v1/namespaces")["items"]]
        volumes = api.get("/api/v1/persistentvolumes", labelSelector="mudeung.bench")["items"]
    assert (starts.name, starts.target, starts.better) == ("kubernetes_starts", 0.95, "higher")
    assert (memory.name, memory.target, memory.better) == ("kubernetes_memory", 1.1, "lower")
    assert starts.ratio > 0
    assert (starts.detail["charged"], starts.detail["metered"], starts.detail["pairs"]) == (6, 6, 2)
    assert starts.detail["metered_seconds"] >= 6 * INTERVAL_SECONDS // 2
    for side in ("ours", "plain"):
        told = starts.detail[side]
        assert 0 < told["start_seconds_p50"] <= told["start_seconds_p95"]
        assert 0 < told["memory_mib_at_rest"] <= told["memory_mib_peak"]
    assert not [name for name in left if name.startswith("mdb-")]
    assert volumes == []
