"""A release that stands for several modules of tests: its people, its ledger, and the cluster's word on its pods."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.demo.browser import Browser
from quotas.ports import free_ports
from tests.helm import release, world
from tests.helm.cluster_watch import Machine, Pod, Witness, machines
from tests.helm.conftest import Tools
from tests.helm.release import Installed
from tests.helm.world import PROJECT

NAMESPACE = "mudeung-test-standing"
SETTINGS: dict[str, Any] = {
    "kubernetes_namespace_prefix": "mudeung-test-s-",
    # Each round extends what runs: a hold is long beside an outage, and every extension is seen.
    "hold_seconds": 240,
    "stop_margin_seconds": 20,
    "extend_below_seconds": 230,
    "minimum_session_seconds": 30,
    "preempt_notice_seconds": 60,
    "reconcile_seconds": 3,
    "schedule_seconds": 2,
    "queue_seconds": 1,
    "max_batch_runs": 6,
    "start_slots": 8,
    "start_timeout_seconds": 150,
}
FULL = "nvidia.com/gpu"
PORTAL = "/services/portal/api"
OPEN = ("held", "running")
ROWS = """
SELECT r.id, r.kind, r.state, r.outcome, r.requested_at, p.username AS person, f.code AS profile, h.opened_at,
 h.until_at, h.closed_at, h.extensions, c.seconds, c.settled_at, e.state AS execution, e.schedule_id,
 (SELECT count(*) FROM charges x WHERE x.run_id = r.id) AS charges
FROM runs r JOIN persons p ON p.id = r.person_id JOIN profiles f ON f.id = r.profile_id
 JOIN projects j ON j.id = r.project_id JOIN holds h ON h.run_id = r.id LEFT JOIN charges c ON c.run_id = r.id
 LEFT JOIN executions e ON e.run_id = r.id
WHERE j.code = '{project}' ORDER BY r.requested_at
"""


def until(what: str, condition: Callable[[], Any], seconds: float = 60, pause: float = 0.5) -> Any:
    """Return the condition's first true value. Fails after `seconds`, with what it was last."""
    deadline = time.monotonic() + seconds
    value: Any = None
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(pause)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


@dataclass
class Person:
    """Someone with an account, who uses the platform by its API."""

    name: str
    url: str
    token: str

    def call(self, method: str, path: str, body: object = None, seconds: float = 60) -> httpx.Response:
        headers = {"Authorization": f"token {self.token}"}
        return httpx.request(method, self.url + path, json=body, headers=headers, timeout=seconds, trust_env=False)

    def start(self, profile: str) -> httpx.Response:
        return self.call("POST", f"/hub/api/users/{self.name}/servers/{PROJECT}", {"profile": profile})

    def stop(self) -> httpx.Response:
        return self.call("DELETE", f"/hub/api/users/{self.name}/servers/{PROJECT}")

    def server(self) -> dict[str, Any] | None:
        """Return the hub's word on the server, None where there is none. Raises httpx.HTTPError."""
        answer = self.call("GET", f"/hub/api/users/{self.name}").raise_for_status()
        found: dict[str, Any] | None = answer.json()["servers"].get(PROJECT)
        return found

    def in_server(self, method: str, path: str, body: object = None, seconds: float = 60) -> httpx.Response:
        return self.call(method, f"/user/{self.name}/{PROJECT}/api/{path}", body, seconds)

    def wait_ready(self, seconds: float = 150) -> None:
        """The server runs and answers."""

        def ready() -> bool:
            found = self.server()
            assert found, f"{self.name}'s server is not even starting"
            return bool(found["ready"])

        until(f"{self.name}'s server", ready, seconds)
        self.in_server("GET", "status").raise_for_status()

    def wait_stopped(self, seconds: float = 60) -> None:
        until(f"the end of {self.name}'s server", lambda: self.server() is None, seconds)


