"""The loop that compares what is held with what really runs, over real processes of the local backend."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from quotas.backends.local import LocalBackend
from quotas.backends.port import BackendAway
from quotas.domain.admission import Admitted, Request
from quotas.domain.launch import RUN_VARIABLE, Launch, Seen
from quotas.domain.policy import Policy
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind, new_run_id
from quotas.services import admission, check, doors, projects
from quotas.services.reconciliation import STOP_GRACE_SECONDS, SUSPECT_SECONDS, Reconciler
from quotas.store import notices
from quotas.store import runs as runs_store
from tests.centre import Centre

POLICY = Policy()
PROFILE = Profile("cpu-small", "작은 CPU", "CPU small", "image", 1000, 2**30, 2**30)


@pytest.fixture
def centre(seeded: Centre) -> Centre:
    """The small centre with people, supply and one active project."""
    return seeded


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


class Away(LocalBackend):
    """The local backend while its host does not answer."""

    def list_runs(self) -> list[Seen]:
        raise BackendAway("no answer")


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

    def hold(self, profile: str = "cpu-small", kind: RunKind = RunKind.NOTEBOOK, seconds: int | None = None) -> str:
        run_id = new_run_id()
        request = Request(run_id, kind, self.centre.member, self.centre.project, profile, seconds, door=self.instance)
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


@pytest.fixture
def world(centre: Centre, tmp_path: Path) -> Iterator[World]:
    found = World(centre, tmp_path)
    yield found
    for run_id in found.launched:
        found.backend.stop(run_id, 0)
    assert check.findings(centre.database, found.now) == []


def test_a_running_server_is_extended_without_an_end(world: World) -> None:
    run_id = world.hold()
    world.start(run_id)
    first = world.row(run_id).until_at
    for _ in range(12):
        world.tick(600)
    row = world.row(run_id)
    assert row.hold_state == "open"
    assert row.until_at > first + 6000
    assert row.amount == (row.until_at - row.opened_at) * row.gflops
    assert world.alive(run_id)


def test_holds_are_extended_while_hub_and_backend_are_away(world: World) -> None:
    run_id = world.hold()
    world.start(run_id)
    world.door.known = None
    away = Reconciler(world.centre.database, Away(world.folder / "runs"), world.door, POLICY, 600)
    for _ in range(6):
        world.now += 600
        away.tick(world.now)
    assert world.row(run_id).until_at >= world.now + POLICY.stop_margin
    assert world.alive(run_id)


def test_a_held_run_without_a_process_waits_and_is_then_released(world: World) -> None:
    run_id = world.hold("h100")
    assert world.tick() == {"wait": 1}
    assert world.tick(600) == {"void": 1}
    row = world.row(run_id)
    assert (row.hold_state, row.charge, row.outcome) == ("voided", None, "failed_to_start")


def test_a_start_that_died_with_its_hub_is_released_at_once(world: World) -> None:
    run_id = world.hold()
    doors.boot(world.centre.database, "hub", world.now)
    assert world.tick() == {"void": 1}
    assert world.row(run_id).hold_state == "voided"


def test_a_server_started_by_a_hub_that_died_is_stopped_and_charged(world: World) -> None:
    run_id = world.hold()
    world.launch(run_id)
    doors.boot(world.centre.database, "hub", world.now)
    assert world.tick() == {"stop_stray": 1}
    row = world.row(run_id)
    assert (row.hold_state, row.outcome) == ("posted", "stray")
    assert row.charge == row.gflops * row.seconds
    assert world.alive(run_id) == []
    assert world.backend.inspect(run_id) is None


def test_a_server_that_the_hub_forgot_is_stopped_after_a_second_look(world: World) -> None:
    run_id = world.hold()
    world.start(run_id)
    assert world.door.known is not None
    world.door.known.clear()
    assert world.tick(5) == {"kept": 1}
    assert world.alive(run_id)
    assert world.tick(SUSPECT_SECONDS + 1) == {"stop_stray": 1}
    assert world.alive(run_id) == []
    assert world.row(run_id).outcome == "stray"


def test_a_hub_that_is_away_makes_nobody_a_stray(world: World) -> None:
    run_id = world.hold()
    world.start(run_id)
    world.door.known = None
    for _ in range(3):
        world.tick(30)
    assert world.alive(run_id)
    assert world.row(run_id).hold_state == "open"


def test_a_server_that_ended_by_itself_is_charged_and_its_record_removed(world: World) -> None:
    run_id = world.hold()
    world.launch(run_id, "sh", "-c", "exit 3")
    admission.started(world.centre.database, run_id, world.now)
    deadline = time.monotonic() + 10
    while world.alive(run_id) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert world.tick() == {"settle": 1}
    row = world.row(run_id)
    assert (row.hold_state, row.outcome, row.exit_code) == ("posted", "exited", 3)
    assert world.backend.inspect(run_id) is None


def test_a_run_that_vanished_is_charged_until_it_was_last_seen(world: World) -> None:
    run_id = world.hold()
    world.start(run_id)
    begun = world.now
    world.tick(100)
    seen_at = world.now
    for pid in world.alive(run_id):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while world.alive(run_id) and time.monotonic() < deadline:
        time.sleep(0.05)
    world.backend.remove(run_id)
    assert world.tick(300) == {"settle": 1}
    row = world.row(run_id)
    assert (row.outcome, row.seconds) == ("lost", seen_at - begun)


def test_a_process_without_a_hold_is_stopped(world: World) -> None:
    unknown = new_run_id()
    world.launch(unknown)
    assert world.tick() == {"without_hold": 1}
    assert world.alive(unknown) == []


@pytest.mark.parametrize("profile", ["cpu-small", "h100"])
def test_a_removed_member_is_stopped_at_the_next_look(world: World, profile: str) -> None:
    run_id = world.hold(profile)
    world.start(run_id)
    projects.remove_member(world.centre.database, world.centre.project, world.centre.member, actor="pi", now=world.now)
    assert world.tick() == {"stopped": 1}
    assert world.alive(run_id) == []
    assert world.row(run_id).outcome == "revoked"
    assert world.door.forgotten == [(world.centre.member, world.centre.project)]


@pytest.mark.parametrize("profile", ["cpu-small", "h100"])
def test_the_award_s_end_warns_once_and_stops_before_the_window_ends(world: World, profile: str) -> None:
    world.now = world.centre.ends_at - 1500
    run_id = world.hold(profile)
    world.start(run_id)
    assert world.row(run_id).until_at == world.centre.ends_at
    counted = [world.tick(200) for _ in range(5)]
    assert sum(each.get("warned", 0) for each in counted) == 1
    assert world.alive(run_id)
    world.tick(world.centre.ends_at - POLICY.stop_margin - world.now)
    assert world.alive(run_id) == []
    row = world.row(run_id)
    assert row.outcome == "limit"
    assert row.until_at <= world.centre.ends_at


def test_a_batch_run_is_stopped_at_its_time_limit_and_left_to_its_door(world: World) -> None:
    run_id = world.hold(kind=RunKind.BATCH, seconds=300)
    world.start(run_id)
    assert world.tick(200) == {"kept": 1}
    assert world.tick(110) == {"stopped": 1}
    assert world.row(run_id).outcome == "limit"
    assert world.backend.inspect(run_id) is not None, "its log and record are the batch runner's to collect"
    assert world.door.forgotten == []


def test_many_that_do_not_listen_are_stopped_together(world: World) -> None:
    """One at a time, each would keep the others for the whole of its grace."""
    deaf = ("sh", "-c", "trap '' TERM; touch heard-$MUDEUNG_RUN; while :; do sleep 0.2; done")
    runs = [world.hold(kind=RunKind.BATCH, seconds=600) for _ in range(6)]
    for run_id in runs:
        world.launch(run_id, *deaf)
        admission.started(world.centre.database, run_id, world.now)
    deadline = time.monotonic() + 20
    while not all((world.folder / f"heard-{run_id}").exists() for run_id in runs):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    projects.end(world.centre.database, world.centre.project, actor="operator", now=world.now)
    began = time.monotonic()
    assert world.tick() == {"stopped": 6, "expired": 1}
    assert STOP_GRACE_SECONDS <= time.monotonic() - began < 3 * STOP_GRACE_SECONDS
    assert [world.alive(run_id) for run_id in runs] == [[]] * 6
    assert {world.row(run_id).outcome for run_id in runs} == {"revoked"}


class Short(LocalBackend):
    """The local backend, on a host that says of every ended run that its memory ran out."""

    def inspect(self, run_id: str) -> Seen | None:
        seen = super().inspect(run_id)
        return None if seen is None else replace(seen, out_of_memory=not seen.running)


def test_a_server_that_ran_out_of_memory_says_so_and_tells_its_person(world: World) -> None:
    world.loop.backend = Short(world.folder / "runs")
    run_id = world.hold()
    world.launch(run_id, "sh", "-c", "exit 137")
    admission.started(world.centre.database, run_id, world.now)
    deadline = time.monotonic() + 10
    while world.alive(run_id) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert world.tick() == {"settle": 1}
    assert (world.row(run_id).outcome, world.row(run_id).exit_code) == ("out_of_memory", 137)
    with world.centre.database.read() as transaction:
        (notice,) = notices.of_person(transaction, world.centre.member, 0)
    assert notice.kind == "out of memory"
    assert "cpu-small" in notice.text_ko
