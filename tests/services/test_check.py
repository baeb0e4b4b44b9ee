"""The check finds what is broken, whatever broke it: each invariant is violated by hand and found by its name."""

# ruff: noqa: S608 - the statements are put together from the words above them

from __future__ import annotations

from collections.abc import Callable

import pytest

from quotas.domain.months import Month
from quotas.domain.runs import RunKind
from quotas.services import check, copayments, refunds
from tests.databases import without_constraints
from tests.services.centre import DAY, FIRST_HOLD, GPU_GFLOPS, START, Centre
from tests.services.device_cases import DEVICE_CASES, RIGHT_DEVICES
from tests.services.seat_cases import RIGHT_SEATS, SEAT_CASES

NOW = START + DAY
BUDGET = 100_000 * GPU_GFLOPS
LATER = NOW + 10_000


@pytest.fixture
def used(centre: Centre) -> Centre:
    """A centre in which everything has happened that a ledger records.

    The allocations: 1 of vision, 2 of sound. The runs: settled, overrun and refunded, voided, open, open as batch.
    """
    centre.award("vision", BUDGET)
    centre.project("sound", {"ada": "pi"})
    centre.award("sound", BUDGET, ends_at=NOW + 50)
    centre.run(NOW, 100)
    run_id, _ = centre.run(NOW + 200, FIRST_HOLD + 10)
    refunds.refund_charge(centre.database, run_id, 5000, reason="a fault", actor="operator", now=LATER)
    centre.settle(centre.admitted(NOW, person="bob").run_id, None, None)
    refunds.expire_ended(centre.database, LATER)
    centre.admitted(LATER - 100, profile="gpu-2")
    centre.admitted(LATER - 90, profile="cpu", kind=RunKind.BATCH, seconds=600)
    return centre


@pytest.fixture
def billed(used: Centre) -> Centre:
    """The same with two months' statements of the co-payment, one of them with a credit, and a payment."""
    for month in (Month(2027, 1), Month(2027, 2)):
        copayments.close(used.database, month, actor="operator", now=month.ends_at)
        used.run(month.ends_at, 100, person="bob")
    copayments.pay(used.database, "vision", 500, receipt="R-1", actor="operator", now=month.ends_at)
    return used


def found(centre: Centre) -> set[str]:
    return {finding.invariant for finding in check.findings(centre.database, LATER)}


FIRST = "(SELECT id FROM runs WHERE outcome = 'stopped' AND started_at IS NOT NULL ORDER BY started_at LIMIT 1)"
OVERRUN = "(SELECT run_id FROM charges WHERE overrun_amount > 0)"
OPEN = "(SELECT run_id FROM holds WHERE state = 'open' AND device_count = 2)"
VOIDED = "(SELECT run_id FROM holds WHERE state = 'voided')"
AVAILABLE = "(SELECT id FROM accounts WHERE allocation_id = 1 AND kind = 'available')"
HELD = "(SELECT id FROM accounts WHERE allocation_id = 1 AND kind = 'held')"
SPENT = "(SELECT id FROM accounts WHERE allocation_id = 1 AND kind = 'spent')"
OTHERS_AVAILABLE = "(SELECT id FROM accounts WHERE allocation_id = 2 AND kind = 'available')"
TRANSFER = (
    "INSERT INTO transfers (key, kind, debit_account_id, credit_account_id, allocation_id, amount, run_id, at) VALUES "
)
RUN = "INSERT INTO runs (id, kind, person_id, project_id, profile_id, state, door, requested_at) VALUES"
HOLD = (
    "INSERT INTO holds (run_id, allocation_id, device_count, card_version, gflops, amount, opened_at, until_at, state)"
    " VALUES"
)
REFUND = "(SELECT key FROM transfers WHERE kind = 'refund')"
EXPIRED = "(SELECT id FROM accounts WHERE allocation_id = 1 AND kind = 'expired')"
WITHOUT_CONSTRAINTS = (
    "CREATE TABLE other AS SELECT * FROM transfers",
    "DROP TABLE transfers",
    "ALTER TABLE other RENAME TO transfers",
)
RECALL = (
    "INSERT INTO recalls (allocation_id, month, state, proposed_amount, amount, proposed_at, proposed_by,"
    " recalled_amount, id) VALUES"
)
ISSUANCE = "(SELECT id FROM accounts WHERE allocation_id IS NULL AND asset = 'compute' AND kind = 'issuance')"
RECALLED_SEVEN = (
    f"{TRANSFER} ('recall:1', 'recall', {AVAILABLE}, {ISSUANCE}, 1, 7, NULL, 0)",
    f"UPDATE accounts SET balance = balance - 7 WHERE id = {AVAILABLE}",
    f"UPDATE accounts SET balance = balance + 7 WHERE id = {ISSUANCE}",
)

