"""The two hubs whose servers are pods on simulated machines: ours with its centre, and a plain one with KubeSpawner."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from bench import loop_delay
from bench.hubs import plain_hub
from bench.simulated_nodes import SELECTOR, TOLERATION, Ground, together
from quotas.backends.kubernetes import KubernetesBackend
from quotas.domain.devices import FACTS, MODELS
from quotas.domain.launch import Launch
from quotas.domain.people import MembershipRole, Organisation
from quotas.domain.pools import CapacityPhase
from quotas.domain.profiles import Profile
from quotas.domain.projects import Award, ProjectKind
from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import DAY_SECONDS
from quotas.home import Home, open_home
from quotas.ports import free_ports
from quotas.services import cluster_bounds, people, pools, profiles, projects, rates
from quotas.store.database import Database
from quotas.store.migrate import migrate
from tests.platform import ROOT, STAND_IN, Platform, answers, wait_for

GIB = 2**30
BY = "bench"
GPU, POOL = "h100", "cluster"
GPU_GFLOPS = 66_900
IMAGE = "mudeung/notebook:latest"
CPU_MILLIS, MEMORY_BYTES = 500, GIB
START_SECONDS = 300
LOG_CHARACTERS = 4000
TORNADO = {"slow_spawn_timeout": START_SECONDS, "slow_stop_timeout": START_SECONDS}
"""A request to start or stop is answered when that is done, on either side: nobody has to ask again."""
ON_MACHINES = {"kubernetes": {"node_selector": SELECTOR, "tolerations": [TOLERATION]}}


@dataclass(frozen=True)
class Place:
    """A person's place: the project on which they have a server."""

    person: str
    project: str


def places(servers: int, of_projects: int) -> list[Place]:
    """Return the places, neighbours on different projects, so that a round is about all of them."""
    codes = [f"p{number:03d}" for number in range(of_projects)]
    return [Place(f"u{number:04d}", codes[number % of_projects]) for number in range(servers)]


def build_centre(database: Database, at: Sequence[Place], devices: int, now: int) -> None:
    """The empty database has the centre: a pool of so many GPUs, and each project with its members and award."""
    migrate(database)
    by: dict[str, Any] = {"actor": BY, "now": now - 2 * DAY_SECONDS}
    people.add_organisation(database, Organisation("programme", "사업단", "The programme", "agency"), **by)
    profiles.add_device_model(database, next(model for model in MODELS if model.code == GPU), **by)
    for fact in FACTS:
        if fact.device_model == GPU:
            profiles.add_fact(database, fact, **by)
    profiles.add_image(database, "notebook", IMAGE, "노트북", "Notebook", **by)
    size = (CPU_MILLIS, MEMORY_BYTES, GIB)
    profile = Profile(GPU, "H100 1장", "One H100", "notebook", *size, GPU, 1, backend_terms=ON_MACHINES)
    profiles.add_profile(database, profile, 0, **by)
    rate = Rate(GPU, GPU_GFLOPS, RateRule.ASSIGNED, "the peak of its device at FP32", BY)
    rates.publish(database, RateCard(1, now - DAY_SECONDS, Precision.FP32, (rate,)), **by)
    pools.add_pool(database, POOL, "클러스터", "The cluster", simulated=False, **by)
    pools.add_phase(database, POOL, CapacityPhase(GPU, now - DAY_SECONDS, *[devices] * 3), **by)
    members: dict[str, list[str]] = {}
    for each in at:
        people.add_person(database, each.person, each.person, organisation="programme", language="en", **by)
        members.setdefault(each.project, []).append(each.person)
    for code, persons in members.items():
        _add_project(database, code, persons, now)


def _add_project(database: Database, code: str, persons: Sequence[str], now: int) -> None:
    gflops = len(persons) * GPU_GFLOPS
    starts_at, ends_at = now - DAY_SECONDS, now + 29 * DAY_SECONDS
    asked = projects.Application(
        code, f"과제 {code}", f"Project {code}", ProjectKind.RESEARCH, "programme", gflops, "fp32", starts_at, ends_at
    )
    pi, *others = persons
    projects.apply(database, asked, actor=pi, now=starts_at)
    projects.approve(
        database,
        code,
        Award(gflops, "fp32", starts_at, ends_at),
        profiles=(GPU,),
        actor=BY,
        now=starts_at,
        reference_precision="fp32",
        oversubscription_limit_ppm=10**9,
    )
    for person in others:
        projects.add_member(database, code, person, MembershipRole.MEMBER, actor=BY, now=starts_at)


