"""The loop over real processes of the local backend, beside a hub reduced to what the loop asks of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from quotas.backends.local import LocalBackend
from quotas.domain.admission import Admitted, Request
from quotas.domain.launch import RUN_VARIABLE, Launch
from quotas.domain.policy import Policy
from quotas.domain.priorities import Priority
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind, new_run_id
from quotas.services import admission, check, doors
from quotas.services.reconciliation import Reconciler
from quotas.store import notices
from quotas.store import runs as runs_store
from tests.centre import Centre

POLICY = Policy()
PROFILE = Profile("cpu-small", "작은 CPU", "CPU small", "image", 1000, 2**30, 2**30)
DEAF = ("sh", "-c", "trap '' TERM; touch heard-$MUDEUNG_RUN; while :; do sleep 0.2; done")
"""A command that does not listen, and says when it has begun not to."""


class Door:
    """A hub reduced to what the loop asks: the runs that it knows, or that it is away."""

    def __init__(self) -> None:
        self.known: set[str] | None = set()
        self.forgotten: list[tuple[str, str]] = []

    def known_runs(self) -> frozenset[str] | None:
        return None if self.known is None else frozenset(self.known)

    def forget_server(self, person: str, project: str) -> bool:
        self.forgotten.append((person, project))
        return self.known is not None


class World:
    """A centre whose project is in its award now, a backend in a folder, and a loop."""

    def __init__(self, centre: Centre, folder: Path) -> None:
        self.centre, self.folder = centre, folder
        self.backend = LocalBackend(folder / "runs")
        self.door = Door()
        self.now = centre.now
        self.instance = doors.boot(centre.database, "hub", centre.now - 60)
        self.loop = Reconciler(centre.database, self.backend, self.door, POLICY, 600)
        self.launched: list[str] = []

    def hold(
        self,
        profile: str = "cpu-small",
        kind: RunKind = RunKind.NOTEBOOK,
        seconds: int | None = None,
        *,
        wish: Priority = Priority.GUARANTEED,
        person: str = "",
        run_id: str = "",
    ) -> str:
        run_id = run_id or new_run_id()
        who = person or self.centre.member, self.centre.project
        request = Request(run_id, kind, *who, profile, seconds, door=self.instance, wish=wish)
        assert isinstance(admission.reserve(self.centre.database, request, self.now, POLICY), Admitted)
        return run_id

    def launch(self, run_id: str, *command: str) -> None:
        self.launched.append(run_id)
        self.backend.launch(
            Launch(
                run_id,
                RunKind.NOTEBOOK,
                self.centre.member,
                self.centre.project,
                PROFILE,
                command or ("sleep", "600"),
                str(self.folder),
            )
        )

    def start(self, run_id: str) -> None:
        """As the gate does: launch, mark as running, known to the hub. The ledger's clock is the test's."""
        self.launch(run_id)
        admission.started(self.centre.database, run_id, self.now)
        if self.door.known is not None:
            self.door.known.add(run_id)

    def tick(self, after: int = 20) -> dict[str, int]:
        self.now += after
        return dict(self.loop.tick(self.now))

    def row(self, run_id: str) -> runs_store.Row:
        with self.centre.database.read() as transaction:
            return runs_store.one(transaction, run_id)

    def alive(self, run_id: str) -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(RUN_VARIABLE) == run_id and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def told(self, person: str) -> list[str]:
        """Return the kinds of what the person was told, in order."""
        with self.centre.database.read() as transaction:
            return [notice.kind for notice in notices.of_person(transaction, person, 0)][::-1]

    def wait_for_deaf(self, runs: list[str]) -> None:
        """All of them have begun not to listen."""
        deadline = time.monotonic() + 20
        while not all((self.folder / f"heard-{run_id}").exists() for run_id in runs):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def in_a_folder(centre: Centre, folder: Path) -> Iterator[World]:
    """Yield the world; whatever was launched in it is stopped at its end, and its ledger holds."""
    found = World(centre, folder)
    yield found
    for run_id in found.launched:
        found.backend.stop(run_id, 0)
    assert check.findings(centre.database, found.now) == []