CASES: list[tuple[set[str], tuple[str, ...]]] = [
    (
        {"sums_are_zero", "transfers_have_their_sides"},
        (f"UPDATE accounts SET asset = 'storage' WHERE id = {SPENT}",),
    ),
    (
        {"no_balance_below_zero"},
        (
            f"{TRANSFER} ('x', 'expire', {AVAILABLE}, {EXPIRED}, 1, {BUDGET}, NULL, 0)",
            f"UPDATE accounts SET balance = balance - {BUDGET} WHERE id = {AVAILABLE}",
            f"UPDATE accounts SET balance = balance + {BUDGET} WHERE id = {EXPIRED}",
        ),
    ),
    (
        {"balance_is_its_transfers", "replay_gives_the_balances"},
        (
            f"UPDATE accounts SET balance = balance - 1 WHERE id = {AVAILABLE}",
            f"UPDATE accounts SET balance = balance + 1 WHERE id = {OTHERS_AVAILABLE}",
        ),
    ),
    (
        {"sums_are_zero", "balance_is_its_transfers", "replay_gives_the_balances"},
        (f"UPDATE accounts SET balance = 9223372036854775807 WHERE id = {AVAILABLE}",),
    ),
    (
        {"held_is_the_open_holds"},
        (
            f"{TRANSFER} ('x', 'hold', {AVAILABLE}, {HELD}, 1, 7, NULL, 0)",
            f"UPDATE accounts SET balance = balance - 7 WHERE id = {AVAILABLE}",
            f"UPDATE accounts SET balance = balance + 7 WHERE id = {HELD}",
        ),
    ),
    ({"rate_in_use_is_the_open_holds"}, ("UPDATE allocations SET in_use_gflops = in_use_gflops + 1 WHERE id = 2",)),
    ({"devices_in_use_are_the_open_holds"}, ("UPDATE pool_devices SET in_use = in_use + 1",)),
    ({"devices_in_use_are_the_open_holds"}, (f"UPDATE holds SET pool_id = NULL WHERE run_id = {OPEN}",)),
    ({"nothing_admitted_over_capacity"}, (f"UPDATE capacity_phases SET healthy = 1, from_at = {NOW}",)),
    ({"one_hold_per_run"}, (f"UPDATE runs SET state = 'settled' WHERE id = {OPEN}",)),
    ({"one_hold_per_run"}, (f"UPDATE runs SET state = 'running' WHERE id = {VOIDED}",)),
    ({"one_hold_per_run"}, (f"{RUN} ('y', 'notebook', 2, 1, 1, 'held', 'test', 0)",)),
    (
        {"one_hold_per_run"},
        ("DROP INDEX uq_runs_open_notebook", "UPDATE runs SET kind = 'notebook' WHERE kind = 'batch'"),
    ),
    ({"one_charge_per_posted_run"}, (f"DELETE FROM charges WHERE run_id = {FIRST}",)),
    ({"one_charge_per_posted_run"}, (f"UPDATE holds SET state = 'posted' WHERE run_id = {VOIDED}",)),
    (
        {"one_charge_per_posted_run"},
        (f"UPDATE charges SET gflops = gflops * 2, seconds = seconds / 2 WHERE run_id = {FIRST}",),
    ),
    ({"one_charge_per_posted_run"}, (f"UPDATE charges SET seconds = seconds + 1 WHERE run_id = {FIRST}",)),
    ({"one_charge_per_posted_run"}, (f"UPDATE charges SET allocation_id = 2 WHERE run_id = {FIRST}",)),
    ({"pinned_rate_is_on_its_card"}, ("UPDATE rates SET gflops = gflops + 1 WHERE profile_id = 2",)),
    ({"pinned_rate_is_on_its_card"}, (f"UPDATE runs SET profile_id = 3 WHERE id = {OPEN}",)),
    ({"charge_is_hold_and_overrun"}, (f"UPDATE charges SET overrun_amount = 0 WHERE run_id = {OVERRUN}",)),
    ({"charge_is_hold_and_overrun"}, (f"UPDATE holds SET amount = 1 WHERE run_id = {FIRST}",)),
    (
        {"refunds_within_the_charge"},
        (
            f"{TRANSFER} ('x', 'refund', {SPENT}, {AVAILABLE}, 1, {101 * GPU_GFLOPS}, {FIRST}, 0)",
            f"UPDATE accounts SET balance = balance - {101 * GPU_GFLOPS} WHERE id = {SPENT}",
            f"UPDATE accounts SET balance = balance + {101 * GPU_GFLOPS} WHERE id = {AVAILABLE}",
        ),
    ),
    ({"intervals_never_overlap"}, (f"UPDATE runs SET finished_at = finished_at + 200 WHERE id = {FIRST}",)),
    ({"nothing_held_past_the_end"}, (f"UPDATE holds SET until_at = {NOW} + 400 * {DAY} WHERE run_id = {OPEN}",)),
    (
        {"amounts_are_positive"},
        (f"{TRANSFER} ('x', 'hold', {AVAILABLE}, {HELD}, 1, 0, NULL, 0)",),
    ),
    (
        {"amounts_are_positive"},
        (
            f"{TRANSFER} ('x', 'hold', {AVAILABLE}, {HELD}, 1, -7, NULL, 0)",
            f"{TRANSFER} ('z', 'release', {HELD}, {AVAILABLE}, 1, -7, NULL, 0)",
        ),
    ),
    (
        {"amounts_are_positive"},
        (
            f"{RUN} ('y', 'batch', 2, 1, 1, 'settled', 'test', 0)",
            f"{HOLD} ('y', 1, 0, 1, {GPU_GFLOPS}, -1, 0, 0, 'voided')",
        ),
    ),
    ({"transfers_have_their_sides"}, ("UPDATE transfers SET kind = 'extend' WHERE kind = 'expire'",)),
    ({"transfers_have_their_sides"}, ("UPDATE transfers SET allocation_id = 2 WHERE kind = 'refund'",)),
    ({"keys_are_unique"}, (*WITHOUT_CONSTRAINTS, f"UPDATE transfers SET key = {REFUND} WHERE kind = 'expire'")),
    ({"keys_are_unique"}, (*WITHOUT_CONSTRAINTS, "UPDATE transfers SET sequence = 1 WHERE sequence = 2")),
    (
        {"replay_gives_the_balances", "balance_is_its_transfers"},
        ("DELETE FROM transfers WHERE kind = 'refund'",),
    ),
    (
        {"replay_gives_the_balances", "transfers_have_their_sides", "sums_are_zero"},
        (f"DELETE FROM accounts WHERE id = {HELD}",),
    ),
    (
        {"recalls_are_their_transfers"},
        (f"{RECALL} (1, '2027-03', 'executed', 7, 7, 0, 'x', 7, 1)",),
    ),
    ({"recalls_are_their_transfers"}, RECALLED_SEVEN),
    (
        {"recalls_are_their_transfers"},
        (*RECALLED_SEVEN, f"{RECALL} (1, '2027-03', 'due', 7, 7, 0, 'x', NULL, 1)"),
    ),
    (
        {"recalls_are_their_transfers"},
        (*RECALLED_SEVEN, f"{RECALL} (1, '2027-03', 'executed', 9, 9, 0, 'x', 8, 1)"),
    ),
    (
        {"recalls_are_their_transfers"},
        (*RECALLED_SEVEN, f"{RECALL} (2, '2027-03', 'executed', 7, 7, 0, 'x', 7, 1)"),
    ),
    ({"drained_are_the_open_drains"}, ("UPDATE pool_devices SET drained = drained + 1",)),
    (
        {"only_borrowed_devices_are_wanted_back"},
        (f"UPDATE runs SET preempt_at = {LATER}, preempted_for = 'x' WHERE id = {OPEN}",),
    ),
    (
        {"only_borrowed_devices_are_wanted_back", "rate_in_use_is_the_open_holds"},
        (
            f"UPDATE runs SET preempted_for = 'x' WHERE id = {OPEN}",
            f"UPDATE holds SET priority = 'borrowed' WHERE run_id = {OPEN}",
        ),
    ),
    ({"marks_are_of_what_is_extended"}, (f"UPDATE holds SET ends_by = opened_at - 1 WHERE run_id = {OPEN}",)),
    (
        {"marks_are_of_what_is_extended"},
        ("UPDATE holds SET ends_by = until_at WHERE run_id = (SELECT id FROM runs WHERE kind = 'batch')",),
    ),
]


