"""A platform of processes for tests: a real proxy and hub, and the reconciling loop, in a home of their own.

`Platform` is started with `with running(tmp_path) as platform:`. Its ledger has a small world (`World`): persons `ada`
(PI), `ben` (member) and `cho` (learner) on project `vision`, `dan` on none; `ada` and `ben` on `robots`, which may
not use the simulated H100s. Its servers are `bench.stand_in` unless said otherwise, so that a start takes a moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from quotas import network
from quotas.backends.port import Backend
from quotas.domain.devices import FACTS, MODELS
from quotas.domain.people import MembershipRole, Organisation
from quotas.domain.pools import CapacityPhase
from quotas.domain.profiles import Profile
from quotas.domain.projects import Award, ProjectKind
from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.domain.units import DAY_SECONDS
from quotas.home import Home, open_home
from quotas.ports import free_ports
from quotas.services import people, pools, profiles, projects, rates, runs
from quotas.store.database import Database
from quotas.store.migrate import migrate

ROOT = Path(__file__).resolve().parent.parent
STAND_IN = (sys.executable, "-I", "-S", str(ROOT / "bench" / "stand_in.py"))
STAND_IN_IN_A_CONTAINER = ("python", "-I", "-S", "-c", (ROOT / "bench" / "stand_in.py").read_text())
PASSWORD = "correct horse"
BY = "tests"
GIB = 2**30
CPU, GPU, LARGE = "cpu-small", "gpu-h100", "cpu-large"
RATES = {CPU: 50, GPU: 66_900, LARGE: 400}
IMAGE = "mudeung/notebook:latest"


def build_world(database: Database, now: int, *, simulated: bool = True) -> None:
    """The small world is in the empty `database`; its awards run from a day ago to 29 days from now."""
    migrate(database)
    by: dict[str, Any] = {"actor": BY, "now": now - 2 * DAY_SECONDS}
    people.add_organisation(database, Organisation("lab", "시험 연구실", "Test laboratory", "university"), **by)
    for username, language in (("ada", "en"), ("ben", "ko"), ("cho", "en"), ("dan", "en")):
        people.add_person(database, username, username.title(), organisation="lab", language=language, **by)
        people.set_password(database, username, PASSWORD, **by)
    for model in MODELS:
        profiles.add_device_model(database, model, **by)
    for fact in FACTS:
        profiles.add_fact(database, fact, **by)
    profiles.add_image(database, "science", IMAGE, "과학 계산", "Scientific computing", **by)
    for position, (code, device) in enumerate({CPU: None, LARGE: None, GPU: "h100"}.items()):
        profile = Profile(
            code, f"{code} 프로필", f"{code} profile", "science", 1000, GIB, GIB, device, int(device is not None)
        )
        profiles.add_profile(database, profile, position, **by)
    rows = tuple(Rate(code, gflops, RateRule.ASSIGNED, "a figure for tests", BY) for code, gflops in RATES.items())
    rates.publish(database, RateCard(1, now - DAY_SECONDS, Precision.FP32, rows), **by)
    pools.add_pool(database, "main", "주 자원", "Main pool", simulated=simulated, **by)
    pools.add_phase(database, "main", CapacityPhase("h100", now - DAY_SECONDS, 4, 4, 4), **by)
    add_project(database, "vision", now, gflops=200_000, profiles=(CPU, LARGE, GPU))
    add_project(database, "robots", now, gflops=500, profiles=(CPU, LARGE))
    projects.add_member(database, "vision", "ben", MembershipRole.MEMBER, **by)
    projects.add_member(database, "vision", "cho", MembershipRole.LEARNER, **by)
    projects.add_member(database, "robots", "ben", MembershipRole.MEMBER, **by)


def add_project(
    database: Database,
    code: str,
    now: int,
    *,
    gflops: int,
    profiles: tuple[str, ...],
    budget: int | None = None,
    pi: str = "ada",
) -> None:
    """The project is approved with an award of `gflops`; `budget`, in GFLOPS·s, is all that it may spend."""
    starts_at, ends_at = now - DAY_SECONDS, now + 29 * DAY_SECONDS
    whole = gflops * (ends_at - starts_at)
    asked = projects.Application(
        code, f"{code} 과제", f"The project {code}", ProjectKind.RESEARCH, "lab", gflops, "fp32", starts_at, ends_at
    )
    projects.apply(database, asked, actor=pi, now=now - DAY_SECONDS)
    ppm = 1_000_000 if budget is None else budget * 1_000_000 // whole
    projects.approve(
        database,
        code,
        Award(gflops, "fp32", starts_at, ends_at, utilisation_ppm=ppm),
        profiles=profiles,
        actor=BY,
        now=now - DAY_SECONDS,
        reference_precision="fp32",
        oversubscription_limit_ppm=10**9,
    )


@dataclass
class Platform:
    """The processes of one home. `start_…` returns when the process answers; all end with the `running` block."""

    home: Home
    overrides: Mapping[str, object]
    test_token: str = field(default_factory=lambda: secrets.token_hex(16))
    environment: dict[str, str] = field(default_factory=dict)
    config: Path = ROOT / "tests" / "spawners" / "hub_config.py"
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    database: Database = field(init=False)
    backend: Backend = field(init=False)

    def __post_init__(self) -> None:
        self.database = self.home.database()
        self.backend = self.home.backend()
        self._tokens: dict[str, str] = {}
        self._browsers: dict[str, httpx.Client] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.home.settings.port}"

    # Processes.

    def start(self, name: str, words: list[str], **environment: str) -> subprocess.Popen[bytes]:
        """A process of the platform runs; what it prints goes to the home's log folder."""
        base = {key: value for key, value in os.environ.items() if not key.startswith(("MUDEUNG_", "JUPYTER"))}
        ours = {
            "MUDEUNG_HOME": str(self.home.path),
            "MUDEUNG_OVERRIDES": json.dumps(dict(self.overrides)),
            "MUDEUNG_TEST_CONFIG": str(ROOT / "jupyterhub_config.py"),
            "MUDEUNG_TEST_TOKEN": self.test_token,
            "PYTHONPATH": str(ROOT),
        }
        with (self.home.log / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                words,
                cwd=self.home.path,
                env={**base, **ours, **self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = process
        return process

    def start_proxy(self) -> None:
        ports, settings = self.home.ports(), self.home.settings
        program = str(ROOT / "node_modules" / ".bin" / "configurable-http-proxy")
        words = [program, "--ip", "127.0.0.1", "--port", str(settings.port), "--api-ip", "127.0.0.1"]
        words += ["--api-port", str(ports["proxy_api"]), "--log-level", "warn"]
        self.start("proxy", words, CONFIGPROXY_AUTH_TOKEN=self.home.secret("proxy_token"))
        api = f"http://127.0.0.1:{ports['proxy_api']}/api/routes"
        wait_for("the proxy", lambda: answers(api), process=self.processes["proxy"])

    def start_hub(self, **environment: str) -> None:
        """The hub answers through the proxy, which may have sent requests to an earlier one."""
        hub = self.start("hub", [sys.executable, "-m", "jupyterhub", "-f", str(self.config)], **environment)
        self.wait_for_answer("hub", f"{self.url}/hub/health", hub)

    def wait_for_answer(self, name: str, url: str, process: subprocess.Popen[bytes]) -> None:
        """The process answers at `url`. Fails with what it printed."""
        try:
            wait_for(f"the {name}", lambda: answers(url, 200), seconds=60, process=process)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.printed(name)}") from None

    def start_reconciler(self) -> None:
        self.start("reconciler", [sys.executable, "-m", "spawners.reconciler"])

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """The process is gone. Its servers are not: they have sessions of their own."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        process.wait(30)

    def wait_until_gone(self, name: str, seconds: float = 30) -> None:
        """The process has ended by itself."""
        self.processes.pop(name).wait(seconds)

    def printed(self, name: str, characters: int = 6000) -> str:
        path = self.home.log / f"{name}.log"
        return path.read_text(errors="replace")[-characters:] if path.exists() else ""

    def end(self) -> None:
        """Nothing of the platform runs."""
        for client in self._browsers.values():
            client.close()
        for name in list(self.processes):
            self.kill(name)
        for seen in self.backend.list_runs():
            self.backend.stop(seen.run_id, 0)
            self.backend.remove(seen.run_id)
        if self.home.settings.backend == "docker":
            network.remove(self.home)
        self.database.close()

    # What a client does.

    def admin(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Ask the hub's API as a service with all rights."""
        headers = {"Authorization": f"token {self.test_token}"}
        return httpx.request(method, f"{self.url}/hub/api{path}", headers=headers, timeout=60, **arguments)

    def api(self, person: str, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Ask the hub's API as `person`, with a token of theirs."""
        if person not in self._tokens:
            self.admin("POST", f"/users/{person}")
            made = self.admin("POST", f"/users/{person}/tokens", json={"note": "tests"})
            self._tokens[person] = made.raise_for_status().json()["token"]
        headers = {"Authorization": f"token {self._tokens[person]}"}
        return httpx.request(method, f"{self.url}/hub/api{path}", headers=headers, timeout=60, **arguments)

    def browser(self, person: str) -> httpx.Client:
        """Return a client in which the person has logged in, as in a browser; the same one each time."""
        client = self._browsers.get(person)
        if client is None:
            client = self._browsers[person] = httpx.Client(base_url=self.url, follow_redirects=True, timeout=60)
            client.get("/hub/login").raise_for_status()
            fields = {"username": person, "password": PASSWORD, "_xsrf": client.cookies.get("_xsrf", path="/hub/")}
            client.post("/hub/login", data=fields).raise_for_status()
        return client

    def send_form(self, person: str, project: str, fields: Mapping[str, Any], **arguments: Any) -> httpx.Response:
        """Press Start on the form of `project`, with `fields` in it."""
        client = self.browser(person)
        xsrf = client.cookies.get("_xsrf", path="/hub/")
        return client.post(f"/hub/spawn/{person}/{project}".rstrip("/"), data={"_xsrf": xsrf, **fields}, **arguments)

    def start_server(self, person: str, project: str, profile: str = CPU) -> httpx.Response:
        """Ask for a server by the API; the answer may come before it is ready."""
        return self.api(person, "POST", f"/users/{person}/servers/{project}", json={"profile": profile})

    def stop_server(self, person: str, project: str) -> httpx.Response:
        return self.api(person, "DELETE", f"/users/{person}/servers/{project}")

    def server(self, person: str, project: str) -> dict[str, Any] | None:
        """Return the hub's word on a server that is active, or None."""
        model = self.api(person, "GET", f"/users/{person}").raise_for_status().json()
        found: dict[str, Any] | None = model["servers"].get(project)
        return found

    def wait_ready(self, person: str, project: str, seconds: float = 60) -> dict[str, Any]:
        def ready() -> dict[str, Any] | None:
            found = self.server(person, project)
            assert found, f"{person}'s server on {project} is not even starting\n{self.printed('hub')}"
            return found if found["ready"] else None

        return wait_for(f"{person}'s server on {project}", ready, seconds=seconds)

    def wait_stopped(self, person: str, project: str, seconds: float = 30) -> None:
        wait_for(f"the end of {person}'s server", lambda: self.server(person, project) is None, seconds=seconds)

    def progress(self, person: str, project: str) -> list[dict[str, Any]]:
        """Return the events of a start, to its end."""
        stream = self.api(person, "GET", f"/users/{person}/servers/{project}/progress").raise_for_status().text
        lines = (line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: "))
        return [json.loads(line) for line in lines]

    def runs(self, project: str | None = None) -> list[runs.Run]:
        """Return the runs that the ledger has, newest first."""
        return runs.runs(self.database, project, limit=1000)


@contextlib.contextmanager
def running(
    folder: Path,
    *,
    server: tuple[str, ...] | None = STAND_IN,
    reconciler: bool = False,
    hub: bool = True,
    world: Callable[[Database, int], None] = build_world,
    environment: Mapping[str, str] | None = None,
    **overrides: object,
) -> Iterator[Platform]:
    """Yield a running platform in `folder`; afterwards nothing of it runs, whatever happened."""
    chosen = {"port": free_ports(1)[0], "reconcile_seconds": 1, **overrides}
    home = open_home(folder / "home", **chosen)
    platform = Platform(home, chosen)
    platform.environment.update(environment or {})
    if server is not None:
        platform.environment["MUDEUNG_TEST_SERVER"] = json.dumps(server)
    try:
        world(platform.database, int(time.time()))
        platform.start_proxy()
        if hub:
            platform.start_hub()
        if reconciler:
            platform.start_reconciler()
        yield platform
    finally:
        platform.end()


def answers(url: str, status: int | None = None) -> bool:
    """Return whether something answers at `url`, with `status` when that is given."""
    try:
        response = httpx.get(url, timeout=5)
    except httpx.TransportError:
        return False
    return status is None or response.status_code == status


def wait_for(
    what: str,
    condition: Callable[[], Any],
    *,
    seconds: float = 30,
    process: subprocess.Popen[bytes] | None = None,
) -> Any:
    """Return the condition's first true value. Fails after `seconds`, and when `process` ends."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{what} ended with code {process.returncode}")
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s for {what}")
