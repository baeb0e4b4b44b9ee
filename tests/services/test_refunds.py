"""Refunds of charges, and what expires when an award ends."""

from __future__ import annotations

import pytest

from quotas.domain.runs import new_run_id
from quotas.domain.units import LARGEST, InvalidValue
from quotas.services import check, refunds
from quotas.store import audit
from quotas.store import ledger as ledger_store
from quotas.store.tables import transfers
from tests.services.centre import DAY, FIRST_HOLD, GPU_GFLOPS, START, Centre

NOW = START + DAY
BUDGET = 100_000 * GPU_GFLOPS
CHARGE = 100 * GPU_GFLOPS


def refund(centre: Centre, run_id: str, amount: object, now: int = NOW + 200, key: str | None = None) -> int:
    return refunds.refund_charge(
        centre.database, run_id, amount, reason="device failed", actor="operator", now=now, key=key
    )


class TestRefund:
    def test_gives_back_to_the_project(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run_id, _ = centre.run(NOW, 100)
        assert refund(centre, run_id, 30 * GPU_GFLOPS) == 30 * GPU_GFLOPS
        balances = centre.balances(allocation)
        assert (balances["spent"], balances["available"]) == (70 * GPU_GFLOPS, BUDGET - 70 * GPU_GFLOPS)
        with centre.database.read() as transaction:
            event = audit.latest(transaction)[0]
            row = ledger_store.journal(transaction, "vision")[-1]
        assert (event.actor, event.action, event.subject) == ("operator", "charge refunded", "vision")
        assert (row.key, row.note) == (f"{run_id}:refund:1", "device failed")

    def test_all_refunds_together_are_at_most_the_charge(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run_id, _ = centre.run(NOW, 100)
        refund(centre, run_id, CHARGE - 1)
        with pytest.raises(InvalidValue, match="at most 1,"):
            refund(centre, run_id, 2)
        assert refund(centre, run_id, 1) == CHARGE
        with pytest.raises(InvalidValue):
            refund(centre, run_id, 1)

    def test_an_overrun_was_the_operators(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run_id, charge = centre.run(NOW, FIRST_HOLD + 50)
        with pytest.raises(InvalidValue):
            refund(centre, run_id, charge.amount)
        refund(centre, run_id, charge.amount - charge.overrun)
        assert centre.balances(allocation)["available"] == BUDGET

    def test_after_the_end_it_expires_at_once(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET, ends_at=NOW + 1000)
        run_id, _ = centre.run(NOW, 100)
        refunds.expire_ended(centre.database, NOW + 1000)
        refund(centre, run_id, CHARGE, NOW + 1000)
        balances = centre.balances(allocation)
        assert (balances["available"], balances["spent"], balances["expired"]) == (0, 0, BUDGET)
        assert check.findings(centre.database, NOW + 1000) == []

    def test_of_an_ended_project_it_expires_too(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run_id, _ = centre.run(NOW, 100)
        centre.end_project("vision")
        refund(centre, run_id, CHARGE)
        assert centre.balances(allocation)["expired"] == BUDGET

    def test_the_same_key_is_done_once(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run_id, _ = centre.run(NOW, 100)
        refund(centre, run_id, 5)
        assert [refund(centre, run_id, 10, key="ticket-7") for _ in range(3)] == [15, 15, 15]
        with pytest.raises(InvalidValue, match="key"):
            refund(centre, run_id, 11, key="ticket-7")
        assert refund(centre, run_id, 10, key="ticket-8") == 25
        assert refund(centre, run_id, 1) == 26

    @pytest.mark.parametrize("amount", [0, -1, -CHARGE, LARGEST + 1, True, 1.5, "10", None])
    def test_what_is_no_amount_is_refused(self, centre: Centre, amount: object) -> None:
        centre.award("vision", BUDGET)
        run_id, _ = centre.run(NOW, 100)
        before = centre.count(transfers)
        with pytest.raises(InvalidValue, match="amount"):
            refund(centre, run_id, amount)
        assert centre.count(transfers) == before

    @pytest.mark.parametrize("key", ["", "7", "a b", "a:b", "가", "x" * 37])
    def test_what_is_no_key_is_refused(self, centre: Centre, key: str) -> None:
        centre.award("vision", BUDGET)
        run_id, _ = centre.run(NOW, 100)
        with pytest.raises(InvalidValue, match="key"):
            refund(centre, run_id, 1, key=key)

    def test_a_run_without_a_charge_has_nothing_to_refund(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        still_open = centre.admitted(NOW)
        for run_id in (still_open.run_id, new_run_id(), "", "x" * 1000):
            with pytest.raises(InvalidValue, match="run"):
                refund(centre, run_id, 1)

    def test_a_refund_needs_a_reason(self, centre: Centre) -> None:
        centre.award("vision", BUDGET)
        run_id, _ = centre.run(NOW, 100)
        with pytest.raises(InvalidValue, match="reason"):
            refunds.refund_charge(centre.database, run_id, 1, reason=" ", actor="operator", now=NOW)


class TestExpiry:
    def test_what_is_left_at_the_end_expires(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET, ends_at=NOW)
        assert refunds.expire_ended(centre.database, NOW - 1) == 0
        assert refunds.expire_ended(centre.database, NOW) == 1
        assert refunds.expire_ended(centre.database, NOW + 1) == 0
        balances = centre.balances(allocation)
        assert (balances["available"], balances["expired"]) == (0, BUDGET)

    def test_a_late_release_expires_at_the_next_call(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET, ends_at=NOW + 1000)
        run = centre.admitted(NOW)
        assert refunds.expire_ended(centre.database, NOW + 1000) == 1
        assert centre.balances(allocation)["held"] == run.amount
        centre.settle(run.run_id, NOW, NOW + 10)
        assert refunds.expire_ended(centre.database, NOW + 1100) == 1
        assert refunds.expire_ended(centre.database, NOW + 1100) == 0
        balances = centre.balances(allocation)
        assert (balances["held"], balances["available"]) == (0, 0)
        assert balances["expired"] == BUDGET - 10 * GPU_GFLOPS

    def test_an_ended_project_loses_what_is_left_before_its_date(self, centre: Centre) -> None:
        allocation = centre.award("vision", BUDGET)
        run = centre.admitted(NOW)
        centre.end_project("vision")
        assert refunds.expire_ended(centre.database, NOW) == 1
        centre.settle(run.run_id, None, None)
        assert refunds.expire_ended(centre.database, NOW) == 1
        assert centre.balances(allocation)["expired"] == BUDGET

    def test_more_than_one_transactions_worth_expires(self, centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(refunds, "AT_ONCE", 3)
        for number in range(7):
            centre.award("vision", BUDGET, starts_at=START + number, ends_at=START + number + 1)
        assert refunds.expire_ended(centre.database, NOW) == 7
        assert check.findings(centre.database, NOW) == []

    def test_an_award_without_a_rest_is_looked_at_once(self, centre: Centre) -> None:
        centre.award("vision", 0, ends_at=NOW)
        assert refunds.expire_ended(centre.database, NOW) == 0
        assert refunds.expire_ended(centre.database, NOW) == 0