def moved(key: str, kind: str, *, out: bool = False) -> tuple[str, ...]:
    """Return what moves 7 from the programme to the first allocation, or `out` of it again."""
    sign, back = ("-", "+") if out else ("+", "-")
    debit, credit = (AVAILABLE, ISSUANCE) if out else (ISSUANCE, AVAILABLE)
    return (
        f"{TRANSFER} ('{key}', '{kind}', {debit}, {credit}, 1, 7, NULL, 0)",
        f"UPDATE accounts SET balance = balance {sign} 7 WHERE id = {AVAILABLE}",
        f"UPDATE accounts SET balance = balance {back} 7 WHERE id = {ISSUANCE}",
    )


def tranche(state: str, amount: int = 7, award: int = 1) -> tuple[str, ...]:
    report = "INSERT INTO outcome_reports (id, project_id, award_id, state, due_at, required_at, required_by) VALUES"
    values = f"(1, {award}, 2, {amount}, 1, '{state}')"
    return (
        f"{report} (1, 1, 1, 'verified', 0, 0, 'x')",
        f"INSERT INTO tranches (id, award_id, number, amount, report_id, state) VALUES {values}",
    )


def changed(kind: str, state: str = "applied", amount: str = "7", award: int = 1, to_award: str = "NULL") -> str:
    return (
        "INSERT INTO award_changes (id, kind, state, project_id, award_id, to_award_id, amount, reason, requested_at,"
        f" requested_by) VALUES (1, '{kind}', '{state}', 1, {award}, {to_award}, {amount}, 'x', 0, 'x')"
    )


