"""A recall's steps: who is told, who may object and decide, and that it is executed once, of what is available."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from quotas.domain.ledger import Posting, TransferKind
from quotas.domain.recalls import ALLOWED_CHANGES, Decision, RecallPolicy, RecallState
from quotas.domain.runs import RunKind
from quotas.domain.units import InvalidValue
from quotas.services import check, recall_rounds, recall_steps, recalls, reports
from quotas.store import audit, notices
from quotas.store import ledger as ledger_store
from quotas.store import projects as projects_store
from quotas.store.tables import allocations, transfers
from quotas.store.tables import recalls as recalls_table
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre
from tests.services.recall_centre import (
    APRIL,
    BUDGET,
    END,
    MARCH,
    NOW,
    POLICY,
    UNUSED,
    due,
    give_role,
    notified,
    proposed,
    shown,
    told,
)

AMOUNT = UNUSED // 2
DUE = NOW + 14 * DAY
FREED = AMOUNT // (END - DUE)


@pytest.fixture
def yearly(centre: Centre) -> Centre:
    """Vision (PIs ada and dan, member bob) has an unused award; olga is an operator, ray a reviewer and bob too."""
    centre.award("vision", BUDGET, starts_at=START, ends_at=END)
    centre.member("vision", "dan", "pi")
    give_role(centre, "olga")
    for reviewer in ("ray", "bob"):
        give_role(centre, reviewer, "reviewer")
    return centre


def put(centre: Centre, recall: int, state: RecallState) -> None:
    with centre.database.write() as transaction:
        transaction.run(update(recalls_table).where(recalls_table.c.id == recall).values(state=state.value))


def transfers_of(centre: Centre) -> list[tuple[str, int]]:
    statement = select(transfers.c.key, transfers.c.amount).where(transfers.c.kind == "recall")
    with centre.database.read() as transaction:
        return [tuple(row) for row in transaction.rows(statement)]


def events(centre: Centre) -> list[str]:
    with centre.database.read() as transaction:
        return [row.action for row in audit.latest(transaction) if row.action.startswith("recall")][::-1]


def execute(centre: Centre, recall: int, now: int = DUE) -> recall_steps.Executed:
    return recall_steps.execute(centre.database, recall, actor="operator", now=now)


def test_pis_are_told_with_numbers_and_the_date_until_which_they_may_object(yearly: Centre) -> None:
    recall = notified(yearly)
    assert told(yearly) == [("ada", "recall notice"), ("dan", "recall notice")]
    view = shown(yearly, recall)
    assert (view.state, view.notified_at, view.object_until) == (RecallState.NOTIFIED, NOW, DUE)
    with yearly.database.read() as transaction:
        (notice,) = notices.of_person(transaction, "ada", 0)
    for text in (notice.text_ko, notice.text_en):
        assert "708.000 TF·h" in text
        assert "2027-02 0.000 TF·h / 672.000 TF·h (0.0 %)" in text
        assert "2027-03 0.000 TF·h / 744.000 TF·h (0.0 %)" in text
        assert "2027-04-20 00:00 KST" in text
    assert notice.about == f"recall:{recall}"


def test_nothing_is_told_twice(yearly: Centre) -> None:
    recall = notified(yearly)
    with pytest.raises(InvalidValue) as refused:
        recall_steps.notify(yearly.database, recall, POLICY, actor="operator", now=NOW)
    assert refused.value.field == "recall"
    assert len(told(yearly)) == 2


def test_a_pi_objects_and_those_who_decide_are_told(yearly: Centre) -> None:
    recall = notified(yearly)
    recall_steps.object_to(yearly.database, recall, " Data comes in May. ", person="dan", now=DUE - 1)
    view = shown(yearly, recall)
    assert (view.state, view.objected_by, view.objection) == (RecallState.OBJECTED, "dan", "Data comes in May.")
    assert [name for name, kind in told(yearly) if kind == "recall objection"] == ["bob", "olga", "ray"]
    recall_rounds.advance(yearly.database, POLICY, DUE + 100 * DAY)
    assert shown(yearly, recall).state is RecallState.OBJECTED, "nothing is recalled before it is decided"


@pytest.mark.parametrize(
    ("person", "objection", "field"),
    [("bob", "because", "person"), ("olga", "because", "person"), ("nobody", "because", "person")]
    + [("ada", text, "objection") for text in ("", "  ", "x" * 2001, "a\0b")],
)
def test_who_does_not_lead_the_project_or_says_nothing_is_refused(
    yearly: Centre, person: str, objection: str, field: str
) -> None:
    recall = notified(yearly)
    with pytest.raises(InvalidValue) as refused:
        recall_steps.object_to(yearly.database, recall, objection, person=person, now=NOW)
    assert refused.value.field == field
    assert shown(yearly, recall).state is RecallState.NOTIFIED


def test_an_objection_after_its_time_is_refused_with_the_time(yearly: Centre) -> None:
    recall = notified(yearly)
    with pytest.raises(InvalidValue, match="before 2027-04-20 00:00 KST") as refused:
        recall_steps.object_to(yearly.database, recall, "because", person="ada", now=DUE)
    assert refused.value.field == "recall"


def objected(centre: Centre) -> int:
    recall = notified(centre)
    recall_steps.object_to(centre.database, recall, "because", person="ada", now=NOW + DAY)
    return recall


@pytest.mark.parametrize(
    ("decision", "reduced_to", "state", "amount"),
    [
        (Decision.UPHELD, None, RecallState.DUE, AMOUNT),
        (Decision.REDUCED, 5000, RecallState.DUE, 5000),
        (Decision.WITHDRAWN, None, RecallState.WITHDRAWN, AMOUNT),
    ],
)
def test_a_decision_is_told_with_its_reason(
    yearly: Centre, decision: Decision, reduced_to: int | None, state: RecallState, amount: int
) -> None:
    recall = objected(yearly)
    given = {"reason": "as is right", "by": "ray", "now": NOW + 2 * DAY, "reduced_to": reduced_to}
    assert recall_steps.decide(yearly.database, recall, decision, **given) is state
    view = shown(yearly, recall)
    assert (view.state, view.decision, view.amount, view.reason) == (state, decision, amount, "as is right")
    assert (view.decided_by, view.decided_at) == ("ray", NOW + 2 * DAY)
    assert view.closed_at == (NOW + 2 * DAY if state is RecallState.WITHDRAWN else None)
    assert [name for name, kind in told(yearly) if kind == "recall decision"] == ["ada", "dan"]
    assert view.proposed_amount == AMOUNT


@pytest.mark.parametrize(
    ("by", "decision", "reason", "reduced_to", "field"),
    [
        ("ray", Decision.UPHELD, "", None, "reason"),
        ("ray", Decision.UPHELD, "right", 5, "amount"),
        ("ray", Decision.REDUCED, "right", None, "amount"),
        ("ray", Decision.REDUCED, "right", 0, "amount"),
        ("ray", Decision.REDUCED, "right", -5, "amount"),
        ("ray", Decision.REDUCED, "right", AMOUNT, "amount"),
        ("ray", Decision.REDUCED, "right", 2**63, "amount"),
        ("ada", Decision.WITHDRAWN, "right", None, "by"),
        ("bob", Decision.WITHDRAWN, "a member decides for himself", None, "by"),
        ("nobody", Decision.UPHELD, "right", None, "by"),
    ],
)
def test_a_decision_that_cannot_be_is_refused_and_changes_nothing(
    yearly: Centre, by: str, decision: Decision, reason: str, reduced_to: int | None, field: str
) -> None:
    recall = objected(yearly)
    before = shown(yearly, recall)
    with pytest.raises(InvalidValue) as refused:
        recall_steps.decide(
            yearly.database, recall, decision, reason=reason, by=by, now=NOW + DAY, reduced_to=reduced_to
        )
    assert refused.value.field == field
    assert shown(yearly, recall) == before


@pytest.mark.parametrize("decision", [Decision.UPHELD, Decision.REDUCED])
def test_nothing_is_decided_against_a_project_that_may_still_object(yearly: Centre, decision: Decision) -> None:
    recall = notified(yearly)
    with pytest.raises(InvalidValue, match="allowed: withdrawn") as refused:
        recall_steps.decide(yearly.database, recall, decision, reason="right", by="ray", now=NOW, reduced_to=None)
    assert refused.value.field == "decision"


STEPS: dict[RecallState, Callable[[Centre, int], object]] = {
    RecallState.NOTIFIED: lambda c, r: recall_steps.notify(c.database, r, POLICY, actor="operator", now=NOW),
    RecallState.OBJECTED: lambda c, r: recall_steps.object_to(c.database, r, "because", person="ada", now=NOW),
    RecallState.EXECUTED: lambda c, r: recall_steps.execute(c.database, r, actor="operator", now=NOW),
    RecallState.WITHDRAWN: lambda c, r: recall_steps.decide(
        c.database, r, Decision.WITHDRAWN, reason="right", by="ray", now=NOW
    ),
}


@pytest.mark.parametrize(
    ("old", "step"),
    [(old, step) for old in RecallState for step in STEPS if step not in ALLOWED_CHANGES[old] and step is not old],
)
def test_a_step_that_the_table_does_not_allow_is_refused(yearly: Centre, old: RecallState, step: RecallState) -> None:
    recall = notified(yearly)
    put(yearly, recall, old)
    with pytest.raises(InvalidValue) as refused:
        STEPS[step](yearly, recall)
    assert refused.value.field in {"recall", "decision"}
    assert shown(yearly, recall).state is old
    assert transfers_of(yearly) == []


def test_what_is_due_is_recalled_once(yearly: Centre) -> None:
    recall = due(yearly)
    before = yearly.balances(1)
    assert execute(yearly, recall) == recall_steps.Executed(RecallState.EXECUTED, AMOUNT, FREED, now=True)
    again = execute(yearly, recall, DUE + DAY)
    assert again == recall_steps.Executed(RecallState.EXECUTED, AMOUNT, FREED, now=False)
    assert transfers_of(yearly) == [(f"recall:{recall}", AMOUNT)]
    after = yearly.balances(1)
    assert after["available"] == before["available"] - AMOUNT
    assert after["issuance"] == before["issuance"] + AMOUNT
    view = shown(yearly, recall)
    assert (view.state, view.recalled, view.freed_gflops, view.closed_at) == (
        RecallState.EXECUTED,
        AMOUNT,
        FREED,
        DUE,
    )
    assert [name for name, kind in told(yearly) if kind == "recall executed"] == ["ada", "dan"]
    assert events(yearly) == ["recall proposed", "recall notified", "recall due", "recall executed"]
    assert check.findings(yearly.database, DUE) == []


def test_processes_that_execute_at_once_recall_once(yearly: Centre) -> None:
    recall = due(yearly)
    with ThreadPoolExecutor(6) as threads:
        done = list(threads.map(lambda _: execute(yearly, recall), range(6)))
    assert sorted(each.now for each in done) == [False] * 5 + [True]
    assert {each.amount for each in done} == {AMOUNT}
    assert transfers_of(yearly) == [(f"recall:{recall}", AMOUNT)]
    assert check.findings(yearly.database, DUE) == []


def test_a_recall_takes_nothing_that_is_held_or_spent(yearly: Centre) -> None:
    recall = due(yearly)
    seconds = 180 * DAY
    held = yearly.admitted(DUE, kind=RunKind.BATCH, seconds=seconds, profile="gpu-2").run_id
    left = yearly.balances(1)["available"]
    assert 0 < left < AMOUNT
    assert execute(yearly, recall).amount == left == shown(yearly, recall).recalled
    balances = yearly.balances(1)
    assert (balances["available"], balances["held"]) == (0, BUDGET - left)
    assert check.findings(yearly.database, DUE) == []
    yearly.settle(held, DUE, DUE + seconds)
    assert yearly.balances(1)["spent"] == 2 * GPU_GFLOPS * seconds
    assert check.findings(yearly.database, DUE + seconds) == []


def test_the_ceiling_stays_and_what_runs_goes_on(yearly: Centre) -> None:
    recall = due(yearly)
    yearly.admitted(DUE)
    with yearly.database.read() as transaction:
        before = transaction.one(select(allocations).where(allocations.c.id == 1))
    execute(yearly, recall)
    with yearly.database.read() as transaction:
        assert transaction.one(select(allocations).where(allocations.c.id == 1)) == before
    yearly.admitted(DUE + 1, person="dan")


def test_the_freed_part_returns_to_the_pool(yearly: Centre) -> None:
    def promised(now: int) -> int:
        with yearly.database.read() as transaction:
            found = projects_store.promises(transaction, now, now + 1)
        return sum(each.gflops for each in found if each.starts_at <= now < each.ends_at)

    recall = due(yearly)
    whole = promised(DUE)
    assert reports.status(yearly.database, DUE).awarded_gflops == whole
    execute(yearly, recall)
    assert promised(DUE - 1) == whole
    assert promised(DUE) == whole - FREED == reports.status(yearly.database, DUE).awarded_gflops
    assert promised(END - 1) == whole - FREED
    assert promised(END) == 0


@pytest.mark.parametrize("how", ["ended", "revoked", "over", "spent"])
def test_a_recall_of_an_award_that_is_over_or_spent_lapses(yearly: Centre, how: str) -> None:
    recall = due(yearly)
    now = END if how == "over" else DUE
    if how == "ended":
        yearly.end_project("vision")
    elif how == "revoked":
        with yearly.database.write() as transaction:
            transaction.run(update(allocations).values(revoked_at=DUE))
    elif how == "spent":
        with yearly.database.write() as transaction:
            posting = Posting("all", TransferKind.REDUCE, BUDGET)
            ledger_store.post(transaction, 1, posting, DUE)
    assert execute(yearly, recall, now) == recall_steps.Executed(RecallState.LAPSED, 0, 0, now=True)
    assert transfers_of(yearly) == []
    view = shown(yearly, recall)
    assert (view.state, view.closed_at, view.recalled) == (RecallState.LAPSED, now, None)
    with pytest.raises(InvalidValue, match="is lapsed"):
        execute(yearly, recall, now)


def go(centre: Centre, now: int, policy: RecallPolicy = POLICY, progress: tuple[str, int] = ("", 0)) -> tuple[str, int]:
    """Go round as often as there is more to do; return how far the rounds are."""
    for _ in range(50):
        name, position, more = recall_rounds.go_round(centre.database, policy, *progress, now)
        progress = (name, position)
        if not more:
            return progress
    raise AssertionError("the rounds have no end")


def states(centre: Centre) -> list[tuple[str, str]]:
    return [(each.month, each.state.value) for each in recalls.list_recalls(centre.database)][::-1]


def test_the_rounds_do_it_all_month_by_month(yearly: Centre) -> None:
    progress = go(yearly, MARCH.ends_at + DAY - 1)
    assert states(yearly) == []
    progress = go(yearly, MARCH.ends_at + DAY, progress=progress)
    assert states(yearly) == [("2027-03", "notified")]
    progress = go(yearly, MARCH.ends_at + 15 * DAY - 1, progress=progress)
    assert states(yearly) == [("2027-03", "notified")]
    progress = go(yearly, MARCH.ends_at + 15 * DAY, progress=progress)
    assert states(yearly) == [("2027-03", "executed")]
    for day in range(16, 30):
        progress = go(yearly, MARCH.ends_at + day * DAY, progress=progress)
    progress = go(yearly, APRIL.ends_at + DAY, progress=progress)
    assert states(yearly) == [("2027-03", "executed"), ("2027-04", "notified")]
    assert progress == ("2027-04", -1)
    assert check.findings(yearly.database, APRIL.ends_at + DAY) == []


def test_the_rounds_end_what_has_no_award_any_more(yearly: Centre) -> None:
    recall = objected(yearly)
    go(yearly, END)
    assert shown(yearly, recall).state is RecallState.LAPSED


def test_without_the_setting_the_platform_proposes_nothing_but_goes_on_with_what_was(yearly: Centre) -> None:
    by_hand = RecallPolicy(automatic=False)
    go(yearly, MARCH.ends_at + DAY, by_hand)
    assert states(yearly) == []
    proposed(yearly)
    progress = go(yearly, NOW, by_hand)
    assert states(yearly) == [("2027-03", "notified")]
    go(yearly, DUE, by_hand, progress)
    assert states(yearly) == [("2027-03", "executed")]


def test_rounds_that_go_at_once_take_each_step_once(yearly: Centre) -> None:
    for number in range(6):
        yearly.project(f"project-{number}", {"ada": "pi"})
        yearly.award(f"project-{number}", BUDGET, starts_at=START, ends_at=END)
    with ThreadPoolExecutor(4) as threads:
        for now in (NOW, DUE, DUE + 1):
            list(threads.map(lambda _, at=now: recall_rounds.go_round(yearly.database, POLICY, "", 0, at), range(4)))
            list(threads.map(lambda _, at=now: recall_rounds.advance(yearly.database, POLICY, at), range(4)))
    assert [state for _, state in states(yearly)] == ["executed"] * 7
    assert len(transfers_of(yearly)) == 7
    assert len([kind for name, kind in told(yearly) if name == "ada"]) == 7 * 2
    assert check.findings(yearly.database, DUE) == []
