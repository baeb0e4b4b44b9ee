"""Joining and leaving the queue, and starting in one's turn or before it."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from quotas.domain.admission import Admitted, Request
from quotas.domain.priorities import Priority
from quotas.domain.queue import DOOR, EntryState, Mode, QueueLimits
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import Outcome, RunKind, RunState, new_run_id
from quotas.domain.units import InvalidValue
from quotas.services import admission, queue, queue_views, runs
from quotas.services.queue_entries import Entry
from quotas.store.tables import audit_events
from quotas.store.tables import runs as runs_table
from tests.services.centre import GPU_GFLOPS, Centre
from tests.services.waiting import NOW, POLICY, Waiters

START, OFFER = Mode.START, Mode.OFFER
BORROWED = Priority.BORROWED


@pytest.fixture
def waiters(centre: Centre) -> Waiters:
    return Waiters(centre)


@pytest.fixture
def full(waiters: Waiters) -> Waiters:
    waiters.fill()
    return waiters


def code(found: object) -> str:
    assert isinstance(found, Refused), found
    return found.code.value


class TestJoining:
    def test_who_finds_the_pool_full_may_wait(self, full: Waiters) -> None:
        assert code(full.start("kim", NOW) if full.person("kim") else None) == "pool_full"
        entry = full.join("kim", NOW + 5, mode=START)
        assert (entry.state, entry.mode, entry.wish) == (EntryState.WAITING, START, Priority.GUARANTEED)
        assert (entry.person, entry.project, entry.profile, entry.device_model) == ("kim", "kim", "gpu", "h100")
        assert (entry.joined_at, entry.device_count, entry.turn_at) == (NOW + 5, 1, None)

    def test_nothing_is_held_for_one_who_waits(self, full: Waiters) -> None:
        allocation = full.person("kim", budget=10**9)
        full.join("kim")
        assert full.centre.balances(allocation)["held"] == 0
        assert runs.run(full.centre.database, full.runs["kim"]) is None

    def test_others_then_come_after(self, full: Waiters) -> None:
        full.join("kim")
        full.stop("p01", NOW + 10)
        full.person("lee")
        assert code(full.start("lee", NOW + 11)) == "queue_ahead"
        assert isinstance(full.ask("lee", NOW + 11), Entry)

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ({"project": "vision"}, "not_a_member"),
            ({"profile": "nothing"}, "profile_unknown"),
            ({"profile": "cpu"}, "nothing_to_wait_for"),
        ],
    )
    def test_every_other_refusal_is_the_answer(self, full: Waiters, asked: dict[str, str], expected: str) -> None:
        full.person("kim")
        assert code(full.ask("kim", **asked)) == expected  # type: ignore[arg-type]
        assert queue_views.of_person(full.centre.database, "kim", NOW) == []

    def test_who_may_not_have_more_has_no_place(self, full: Waiters) -> None:
        full.person("kim", ceiling=GPU_GFLOPS - 1)
        assert code(full.ask("kim")) == "ceiling"
        assert isinstance(full.ask("kim", wish=BORROWED), Entry)

    def test_who_could_start_now_waits_for_a_moment(self, waiters: Waiters) -> None:
        waiters.join("kim")
        assert waiters.step(NOW + 1) == {"turn": 1}

    def test_joining_again_is_the_same_entry_at_the_same_place(self, full: Waiters) -> None:
        first = full.join("kim", NOW)
        assert full.join("kim", NOW + 9) == first
        changed = full.join("kim", NOW + 9, mode=START, wish=BORROWED)
        assert (changed.run_id, changed.joined_at) == (first.run_id, first.joined_at)
        assert (changed.mode, changed.wish) == (START, BORROWED)

    def test_a_wish_that_is_refused_changes_nothing(self, full: Waiters) -> None:
        full.person("kim", ceiling=GPU_GFLOPS - 1)
        first = full.join("kim", wish=BORROWED)
        assert code(full.ask("kim", NOW + 1)) == "ceiling"
        assert full.entry("kim") == first

    def test_another_profile_gives_the_place_up(self, full: Waiters) -> None:
        first = full.join("kim", NOW)
        other = full.join("kim", NOW + 9, profile="gpu-2")
        assert (other.profile, other.joined_at, other.device_count) == ("gpu-2", NOW + 9, 2)
        assert queue_views.one(full.centre.database, first.run_id, NOW).entry.state is EntryState.CANCELLED

    def test_another_profile_that_is_refused_gives_nothing_up(self, full: Waiters) -> None:
        first = full.join("kim", NOW)
        assert code(full.ask("kim", NOW + 9, profile="nothing")) == "profile_unknown"
        assert full.entry("kim") == first

    def test_a_person_has_so_many_places(self, full: Waiters) -> None:
        full.limits = QueueLimits(per_person=2)
        full.person("kim")
        for project in ("second", "third"):
            full.centre.project(project, {"kim": "pi"})
            full.centre.award(project, 10**12)
        full.join("kim")
        full.join("kim", project="second")
        assert code(full.ask("kim", project="third")) == "queue_limit"
        full.join("kim", project="second", mode=START)
        queue.cancel(full.centre.database, full.runs["kim"], actor="kim", person="kim", now=NOW + 1)
        full.join("kim", project="third")

    def test_a_line_has_so_many_places(self, full: Waiters) -> None:
        full.limits = QueueLimits(per_model=1)
        full.join("kim")
        assert code(full.ask("lee")) == "queue_full"

    def test_a_batch_run_waits_under_its_own_id(self, full: Waiters) -> None:
        entry = full.join("kim", seconds=600, mode=START)
        assert (entry.kind, entry.seconds) == (RunKind.BATCH, 600)
        again = Request(entry.run_id, RunKind.BATCH, "kim", "kim", "gpu", 600)
        assert queue.join(full.centre.database, again, START, NOW + 5, POLICY) == entry

    def test_it_is_in_the_audit(self, full: Waiters) -> None:
        full.join("kim")
        with full.centre.database.read() as transaction:
            row = transaction.one(select(audit_events).where(audit_events.c.action == "queue joined"))
        assert (row.actor, row.subject) == ("kim", "kim")


class TestCancelling:
    def test_a_place_is_given_up(self, full: Waiters) -> None:
        full.join("kim")
        entry = queue.cancel(full.centre.database, full.runs["kim"], actor="kim", person="kim", now=NOW + 7)
        assert (entry.state, entry.ended_at) == (EntryState.CANCELLED, NOW + 7)
        assert full.told("kim") == []
        full.stop("p01", NOW + 10)
        assert full.step(NOW + 11) == {}

    def test_a_turn_is_given_back(self, full: Waiters) -> None:
        allocation = full.person("kim")
        full.join("kim")
        full.stop("p01", NOW + 10)
        full.step(NOW + 11)
        assert full.devices() == 8
        queue.cancel(full.centre.database, full.runs["kim"], actor="kim", person="kim", now=NOW + 12)
        assert full.devices() == 7
        run = runs.run(full.centre.database, full.runs["kim"])
        assert (run.state, run.charge, run.outcome) == (RunState.SETTLED, 0, Outcome.FAILED_TO_START)
        assert full.centre.balances(allocation)["held"] == 0
        assert full.step(NOW + 13) == {}

    def test_who_is_cancelled_by_another_is_told(self, full: Waiters) -> None:
        full.join("kim")
        queue.cancel(full.centre.database, full.runs["kim"], actor="cli:root", now=NOW + 7)
        assert full.told("kim") == [
            ("queue ended", "You do not wait any more for gpu on kim: an operator cancelled it.")
        ]

    def test_nobody_cancels_anothers(self, full: Waiters) -> None:
        full.join("kim")
        full.join("lee")
        for run_id in (full.runs["kim"], new_run_id()):
            with pytest.raises(InvalidValue, match="entry"):
                queue.cancel(full.centre.database, run_id, actor="lee", person="lee", now=NOW)
            with pytest.raises(InvalidValue, match="entry"):
                queue.take(full.centre.database, run_id, person="lee", now=NOW)
        assert full.state("kim") is EntryState.WAITING

    def test_an_end_is_final(self, full: Waiters) -> None:
        full.join("kim")
        queue.cancel(full.centre.database, full.runs["kim"], actor="kim", now=NOW)
        with pytest.raises(InvalidValue, match="waits no more: cancelled"):
            queue.cancel(full.centre.database, full.runs["kim"], actor="kim", now=NOW)


class TestStarting:
    @pytest.fixture
    def turn(self, full: Waiters) -> Waiters:
        """It is kim's turn."""
        full.join("kim")
        full.stop("p01", NOW + 10)
        assert full.step(NOW + 11) == {"turn": 1}
        return full

    def test_a_turn_is_taken_by_the_start(self, turn: Waiters) -> None:
        decision = turn.start("kim", NOW + 100, door="hub:7")
        assert isinstance(decision, Admitted)
        assert decision.run_id == turn.runs["kim"]
        assert (decision.opened_at, decision.priority) == (NOW + 11, Priority.GUARANTEED)
        assert turn.state("kim") is EntryState.TAKEN
        assert turn.devices() == 8
        with turn.centre.database.read() as transaction:
            row = transaction.one(select(runs_table).where(runs_table.c.id == decision.run_id))
        assert (row.door, row.requested_at, row.state) == ("hub:7", NOW + 100, "held")

    def test_until_then_it_is_nobodys(self, turn: Waiters) -> None:
        with turn.centre.database.read() as transaction:
            row = transaction.one(select(runs_table).where(runs_table.c.id == turn.runs["kim"]))
        assert row.door == DOOR

    def test_asked_twice_it_is_taken_once(self, turn: Waiters) -> None:
        assert isinstance(turn.start("kim", NOW + 100), Admitted)
        second = turn.start("kim", NOW + 101)
        assert code(second) == "already_running"

    def test_rights_are_read_anew(self, turn: Waiters) -> None:
        turn.centre.end_project("kim")
        assert code(turn.start("kim", NOW + 100)) == "project_ended"
        assert turn.state("kim") is EntryState.REFUSED
        assert turn.devices() == 7
        assert [kind for kind, _ in turn.told("kim")] == ["queue turn", "queue ended"]

    def test_another_profile_gives_the_turn_back(self, turn: Waiters) -> None:
        decision = turn.start("kim", NOW + 100, profile="cpu")
        assert isinstance(decision, Admitted)
        assert decision.run_id != turn.runs["kim"]
        assert (turn.state("kim"), turn.devices()) == (EntryState.CANCELLED, 7)

    def test_another_profile_that_is_refused_leaves_the_turn(self, turn: Waiters) -> None:
        assert code(turn.start("kim", NOW + 100, profile="gpu-2")) == "pool_full"
        assert (turn.state("kim"), turn.devices()) == (EntryState.TURN, 8)
        with turn.centre.database.read() as transaction:
            row = transaction.one(select(audit_events).where(audit_events.c.action == "start refused"))
        assert "pool_full" in row.detail

    def test_another_profile_may_take_the_turns_own_devices(self, turn: Waiters) -> None:
        turn.stop("p02", NOW + 50)
        decision = turn.start("kim", NOW + 100, profile="gpu-2")
        assert isinstance(decision, Admitted)
        assert (turn.state("kim"), turn.devices()) == (EntryState.CANCELLED, 8)

    def test_who_waits_alone_may_start_before_the_step(self, full: Waiters) -> None:
        full.join("kim")
        full.stop("p01", NOW + 10)
        decision = full.start("kim", NOW + 11)
        assert isinstance(decision, Admitted)
        assert decision.run_id == full.runs["kim"]
        assert full.state("kim") is EntryState.TAKEN
        assert full.step(NOW + 12) == {}

    def test_who_starts_something_else_waits_no_more(self, full: Waiters) -> None:
        full.join("kim")
        assert isinstance(full.start("kim", NOW + 11, profile="cpu"), Admitted)
        assert full.state("kim") is EntryState.CANCELLED
        assert full.told("kim") == [
            ("queue ended", "You do not wait any more for gpu on kim: you have started a server on the project.")
        ]

    def test_a_wish_of_ones_own_does_not_stand_before_oneself(self, waiters: Waiters) -> None:
        waiters.fill(7)
        waiters.join("kim", profile="gpu-2")
        assert isinstance(waiters.start("kim", NOW + 1, profile="gpu"), Admitted)

    def test_a_batch_run_takes_its_turn_by_its_id(self, full: Waiters) -> None:
        entry = full.join("kim", seconds=600, mode=START)
        full.stop("p01", NOW + 10)
        full.step(NOW + 11)
        request = Request(entry.run_id, RunKind.BATCH, "kim", "kim", "gpu", 600, door="batch:1")
        first = queue.start(full.centre.database, request, NOW + 12, POLICY)
        assert isinstance(first, Admitted)
        assert first.run_id == entry.run_id
        assert queue.start(full.centre.database, request, NOW + 13, POLICY) == first
        assert full.state("kim") is EntryState.TAKEN

    def test_without_an_entry_it_is_a_start_like_any_other(self, waiters: Waiters) -> None:
        waiters.person("kim")
        request = Request(new_run_id(), RunKind.NOTEBOOK, "kim", "kim", "gpu")
        first = queue.start(waiters.centre.database, request, NOW, POLICY)
        assert isinstance(first, Admitted)
        assert queue.start(waiters.centre.database, request, NOW, POLICY) == first
        assert admission.reserve(waiters.centre.database, request, NOW, POLICY) == first