MOVED_ON = (
    f"{TRANSFER} ('change:1:move_in', 'move_in', {ISSUANCE}, {OTHERS_AVAILABLE}, 2, 7, NULL, 0)",
    f"UPDATE accounts SET balance = balance + 7 WHERE id = {OTHERS_AVAILABLE}",
    f"UPDATE accounts SET balance = balance - 7 WHERE id = {ISSUANCE}",
)
SUPPLEMENTED = moved("change:1:supplement", "supplement")
SUSPENSION = "INSERT INTO award_suspensions (allocation_id, since, reason, actor) VALUES (1, 5, 'x', 'x')"
SUSPENDED = "UPDATE allocations SET suspended_at = 5 WHERE id = 1"
MERGED = "UPDATE allocations SET project_id = 1, starts_at = starts_at + 1 WHERE id = 2"
MERGED_AWARD = "UPDATE awards SET starts_at = starts_at + 1 WHERE id = 2"
AWARD_CASES: list[tuple[set[str], tuple[str, ...]]] = [
    (
        {"tranches_are_their_transfers"},
        ("UPDATE transfers SET key = 'award:9:grant' WHERE kind = 'grant' AND allocation_id = 2",),
    ),
    ({"tranches_are_their_transfers"}, tranche("released")),
    ({"tranches_are_their_transfers"}, (*tranche("pending"), *moved("tranche:1", "tranche"))),
    ({"tranches_are_their_transfers"}, (*tranche("released", 8), *moved("tranche:1", "tranche"))),
    ({"tranches_are_their_transfers"}, (*tranche("released", award=2), *moved("tranche:1", "tranche"))),
    ({"tranches_are_their_transfers"}, moved("tranche:2", "tranche")),
    ({"changes_are_their_transfers"}, (changed("supplement"),)),
    ({"changes_are_their_transfers"}, (changed("reduction"), *SUPPLEMENTED)),
    ({"changes_are_their_transfers"}, (changed("supplement", amount="8"), *SUPPLEMENTED)),
    ({"changes_are_their_transfers"}, (changed("supplement", award=2), *SUPPLEMENTED)),
    ({"changes_are_their_transfers"}, (changed("supplement", "rejected"), *SUPPLEMENTED)),
    ({"changes_are_their_transfers"}, (changed("extension", amount="NULL"), *SUPPLEMENTED)),
    ({"changes_are_their_transfers"}, SUPPLEMENTED),
    (
        {"changes_are_their_transfers"},
        (changed("move", to_award="2"), *moved("change:1:move_out", "move_out", out=True)),
    ),
    (
        {"changes_are_their_transfers"},
        (changed("move", to_award="1"), *moved("change:1:move_out", "move_out", out=True), *MOVED_ON),
    ),
    ({"changes_are_their_transfers"}, (changed("move", amount="NULL", to_award="2"),)),
    ({"awards_never_overlap"}, (MERGED, MERGED_AWARD)),
    ({"allocations_are_their_awards"}, ("UPDATE awards SET ends_at = ends_at + 1 WHERE id = 2",)),
    ({"allocations_are_their_awards"}, ("UPDATE awards SET starts_at = starts_at + 1 WHERE id = 2",)),
    ({"allocations_are_their_awards"}, (SUSPENDED,)),
    ({"allocations_are_their_awards"}, (SUSPENSION,)),
    ({"allocations_are_their_awards"}, (SUSPENDED, SUSPENSION, SUSPENSION)),
]
FITTING = (
    (*tranche("released"), *moved("tranche:1", "tranche")),
    tranche("pending"),
    (changed("supplement"), *SUPPLEMENTED),
    (changed("extension"), *SUPPLEMENTED),
    (changed("extension", amount="NULL"),),
    (changed("reduction"), *moved("change:1:reduce", "reduce", out=True)),
    (changed("move", to_award="2"), *moved("change:1:move_out", "move_out", out=True), *MOVED_ON),
    (changed("supplement", "requested"),),
    (SUSPENDED, SUSPENSION),
    (MERGED, MERGED_AWARD, "UPDATE allocations SET revoked_at = 5 WHERE id = 2"),
)

