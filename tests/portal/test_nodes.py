"""Machines report at the portal with tokens of their own, over a real platform; operators see the devices."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from portal.errors import Problem
from portal.nodes import read_report
from quotas.domain.people import PlatformRole
from quotas.services import nodes, people, pools
from quotas.store.database import Database
from tests.platform import PASSWORD, Platform
from tests.portal.conftest import BASE, Portal
from tests.services.machines import GIB, H100

GPU = {"uuid": "GPU-1", "kind": "gpu", "name": H100, "memory_bytes": 80 * GIB, "position": 0, "units": 132}
POD = {"namespace": "others", "pod": "training-0", "since": 1.0, "uuids": ["GPU-1"]}
SAMPLE = {"uuid": "GPU-1", "at": 1.0, "covers_seconds": 10.0, "busy_ppm": 7, "processes": []}


def made(sequence: int, **parts: Any) -> dict[str, Any]:
    own = {"stream": "00000000-0000-0000-0000-000000000001", "sequence": sequence, "at": time.time()}
    return own | {"agent_version": "0.1.0", "interval_seconds": 10} | parts


def send(platform: Platform, token: str, body: Any, **arguments: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", **arguments.pop("headers", {})}
    return httpx.post(f"{platform.url}{BASE}api/nodes/report", content=content, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def database(portal: Portal) -> Database:
    """The platform's, with a pool for machines and `ola`, who operates it."""
    database = portal.platform.database
    by: dict[str, Any] = {"actor": "op", "now": int(time.time())}
    pools.add_pool(database, "hall", "전산실", "Hall", simulated=False, **by)
    roles = frozenset({PlatformRole.OPERATOR})
    people.add_person(database, "ola", "Ola", organisation=None, platform_roles=roles, **by)
    people.set_password(database, "ola", PASSWORD, **by)
    return database


@pytest.fixture
def token(database: Database, request: pytest.FixtureRequest) -> str:
    name = f"gpu-{abs(hash(request.node.name))}"[:20]
    return nodes.add(database, name, "hall", actor="op", now=int(time.time()))


def test_a_machine_reports_with_its_own_token(portal: Portal, token: str) -> None:
    empty = send(portal.platform, token, made(1))
    assert (empty.status_code, empty.json()) == (200, {"accepted": 1, "scrub": [], "send_devices": True})
    answer = send(portal.platform, token, made(2, devices=[GPU], samples=[SAMPLE | {"at": time.time()}]))
    assert answer.json() == {"accepted": 2, "scrub": [], "send_devices": False}
    assert send(portal.platform, token, made(1)).json()["accepted"] == 2
    seen = portal.call("ola", "GET", "devices")
    assert seen.status_code == 200, seen.text
    (device,) = seen.json()
    assert (device["uuid"], device["device_model"], device["state"]) == ("GPU-1", "h100", "available")
    assert (device["pool"], device["busy_ppm"], device["run_id"]) == ("hall", 7, None)
    assert device["since"].endswith("Z") or "+" in device["since"]


def test_a_cluster_s_machine_says_which_pod_has_which_device(portal: Portal, database: Database) -> None:
    by: dict[str, Any] = {"actor": "op", "now": int(time.time())}
    pools.add_pool(database, "cluster", "클러스터", "Cluster", simulated=False, **by)
    token = nodes.add(database, "node-1", "cluster", assigns=False, **by)
    gpu = GPU | {"uuid": "GPU-cluster"}
    pod = POD | {"uuids": ["GPU-cluster"], "unknown": ["rdma/hca hca-1"], "shared": False}
    answer = send(portal.platform, token, made(1, devices=[gpu], pods=[pod]))
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    (device,) = (each for each in portal.call("ola", "GET", "devices").json() if each["uuid"] == "GPU-cluster")
    assert (device["state"], device["reason_en"]) == ("occupied", "others/training-0")
    assert send(portal.platform, token, made(2, pods=[])).json()["accepted"] == 2
    (device,) = (each for each in portal.call("ola", "GET", "devices").json() if each["uuid"] == "GPU-cluster")
    assert device["state"] == "available"


def test_only_operators_see_the_devices(portal: Portal) -> None:
    for person in ("ben", "ada"):
        refused = portal.call(person, "GET", "devices")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "operators_only")
    assert httpx.get(f"{portal.platform.url}{BASE}api/devices", timeout=60).status_code == 401


@pytest.mark.parametrize("given", ["Bearer", "Bearer x", "Basic x", f"Bearer {'a' * 300}", "Bearer 한글"])
def test_nobody_else_reports(portal: Portal, given: str) -> None:
    headers = {"Authorization": given.encode()}
    url = f"{portal.platform.url}{BASE}api/nodes/report"
    refused = httpx.post(url, content=json.dumps(made(1)), headers=headers, timeout=60)
    assert (refused.status_code, refused.json()["error"]["field"]) == (401, "Authorization")
    assert httpx.post(url, content=b"{}", timeout=60).status_code == 401


