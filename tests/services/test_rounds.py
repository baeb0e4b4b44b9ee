"""A round of the loop with everything in it: shortages, what is wanted back, the queue, and what fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quotas.domain.admission import Request
from quotas.domain.pools import CapacityPhase
from quotas.domain.priorities import Priority
from quotas.domain.queue import EntryState, Mode
from quotas.domain.reservations import Asked
from quotas.domain.runs import RunKind, new_run_id
from quotas.services import doors, pools, queue, queue_steps, reservations
from quotas.services.reconciliation import STOP_GRACE_SECONDS
from quotas.services.reservations import Approval
from quotas.store import runs as runs_store
from quotas.store.database import DatabaseAway, Prepared, Transaction
from spawners.reconciler import once
from tests.centre import Centre
from tests.services import loop
from tests.services.faults import failing_after
from tests.services.loop import DEAF, POLICY, World


@pytest.fixture
def world(seeded: Centre, tmp_path: Path) -> Iterator[World]:
    """The small centre with people, supply and one active project, and a loop."""
    yield from loop.in_a_folder(seeded, tmp_path)


def test_borrowed_devices_are_given_back_to_who_waits_for_them(world: World) -> None:
    """From the notice to the turn, and charged for what it ran: neither killed at once nor at anyone's cost."""
    database = world.centre.database
    phase = CapacityPhase("h100", world.now, 4, 4, 1)
    pools.add_phase(database, "main", phase, actor="operator", now=world.now)
    run_id = world.hold("h100", wish=Priority.OPPORTUNISTIC)
    world.start(run_id)
    asked = Request(new_run_id(), RunKind.NOTEBOOK, world.centre.pi, world.centre.project, "h100")
    entry = queue.join(database, asked, Mode.START, world.now, POLICY)
    assert entry.state is EntryState.WAITING
    world.now += 100
    assert queue_steps.step(database, world.now, POLICY)["waits"] == 1
    wanted_at = world.now + POLICY.preempt_notice
    assert world.row(run_id).preempt_at == wanted_at
    assert world.told(world.centre.member) == ["run preempted"]
    while world.now + 20 < wanted_at:
        assert world.tick() == {"ending": 1}
        assert queue_steps.step(database, world.now, POLICY)["waits"] == 1
    assert world.alive(run_id)
    assert world.tick(wanted_at - world.now) == {"stopped": 1}
    row = world.row(run_id)
    assert world.alive(run_id) == []
    assert (row.hold_state, row.outcome, row.charge) == ("posted", "preempted", row.gflops * row.seconds)
    assert row.until_at - POLICY.stop_margin >= wanted_at, "it was paid for to the end of the notice"
    assert world.door.forgotten == [(world.centre.member, world.centre.project)]
    assert queue_steps.step(database, world.now, POLICY)["turn"] == 1
    assert world.row(entry.run_id).hold_state == "open"
    assert world.tick() == {"wait": 1}, "its person has their time to come"
    assert world.told(world.centre.member) == ["run preempted"]


def test_who_leaves_the_queue_lets_the_others_go_on(world: World) -> None:
    database = world.centre.database
    phase = CapacityPhase("h100", world.now, 4, 4, 1)
    pools.add_phase(database, "main", phase, actor="operator", now=world.now)
    run_id = world.hold("h100", wish=Priority.OPPORTUNISTIC)
    world.start(run_id)
    asked = Request(new_run_id(), RunKind.NOTEBOOK, world.centre.pi, world.centre.project, "h100")
    queue.join(database, asked, Mode.OFFER, world.now, POLICY)
    queue_steps.step(database, world.now, POLICY)
    assert world.row(run_id).preempt_at is not None
    queue.cancel(database, asked.run_id, actor=world.centre.pi, now=world.now)
    world.tick()
    assert world.row(run_id).preempt_at is None
    assert world.told(world.centre.member) == ["run preempted", "run spared"]
    for _ in range(4):
        world.tick(600)
    assert world.alive(run_id)