STATEMENTS = "copayment_statements"
FEBRUARY = "WHERE month = '2027-02'"
KRW_CASES: list[tuple[set[str], tuple[str, ...]]] = [
    (
        {"sums_are_zero", "transfers_have_their_sides"},
        ("UPDATE accounts SET asset = 'compute' WHERE kind = 'owed'",),
    ),
    (
        {"transfers_have_their_sides"},
        ("UPDATE transfers SET kind = 'repay' WHERE kind = 'pay'",),
    ),
    (
        {"no_balance_below_zero", "sums_are_zero", "balance_is_its_transfers", "replay_gives_the_balances"}
        | {"statements_are_their_transfers"},
        ("UPDATE accounts SET balance = -1 WHERE kind = 'paid'",),
    ),
    ({"statements_add_up"}, ("DELETE FROM copayment_lines WHERE kind = 'credit'",)),
    (
        {"statements_add_up", "lines_are_the_runs_paid_time"},
        ("UPDATE copayment_lines SET seconds = seconds + 1, numerator = numerator + 2592001 WHERE kind = 'use'",),
    ),
    ({"statements_add_up"}, (f"UPDATE {STATEMENTS} SET carried_out = carried_out + 1 {FEBRUARY}",)),
    (
        {"statements_add_up"},
        (f"UPDATE {STATEMENTS} SET carried_in = carried_in - 1, carried_out = carried_out - 1 {FEBRUARY}",),
    ),
    ({"statements_add_up", "statements_are_their_transfers"}, (f"DELETE FROM {STATEMENTS} WHERE month = '2027-01'",)),
    (
        {"statements_are_their_transfers", "statements_add_up"},
        (f"UPDATE {STATEMENTS} SET amount = amount - 1",),
    ),
    ({"statements_are_their_transfers"}, ("UPDATE transfers SET key = 'another' WHERE key LIKE 'krw:%02:bill'",)),
    ({"lines_are_the_runs_paid_time"}, ("UPDATE rates SET krw_per_device_month = 5 WHERE profile_id = 1",)),
    ({"lines_are_the_runs_paid_time"}, ("UPDATE rates SET krw_per_device_month = NULL WHERE profile_id = 1",)),
    ({"lines_are_the_runs_paid_time"}, ("UPDATE copayment_lines SET devices = 2",)),
    ({"lines_are_the_runs_paid_time"}, ("UPDATE copayment_lines SET seconds = 6 WHERE kind = 'credit'",)),
]