def test_a_person_s_token_is_no_machine_s(portal: Portal) -> None:
    portal.platform.api("ada", "GET", "/user")
    assert send(portal.platform, portal.platform._tokens["ada"], made(1)).status_code == 401


def test_a_changed_token_is_refused(portal: Portal, database: Database, token: str) -> None:
    assert send(portal.platform, token, made(1)).status_code == 200
    for each in nodes.list_nodes(database, int(time.time()), 180):
        nodes.rotate(database, each.name, actor="op", now=int(time.time()))
    assert send(portal.platform, token, made(2)).status_code == 401


def test_what_is_too_large_is_refused(portal: Portal, token: str) -> None:
    refused = send(portal.platform, token, made(1, samples=[SAMPLE] * 2000))
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")


WRONG: list[tuple[str, Any]] = [
    ("body", b""),
    ("body", b"{"),
    ("body", [1]),
    ("sequence", made(0)),
    ("sequence", made(2**63)),
    ("sequence", made(1) | {"sequence": True}),
    ("sequence", made(1) | {"sequence": "1"}),
    ("stream", made(1) | {"stream": "x" * 37}),
    ("stream", made(1) | {"stream": None}),
    ("at", made(1) | {"at": float("nan")}),
    ("at", made(1) | {"at": float("inf")}),
    ("surprise", made(1, surprise=1)),
    ("devices.0.kind", made(1, devices=[GPU | {"kind": "tpu"}])),
    ("devices.0.extra", made(1, devices=[GPU | {"extra": 1}])),
    ("devices.uuid", made(1, devices=[GPU | {"uuid": "G" * 97}])),
    ("devices.uuid", made(1, devices=[GPU | {"uuid": ""}])),
    ("devices.memory_bytes", made(1, devices=[GPU | {"memory_bytes": -1}])),
    ("devices.paths", made(1, devices=[GPU | {"paths": ["/dev/x"] * 65}])),
    ("devices.paths", made(1, devices=[GPU | {"paths": [""]}])),
    ("samples.busy_ppm", made(1, samples=[SAMPLE | {"busy_ppm": 1_000_001}])),
    ("samples.covers_seconds", made(1, samples=[SAMPLE | {"covers_seconds": -1}])),
    ("samples.0.processes.0.x", made(1, samples=[SAMPLE | {"processes": [{"pid": 1, "memory_bytes": 1, "x": 1}]}])),
    ("samples.processes.pid", made(1, samples=[SAMPLE | {"processes": [{"pid": -1, "memory_bytes": 1}]}])),
    ("events.0.kind", made(1, events=[{"uuid": "GPU-1", "at": 1.0, "kind": "fire"}])),
    ("events.code", made(1, events=[{"uuid": "GPU-1", "at": 1.0, "kind": "xid", "code": 2**31}])),
    ("events.text", made(1, events=[{"uuid": "GPU-1", "at": 1.0, "kind": "xid", "text": "x" * 401}])),
    ("cleaned.problem", made(1, cleaned=[{"uuid": "GPU-1", "at": 1.0, "problem": "x" * 401}])),
    ("pods.0.since", made(1, pods=[{"namespace": "a", "pod": "b"}])),
    ("pods.0.labels", made(1, pods=[POD | {"labels": {}}])),
    ("pods.namespace", made(1, pods=[POD | {"namespace": ""}])),
    ("pods.pod", made(1, pods=[POD | {"pod": "p" * 254}])),
    ("pods.since", made(1, pods=[POD | {"since": -1.0}])),
    ("pods.uuids", made(1, pods=[POD | {"uuids": ["G" * 97]}])),
    ("pods.uuids", made(1, pods=[POD | {"uuids": ["G"] * 1025}])),
    ("pods.unknown", made(1, pods=[POD | {"unknown": [""]}])),
    ("pods.0.shared", made(1, pods=[POD | {"shared": "yes"}])),
]


@pytest.mark.parametrize(("field", "body"), WRONG, ids=lambda each: each if isinstance(each, str) else "")
def test_what_is_malformed_is_refused_by_its_field(field: str, body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Problem) as refused:
        read_report(content)
    assert (refused.value.status, refused.value.field) == (400, field)


def test_a_malformed_report_is_answered_so(portal: Portal, token: str) -> None:
    refused = send(portal.platform, token, made(1, surprise=1))
    assert (refused.status_code, refused.json()["error"]["field"]) == (400, "surprise")
    assert refused.json()["error"]["code"] == "invalid_value"