@dataclass
class Side:
    """A hub that answers at `url`, its process, and where the delays of its loop are noted."""

    url: str
    token: str
    pid: int
    delays: Path
    log: Path
    options: Mapping[str, Any]

    def enrol(self, at: Sequence[Place]) -> None:
        """The hub knows the persons."""
        with httpx.Client(base_url=f"{self.url}/hub/api", headers=self._headers(), timeout=START_SECONDS) as client:
            client.post("/users", json={"usernames": [each.person for each in at]}).raise_for_status()

    def start(self, at: Sequence[Place], at_once: int) -> tuple[float, list[float]]:
        """Every server is ready; return how long all took together and each, in seconds. Raises RuntimeError."""
        return asyncio.run(self._each("POST", at, at_once, {200, 201}))

    def stop(self, at: Sequence[Place], at_once: int) -> tuple[float, list[float]]:
        """No server is there; return as for starts. Raises RuntimeError."""
        return asyncio.run(self._each("DELETE", at, at_once, {204}))

    def memory_bytes(self) -> int:
        """Return what the hub's process has in memory now."""
        return self._status("VmRSS")

    def peak_bytes(self) -> int:
        """Return the most that it has had."""
        return self._status("VmHWM")

    def processor_seconds(self) -> float:
        """Return what the hub's process has used of the processor so far."""
        of_process = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(of_process[11]) + int(of_process[12])) / os.sysconf("SC_CLK_TCK")

    def late(self, since: float, until: float) -> list[float]:
        """Return how late its loop was between two instants, in seconds, shortest first."""
        return loop_delay.delays(self.delays, since, until)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"{name} of {self.pid} is not known")

    async def _each(
        self, method: str, at: Sequence[Place], at_once: int, expected: set[int]
    ) -> tuple[float, list[float]]:
        turns = asyncio.Semaphore(at_once)
        limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        base = f"{self.url}/hub/api"
        async with httpx.AsyncClient(
            base_url=base, headers=self._headers(), timeout=START_SECONDS, limits=limits
        ) as client:

            async def one(place: Place) -> float:
                async with turns:
                    began = time.monotonic()
                    path = f"/users/{place.person}/servers/{place.project}"
                    body = {"json": dict(self.options)} if method == "POST" else {}
                    answer = await client.request(method, path, **body)  # type: ignore[arg-type]
                    if answer.status_code not in expected:
                        printed = self.log.read_text(errors="replace")[-LOG_CHARACTERS:]
                        raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:400]}\n{printed}")
                    return time.monotonic() - began

            began = time.monotonic()
            took = await asyncio.gather(*(one(place) for place in at))
            return time.monotonic() - began, sorted(took)


@contextlib.contextmanager
def stand_in() -> Iterator[int]:
    """Yield the port of the server as which every pod is reached."""
    (port,) = free_ports(1)
    surroundings = {"JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}/user/"}
    child = subprocess.Popen(STAND_IN, env=surroundings, stdin=subprocess.DEVNULL)
    try:
        wait_for("the stand-in", lambda: answers(f"http://127.0.0.1:{port}/user/", 200), process=child)
        yield port
    finally:
        child.terminate()
        child.wait(10)


@dataclass(frozen=True)
class OutsideHome(Home):
    """A home whose programs are processes outside the cluster, at ports of their own."""

    inner: Mapping[str, int]

    def ports(self) -> dict[str, int]:
        return dict(self.inner)


