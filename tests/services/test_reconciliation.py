"""The loop that compares what is held with what really runs, over real processes of the local backend."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from quotas.backends.local import LocalBackend
from quotas.backends.port import BackendAway
from quotas.domain.launch import Seen
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.schedules import ExecutionState, Timing
from quotas.services import admission, doors, projects, schedules
from quotas.services.reconciliation import STOP_GRACE_SECONDS, SUSPECT_SECONDS, Reconciler
from quotas.services.schedules import Finished, NewSchedule
from quotas.store import notices
from tests.centre import Centre
from tests.services import loop
from tests.services.loop import DEAF, POLICY, World


class Away(LocalBackend):
    """The local backend while its host does not answer."""

    def list_runs(self) -> list[Seen]:
        raise BackendAway("no answer")


@pytest.fixture
def world(seeded: Centre, tmp_path: Path) -> Iterator[World]:
    """The small centre with people, supply and one active project, and a loop."""
    yield from loop.in_a_folder(seeded, tmp_path)


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


def test_what_there_is_of_a_batch_run_after_it_was_collected_is_an_orphan(world: World) -> None:
    """The runner has recorded its end and looks for it no more: what still runs in its name is stopped and removed."""
    centre = world.centre
    timing = Timing("Asia/Seoul", once_at=world.now + 1)
    new = NewSchedule(centre.project, centre.member, "cpu-small", "train.ipynb", timing)
    schedule = schedules.create(centre.database, new, actor=centre.member, now=world.now)
    run_id = schedules.run_now(centre.database, schedule.id, actor=centre.member, now=world.now).run_id
    world.hold(kind=RunKind.BATCH, seconds=300, run_id=run_id)
    ended = admission.Ended(world.now, world.now + 5, Outcome.EXITED, 0)
    admission.settle(centre.database, run_id, ended, world.now + 5)
    world.launch(run_id)
    before = world.row(run_id)
    assert world.tick()["without_hold"] == 1
    assert world.backend.inspect(run_id) is not None, "its end is not recorded yet"
    assert world.tick()["kept"] == 1
    schedules.finish(centre.database, run_id, Finished(ExecutionState.SUCCEEDED, 0), world.now)
    assert world.tick()["removed"] == 1
    assert world.backend.inspect(run_id) is None
    assert world.row(run_id) == before


def test_many_that_do_not_listen_are_stopped_together(world: World) -> None:
    """One at a time, each would keep the others for the whole of its grace."""
    runs = [world.hold(kind=RunKind.BATCH, seconds=600) for _ in range(6)]
    for run_id in runs:
        world.launch(run_id, *DEAF)
        admission.started(world.centre.database, run_id, world.now)
    world.wait_for_deaf(runs)
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
