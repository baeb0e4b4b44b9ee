"""Steps of the queue: whose turn it is, in which order, for how long, and who gives way for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import insert, update

from quotas.domain.admission import Admitted, Request
from quotas.domain.priorities import Priority
from quotas.domain.queue import EntryState, Mode, QueueLimits
from quotas.domain.runs import RunKind
from quotas.services import admission, preemption, queue, queue_steps, runs
from quotas.store.tables import allocations, audit_events, pool_devices, pools
from tests.services.centre import GPU_GFLOPS, Centre
from tests.services.waiting import NOW, POLICY, Waiters

START, OFFER = Mode.START, Mode.OFFER
GUARANTEED, BORROWED, OPPORTUNISTIC = Priority.GUARANTEED, Priority.BORROWED, Priority.OPPORTUNISTIC


@pytest.fixture
def waiters(centre: Centre) -> Waiters:
    return Waiters(centre)


def stop(waiters: Waiters, number: int, at: int = NOW + 100) -> None:
    """So many of those who hold devices have stopped."""
    running = sorted(waiters.holders.open())
    for person in running[:number]:
        waiters.stop(person, at)


class TestTurns:
    def test_whose_turn_it_is_has_the_devices(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("kim")
        assert waiters.step(NOW + 50) == {"waits": 1}
        stop(waiters, 1)
        assert waiters.step(NOW + 101) == {"turn": 1}
        entry = waiters.entry("kim")
        assert (entry.state, entry.turn_at, entry.turn_until) == (EntryState.TURN, NOW + 101, NOW + 101 + POLICY.offer)
        assert waiters.devices() == 8
        assert waiters.step(NOW + 104) == {}
        assert waiters.told("kim") == [
            (
                "queue turn",
                (
                    "Your turn has come for gpu on kim: the devices are kept for you until 2027-01-16 17:11 KST. Start"
                    " the server from the home page before that."
                ),
            )
        ]

    def test_nobody_takes_the_devices_of_a_turn(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("kim")
        stop(waiters, 1)
        waiters.step(NOW + 101)
        waiters.person("lee")
        assert not isinstance(waiters.start("lee", NOW + 102), Admitted)

    def test_a_turn_not_taken_is_over_and_the_next_ones_comes(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("kim", NOW)
        waiters.join("lee", NOW + 1)
        stop(waiters, 1)
        waiters.step(NOW + 101)
        assert waiters.step(NOW + 100 + POLICY.offer) == {"waits": 1}
        assert waiters.step(NOW + 101 + POLICY.offer) == {"expired": 1, "turn": 1}
        assert waiters.states() == {"kim": "expired", "lee": "turn"}
        assert runs.run(waiters.centre.database, waiters.runs["kim"]).charge == 0
        assert waiters.told("kim")[-1] == (
            "queue ended",
            "You do not wait any more for gpu on kim: the turn was not taken by 2027-01-16 17:11 KST.",
        )

    def test_a_start_that_did_not_succeed_is_told_as_such(self, waiters: Waiters) -> None:
        waiters.join("kim", mode=START)
        waiters.step(NOW + 1)
        waiters.step(NOW + 1 + POLICY.offer)
        assert waiters.entry("kim").reason_en == "the start did not succeed by 2027-01-16 17:10 KST."

    def test_a_short_hold_is_not_spent_on_waiting_for_its_person(self, waiters: Waiters) -> None:
        waiters.person("kim", budget=900 * GPU_GFLOPS)
        waiters.join("kim")
        waiters.step(NOW)
        assert waiters.entry("kim").turn_until == NOW + 900 - POLICY.minimum

    def test_even_the_shortest_leaves_a_minute(self, waiters: Waiters) -> None:
        waiters.person("kim", budget=POLICY.minimum * GPU_GFLOPS)
        waiters.join("kim")
        waiters.step(NOW)
        assert waiters.entry("kim").turn_until == NOW + 60

    def test_a_batch_run_holds_its_length(self, waiters: Waiters) -> None:
        waiters.join("kim", seconds=7_200, mode=START)
        waiters.step(NOW)
        run = runs.run(waiters.centre.database, waiters.runs["kim"])
        assert (run.kind, run.until_at) == (RunKind.BATCH, NOW + 7_200 + POLICY.stop_margin)

    def test_nobody_waits_for_ever(self, waiters: Waiters) -> None:
        waiters.limits = QueueLimits(wait_seconds=3_600)
        waiters.fill()
        waiters.join("kim")
        waiters.join("lee", NOW + 1)
        assert waiters.step(NOW + 3_600) == {"expired": 1, "waits": 1}
        assert waiters.states() == {"kim": "expired", "lee": "waiting"}
        assert waiters.told("kim")[-1][1].endswith("its turn did not come within 1 h.")

    def test_what_was_admitted_before_its_turn_waits_no_more(self, waiters: Waiters) -> None:
        entry = waiters.join("kim", seconds=600, mode=START)
        request = Request(entry.run_id, RunKind.BATCH, "kim", "kim", "gpu", 600)
        assert isinstance(admission.reserve(waiters.centre.database, request, NOW, POLICY), Admitted)
        assert waiters.step(NOW + 1) == {"gone": 1}
        assert waiters.state("kim") is EntryState.TAKEN


class TestOrder:
    def test_class_then_share_then_who_came_first(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("idle-later", NOW + 9)
        waiters.join("busy", NOW + 1, used=1.0)
        waiters.join("idle-first", NOW + 5)
        waiters.join("gleaner", NOW, wish=OPPORTUNISTIC)
        waiters.person("borrower", ceiling=GPU_GFLOPS - 1)
        waiters.join("borrower", NOW, wish=BORROWED)
        came = []
        for number in range(5):
            stop(waiters, 1, NOW + 100 + number)
            waiters.step(NOW + 100 + number)
            came += [name for name in waiters.in_turn() if name not in came]
        assert came == ["idle-first", "idle-later", "busy", "borrower", "gleaner"]

    def test_what_a_turn_holds_counts_before_the_next(self, waiters: Waiters) -> None:
        """Two people of one project came first; the one of another project has the second turn all the same."""
        waiters.fill()
        waiters.person("kim")
        waiters.centre.member("kim", "kai")
        waiters.join("kim", NOW)
        waiters.join("kai", NOW + 1, project="kim")
        waiters.join("lee", NOW + 2)
        stop(waiters, 2)
        waiters.step(NOW + 101)
        assert waiters.in_turn() == ["kim", "lee"]

    def test_one_who_wants_many_is_not_overtaken_for_ever(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("many", NOW, profile="gpu-2")
        waiters.join("one", NOW + 1)
        stop(waiters, 1)
        assert waiters.step(NOW + 101)["turn"] == 0
        stop(waiters, 1)
        assert waiters.step(NOW + 102)["turn"] == 1
        assert waiters.in_turn() == ["many"]

    def test_those_who_give_way_may_use_what_is_kept(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("many", NOW, profile="gpu-2")
        waiters.join("gleaner", NOW + 1, wish=OPPORTUNISTIC)
        stop(waiters, 1)
        waiters.step(NOW + 101)
        assert waiters.in_turn() == ["gleaner"]

    def test_a_projects_own_reason_holds_up_nobody(self, waiters: Waiters) -> None:
        waiters.fill()
        allocation = waiters.person("full", ceiling=GPU_GFLOPS)
        waiters.centre.member("full", "mate")
        waiters.join("full", NOW)
        waiters.join("mate", NOW + 1, project="full")
        waiters.join("lee", NOW + 2, used=1.0)
        stop(waiters, 2)
        waiters.step(NOW + 101)
        assert waiters.states() == {"full": "turn", "mate": "waiting", "lee": "turn"}
        assert waiters.entry("mate").blocked_by == "ceiling"
        assert waiters.place("mate").passed_over("en") == "the project runs as much at once as it may"
        with waiters.centre.database.write() as transaction:
            transaction.run(
                update(allocations).where(allocations.c.id == allocation).values(ceiling_gflops=2 * GPU_GFLOPS)
            )
        stop(waiters, 1)
        waiters.step(NOW + 102)
        assert waiters.states()["mate"] == "turn"

    def test_who_is_passed_over_stands_before_no_direct_start(self, waiters: Waiters) -> None:
        waiters.fill()
        allocation = waiters.person("kim", ceiling=GPU_GFLOPS)
        waiters.join("kim")
        with waiters.centre.database.write() as transaction:
            transaction.run(update(allocations).where(allocations.c.id == allocation).values(ceiling_gflops=1))
        waiters.step(NOW + 1)
        assert waiters.entry("kim").blocked_by == "ceiling"
        stop(waiters, 1)
        waiters.person("lee")
        assert isinstance(waiters.start("lee", NOW + 101), Admitted)

    def test_what_no_pool_can_hold_holds_up_nobody(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("many", NOW, profile="gpu-2")
        waiters.join("one", NOW + 1)
        waiters.centre.phase(1, NOW + 50)
        stop(waiters, 8)
        waiters.step(NOW + 101)
        assert waiters.in_turn() == ["one"]
        assert waiters.entry("many").blocked_by == "pool_full"

    def test_a_second_pool_in_which_the_first_cannot_start_is_open_to_others(self, waiters: Waiters) -> None:
        waiters.fill()
        with waiters.centre.database.write() as transaction:
            transaction.run(insert(pools).values(code="small", name_ko="작은", name_en="Small", simulated=1))
            transaction.run(insert(pool_devices).values(device_model="h100", pool_id=2))
        waiters.join("many", NOW, profile="gpu-2")
        waiters.centre.phase(1, NOW + 50, pool_id=2)
        waiters.join("one", NOW + 1)
        stop(waiters, 1)
        waiters.step(NOW + 101)
        assert waiters.in_turn() == ["one"]

    def test_who_may_not_start_any_more_is_told(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("kim")
        waiters.centre.end_project("kim")
        assert waiters.step(NOW + 1) == {"ended": 1}
        assert waiters.state("kim") is EntryState.REFUSED
        assert waiters.told("kim") == [
            (
                "queue ended",
                (
                    "You do not wait any more for gpu on kim: The project kim has ended. Apply for a new project, or"
                    " use another one."
                ),
            )
        ]

    def test_a_step_leaves_no_audit_of_those_who_wait(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("kim")
        before = waiters.centre.count(audit_events)
        for number in range(3):
            waiters.step(NOW + number)
        assert waiters.centre.count(audit_events) == before


class TestGivingWay:
    def test_idle_devices_are_asked_back_for_one_who_waits_within_the_ceiling(self, waiters: Waiters) -> None:
        waiters.fill(6)
        gleaners = waiters.fill(2, OPPORTUNISTIC)
        waiters.join("kim", NOW + 60)
        waiters.step(NOW + 61)
        asked = waiters.holders.preempted()
        assert list(asked.values()) == [NOW + 61 + POLICY.preempt_notice]
        assert set(asked) < set(gleaners)
        waiters.step(NOW + 64)
        assert waiters.holders.preempted() == asked

    def test_nobody_else_takes_what_is_on_its_way(self, waiters: Waiters) -> None:
        waiters.fill(6)
        gleaners = waiters.fill(2, OPPORTUNISTIC)
        waiters.join("kim", NOW + 60, profile="gpu-2")
        waiters.join("next", NOW + 61, wish=OPPORTUNISTIC)
        waiters.step(NOW + 62)
        assert set(waiters.holders.preempted()) == set(gleaners)
        waiters.stop(gleaners[0], NOW + 100)
        waiters.step(NOW + 101)
        assert waiters.in_turn() == []
        waiters.stop(gleaners[1], NOW + 362)
        waiters.step(NOW + 363)
        assert waiters.in_turn() == ["kim"]

    def test_who_has_a_turn_sooner_spares_them(self, waiters: Waiters) -> None:
        firm = waiters.fill(7)
        waiters.fill(1, OPPORTUNISTIC)
        waiters.join("kim", NOW + 60)
        waiters.step(NOW + 61)
        assert waiters.holders.preempted() != {}
        waiters.stop(firm[0], NOW + 70)
        waiters.step(NOW + 71)
        assert (waiters.in_turn(), waiters.holders.preempted()) == (["kim"], {})

    def test_so_does_who_gives_up(self, waiters: Waiters) -> None:
        waiters.fill(7)
        waiters.fill(1, OPPORTUNISTIC)
        waiters.join("kim", NOW + 60)
        waiters.step(NOW + 61)
        queue.cancel(waiters.centre.database, waiters.runs["kim"], actor="kim", now=NOW + 62)
        assert waiters.holders.preempted() == {}
        assert preemption.spare_in_vain(waiters.centre.database, NOW + 63) == 0

    @pytest.mark.parametrize("wish", [BORROWED, OPPORTUNISTIC])
    def test_a_weaker_wish_asks_nobody(self, waiters: Waiters, wish: Priority) -> None:
        waiters.fill(8, OPPORTUNISTIC)
        waiters.person("kim", ceiling=GPU_GFLOPS - 1)
        waiters.join("kim", NOW + 60, wish=wish)
        waiters.step(NOW + 61)
        assert waiters.holders.preempted() == {}

    def test_each_of_several_has_room_made(self, waiters: Waiters) -> None:
        waiters.fill(8, OPPORTUNISTIC)
        for name in ("kim", "lee", "choi"):
            waiters.join(name, NOW + 60)
        waiters.step(NOW + 61)
        assert len(waiters.holders.preempted()) == 3


class TestBounds:
    def test_a_step_decides_about_so_many(self, waiters: Waiters, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(queue_steps, "DECISIONS", 3)
        for number in range(5):
            waiters.join(f"w{number}", NOW + number)
        assert [waiters.step(NOW + 10 + number)["turn"] for number in range(3)] == [3, 2, 0]

    def test_while_nothing_is_free_it_decides_about_a_few(
        self, waiters: Waiters, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queue_steps, "OTHERS_LOOKED_AT", 2)
        waiters.fill()
        for number in range(6):
            waiters.join(f"w{number}", NOW + number)
        done: Counter[str] = Counter()
        for number in range(12):
            step = waiters.step(NOW + 10 + number)
            assert 2 <= step.total() <= 3
            done += step
        assert set(done) == {"waits"}

    def test_one_model_that_fails_leaves_the_others(
        self, waiters: Waiters, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        waiters.join("kim")

        def broken(*_: object) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(queue_steps._Step, "give_turns", broken)
        assert waiters.step(NOW + 1) == {}
        assert "was not finished" in caplog.text


class TestStarting:
    def test_servers_in_their_turn_are_asked_for_once_in_a_while(self, waiters: Waiters) -> None:
        waiters.join("kim", mode=START)
        waiters.join("lee", mode=OFFER)
        waiters.join("job", seconds=60, mode=START)
        waiters.step(NOW)
        database = waiters.centre.database
        assert [entry.person for entry in queue_steps.to_start(database, NOW, 9)] == ["kim"]
        assert queue_steps.to_start(database, NOW + 9, 9) == []
        assert [entry.person for entry in queue_steps.to_start(database, NOW + 10, 9)] == ["kim"]
        assert queue_steps.to_start(database, NOW + POLICY.offer, 9) == []

    def test_an_offer_can_be_taken_so(self, waiters: Waiters) -> None:
        waiters.join("lee", mode=OFFER)
        waiters.step(NOW)
        database = waiters.centre.database
        assert queue_steps.to_start(database, NOW + 1, 9) == []
        assert queue.take(database, waiters.runs["lee"], person="lee", now=NOW + 2).mode is START
        assert [entry.person for entry in queue_steps.to_start(database, NOW + 3, 9)] == ["lee"]
        waiters.start("lee", NOW + 4)
        assert queue_steps.to_start(database, NOW + 60, 9) == []


def test_a_policy_of_another_length_is_kept_to(waiters: Waiters) -> None:
    waiters.join("kim")
    queue_steps.step(waiters.centre.database, NOW, replace(POLICY, offer=90))
    assert waiters.entry("kim").turn_until == NOW + 90
