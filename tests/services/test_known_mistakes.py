"""Mistakes that were made in other systems of this kind, each by its name; none of them here."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, select, update

from quotas.domain.admission import Admitted
from quotas.domain.fair_share import HALF_LIFE
from quotas.domain.ledger import Posting, TransferKind
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import Limit, Outcome, RunKind, new_run_id
from quotas.domain.units import LARGEST, InvalidValue, parse_instant
from quotas.services import admission, check, refunds
from quotas.services.admission import Ended
from quotas.store import ledger as ledger_store
from quotas.store.database import Conflict, DatabaseAway
from quotas.store.tables import (
    allocations,
    charges,
    holds,
    memberships,
    persons,
    profiles,
    project_profiles,
    projects,
    runs,
)
from tests.services.centre import DAY, FIRST_HOLD, GPU_GFLOPS, POLICY, START, Centre
from tests.services.faults import failing_after

NOW = START + DAY
BUDGET = 10**6 * GPU_GFLOPS


class TestOverflow:
    """A sum that left the range of its integers became negative, and the quota endless."""

    def test_the_largest_budget_is_spent_and_not_exceeded(self, centre: Centre) -> None:
        allocation = centre.award("vision", LARGEST)
        centre.run(NOW, 100)
        assert centre.balances(allocation)["available"] == LARGEST - 100 * GPU_GFLOPS
        assert centre.balances(allocation)["issuance"] == -LARGEST
        assert check.findings(centre.database, NOW + 100) == []

    def test_a_second_grant_beyond_the_range_is_refused_whole(self, centre: Centre) -> None:
        first = centre.award("vision", LARGEST - 10)
        centre.project("sound", {"ada": "pi"})
        with pytest.raises(InvalidValue, match="amount"):
            centre.award("sound", 11)
        assert centre.balances(first)["issuance"] == 10 - LARGEST
        assert check.findings(centre.database, NOW) == []

    def test_a_rate_near_the_range_holds_what_fits(self, centre: Centre) -> None:
        centre.award("vision", LARGEST, ceiling=LARGEST)
        centre.rate_card({"gpu": LARGEST // 1000}, NOW - 1)
        decision = centre.admitted(NOW)
        assert 0 < decision.amount <= LARGEST
        assert decision.until_at == NOW + 1000
        charge = centre.settle(decision.run_id, NOW, NOW + 5000)
        assert charge.amount == LARGEST // 1000 * 1000
        assert check.findings(centre.database, NOW + 5000) == []

    def test_two_rates_that_overflow_together_meet_the_ceiling(self, centre: Centre) -> None:
        centre.award("vision", LARGEST, ceiling=LARGEST)
        centre.rate_card({"gpu": LARGEST // 1000, "gpu-2": LARGEST}, NOW - 1)
        centre.admitted(NOW)
        decision = centre.reserve(NOW, person="bob", profile="gpu-2")
        assert isinstance(decision, Refused)
        assert decision.code is Code.CEILING


class TestNegativeRequest:
    """A request below zero offset somebody's true use."""

    @pytest.mark.parametrize("seconds", [-1, -3600, 0, -(2**63)])
    def test_a_length_below_zero_is_no_request(self, centre: Centre, seconds: int) -> None:
        allocation = centre.award("vision", BUDGET)
        with pytest.raises(InvalidValue, match="seconds"):
            centre.reserve(NOW, kind=RunKind.BATCH, seconds=seconds)
        assert centre.balances(allocation)["available"] == BUDGET

    def test_a_run_that_ended_before_it_started_still_costs_its_second(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run = centre.admitted(NOW)
        assert centre.settle(run.run_id, NOW + 100, NOW + 50).amount == GPU_GFLOPS

    def test_no_transfer_goes_backwards(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        with pytest.raises(InvalidValue):
            Posting("x", TransferKind.HOLD, -1)
        with pytest.raises(InvalidValue):
            refunds.refund_charge(centre.database, new_run_id(), -5, reason="x", actor="operator", now=NOW)
        assert centre.balances(allocation)["available"] == BUDGET


class TestTooSmallToCount:
    """Use below the unit was cut to nothing, for ever, however often it came."""

    def test_a_thousand_short_runs_cost_a_thousand_seconds(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        for number in range(40):
            run = centre.admitted(NOW + number)
            charge = centre.settle(run.run_id, NOW + number + 0.1, NOW + number + 0.1001)
            assert charge.seconds == 1
        assert centre.balances(allocation)["spent"] == 40 * GPU_GFLOPS


class TestRelabelled:
    """A changed name, label or profile of a running workload changed or lost its charge."""

    def test_names_of_everything_may_change_while_it_runs(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run = centre.admitted(NOW)
        with centre.database.write() as transaction:
            transaction.run(update(projects).where(projects.c.code == "vision").values(code="other", title_en="x"))
            transaction.run(update(persons).where(persons.c.username == "ada").values(username="grace"))
            transaction.run(
                update(profiles)
                .where(profiles.c.code == "gpu")
                .values(code="free", device_model=None, device_count=0, cpu_millis=1)
            )
        assert admission.extend(centre.database, run.run_id, NOW + 1000, POLICY).until_at == NOW + 1000 + FIRST_HOLD
        assert centre.settle(run.run_id, NOW, NOW + 100).amount == 100 * GPU_GFLOPS
        assert centre.in_use(allocation) == (0, 0)
        assert check.findings(centre.database, NOW + 100) == []

    def test_a_profile_that_is_resized_while_it_runs_gives_back_what_was_held(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run = centre.admitted(NOW, profile="gpu-2")
        for count in (1, 8):
            with centre.database.write() as transaction:
                transaction.run(update(profiles).where(profiles.c.code == "gpu-2").values(device_count=count))
            centre.rate_card({"gpu-2": count}, effective_from=NOW + count)
            admission.extend(centre.database, run.run_id, NOW + 600 * count, POLICY)
            assert centre.in_use(allocation) == (2 * GPU_GFLOPS, 2)
        assert centre.settle(run.run_id, NOW, NOW + 100).amount == 100 * 2 * GPU_GFLOPS
        assert centre.in_use(allocation) == (0, 0)
        assert check.findings(centre.database, NOW + 5000) == []

    def test_a_member_and_an_offer_that_are_removed_leave_the_charge(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run = centre.admitted(NOW, person="bob")
        with centre.database.write() as transaction:
            transaction.run(delete(memberships).where(memberships.c.person_id == centre.people["bob"]))
            transaction.run(delete(project_profiles))
        extension = admission.extend(centre.database, run.run_id, NOW + 1000, POLICY)
        assert (extension.limit, extension.stop_at) == (Limit.RIGHTS, NOW + 1000)
        assert centre.settle(run.run_id, NOW, NOW + 1000).amount == 1000 * GPU_GFLOPS
        assert check.findings(centre.database, NOW + 1000) == []

    def test_the_door_that_asks_changes_nothing(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        first = centre.admitted(NOW, door="hub")
        assert centre.reserve(NOW, run_id=first.run_id, door="another") == first
        assert centre.reserve(NOW, run_id=first.run_id, profile="cpu") == first

    def test_a_charge_and_a_transfer_cannot_be_rewritten(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        centre.run(NOW, 100)
        for statement in (update(charges).values(seconds=1, amount=1), update(charges).values(run_id="x")):
            with pytest.raises(Conflict), centre.database.write() as transaction:
                transaction.run(statement)


class TestLeakedHold:
    """A start that failed half-way kept its slot for ever."""

    def test_after_any_statement_that_fails_nothing_is_held(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        statement, reached = 0, True
        while reached:
            statement += 1
            with failing_after(statement, DatabaseAway("gone")) as so_far:
                decision = centre.reserve(NOW)
            reached = so_far()
            if reached:
                assert isinstance(decision, Refused)
                assert decision.code is Code.LEDGER_AWAY
                assert (centre.count(runs), centre.count(holds), centre.in_use(allocation)) == (0, 0, (0, 0))
        assert statement > 5
        assert isinstance(decision, Admitted)

    def test_a_start_that_failed_gives_all_back(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        for _ in range(5):
            run = centre.admitted(NOW, profile="gpu-2")
            admission.settle(centre.database, run.run_id, Ended(None, None, Outcome.FAILED_TO_START), NOW + 5)
        assert centre.balances(allocation) | {"issuance": 0} == dict.fromkeys(
            ("issuance", "overrun", "held", "spent", "expired"), 0
        ) | {"available": BUDGET}
        assert centre.in_use(allocation) == (0, 0)


class TestCountedTwice:
    """One device was counted for the start and again for the run, or given back twice."""

    def test_a_repeated_start_takes_its_devices_once(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run = centre.admitted(NOW, profile="gpu-2")
        for _ in range(3):
            assert isinstance(centre.reserve(NOW, run_id=run.run_id, profile="gpu-2"), Admitted)
            admission.started(centre.database, run.run_id, NOW + 1)
            admission.extend(centre.database, run.run_id, NOW + 1000, POLICY)
        assert centre.in_use(allocation) == (2 * GPU_GFLOPS, 2)

    def test_a_repeated_end_gives_its_devices_back_once(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run, other = centre.admitted(NOW, profile="gpu-2"), centre.admitted(NOW, person="bob", profile="gpu-2")
        for _ in range(3):
            centre.settle(run.run_id, NOW, NOW + 10)
        assert centre.in_use(allocation) == (2 * GPU_GFLOPS, 2)
        centre.settle(other.run_id, NOW, NOW + 10)
        assert centre.in_use(allocation) == (0, 0)


class TestLeakedPenalty:
    """A project was put last for work that was counted twice, never ran, or was given back."""

    def use(self, centre: Centre) -> float:
        with centre.database.read() as transaction:
            return transaction.one(select(allocations.c.decayed_use)).decayed_use

    def test_a_charge_counts_once(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run = centre.admitted(NOW)
        for _ in range(3):
            centre.settle(run.run_id, NOW, NOW + 100)
        assert self.use(centre) == 100 * GPU_GFLOPS

    def test_a_start_that_failed_does_not_count(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        centre.settle(centre.admitted(NOW).run_id, None, None)
        assert self.use(centre) == 0

    def test_a_refund_takes_away_what_is_left_of_its_charge(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run_id, charge = centre.run(NOW, 100)
        later = NOW + 30 * DAY
        refunds.refund_charge(centre.database, run_id, charge.amount, reason="a fault", actor="operator", now=later)
        assert self.use(centre) == pytest.approx(0, abs=1e-3)

    def test_use_counts_half_after_its_half_life(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        centre.run(NOW, 100)
        centre.run(NOW + HALF_LIFE, 100)
        assert self.use(centre) == pytest.approx(150 * GPU_GFLOPS, rel=1e-3)


class TestRounding:
    """Rounded at every interval, an hour cost more than an hour."""

    def test_extensions_add_up_to_the_second(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run = centre.admitted(NOW)
        for minute in range(1, 120):
            admission.extend(centre.database, run.run_id, NOW + 60 * minute, POLICY)
        charge = centre.settle(run.run_id, NOW + 0.75, NOW + 7200.75)
        assert (charge.seconds, charge.overrun) == (7200, 0)
        assert centre.balances(allocation)["available"] == BUDGET - 7200 * GPU_GFLOPS
        assert check.findings(centre.database, NOW + 7200) == []


class TestTheEdgeOfADay:
    """A day was taken in UTC where Korea's was meant, nine hours late; and a last day was paid for twice."""

    def test_an_award_until_the_31st_ends_at_midnight_in_korea(self, centre: Centre) -> None:
        ends_at = parse_instant("ends", "2027-03-31")
        assert ends_at == parse_instant("ends", "2027-03-30T15:00Z")
        allocation = centre.award("vision", BUDGET, ends_at=ends_at)
        last = centre.admitted(ends_at - POLICY.minimum)
        assert last.until_at == ends_at
        decision = centre.reserve(ends_at, person="bob")
        assert isinstance(decision, Refused)
        assert decision.code is Code.AWARD_ENDED
        assert decision.numbers["ends_at"] == "2027-03-31 00:00 KST"
        centre.settle(last.run_id, ends_at - POLICY.minimum, ends_at)
        assert refunds.expire_ended(centre.database, ends_at - 1) == 0
        assert refunds.expire_ended(centre.database, ends_at) == 1
        assert centre.balances(allocation)["available"] == 0

    def test_two_awards_that_meet_leave_no_gap_and_no_overlap(self, centre: Centre) -> None:
        edge = parse_instant("ends", "2027-03-31")
        first = centre.award("vision", BUDGET, ends_at=edge)
        second = centre.award("vision", BUDGET, starts_at=edge, ends_at=edge + DAY)
        assert centre.admitted(edge - POLICY.minimum).allocation_id == first
        assert centre.admitted(edge, person="bob").allocation_id == second


class TestNeighbours:
    """One run's last second was also the next one's first, and both were charged for more than there was."""

    def test_a_server_that_is_started_again_at_once_overlaps_nothing(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        begin = NOW + 0.25
        for _ in range(5):
            run = centre.admitted(int(begin))
            admission.started(centre.database, run.run_id, begin)
            admission.settle(
                centre.database, run.run_id, Ended(begin, begin + 10.5, Outcome.STOPPED), int(begin + 10.5)
            )
            begin += 10.5
        assert check.findings(centre.database, int(begin)) == []
        with centre.database.read() as transaction:
            assert [row.seconds for row in transaction.rows(select(charges.c.seconds))] == [11] * 5

    def test_the_ledger_refuses_the_same_key_twice(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        posting = Posting("key", TransferKind.HOLD, 5)
        with centre.database.write() as transaction:
            ledger_store.post(transaction, allocation, posting, NOW)
        with pytest.raises(Conflict), centre.database.write() as transaction:
            ledger_store.post(transaction, allocation, posting, NOW)
        assert centre.balances(allocation)["held"] == 5