@dataclass
class Standing:
    """The release, the address at which it answers, and what the cluster says of its pods."""

    release: Installed
    url: str
    is_direct: bool
    """The address is the cluster's own, so that it is reached without the API server."""
    witness: Witness
    accounts: dict[str, str]
    devices: int
    """How many devices fill a machine."""
    rare: tuple[str, int]
    """Another resource, and how many of it there are: nobody else uses it."""
    people: dict[str, Person] = field(default_factory=dict)

    def browser(self, name: str) -> Browser:
        """Return a browser in which the person has logged in."""
        made = Browser(self.url)
        made.log_in(name, self.accounts[name])
        return made

    def person(self, name: str) -> Person:
        if name not in self.people:
            with contextlib.closing(self.browser(name)) as browser:
                made = browser.call("POST", f"/hub/api/users/{name}/tokens", {"note": "tests", "expires_in": 7200})
            self.people[name] = Person(name, self.url, made["token"])
        return self.people[name]

    # What the ledger says.

    def runs(self) -> dict[str, dict[str, Any]]:
        """Return every run of the project with its hold and charge, oldest first."""
        found = self.release.database(f"SELECT json_agg(t) FROM ({ROWS.format(project=PROJECT)}) t")  # noqa: S608
        return {row["id"]: row for row in json.loads(found or "[]") or []}

    def open_run(self, name: str, kind: str = "notebook") -> dict[str, Any]:
        """Return the person's only open run of a kind."""
        (found,) = (
            row for row in self.runs().values() if (row["person"], row["kind"]) == (name, kind) and row["state"] in OPEN
        )
        return found

    def pod_of(self, run: str) -> Pod:
        """Return the only pod that the run ever had."""
        (pod,) = until(f"a pod of {run}", lambda: self.witness.pods(run))
        return pod

    def wait_until_whole(self, seconds: float = 90) -> None:
        """Every open run has its pod, and every pod is of an open run; nothing is between the two."""

        def differing() -> list[str]:
            held = {run for run, row in self.runs().items() if row["state"] in OPEN}
            there = {pod.run for pod in self.witness.present()}
            return sorted(held ^ there)

        until("each run has a pod, and each pod a run", lambda: not differing(), seconds, pause=1)

    def check(self) -> None:
        """No invariant of the ledger is broken, and what was charged is what the cluster says that there was to charge.

        No run had two pods, and none has two charges.
        """
        self.release.in_hub("mudeung", "--home", "/var/lib/mudeung", "check")
        for run, row in self.runs().items():
            pods = self.witness.pods(run)
            assert len(pods) <= 1, (row, pods)
            assert row["charges"] <= 1, row
            if row["state"] in OPEN:
                continue
            due = pods[0].seconds(row["opened_at"]) if pods else None
            assert row["seconds"] == due, (row, pods)

    # The platform's programs.

    def pod_names(self, program: str) -> list[str]:
        selector = f"app.kubernetes.io/component={program}"
        found = self.release.tools.get("pods", "--namespace", NAMESPACE, "--selector", selector)["items"]
        return [each["metadata"]["name"] for each in found]

    def delete(self, program: str) -> None:
        """The program's pod is killed, with no moment to say good-bye."""
        (name,) = self.pod_names(program)
        self.release.kubectl("delete", "pod", name, "--grace-period=0", "--force")

    def scale(self, programs: tuple[str, ...], replicas: int) -> None:
        """So many pods of the programs are there, and ready."""
        for program in programs:
            self.release.kubectl("scale", f"deployment/{program}", f"--replicas={replicas}")
        for program in programs:
            if replicas:
                self.release.kubectl("rollout", "status", f"deployment/{program}", "--timeout=180s")
            else:
                until(f"no {program}", lambda program=program: not self.pod_names(program))


@contextlib.contextmanager
def standing(cluster: Tools) -> Iterator[Standing]:
    """The platform, from nothing, with the tests' own project."""
    full, rare = _devices(cluster)
    with release.installed(cluster, NAMESPACE, **SETTINGS) as made, contextlib.ExitStack() as stack:
        source = Path(world.__file__).read_text()
        resources = f"{FULL}={min(full, 8)}", f"{rare[0]}={rare[1]}"
        made.in_hub("python", "-", *resources, given=source)
        lines = made.in_hub("cat", "/var/lib/mudeung/accounts.txt").splitlines()
        accounts = {words[0]: words[1] for line in lines if len(words := line.split()) > 1}
        witness = Witness(NAMESPACE)
        stack.callback(witness.close)
        url, is_direct = stack.enter_context(_address(made))
        yield Standing(made, url, is_direct, witness, accounts, min(full, 8), rare)


def _devices(cluster: Tools) -> tuple[int, tuple[str, int]]:
    """Return how many GPUs a machine has, and of what it has fewest, as a resource that nobody else uses now."""
    found = max(machines(cluster), key=lambda each: each.devices.get(FULL, 0), default=Machine("", {}, {}))
    if found.devices.get(FULL, 0) < 2:
        pytest.skip(f"no machine of the cluster has two {FULL}")
    unused = {name: count for name, count in found.devices.items() if 2 <= count == found.free.get(name)}
    rare = min(sorted(unused, reverse=True), key=lambda name: unused[name], default=FULL)
    return found.devices[FULL], (rare, found.devices[rare])


@contextlib.contextmanager
def _address(made: Installed) -> Iterator[tuple[str, bool]]:
    """The platform answers at the address, of the cluster where this machine reaches it, else of a forwarded port."""
    service = made.tools.get("service", "proxy-public", "--namespace", NAMESPACE)["spec"]
    direct = f"http://{service['clusterIP']}:{service['ports'][0]['port']}"
    try:
        httpx.get(f"{direct}/hub/login", timeout=5)
    except httpx.TransportError:
        pass
    else:
        yield direct, True
        return
    (port,) = free_ports(1)
    ending = threading.Event()
    thread = threading.Thread(target=_forward, args=(port, ending), daemon=True)
    thread.start()
    try:
        until("a forwarded port", lambda: _reached(f"http://127.0.0.1:{port}/hub/login"))
        yield f"http://127.0.0.1:{port}", False
    finally:
        ending.set()
        thread.join(10)


def _forward(port: int, ending: threading.Event) -> None:
    """The port is forwarded; anew each time that the pod behind it goes."""
    words = ["kubectl", "--namespace", NAMESPACE, "port-forward", "service/proxy-public", f"{port}:80"]
    while not ending.is_set():
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as forwarding:
            while forwarding.poll() is None and not ending.wait(0.5):
                if not _reached(f"http://127.0.0.1:{port}/_chp_healthz") and forwarding.poll() is None:
                    break
            forwarding.terminate()
        ending.wait(0.5)


def _reached(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10).status_code < 500
    except httpx.TransportError:
        return False