def test_a_failed_device_lets_the_present_hold_be_the_last(world: World) -> None:
    database = world.centre.database
    phase = CapacityPhase("h100", world.now, 4, 4, 2)
    pools.add_phase(database, "main", phase, actor="operator", now=world.now)
    kept, marked = world.hold("h100"), world.hold("h100", wish=Priority.OPPORTUNISTIC, person=world.centre.pi)
    for run_id in (kept, marked):
        world.start(run_id)
    held_until = world.row(marked).until_at
    world.tick()
    pools.drain(database, "main", "h100", 1, "XID 79", actor="operator", now=world.now)
    assert world.tick() == {"kept": 2, "marked": 1}
    assert world.told(world.centre.pi) == ["run not extended"]
    while world.now + 200 < held_until - POLICY.stop_margin:
        world.tick(200)
        assert world.alive(marked), "nobody is stopped inside a hold"
    assert world.tick(held_until - POLICY.stop_margin - world.now)["stopped"] == 1
    assert world.alive(marked) == []
    assert world.row(marked).outcome == "limit"
    assert world.row(kept).until_at > world.now
    assert world.alive(kept)
    assert world.told(world.centre.pi) == ["run not extended"]
    (drained,) = pools.open_drains(database)
    pools.undrain(database, drained.id, actor="operator", now=world.now)
    assert world.hold("h100", wish=Priority.OPPORTUNISTIC, person=world.centre.pi)
    world.loop.backend.remove(marked)


def test_a_part_that_fails_keeps_the_others_from_nothing(world: World) -> None:
    run_id = world.hold()
    world.start(run_id)
    first = world.row(run_id).until_at
    with failing_after(1, RuntimeError("the first statement of the first part")) as reached:
        assert world.tick(700) == {"failed": 1, "extended": 1}
        assert reached()
    assert world.row(run_id).until_at > first
    assert "failed" not in world.tick()


@pytest.mark.parametrize("error", [RuntimeError("a bug"), DatabaseAway("for a moment")])
def test_a_round_of_which_a_part_failed_is_no_success(world: World, error: Exception) -> None:
    with failing_after(1, error):
        assert not once(world.loop, ())
    assert once(world.loop, ())


def test_a_run_that_cannot_be_looked_at_keeps_the_others_from_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, well = world.hold(), world.hold(person=world.centre.pi)
    for run_id in (broken, well):
        world.start(run_id)
    run = Transaction.run

    def failing(self: Transaction, statement: Prepared, /, **parameters: object) -> int:
        if parameters.get("run") == broken:
            raise ValueError("a row that nobody can read")
        return run(self, statement, **parameters)

    monkeypatch.setattr(Transaction, "run", failing)
    assert world.tick(700) == {"failed": 1, "extended": 1}
    monkeypatch.undo()
    assert world.tick() == {"extended": 1, "kept": 1}


def test_strangers_that_do_not_listen_are_stopped_together(world: World) -> None:
    strangers = [new_run_id() for _ in range(6)]
    for run_id in strangers:
        world.launch(run_id, *DEAF)
    world.wait_for_deaf(strangers)
    began = time.monotonic()
    assert world.tick() == {"without_hold": 6}
    assert STOP_GRACE_SECONDS <= time.monotonic() - began < 3 * STOP_GRACE_SECONDS
    assert [world.alive(run_id) for run_id in strangers] == [[]] * 6
    assert world.backend.list_runs() == []


def test_what_unclaimed_seats_cost_is_left_to_their_window(world: World) -> None:
    """The run of idle seats has no process: the loop neither releases it nor asks its backend to stop it."""
    database, begins = world.centre.database, world.now + 3600
    asked = Asked(world.centre.project, "h100", 1, "Asia/Seoul", begins, 7200, "수업", "A class")
    found, _ = reservations.request(database, asked, by=world.centre.pi, now=world.now, policy=POLICY)
    approval = Approval()
    reservations.approve(database, found.number, approval, actor="operator", now=world.now, policy=POLICY)
    assert world.tick(begins - POLICY.seats_early - world.now) == {"window_opened": 1}
    with database.read() as transaction:
        (held,) = [row.id for row in runs_store.open_runs(transaction) if row.kind == RunKind.SEATS.value]
    world.now = begins
    doors.boot(database, "hub", world.now)
    doors.boot(database, "batch", world.now)
    for _ in range(3):
        assert world.tick(200) == {}
        assert world.row(held).hold_state == "open"
    assert world.tick(begins + POLICY.seats_release - world.now)["window_released"] == 1
    assert world.row(held).hold_state == "posted"
