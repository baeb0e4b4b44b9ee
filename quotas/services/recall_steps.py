"""A recall's steps: its people are told, they object, it is decided, and it is executed once, or it lapses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quotas.domain import recall_texts, texts
from quotas.domain.ledger import Posting, TransferKind
from quotas.domain.recall_texts import Of
from quotas.domain.recalls import (
    Decision,
    RecallPolicy,
    RecallState,
    change_state,
    check_decision,
    freed_gflops,
)
from quotas.domain.units import InvalidValue, amount, show_budget, show_instant
from quotas.services.authority import require_reviewer
from quotas.services.recalls import leads, must_be
from quotas.store import audit, award_notices, notices
from quotas.store import award_use as use_store
from quotas.store import ledger as ledger_store
from quotas.store import recalls as store
from quotas.store.database import Database, Row, Transaction

LONGEST_TEXT = 2000


@dataclass(frozen=True)
class Executed:
    """What an execution came to: nothing was taken where the recall has lapsed. `now` says whether it was this one."""

    state: RecallState
    amount: int
    freed_gflops: int
    now: bool


def notify(database: Database, recall: int, policy: RecallPolicy, *, actor: str, now: int) -> int:
    """The award's PIs and instructors know of the recall, and may object until the instant that is returned.

    Raises InvalidValue unless it is proposed.
    """
    object_until = now + policy.objection_seconds
    with database.write() as transaction:
        row = must_be(transaction, recall)
        values = {"notified_at": now, "object_until": object_until}
        _change(transaction, row, RecallState.NOTIFIED, values)
        months = [(each.month, each.used, each.expected) for each in store.months(transaction, recall)]
        _tell_project(transaction, row, "recall notice", recall_texts.notified(_of(row), months, object_until), now)
        audit.record(transaction, now, actor, "recall notified", row.project, {"recall": recall, "until": object_until})
    return object_until


def object_to(database: Database, recall: int, objection: str, *, person: str, now: int) -> None:
    """The person has objected; operators and reviewers are told, and nothing is recalled before they decide.

    Raises InvalidValue for an empty or too long text, someone who does not lead the project, a recall that waits for
    no objection, and one whose time for objections is over.
    """
    said = texts.text("objection", objection, LONGEST_TEXT, lines=True)
    with database.write() as transaction:
        row = must_be(transaction, recall)
        person_id = _must_lead(transaction, row.project, person)
        change_state(recall, RecallState(row.state), RecallState.OBJECTED)
        if row.object_until is not None and now >= row.object_until:
            until = show_instant(row.object_until)
            raise InvalidValue(
                "recall",
                f"objections to recall {recall} were taken before {until}",
                f"회수 {recall}에 대한 이의는 {until} 전까지만 받았습니다",
            )
        values = {"objected_at": now, "objected_by": person_id, "objection": said}
        _change(transaction, row, RecallState.OBJECTED, values)
        korean, english = recall_texts.objected(_of(row), person, said)
        for each in store.deciders(transaction):
            notice = notices.Notice(each, "recall objection", f"recall:{recall}", korean, english)
            notices.tell(transaction, notice, now)
        audit.record(transaction, now, person, "recall objected to", row.project, {"recall": recall})


def _must_lead(transaction: Transaction, project: str, person: str) -> int:
    found = leads(transaction, project, person)
    if found is None:
        raise InvalidValue(
            "person",
            f"{person!r:.60} must be a PI or instructor of {project}",
            f"{person!r:.60}: {project} 과제의 연구책임자 또는 강사여야 합니다",
        )
    return found


def decide(  # noqa: PLR0913 - a decision has these parts
    database: Database,
    recall: int,
    decision: Decision,
    *,
    reason: str,
    by: str,
    now: int,
    reduced_to: int | None = None,
) -> RecallState:
    """The decision of `by` is made, with its reason, and the project's people know it; return the recall's state.

    Raises InvalidValue for someone who is no operator or reviewer, or a member of the project; a decision that the
    recall's state does not allow; a missing reason; and an amount (`reduced_to`, GFLOPS·s) that is missing, not asked
    for, or not below what is to be recalled.
    """
    why = texts.text("reason", reason, LONGEST_TEXT, lines=True)
    with database.write() as transaction:
        row = must_be(transaction, recall)
        require_reviewer(transaction, by, row.project)
        state = check_decision(recall, RecallState(row.state), decision)
        left = _reduced(row, decision, reduced_to)
        values = {"decision": decision.value, "decided_at": now, "decided_by": by[:80], "reason": why}
        if state is RecallState.WITHDRAWN:
            values["closed_at"] = now
        _change(transaction, row, state, values | {"amount": left})
        told = recall_texts.decided(Of(recall, row.project, left), decision, why)
        _tell_project(transaction, row, "recall decision", told, now)
        detail = {"recall": recall, "decision": decision.value, "amount": left, "reason": why}
        audit.record(transaction, now, by, "recall decided", row.project, detail)
    return state


def _reduced(row: Row, decision: Decision, reduced_to: int | None) -> int:
    if decision is not Decision.REDUCED:
        if reduced_to is not None:
            raise InvalidValue("amount", "is given with the decision reduced only", "reduced 결정에만 쓸 수 있습니다")
        return int(row.amount)
    if reduced_to is None:
        raise InvalidValue("amount", "the decision reduced needs one", "reduced 결정에는 양이 필요합니다")
    if amount("amount", reduced_to) >= row.amount:
        most = f"{row.amount} GFLOPS·s ({show_budget(row.amount)})"
        raise InvalidValue("amount", f"must be below {most}", f"{most}보다 작아야 합니다")
    return reduced_to


def expect(database: Database, recall: int, *, now: int) -> None:
    """The time for objections is over and nobody objected: the recall is due. Raises InvalidValue where it is not."""
    with database.write() as transaction:
        row = must_be(transaction, recall)
        change_state(recall, RecallState(row.state), RecallState.DUE)
        if row.state != RecallState.NOTIFIED.value or row.object_until is None or now < row.object_until:
            raise InvalidValue("recall", f"recall {recall} is not due yet", f"회수 {recall}의 기한이 되지 않았습니다")
        _change(transaction, row, RecallState.DUE, {})
        audit.record(transaction, now, "platform", "recall due", row.project, {"recall": recall})


def execute(database: Database, recall: int, *, actor: str, now: int) -> Executed:
    """What is due is recalled, once: repeating it returns what it came to.

    It takes what is available at most, so that nothing held or spent is touched, and frees the rate that the amount
    would have come to until the award's end. Of an award that is over, or has nothing left, the recall lapses.
    Raises InvalidValue for a recall that is not due.
    """
    with database.write() as transaction:
        row = must_be(transaction, recall)
        if row.state == RecallState.EXECUTED.value:
            return Executed(RecallState.EXECUTED, row.recalled_amount, row.freed_gflops, now=False)
        change_state(recall, RecallState(row.state), RecallState.EXECUTED)
        award = use_store.one(transaction, row.allocation_id, now)
        taken = min(row.amount, award.available) if award is not None and award.is_living else 0
        if award is None or not taken:
            _lapse(transaction, row, actor, now)
            return Executed(RecallState.LAPSED, 0, 0, now=True)
        promised = award.gflops + award.extra_gflops - store.freed(transaction, row.allocation_id)
        freed = freed_gflops(taken, award.utilisation_ppm, promised, award.ends_at, now)
        values = {"closed_at": now, "recalled_amount": taken, "freed_gflops": freed}
        _change(transaction, row, RecallState.EXECUTED, values)
        posting = Posting(store.transfer_key(recall), TransferKind.RECALL, taken)
        ledger_store.post(transaction, row.allocation_id, posting, now, note=f"recall {recall} of {row.month}")
        told = recall_texts.executed(Of(recall, row.project, taken), freed, award.available - taken)
        _tell_project(transaction, row, "recall executed", told, now)
        detail = {"recall": recall, "amount": taken, "freed_gflops": freed}
        audit.record(transaction, now, actor, "recall executed", row.project, detail)
    return Executed(RecallState.EXECUTED, taken, freed, now=True)


def lapse(database: Database, recall: int, *, actor: str, now: int) -> bool:
    """The recall has lapsed if its award is over; return whether it has. Raises InvalidValue for a closed recall."""
    with database.write() as transaction:
        row = must_be(transaction, recall)
        award = use_store.one(transaction, row.allocation_id, now)
        if award is not None and award.is_living:
            return False
        _lapse(transaction, row, actor, now)
    return True


def _lapse(transaction: Transaction, row: Row, actor: str, now: int) -> None:
    _change(transaction, row, RecallState.LAPSED, {"closed_at": now})
    audit.record(transaction, now, actor, "recall lapsed", row.project, {"recall": row.id})


def _change(transaction: Transaction, row: Row, new: RecallState, values: dict[str, Any]) -> None:
    """The recall is `new`, if the table allows it and it is still as it was read. Raises InvalidValue."""
    old = RecallState(row.state)
    change_state(row.id, old, new)
    if not store.change(transaction, row.id, old, new, values):
        raise InvalidValue("recall", f"recall {row.id} has just been changed", f"회수 {row.id}이(가) 방금 바뀌었습니다")


def _tell_project(transaction: Transaction, row: Row, kind: str, told: tuple[str, str], now: int) -> None:
    for person_id in award_notices.responsible(transaction, row.project_id):
        notices.tell(transaction, notices.Notice(person_id, kind, f"recall:{row.id}", *told), now)


def _of(row: Row) -> Of:
    return Of(row.id, row.project, row.amount)
