"""The two hubs that are compared: ours, and a plain JupyterHub with the same proxy, Python and client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from quotas.domain.people import MembershipRole
from quotas.ports import free_ports
from quotas.services import people, projects
from quotas.store.database import Database
from tests.platform import BY, CPU, Platform, add_project, answers, build_world, wait_for

ROOT = Path(__file__).resolve().parent.parent
PROXY = ROOT / "node_modules" / ".bin" / "configurable-http-proxy"
PROJECT = "course"
ANSWER_SECONDS = 60.0


def persons(count: int) -> list[str]:
    """The names of `count` learners."""
    return [f"learner{number:03d}" for number in range(count)]


def world(count: int) -> Callable[[Database, int], None]:
    """A ledger in which `count` learners may each start a server on one project at the same time."""

    def build(database: Database, now: int) -> None:
        build_world(database, now)
        add_project(database, PROJECT, now, gflops=100 * count, profiles=(CPU,))
        for person in persons(count):
            people.add_person(database, person, person, organisation="lab", language="en", actor=BY, now=now)
            projects.add_member(database, PROJECT, person, MembershipRole.LEARNER, actor=BY, now=now)

    return build


@dataclass
class Class:
    """Learners before a hub at `url`; `token` is that of a service which may do everything."""

    url: str
    token: str
    names: Sequence[str]
    options: Mapping[str, Any]
    log: Path
    tokens: dict[str, str] = field(default_factory=dict)

    def enrol(self) -> None:
        """Each learner is known to the hub and has a token."""
        headers = {"Authorization": f"token {self.token}"}
        with httpx.Client(base_url=f"{self.url}/hub/api", headers=headers, timeout=ANSWER_SECONDS) as client:
            for name in self.names:
                client.post(f"/users/{name}").raise_for_status()
                made = client.post(f"/users/{name}/tokens", json={"note": "bench"}).raise_for_status()
                self.tokens[name] = made.json()["token"]

    def ask_at_once(self) -> list[int]:
        """Each has asked for a server at the same time; return the status of each answer."""
        return asyncio.run(self._each("POST", json=dict(self.options)))

    def stop_at_once(self) -> None:
        """No learner has a server."""
        asyncio.run(self._each("DELETE"))
        wait_for("the end of all servers", lambda: not self.active(), seconds=ANSWER_SECONDS)

    def active(self) -> int:
        """How many servers the hub counts as active, those that start or stop included."""
        return len(self._servers())

    def ready(self) -> int:
        """How many servers are ready."""
        return sum(server["ready"] for server in self._servers())

    def pending(self) -> int:
        """How many servers are being started or stopped."""
        return sum(server["pending"] is not None for server in self._servers())

    def _servers(self) -> list[dict[str, Any]]:
        headers = {"Authorization": f"token {self.token}"}
        query = {"state": "active", "limit": "200"}
        found = httpx.get(f"{self.url}/hub/api/users", params=query, headers=headers, timeout=ANSWER_SECONDS)
        return [server for user in found.raise_for_status().json() for server in user["servers"].values()]

    async def _each(self, method: str, **arguments: Any) -> list[int]:
        limits = httpx.Limits(max_connections=len(self.names))
        async with httpx.AsyncClient(base_url=f"{self.url}/hub/api", timeout=ANSWER_SECONDS, limits=limits) as client:

            async def one(name: str) -> int:
                headers = {"Authorization": f"token {self.tokens[name]}"}
                path = f"/users/{name}/servers/{PROJECT}"
                return (await client.request(method, path, headers=headers, **arguments)).status_code

            return list(await asyncio.gather(*(one(name) for name in self.names)))


def ours(platform: Platform, count: int) -> Class:
    """The class before our hub."""
    log = platform.home.log / "hub.log"
    made = Class(platform.url, platform.test_token, persons(count), {"profile": CPU}, log)
    made.enrol()
    return made


@dataclass(frozen=True)
class PlainHub:
    """A plain JupyterHub that answers at `url`; `token` is that of a service which may do everything."""

    url: str
    token: str
    log: Path
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def plain(folder: Path, count: int, **settings: Any) -> Iterator[Class]:
    """Yield the class before a plain JupyterHub in `folder`; see `bench/plain_hub_config.py` for the settings."""
    with plain_hub(folder, **settings) as hub:
        made = Class(hub.url, hub.token, persons(count), {}, hub.log)
        made.enrol()
        yield made


@contextlib.contextmanager
def plain_hub(folder: Path, **settings: Any) -> Iterator[PlainHub]:
    """Yield a plain JupyterHub in `folder`, with its proxy; see `bench/plain_hub_config.py` for the settings."""
    folder.mkdir(parents=True, exist_ok=True)
    port, hub_port, proxy_port = free_ports(3)
    tokens = {"proxy_token": secrets.token_hex(16), "token": secrets.token_hex(16)}
    told = {"port": port, "hub_port": hub_port, "proxy_port": proxy_port, "home": str(folder), **tokens, **settings}
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "BENCH_PLAIN": json.dumps(told),
        "CONFIGPROXY_AUTH_TOKEN": tokens["proxy_token"],
        **{name: os.environ[name] for name in ("KUBECONFIG",) if name in os.environ},
    }
    proxy = [str(PROXY), "--ip", "127.0.0.1", "--port", str(port), "--api-ip", "127.0.0.1"]
    proxy += ["--api-port", str(proxy_port), "--log-level", "warn"]
    hub = [sys.executable, "-m", "jupyterhub", "-f", str(ROOT / "bench" / "plain_hub_config.py")]
    log = folder / "hub.log"
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with log.open("wb") as printed:
            options: dict[str, Any] = {"env": environment, "cwd": folder, "start_new_session": True}
            options |= {"stdin": subprocess.DEVNULL, "stdout": printed, "stderr": subprocess.STDOUT}
            processes.extend(subprocess.Popen(words, **options) for words in (proxy, hub))
        url = f"http://127.0.0.1:{port}"
        wait_for("the plain hub", lambda: answers(f"{url}/hub/health", 200), seconds=90, process=processes[1])
        yield PlainHub(url, tokens["token"], log, processes[1])
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)
