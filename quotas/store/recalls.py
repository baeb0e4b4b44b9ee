"""Recalls with their months, what they free, and what breaks the invariant between them and the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, String, and_, bindparam, cast, func, literal, or_, select, update

from quotas.domain.ledger import TransferKind
from quotas.domain.people import PlatformRole
from quotas.domain.recalls import Assessment, RecallState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import allocations, persons, platform_roles, projects, recall_months, recalls, transfers

_now: BindParameter[int] = bindparam("now")


def _word(text: str) -> BindParameter[str]:
    return literal(text, literal_execute=True)


_ALL = (
    select(
        recalls,
        projects.c.id.label("project_id"),
        projects.c.code.label("project"),
        allocations.c.ends_at,
        persons.c.username.label("objector"),
    )
    .join(allocations, allocations.c.id == recalls.c.allocation_id)
    .join(projects, projects.c.id == allocations.c.project_id)
    .outerjoin(persons, persons.c.id == recalls.c.objected_by)
)
_ONE = Prepared(_ALL.where(recalls.c.id == bindparam("recall")))
_LIST = _ALL.order_by(recalls.c.id.desc()).limit(bindparam("limit"))
_LISTED = Prepared(_LIST)
_OF_PROJECT = Prepared(_LIST.where(projects.c.code == bindparam("project")))
_MONTHS = Prepared(
    select(recall_months).where(recall_months.c.recall_id == bindparam("recall")).order_by(recall_months.c.month)
)
_EARLIER = Prepared(
    select(recall_months.c.month, recall_months.c.counted, recalls.c.state)
    .join(recalls, recalls.c.id == recall_months.c.recall_id)
    .where(recalls.c.allocation_id == bindparam("allocation_id"))
)
_OPEN_AMOUNT = Prepared(
    select(func.coalesce(func.sum(recalls.c.amount), 0).label("amount")).where(
        recalls.c.allocation_id == bindparam("allocation_id"), recalls.c.closed_at.is_(None)
    )
)
_FREED = Prepared(
    select(func.coalesce(func.sum(recalls.c.freed_gflops), 0).label("gflops")).where(
        recalls.c.allocation_id == bindparam("allocation_id")
    )
)
_TO_DO = Prepared(
    select(recalls.c.id, recalls.c.state)
    .join(allocations, allocations.c.id == recalls.c.allocation_id)
    .join(projects, projects.c.id == allocations.c.project_id)
    .where(
        recalls.c.closed_at.is_(None),
        or_(
            recalls.c.state.in_([_word(RecallState.PROPOSED.value), _word(RecallState.DUE.value)]),
            and_(recalls.c.state == _word(RecallState.NOTIFIED.value), recalls.c.object_until <= _now),
            allocations.c.ends_at <= _now,
            allocations.c.revoked_at.is_not(None),
            projects.c.ended_at.is_not(None),
        ),
    )
    .order_by(recalls.c.state, recalls.c.object_until, recalls.c.id)
    .limit(bindparam("limit"))
)
_DECIDERS = Prepared(
    select(platform_roles.c.person_id)
    .where(platform_roles.c.role.in_([_word(PlatformRole.OPERATOR.value), _word(PlatformRole.REVIEWER.value)]))
    .distinct()
    .order_by(platform_roles.c.person_id)
)


def add(transaction: Transaction, allocation_id: int, proposed: Assessment, actor: str, now: int) -> int:
    """The recall is stored as proposed, with its months; return its id.

    Raises Conflict when the award has one of the same month.
    """
    recall = transaction.insert(
        recalls,
        {
            "allocation_id": allocation_id,
            "month": str(proposed.months[-1].month),
            "state": RecallState.PROPOSED.value,
            "proposed_amount": proposed.amount,
            "amount": proposed.amount,
            "proposed_at": now,
            "proposed_by": actor[:80],
        },
    )
    for each in proposed.months:
        values = {"recall_id": recall, "month": str(each.month), "used": each.used, "expected": each.expected}
        transaction.insert(recall_months, {**values, "counted": int(not each.counted_before)})
    return recall


def change(
    transaction: Transaction, recall: int, old: RecallState, new: RecallState, values: Mapping[str, Any]
) -> bool:
    """The recall is `new` with `values`, if it still was `old`; return whether it was."""
    statement = update(recalls).where(recalls.c.id == recall, recalls.c.state == old.value)
    return transaction.run(statement.values(state=new.value, **values)) == 1


def one(transaction: Transaction, recall: int) -> Row | None:
    """Return the recall with its project and the award's end, or None."""
    return transaction.one(_ONE, recall=recall)


def listed(transaction: Transaction, project: str | None, limit: int) -> list[Row]:
    """Return the newest recalls, newest first, of one project or of all."""
    if project is None:
        return transaction.rows(_LISTED, limit=limit)
    return transaction.rows(_OF_PROJECT, project=project, limit=limit)


def months(transaction: Transaction, recall: int) -> list[Row]:
    """Return the recall's months, oldest first."""
    return transaction.rows(_MONTHS, recall=recall)


def earlier_months(transaction: Transaction, allocation_id: int) -> Sequence[Row]:
    """Return (month, counted, state) of every month of every recall of the award."""
    return transaction.rows(_EARLIER, allocation_id=allocation_id)


def open_amount(transaction: Transaction, allocation_id: int) -> int:
    """Return what the award's open recalls would take together."""
    return int(transaction.rows(_OPEN_AMOUNT, allocation_id=allocation_id)[0].amount)


def freed(transaction: Transaction, allocation_id: int) -> int:
    """Return the rate that recalls have freed of the award already."""
    return int(transaction.rows(_FREED, allocation_id=allocation_id)[0].gflops)


def to_do(transaction: Transaction, now: int, limit: int) -> list[Row]:
    """Return (id, state) of open recalls of which something is to be done now, in the order of their index."""
    return transaction.rows(_TO_DO, now=now, limit=limit)


def deciders(transaction: Transaction) -> list[int]:
    """Return the ids of the operators and reviewers."""
    return [int(row.person_id) for row in transaction.rows(_DECIDERS)]


def transfer_key(recall: int) -> str:
    """Return the key of the recall's one transfer."""
    return f"recall:{recall}"


_key = _word("recall:") + cast(recalls.c.id, String)
_executed = recalls.c.state == _word(RecallState.EXECUTED.value)
_is_recall = transfers.c.kind == _word(TransferKind.RECALL.value)

EXECUTED_WITHOUT_TRANSFER = Prepared(
    select(
        ("recall " + cast(recalls.c.id, String)).label("recall"),
        recalls.c.recalled_amount,
        transfers.c.amount.label("transfer"),
    )
    .outerjoin(transfers, transfers.c.key == _key)
    .where(
        _executed,
        or_(
            transfers.c.sequence.is_(None),
            ~_is_recall,
            transfers.c.allocation_id != recalls.c.allocation_id,
            recalls.c.recalled_amount.is_(None),
            transfers.c.amount != recalls.c.recalled_amount,
        ),
    )
    .limit(100)
)
"""Executed recalls whose one transfer is not there, or is not of their amount."""

TRANSFER_WITHOUT_EXECUTED = Prepared(
    select(transfers.c.key, transfers.c.amount, func.coalesce(recalls.c.state, _word("none")).label("recall"))
    .outerjoin(recalls, and_(_key == transfers.c.key, recalls.c.allocation_id == transfers.c.allocation_id))
    .where(_is_recall, or_(recalls.c.id.is_(None), ~_executed))
    .limit(100)
)
"""Transfers that recall something for no recall that was executed."""