def test_nothing_is_found_where_all_is_well(used: Centre) -> None:
    assert check.findings(used.database, LATER) == []


@pytest.mark.parametrize(("invariants", "statements"), [*CASES, *AWARD_CASES, *DEVICE_CASES])
def test_what_is_broken_is_found_by_name(used: Centre, invariants: set[str], statements: tuple[str, ...]) -> None:
    without_constraints(used.database, *statements)
    assert found(used) == invariants


@pytest.mark.parametrize(("invariants", "statements"), KRW_CASES)
def test_a_broken_statement_is_found_by_name(billed: Centre, invariants: set[str], statements: tuple[str, ...]) -> None:
    assert check.findings(billed.database, LATER) == []
    without_constraints(billed.database, *statements)
    assert found(billed) == invariants


@pytest.mark.parametrize("dialect", ["sqlite"])  # PostgreSQL's integers stay integers
def test_an_integer_that_became_a_fraction_is_found(used: Centre) -> None:
    without_constraints(
        used.database, f"UPDATE accounts SET balance = 9223372036854775807 + 1.0 WHERE id = {AVAILABLE}"
    )
    assert found(used) == {
        "sums_are_zero",
        "no_balance_below_zero",
        "balance_is_its_transfers",
        "replay_gives_the_balances",
    }


def test_every_invariant_is_seen_broken() -> None:
    assert {name for names, _ in [*CASES, *KRW_CASES, *AWARD_CASES, *DEVICE_CASES, *SEAT_CASES] for name in names} == {
        function.__name__ for function in check.INVARIANTS
    }


def test_every_invariant_says_what_must_be_so() -> None:
    assert all((function.__doc__ or "").endswith(".") for function in check.INVARIANTS)


def test_a_finding_names_its_subject_and_its_numbers(used: Centre) -> None:
    without_constraints(used.database, "UPDATE pool_devices SET in_use = 5")
    (finding,) = check.findings(used.database, LATER)
    assert finding == check.Finding("devices_in_use_are_the_open_holds", "main h100", "in use 5, open holds 2")


def test_a_finding_of_the_replay_names_the_account(used: Centre) -> None:
    without_constraints(used.database, f"UPDATE accounts SET balance = balance + 1 WHERE id = {SPENT}")
    (finding,) = [each for each in check.findings(used.database, LATER) if each.invariant.startswith("replay")]
    assert finding.subject.endswith("spent of vision")


def test_findings_are_bounded(used: Centre) -> None:
    values = f"'nothing', {AVAILABLE}, {HELD}, 1, 1, NULL, 0"
    without_constraints(used.database, *[f"{TRANSFER} ('more-{number}', {values})" for number in range(150)])
    findings = check.findings(used.database, LATER)
    assert len([each for each in findings if each.invariant == "transfers_have_their_sides"]) == 100


@pytest.mark.parametrize("change", [lambda centre: centre.phase(1, LATER - 50), lambda centre: centre.phase(0, LATER)])
def test_a_phase_that_shrinks_under_running_devices_is_no_finding(
    used: Centre, change: Callable[[Centre], None]
) -> None:
    change(used)
    assert check.findings(used.database, LATER) == []


def test_a_recall_with_its_transfer_is_no_finding(used: Centre) -> None:
    corrupt = (*RECALLED_SEVEN, f"{RECALL} (1, '2027-03', 'executed', 9, 9, 0, 'x', 7, 1)")
    without_constraints(used.database, *corrupt)
    assert check.findings(used.database, LATER) == []


@pytest.mark.parametrize("statements", [*FITTING, *RIGHT_DEVICES])
def test_what_fits_is_no_finding(used: Centre, statements: tuple[str, ...]) -> None:
    without_constraints(used.database, *statements)
    assert check.findings(used.database, LATER) == []


@pytest.mark.parametrize(("invariants", "statements"), SEAT_CASES)
def test_what_is_broken_of_seats_is_found_by_name(
    used: Centre, invariants: set[str], statements: tuple[str, ...]
) -> None:
    without_constraints(used.database, *statements)
    assert found(used) == invariants


@pytest.mark.parametrize("statements", RIGHT_SEATS)
def test_seats_that_are_rightly_kept_and_taken_are_no_finding(used: Centre, statements: tuple[str, ...]) -> None:
    without_constraints(used.database, *statements)
    assert check.findings(used.database, LATER) == []
