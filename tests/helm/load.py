"""What people do on a platform all the while that parts of it are taken away: each answer that they got is kept.

An answer is one of three: it was done, it was refused or failed and they were told so, or nothing came back.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from cli.demo.kernel import Kernel
from tests.helm.standing import PORTAL, Person, Standing, until
from tests.helm.world import BATCH, PROJECT, SMALL

FOLDER = "made"
PAUSE_SECONDS = 0.7
COMPUTING = """
import threading, time, uuid
nonce, ticks = uuid.uuid4().hex, 0
def compute():
    global ticks
    while True:
        sum(number * number for number in range(10_000))
        ticks += 1
        time.sleep(0.2)
threading.Thread(target=compute, daemon=True).start()
print(nonce)
"""
TICKING = """
import itertools, time
for number in itertools.count():
    print(number, flush=True)
    time.sleep(0.5)
"""


@dataclass
class Resident:
    """Someone whose server runs all the while, with a kernel that computes."""

    person: Person
    run: str
    pod: str
    kernel: str
    nonce: str
    ticks: int = 0

    def look(self, standing: Standing) -> None:
        """The server is reached, in the pod that it was, and its kernel is the same and has computed meanwhile."""
        assert standing.pod_of(self.run).uid == self.pod
        assert not standing.pod_of(self.run).over
        server = self.person.server()
        assert server
        assert server["ready"]
        with opened(self.person, self.kernel) as kernel:
            nonce, ticks = kernel.run("print(nonce, ticks)").split()
        assert nonce == self.nonce
        assert int(ticks) > self.ticks
        self.ticks = int(ticks)


@contextlib.contextmanager
def opened(person: Person, kernel: str) -> Iterator[Kernel]:
    """A websocket to a kernel that runs already, and goes on after it."""
    with socket_of(person, kernel) as socket:
        yield Kernel(socket)


def socket_of(person: Person, kernel: str) -> ClientConnection:
    path = f"/user/{person.name}/{PROJECT}/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
    return connect(
        person.url.replace("http", "ws", 1) + path,
        additional_headers={"Authorization": f"token {person.token}"},
        open_timeout=30,
        close_timeout=5,
        proxy=None,
    )


def settle_in(standing: Standing, names: tuple[str, ...], profile: str = SMALL) -> list[Resident]:
    """Each of them has a server, with a kernel that computes."""
    people = [standing.person(name) for name in names]
    for person in people:
        person.start(profile).raise_for_status()
    return [_resident(standing, person) for person in people]


def _resident(standing: Standing, person: Person) -> Resident:
    person.wait_ready()
    kernel = person.in_server("POST", "kernels", {"name": "python3"}).raise_for_status().json()["id"]
    with opened(person, kernel) as running:
        nonce = running.run(COMPUTING).strip()
    run = standing.open_run(person.name)["id"]
    return Resident(person, run, standing.pod_of(run).uid, kernel, nonce)


def notebook(seconds: int) -> dict[str, Any]:
    """Return a notebook that takes so long."""
    lines = f"import time\nfor _ in range({seconds}):\n    time.sleep(1)\nprint('slept')"
    cell = {"cell_type": "code", "id": "a", "source": lines, "metadata": {}, "outputs": [], "execution_count": None}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}


def keep_notebook(person: Person, seconds: int) -> str:
    """Return the path of a notebook of this length in the project's folder, written by the person's server."""
    path = f"sleep-{seconds}.ipynb"
    body = {"type": "notebook", "content": notebook(seconds)}
    person.in_server("PUT", f"contents/{path}", body).raise_for_status()
    return path


def schedule(person: Person, path: str, in_seconds: int, profile: str = BATCH) -> int:
    """Return the number of a schedule by which the notebook is run once, a little later where the platform is busy."""
    body = {"notebook": path, "profile": profile, "title": "test", "timeout_seconds": 600}
    for seconds in (in_seconds, in_seconds + 5, in_seconds + 20):
        at = datetime.fromtimestamp(int(time.time()) + seconds, UTC).isoformat()
        answer = person.call("POST", f"{PORTAL}/projects/{PROJECT}/schedules", {**body, "at": at})
        if answer.status_code != httpx.codes.BAD_REQUEST:  # the moment had passed when it was read
            break
    return int(answer.raise_for_status().json()["id"])


@dataclass
class Told:
    """How often something was asked for, and what came back; `lost` when nothing did."""

    done: int = 0
    failed: int = 0
    lost: int = 0
    words: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        return self.done + self.failed + self.lost

    def ask(self, person: Person, method: str, path: str, body: object = None) -> httpx.Response | None:
        try:
            answer = person.call(method, path, body, seconds=40)
        except httpx.HTTPError as error:
            self.lost += 1
            self.words.append(repr(error))
            return None
        if answer.is_success:
            self.done += 1
        else:
            self.failed += 1
            self.words.append(f"{answer.status_code} {answer.text[:200]}")
        return answer


class Load:
    """Residents write files and see a cell print; others come and go. All of it ends with `close`."""

    def __init__(self, standing: Standing, residents: list[Resident], comers: tuple[str, ...]) -> None:
        self.standing = standing
        self.earlier = set(standing.runs())
        self.writer = residents[0]
        self.writes = Told()
        self.starts = {name: Told() for name in comers}
        self.stops = {name: Told() for name in comers}
        self.came_to_work: dict[str, int] = dict.fromkeys(comers, 0)
        self.printed = 0
        self.hung_up = 0
        self._ending = threading.Event()
        self._errors: list[BaseException] = []
        self.writer.person.in_server("PUT", f"contents/{FOLDER}", {"type": "directory"}).raise_for_status()
        works = [(self._write,), (self._watch, residents[1]), *((self._come_and_go, name) for name in comers)]
        self._threads = [threading.Thread(target=self._safely, args=work, daemon=True) for work in works]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Nobody asks for anything any more; those who came have gone."""
        self._ending.set()
        for thread in self._threads:
            thread.join(200)
        assert not any(thread.is_alive() for thread in self._threads)
        if self._errors:
            raise self._errors[0]

    def written(self) -> int:
        """Return how many files there are by the writer's requests."""
        answer = self.writer.person.in_server("GET", f"contents/{FOLDER}").raise_for_status()
        return len(answer.json()["content"])

    def _safely(self, work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:  # noqa: BLE001 - it is raised where the test waits for it
            self._errors.append(error)

    def _write(self) -> None:
        """Each request makes a file of a new name: one that is done twice is seen."""
        person = self.writer.person
        path = f"/user/{person.name}/{PROJECT}/api/contents/{FOLDER}"
        while not self._ending.wait(PAUSE_SECONDS):
            self.writes.ask(person, "POST", path, {"type": "file", "ext": ".txt"})

    def _watch(self, resident: Resident) -> None:
        """A cell prints twice a second; where the websocket is hung up it is opened again, as JupyterLab does."""
        person = resident.person
        kernel = person.in_server("POST", "kernels", {"name": "python3"}).raise_for_status().json()["id"]
        asked = False
        while not self._ending.is_set():
            try:
                socket = socket_of(person, kernel)
            except (WebSocketException, OSError, TimeoutError):
                self._ending.wait(0.5)
                continue
            with socket:
                try:
                    if not asked:
                        Kernel(socket)._ask(TICKING)  # what it answers is read below
                        asked = True
                    self._read(socket)
                except (WebSocketException, OSError, TimeoutError):
                    self.hung_up += 1

    def _read(self, socket: ClientConnection) -> None:
        while not self._ending.is_set():
            message = json.loads(socket.recv(timeout=20))
            self.printed += message["header"]["msg_type"] == "stream"

    def _come_and_go(self, name: str) -> None:
        person = self.standing.person(name)
        path = f"/hub/api/users/{name}/servers/{PROJECT}"
        while not self._ending.is_set():
            self.starts[name].ask(person, "POST", path, {"profile": SMALL})
            self.came_to_work[name] += self._comes_to_work(person)
            until(f"the end of {name}'s server", lambda: self._gone(person, self.stops[name], path), 120, pause=1)
            self._ending.wait(1)

    def _comes_to_work(self, person: Person) -> bool:
        """Return whether the server was reached; one that the hub has no more is not waited for."""
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                server = person.server()
                if server is None:
                    return False
                if server["ready"]:
                    return person.in_server("GET", "status").is_success
            time.sleep(0.5)
        return False

    @staticmethod
    def _gone(person: Person, told: Told, path: str) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            server = person.server()
            if server is None:
                return True
            if server["ready"] or not server["pending"]:
                told.ask(person, "DELETE", path)
        return False
