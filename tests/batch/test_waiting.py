"""Batch runs that wait in the queue for devices: until their turn, a limit or a cancellation, over restarts too."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.pools import CapacityPhase
from quotas.domain.priorities import Priority
from quotas.domain.queue import EntryState, QueueLimits
from quotas.domain.runs import Outcome, RunKind, RunState, new_run_id
from quotas.domain.schedules import ExecutionState
from quotas.domain.units import InvalidValue
from quotas.services import admission, check, pools, projects, queue, queue_steps, queue_views, schedules
from quotas.services.schedules import Execution, Schedule
from quotas.store import notices
from quotas.store import runs as runs_store
from tests.batch.conftest import Platform, build, end

LIMITS = QueueLimits()


class World:
    """A platform with one device, that the PI has, and a batch run of the member's that wants it."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.policy = platform.home.settings.policy()
        now = int(time.time())
        pools.add_phase(platform.database, "main", CapacityPhase("h100", now, 4, 4, 1), actor="tests", now=now)
        self.holder = new_run_id()
        request = Request(self.holder, RunKind.NOTEBOOK, "pi", "vision", "h100")
        assert isinstance(admission.reserve(platform.database, request, now, self.policy), Admitted)
        platform.notebook("work.ipynb", "print('done')")

    def due(self, **changes: object) -> Schedule:
        return self.platform.due("work.ipynb", profile="h100", **changes)

    def look(self) -> None:
        """A scheduler that has just begun carries what it can."""
        self.platform.scheduler().run_once()

    def free(self) -> None:
        """The PI has stopped."""
        ended = admission.Ended(None, None, Outcome.FAILED_TO_START)
        admission.settle(self.platform.database, self.holder, ended, int(time.time()))

    def step(self, after: int = 0, limits: QueueLimits = LIMITS) -> None:
        queue_steps.step(self.platform.database, int(time.time()) + after, self.policy, limits)

    def state(self, execution: Execution) -> EntryState:
        place = queue_views.one(self.platform.database, execution.run_id, int(time.time()))
        assert place is not None
        return place.entry.state


@pytest.fixture
def world(platform: Platform) -> World:
    return World(platform)


@pytest.fixture(autouse=True)
def _sound(platform: Platform) -> Iterator[None]:
    yield
    assert check.findings(platform.database, int(time.time())) == []


def test_it_waits_instead_of_being_refused_and_runs_in_its_turn(world: World) -> None:
    schedule = world.due()
    world.look()
    execution = world.platform.only(schedule)
    assert (execution.state, execution.queue_state) == (ExecutionState.WAITING, EntryState.WAITING)
    assert world.state(execution) is EntryState.WAITING
    world.look()  # another scheduler, while nothing is free
    assert world.platform.only(schedule).state is ExecutionState.WAITING
    world.free()
    world.step()
    assert world.state(execution) is EntryState.TURN
    world.look()
    execution = world.platform.only(schedule)
    assert execution.state is ExecutionState.SUCCEEDED
    assert world.state(execution) is EntryState.TAKEN
    run = world.platform.run(execution)
    assert (run.id, run.state, run.outcome) == (execution.run_id, RunState.SETTLED, Outcome.EXITED)
    assert run.charge


def test_it_runs_the_notebook_as_it_was_when_it_was_due(world: World) -> None:
    schedule = world.due()
    world.look()
    world.platform.notebook("work.ipynb", "print('changed')")
    world.free()
    world.step()
    world.look()
    assert "done" in str(world.platform.only(schedule).log)


def test_a_turn_does_not_wait_for_the_machines_own_limit(tmp_path: Path, today_file: Path) -> None:
    platform = build(tmp_path / "home", today_file, max_batch_runs=1)
    try:
        world = World(platform)
        schedule = world.due()
        world.look()
        world.free()
        world.step()
        scheduler = platform.scheduler()
        scheduler.boot()
        scheduler._in_hand["another"] = threading.Thread()
        assert scheduler._take_up() == 1
        scheduler._in_hand.pop("another")
        while scheduler._in_hand:
            time.sleep(0.05)
        assert platform.only(schedule).state is ExecutionState.SUCCEEDED
    finally:
        end(platform)


def test_cancelled_it_ends_as_such(world: World) -> None:
    schedule = world.due()
    world.look()
    run_id = world.platform.only(schedule).run_id
    queue.cancel(world.platform.database, run_id, actor="member", person="member", now=int(time.time()))
    world.look()
    execution = world.platform.only(schedule)
    assert (execution.state, execution.reason_en) == (ExecutionState.CANCELLED, "you cancelled it.")
    assert not (world.platform.home.batch / run_id).exists()


def test_after_a_limit_it_ends_with_the_reason(world: World) -> None:
    schedule = world.due()
    world.look()
    world.step(after=3_601, limits=QueueLimits(wait_seconds=3_600))
    world.look()
    execution = world.platform.only(schedule)
    assert (execution.state, execution.reason_en) == (ExecutionState.REFUSED, "its turn did not come within 1 h.")
    with world.platform.database.read() as transaction:
        told = notices.of_person(transaction, "member", 0)
    assert [row.kind for row in told] == ["queue ended"]


def test_who_may_not_run_any_more_ends_with_the_reason(world: World) -> None:
    schedule = world.due()
    world.look()
    projects.remove_member(world.platform.database, "vision", "member", actor="pi", now=int(time.time()))
    world.step()
    world.look()
    execution = world.platform.only(schedule)
    assert execution.state is ExecutionState.REFUSED
    assert "is not a member of vision" in str(execution.reason_en)


def test_a_turn_that_nobody_took_ends_it(world: World) -> None:
    schedule = world.due()
    world.look()
    world.free()
    world.step()
    world.step(after=world.policy.offer + 1)
    world.look()
    execution = world.platform.only(schedule)
    assert execution.state is ExecutionState.REFUSED
    assert str(execution.reason_en).startswith("the start did not succeed by ")


def test_cut_off_after_joining_it_waits_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = world.due()

    def cut_off(*_: object) -> None:
        raise RuntimeError("the process ends here")

    with monkeypatch.context() as patched:
        patched.setattr(schedules, "mark_waiting", cut_off)
        world.look()
    assert world.platform.only(schedule).state is ExecutionState.CLAIMED
    assert world.state(world.platform.only(schedule)) is EntryState.WAITING
    world.free()
    world.step()
    world.look()
    assert world.platform.only(schedule).state is ExecutionState.SUCCEEDED


def test_a_firing_while_the_last_one_waits_is_not_started(world: World) -> None:
    schedule = world.due()
    world.look()
    world.platform.change(schedule.id, next_at=int(time.time()))
    world.look()
    states = sorted(each.state.value for each in world.platform.executions(schedule))
    assert states == ["refused", "waiting"]


def test_a_schedule_says_how_firmly_it_asks(world: World) -> None:
    world.free()
    schedule = world.due(wish=Priority.OPPORTUNISTIC)
    assert schedule.wish is Priority.OPPORTUNISTIC
    world.look()
    execution = world.platform.only(schedule)
    assert execution.state is ExecutionState.SUCCEEDED
    with world.platform.database.read() as transaction:
        assert runs_store.one(transaction, execution.run_id).priority == "opportunistic"


def test_nobody_schedules_with_a_seats_priority(world: World) -> None:
    with pytest.raises(InvalidValue, match="wish: must be one of guaranteed, borrowed, opportunistic"):
        world.due(wish=Priority.RESERVED)