class TestTelling:
    def test_whoever_left_the_start_to_the_platform_is_told_of_its_end_once(self, full: Waiters) -> None:
        full.join("kim", mode=START)
        full.stop("p01", NOW + 10)
        full.step(NOW + 11)
        full.start("kim", NOW + 12)
        for _ in range(2):
            queue.started(full.centre.database, full.runs["kim"], NOW + 15)
        assert [kind for kind, _ in full.told("kim")] == ["queue turn", "queue started"]

    def test_so_it_is_when_it_fails(self, full: Waiters) -> None:
        full.join("kim", mode=START)
        full.stop("p01", NOW + 10)
        full.step(NOW + 11)
        full.start("kim", NOW + 12)
        queue.failed(full.centre.database, full.runs["kim"], Refused(Code.LEDGER_AWAY), NOW + 15)
        kind, text = full.told("kim")[-1]
        assert kind == "queue ended"
        assert text.startswith("Your turn for gpu on kim had come, but: The ledger does not answer")

    def test_who_starts_it_sees_it(self, full: Waiters) -> None:
        full.join("kim", mode=OFFER)
        full.stop("p01", NOW + 10)
        full.step(NOW + 11)
        full.start("kim", NOW + 12)
        queue.started(full.centre.database, full.runs["kim"], NOW + 15)
        queue.started(full.centre.database, new_run_id(), NOW + 15)
        assert [kind for kind, _ in full.told("kim")] == ["queue turn"]
