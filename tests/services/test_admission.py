"""Reserve, extend and settle, one transaction each, on a real database."""

from __future__ import annotations

import dataclasses

import pytest
from sqlalchemy import select

from quotas.domain.admission import Admitted
from quotas.domain.extension import Standing
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import Limit, Outcome, RunKind, new_run_id
from quotas.domain.units import LARGEST, InvalidValue
from quotas.services import admission
from quotas.services.admission import Ended
from quotas.store import audit, notices
from quotas.store.tables import audit_events, charges, holds, memberships, profiles, runs, transfers
from tests.services.centre import CPU_GFLOPS, DAY, FIRST_HOLD, GPU_GFLOPS, POLICY, START, Centre

NOW = START + DAY
BUDGET = 100_000 * GPU_GFLOPS


def refusal(decision: object) -> Code:
    assert isinstance(decision, Refused), decision
    assert decision.sentence("ko")
    assert decision.sentence("en")
    return decision.code


class TestReserve:
    def test_holds_a_rolling_window(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        admitted = centre.admitted(NOW)
        assert (admitted.gflops, admitted.opened_at, admitted.until_at) == (GPU_GFLOPS, NOW, NOW + FIRST_HOLD)
        assert (admitted.pool_id, admitted.device_model, admitted.device_count) == (1, "h100", 1)
        assert admitted.simulated
        amount = FIRST_HOLD * GPU_GFLOPS
        balances = centre.balances(allocation)
        assert (balances["available"], balances["held"], balances["issuance"]) == (BUDGET - amount, amount, -BUDGET)
        assert centre.in_use(allocation) == (GPU_GFLOPS, 1)

    def test_leaves_an_audit_event_of_both_answers(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        centre.admitted(NOW)
        centre.reserve(NOW, person="eve")
        with centre.database.read() as transaction:
            events = [(event.actor, event.action, event.subject) for event in audit.latest(transaction)]
        assert events == [("eve", "start refused", "vision"), ("ada", "start admitted", "vision")]

    def test_a_short_balance_holds_what_it_covers_but_at_least_the_minimum(self, centre: Centre) -> None:
        centre.award("vision", (POLICY.minimum + 1) * GPU_GFLOPS + 7)
        assert centre.admitted(NOW).until_at == NOW + POLICY.minimum + 1

    def test_below_the_minimum_it_is_refused(self, centre: Centre) -> None:
        centre.award("vision", POLICY.minimum * GPU_GFLOPS - 1)
        assert refusal(centre.reserve(NOW)) is Code.BUDGET_SHORT

    def test_a_batch_run_holds_its_full_length_or_nothing(self, centre: Centre) -> None:
        allocation = centre.award("vision", (3600 + POLICY.stop_margin) * GPU_GFLOPS)
        assert refusal(centre.reserve(NOW, kind=RunKind.BATCH, seconds=3601)) is Code.BUDGET_SHORT
        admitted = centre.admitted(NOW, kind=RunKind.BATCH, seconds=3600)
        assert admitted.until_at == NOW + 3600 + POLICY.stop_margin
        assert centre.balances(allocation)["available"] == 0

    def test_nothing_is_held_past_the_awards_end(self, centre: Centre) -> None:
        centre.award("vision", BUDGET, ends_at=NOW + 1000)
        assert centre.admitted(NOW).until_at == NOW + 1000

    def test_the_same_run_is_answered_once(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        first = centre.admitted(NOW)
        assert centre.reserve(NOW + 5, run_id=first.run_id) == first
        assert centre.balances(allocation)["held"] == first.amount
        assert centre.count(runs) == 1

    def test_the_same_batch_run_is_answered_the_same_although_it_took_the_balance(self, centre: Centre) -> None:
        centre.award("vision", (3600 + POLICY.stop_margin) * GPU_GFLOPS, ceiling=GPU_GFLOPS)
        first = centre.admitted(NOW, kind=RunKind.BATCH, seconds=3600)
        events = centre.count(audit_events)
        assert centre.reserve(NOW, run_id=first.run_id, kind=RunKind.BATCH, seconds=3600) == first
        assert centre.count(audit_events) == events

    def test_a_run_that_has_ended_does_not_start_again(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run_id, _ = centre.run(NOW, 60)
        assert refusal(centre.reserve(NOW + 90, run_id=run_id)) is Code.RUN_ENDED
        assert centre.in_use(allocation) == (0, 0)

    def test_one_server_of_a_person_on_a_project(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        first = centre.admitted(NOW)
        second = centre.reserve(NOW, profile="cpu")
        assert refusal(second) is Code.ALREADY_RUNNING
        assert isinstance(second, Refused)
        assert second.numbers["run"] == first.run_id
        assert isinstance(centre.reserve(NOW, person="bob"), Admitted)
        assert isinstance(centre.reserve(NOW, kind=RunKind.BATCH, seconds=60), Admitted)

    @pytest.mark.parametrize(
        ("asked", "code"),
        [
            ({"person": "eve"}, Code.PERSON_UNKNOWN),
            ({"project": "none"}, Code.PROJECT_UNKNOWN),
            ({"person": "lee"}, Code.NOT_A_MEMBER),
            ({"person": "kim", "kind": RunKind.BATCH, "seconds": 60}, Code.ROLE_MAY_NOT),
            ({"project": "applied"}, Code.PROJECT_NOT_APPROVED),
            ({"project": "ended"}, Code.PROJECT_ENDED),
            ({"project": "future"}, Code.AWARD_NOT_STARTED),
            ({"project": "past"}, Code.AWARD_ENDED),
            ({"profile": "none"}, Code.PROFILE_UNKNOWN),
            ({"profile": "tpu"}, Code.PROFILE_NOT_OFFERED),
            ({"project": "narrow"}, Code.CEILING),
        ],
    )
    def test_each_rule_refuses(self, centre: Centre, asked: dict[str, object], code: Code) -> None:
        centre.award("vision", BUDGET)
        centre.person("lee")
        centre.member("vision", "kim", "learner")
        for project, state in (("applied", "applied"), ("ended", "ended")):
            centre.project(project, {"ada": "pi"}, state=state)
        centre.project("future", {"ada": "pi"})
        centre.award("future", BUDGET, starts_at=NOW + 1)
        centre.project("past", {"ada": "pi"})
        centre.award("past", BUDGET, ends_at=NOW)
        centre.project("narrow", {"ada": "pi"})
        centre.award("narrow", BUDGET, ceiling=GPU_GFLOPS - 1)
        _profile_without_offer(centre)
        assert refusal(centre.reserve(NOW, **asked)) is code
        assert centre.count(holds) == 0

    def test_a_profile_without_a_rate_is_refused(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        centre.rate_card({"cpu": CPU_GFLOPS}, NOW - 1)
        assert refusal(centre.reserve(NOW)) is Code.PROFILE_UNRATED

    def test_a_full_pool_is_refused_with_its_numbers(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        centre.phase(1, NOW - 1)
        decision = centre.reserve(NOW, profile="gpu-2")
        assert refusal(decision) is Code.POOL_FULL
        assert isinstance(decision, Refused)
        assert (decision.numbers["healthy"], decision.numbers["needed"]) == (1, 2)

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("\ud800", id="surrogate"),
            "a\x00b",
            pytest.param("가" * 100, id="hangul"),
            pytest.param("x" * 1_000_000, id="long"),
            "'; DROP TABLE runs; --",
            "",
        ],
    )
    @pytest.mark.parametrize("field", ["person", "project", "profile"])
    def test_a_name_that_no_table_can_hold_is_unknown(self, centre: Centre, field: str, name: str) -> None:
        centre.award("vision", BUDGET)
        decision = centre.reserve(NOW, **{field: name})
        assert refusal(decision) in {Code.PERSON_UNKNOWN, Code.PROJECT_UNKNOWN, Code.PROFILE_UNKNOWN}
        assert len(decision.sentence("ko")) < 400

    @pytest.mark.parametrize("seconds", [0, -1, -3600, LARGEST + 1, None, True, 1.5])
    def test_a_batch_run_of_no_length_is_no_request(self, centre: Centre, seconds: object) -> None:
        centre.award("vision", BUDGET)
        with pytest.raises(InvalidValue, match="seconds"):
            centre.reserve(NOW, kind=RunKind.BATCH, seconds=seconds)
        assert centre.count(holds) == 0

    def test_a_batch_run_of_the_greatest_length_is_refused_with_a_sentence(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        assert refusal(centre.reserve(NOW, kind=RunKind.BATCH, seconds=LARGEST)) is Code.AWARD_ENDED

    def test_of_two_ended_awards_the_last_one_is_told(self, centre: Centre) -> None:
        centre.award("vision", BUDGET, ends_at=START + DAY)
        centre.award("vision", BUDGET, starts_at=START + DAY, ends_at=START + 2 * DAY)
        decision = centre.reserve(START + 3 * DAY)
        assert refusal(decision) is Code.AWARD_ENDED
        assert isinstance(decision, Refused)
        assert decision.numbers["ends_at"] == "2027-01-17 17:00 KST"

    def test_of_two_awards_the_one_that_runs_pays(self, centre: Centre) -> None:
        later = centre.award("vision", BUDGET, starts_at=START + DAY, ends_at=START + 2 * DAY)
        first = centre.award("vision", BUDGET, ends_at=START + DAY)
        assert centre.admitted(START).allocation_id == first
        assert centre.admitted(START + DAY, person="bob").allocation_id == later


def _profile_without_offer(centre: Centre) -> None:
    with centre.database.write() as transaction:
        values = {"code": "tpu", "name_ko": "t", "name_en": "t", "image_code": "notebook", "device_count": 0}
        sizes = {"cpu_millis": 1, "memory_bytes": 1, "storage_bytes": 1, "backend_terms": "{}", "position": 9}
        transaction.insert(profiles, {**values, **sizes})


class TestExtend:
    def test_is_kept_while_enough_is_left(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run = centre.admitted(NOW)
        later = run.until_at - POLICY.extend_below
        assert admission.extend(centre.database, run.run_id, later, POLICY).standing is Standing.KEPT

    def test_reaches_a_full_window_again(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run = centre.admitted(NOW)
        later = run.until_at - POLICY.extend_below + 1
        extension = admission.extend(centre.database, run.run_id, later, POLICY)
        assert (extension.standing, extension.until_at) == (Standing.EXTENDED, later + FIRST_HOLD)
        assert centre.balances(allocation)["held"] == (later + FIRST_HOLD - NOW) * GPU_GFLOPS
        assert admission.extend(centre.database, run.run_id, later, POLICY).standing is Standing.KEPT

    def test_after_a_long_absence_it_pays_without_a_gap(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run = centre.admitted(NOW)
        later = run.until_at + 7000
        assert admission.extend(centre.database, run.run_id, later, POLICY).until_at == later + FIRST_HOLD
        assert centre.balances(allocation)["held"] == (later + FIRST_HOLD - NOW) * GPU_GFLOPS

    @pytest.mark.parametrize(
        ("budget_seconds", "ends_after", "limit"),
        [(FIRST_HOLD + 300, 365 * DAY, Limit.BUDGET), (90_000, FIRST_HOLD + 300, Limit.AWARD_END)],
    )
    def test_a_short_one_is_told_once_and_ends_before_its_hold(
        self, centre: Centre, budget_seconds: int, ends_after: int, limit: Limit
    ) -> None:
        centre.award("vision", budget_seconds * GPU_GFLOPS, ends_at=NOW + ends_after)
        run = centre.admitted(NOW)
        later = run.until_at - 600
        first = admission.extend(centre.database, run.run_id, later, POLICY)
        until_at = run.until_at + 300
        assert first == admission.Extension(Standing.ENDING, until_at, until_at - POLICY.stop_margin, limit, True)
        again = admission.extend(centre.database, run.run_id, later + 60, POLICY)
        assert again == dataclasses.replace(first, warned_now=False)
        with centre.database.read() as transaction:
            assert [notice.about for notice in notices.of_person(transaction, "ada", 0)] == [run.run_id]

    def test_one_that_could_go_on_after_all_is_told_again_at_its_end(self, centre: Centre) -> None:
        centre.award("vision", (2 * FIRST_HOLD + 300) * GPU_GFLOPS)
        run, other = centre.admitted(NOW), centre.admitted(NOW, person="bob")
        later = run.until_at - 600
        assert admission.extend(centre.database, run.run_id, later, POLICY).warned_now
        centre.settle(other.run_id, None, None)
        assert admission.extend(centre.database, run.run_id, later, POLICY).standing is Standing.EXTENDED
        end = later + FIRST_HOLD - 100
        assert admission.extend(centre.database, run.run_id, end, POLICY).warned_now
        with centre.database.read() as transaction:
            told = [notice.about for notice in notices.of_person(transaction, "ada", 0)]
        assert len(told) == 2
        assert told[1] == run.run_id

    @pytest.mark.parametrize("how", ["project", "person"])
    def test_who_lost_the_right_is_stopped_now(self, centre: Centre, how: str) -> None:
        centre.award("vision", BUDGET)
        run = centre.admitted(NOW, person="bob")
        if how == "project":
            centre.end_project("vision")
        else:
            with centre.database.write() as transaction:
                transaction.run(memberships.delete().where(memberships.c.person_id == centre.people["bob"]))
        extension = admission.extend(centre.database, run.run_id, NOW + 1, POLICY)
        assert (extension.standing, extension.stop_at, extension.limit) == (Standing.ENDING, NOW + 1, Limit.RIGHTS)

    def test_a_batch_run_is_never_extended(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run = centre.admitted(NOW, kind=RunKind.BATCH, seconds=600)
        assert admission.extend(centre.database, run.run_id, NOW + 599, POLICY).standing is Standing.KEPT
        ending = admission.extend(centre.database, run.run_id, NOW + 600, POLICY)
        assert (ending.standing, ending.stop_at, ending.limit) == (Standing.ENDING, NOW + 600, Limit.TIMEOUT)

    def test_a_settled_run_is_closed(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run_id, _ = centre.run(NOW, 10)
        assert admission.extend(centre.database, run_id, NOW + 10, POLICY).standing is Standing.CLOSED
        assert admission.extend(centre.database, new_run_id(), NOW, POLICY).standing is Standing.CLOSED


class TestSettle:
    def test_charges_the_time_and_gives_back_the_rest(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run_id, charge = centre.run(NOW, 90.2)
        assert charge == admission.Charge(run_id, 91, 91 * GPU_GFLOPS, 0, settled_now=True)
        balances = centre.balances(allocation)
        assert (balances["spent"], balances["held"]) == (charge.amount, 0)
        assert balances["available"] == BUDGET - charge.amount
        assert centre.in_use(allocation) == (0, 0)

    def test_happens_once(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run_id, charge = centre.run(NOW, 90)
        before = centre.balances(allocation), centre.count(transfers)
        assert centre.settle(run_id, NOW, NOW + 5000) == dataclasses.replace(charge, settled_now=False)
        assert (centre.balances(allocation), centre.count(transfers)) == before

    def test_a_run_that_never_started_costs_nothing(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run = centre.admitted(NOW)
        charge = centre.settle(run.run_id, None, None)
        assert (charge.amount, charge.seconds, centre.count(charges)) == (0, 0, 0)
        assert centre.balances(allocation)["available"] == BUDGET

    def test_an_unknown_run_has_no_charge(self, centre: Centre) -> None:
        ended = Ended(NOW, NOW + 5, Outcome.STOPPED)
        assert admission.settle(centre.database, new_run_id(), ended, NOW) is None

    def test_use_beyond_the_hold_is_a_visible_overrun(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        _, charge = centre.run(NOW, FIRST_HOLD + 100)
        assert (charge.seconds, charge.overrun) == (FIRST_HOLD + 100, 100 * GPU_GFLOPS)
        balances = centre.balances(allocation)
        assert balances["overrun"] == -100 * GPU_GFLOPS
        assert balances["spent"] == charge.amount
        assert balances["available"] == BUDGET - FIRST_HOLD * GPU_GFLOPS

    def test_a_lost_run_is_charged_until_it_was_last_seen(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run = centre.admitted(NOW)
        admission.started(centre.database, run.run_id, NOW + 2.9)
        admission.seen(centre.database, run.run_id, NOW + 62)
        admission.seen(centre.database, run.run_id, NOW + 32)  # an answer that came late
        charge = admission.settle(centre.database, run.run_id, Ended(None, None, Outcome.EXITED), NOW + 500)
        assert charge is not None
        assert charge.seconds == 60
        with centre.database.read() as transaction:
            assert transaction.one(select(runs.c.outcome)).outcome == Outcome.LOST.value

    def test_a_settled_run_is_not_seen_any_more(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run_id, _ = centre.run(NOW, 60)
        admission.seen(centre.database, run_id, NOW + 900)
        admission.started(centre.database, run_id, NOW + 900)
        with centre.database.read() as transaction:
            row = transaction.one(select(runs.c.seen_at, runs.c.state, runs.c.started_at))
        assert tuple(row) == (NOW, "settled", NOW)

    def test_the_time_before_the_hold_is_not_charged(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run = centre.admitted(NOW)
        assert centre.settle(run.run_id, NOW - 3600, NOW + 10).seconds == 10

    def test_an_end_in_the_future_is_a_broken_clock(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run = centre.admitted(NOW)
        admission.started(centre.database, run.run_id, NOW)
        admission.seen(centre.database, run.run_id, NOW + 20)
        milliseconds = (NOW + 30) * 1000
        charge = admission.settle(centre.database, run.run_id, Ended(NOW, milliseconds, Outcome.STOPPED), NOW + 30)
        assert charge is not None
        assert charge.seconds == 20

    def test_the_rate_is_the_one_pinned_when_it_was_held(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run = centre.admitted(NOW)
        centre.rate_card({"gpu": 7 * GPU_GFLOPS}, NOW + 1)
        assert centre.settle(run.run_id, NOW, NOW + 10).amount == 10 * GPU_GFLOPS
        assert centre.admitted(NOW + 20).gflops == 7 * GPU_GFLOPS