@contextlib.contextmanager
def our_side(folder: Path, ground: Ground, at: Sequence[Place], devices: int, stand_in_port: int) -> Iterator[Platform]:
    """Yield the platform: the real proxy, hub, portal and reconciling loop. Nothing of it runs afterwards."""
    chosen: dict[str, Any] = {
        "port": free_ports(1)[0],
        "host": "127.0.0.1",
        "backend": "kubernetes",
        "kubernetes_namespace": ground.name,
        "kubernetes_namespace_prefix": f"{ground.name}-",
        "kubernetes_storage_class": ground.storage_class,
        "kubernetes_home_bytes": GIB,
        "kubernetes_project_bytes": GIB,
        "start_timeout_seconds": START_SECONDS,
    }
    opened = open_home(folder / "home", **chosen)
    inner = dict(zip(("hub", "proxy_api", "portal"), free_ports(3), strict=True))
    home = OutsideHome(opened.path, opened.settings, inner)
    told = {**inner, "stand_in": stand_in_port, "delays": str(folder / "ours.delays"), "tornado": TORNADO}
    platform = Platform(home, chosen, config=ROOT / "bench" / "kubernetes_hub_config.py")
    platform.environment |= {"BENCH_HUB": json.dumps(told), "MUDEUNG_TEST_PORTAL": "1"}
    try:
        build_centre(platform.database, at, devices, int(time.time()))
        platform.start_proxy()
        platform.start_hub()
        for name in ("loops", "portal"):
            platform.start(name, [sys.executable, "-m", "bench.kubernetes_loops", name])
        address = f"{platform.url}/services/portal/health"
        platform.wait_for_answer("portal", address, platform.processes["portal"])
        yield platform
    finally:
        platform.end()


def side_of(platform: Platform) -> Side:
    """Return our hub as a side."""
    hub = platform.processes["hub"]
    delays = platform.home.path.parent / "ours.delays"
    log = platform.home.log / "hub.log"
    return Side(platform.url, platform.test_token, hub.pid, delays, log, {"profile": GPU})


def prepare_projects(platform: Platform, at: Sequence[Place]) -> None:
    """Every project has its namespace, and every person their claim, as after an earlier start of theirs."""
    backend = platform.backend
    if not isinstance(backend, KubernetesBackend):
        raise TypeError("the bench is about the Kubernetes backend")
    profile = profiles.profile(platform.database, GPU)
    if profile is None:
        raise RuntimeError("the centre has no profile")
    policy, now = platform.home.settings.policy(), int(time.time())
    together(
        lambda code: backend.ensure_project(code, cluster_bounds.of_project(platform.database, code, now, policy)),
        sorted({each.project for each in at}),
    )
    launch = Launch(new_run_id(), RunKind.NOTEBOOK, "", "", profile, (), "/nonexistent")
    together(lambda each: backend.projects.ensure_home(replace(launch, person=each.person, project=each.project)), at)


@contextlib.contextmanager
def plain_side(folder: Path, ground: Ground, stand_in_port: int) -> Iterator[Side]:
    """Yield a plain hub with KubeSpawner: its pods are in one namespace, of the same size, with a volume each."""
    delays = folder / "plain.delays"
    gpu = {"nvidia.com/gpu": "1"}
    pod = {
        "namespace": ground.plain_namespace,
        "image": IMAGE,
        "image_pull_policy": "IfNotPresent",
        "cpu_guarantee": CPU_MILLIS / 1000,
        "cpu_limit": CPU_MILLIS / 1000,
        "mem_guarantee": MEMORY_BYTES,
        "mem_limit": MEMORY_BYTES,
        "extra_resource_guarantees": gpu,
        "extra_resource_limits": gpu,
        "node_selector": SELECTOR,
        "tolerations": [TOLERATION, {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "storage_pvc_ensure": True,
        "storage_class": ground.storage_class,
        "storage_capacity": str(GIB),
        "pvc_name_template": "claim-{username}",
        "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "claim-{username}"}}],
        "volume_mounts": [{"name": "home", "mountPath": "/home/jovyan"}],
        "pod_connect_ip": "127.0.0.1",
        "port": stand_in_port,
    }
    with plain_hub(folder, pod=pod, timeout=START_SECONDS, tornado=TORNADO, delays=str(delays)) as hub:
        yield Side(hub.url, hub.token, hub.process.pid, delays, hub.log, {})


def needs_cluster() -> None:
    """Raises SystemExit where no cluster is named."""
    if not os.environ.get("KUBECONFIG"):
        raise SystemExit("KUBECONFIG names no cluster")
