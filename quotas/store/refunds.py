"""What a refund and the end of an award read and change."""

from __future__ import annotations

from sqlalchemy import BindParameter, bindparam, func, literal, or_, select, update

from quotas.domain.ledger import AccountKind, TransferKind
from quotas.domain.projects import ProjectState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import accounts, allocations, charges, projects, transfers

_now: BindParameter[int] = bindparam("now")
_ended = projects.c.state == literal(ProjectState.ENDED.value, literal_execute=True)

_CHARGE = Prepared(
    select(
        charges.c.allocation_id,
        charges.c.amount,
        charges.c.overrun_amount,
        charges.c.settled_at,
        or_(_ended, allocations.c.ends_at <= _now, allocations.c.revoked_at.is_not(None)).label("has_ended"),
        projects.c.code.label("project"),
    )
    .join(allocations, allocations.c.id == charges.c.allocation_id)
    .join(projects, projects.c.id == allocations.c.project_id)
    .where(charges.c.run_id == bindparam("run"))
)

_REFUNDED = Prepared(
    select(func.count().label("times"), func.coalesce(func.sum(transfers.c.amount), 0).label("amount")).where(
        transfers.c.allocation_id == bindparam("allocation_id"),
        transfers.c.run_id == bindparam("run"),
        transfers.c.kind == TransferKind.REFUND.value,
    )
)

_BY_KEY = Prepared(
    select(transfers.c.amount, transfers.c.kind, transfers.c.run_id).where(transfers.c.key == bindparam("key"))
)

_available = (
    select(accounts.c.balance)
    .where(accounts.c.allocation_id == allocations.c.id, accounts.c.kind == AccountKind.AVAILABLE.value)
    .correlate(allocations)
    .scalar_subquery()
)
# Each is found by an index of its own, of awards that may have something left.
_TO_EXPIRE = select(allocations.c.id, allocations.c.revoked_at, _available.label("available"))
_PAST_THEIR_END = Prepared(
    _TO_EXPIRE.where(allocations.c.expired_at.is_(None), allocations.c.ends_at <= _now)
    .order_by(allocations.c.ends_at)
    .limit(bindparam("limit"))
)
_OF_ENDED_PROJECTS = Prepared(
    _TO_EXPIRE.join(projects, projects.c.id == allocations.c.project_id)
    .where(allocations.c.expired_at.is_(None), _ended, projects.c.closed_at.is_(None))
    .limit(bindparam("limit"))
)
_REVOKED = Prepared(
    _TO_EXPIRE.where(allocations.c.expired_at.is_(None), allocations.c.revoked_at.is_not(None)).limit(
        bindparam("limit")
    )
)
_REST = Prepared(_TO_EXPIRE.where(allocations.c.id == bindparam("allocation_id")))

MARK_EXPIRED = Prepared(
    update(allocations).where(allocations.c.id == bindparam("allocation_id")).values(expired_at=_now)
)
_NEWEST = Prepared(select(func.coalesce(func.max(transfers.c.sequence), 0).label("sequence")))


def charge(transaction: Transaction, run_id: str, now: int) -> Row | None:
    """Return the run's charge, and whether its allocation is over: by date, with its project, or revoked."""
    return transaction.one(_CHARGE, run=run_id, now=now)


def refunded(transaction: Transaction, allocation_id: int, run_id: str) -> Row:
    """Return how many refunds the run has had, and their sum."""
    return transaction.one(_REFUNDED, allocation_id=allocation_id, run=run_id)


def by_key(transaction: Transaction, key: str) -> Row | None:
    """Return the transfer written under `key`, or None."""
    return transaction.one(_BY_KEY, key=key)


def to_expire(transaction: Transaction, now: int, limit: int) -> list[Row]:
    """Return up to `limit` allocations that are over and may still have something available."""
    return (
        transaction.rows(_PAST_THEIR_END, now=now, limit=limit)
        or transaction.rows(_OF_ENDED_PROJECTS, limit=limit)
        or transaction.rows(_REVOKED, limit=limit)
    )


def rest(transaction: Transaction, allocation_id: int) -> Row:
    """Return what is available of the allocation, and when it was revoked."""
    return transaction.one(_REST, allocation_id=allocation_id)


def newest_sequence(transaction: Transaction) -> int:
    """Return the sequence of the newest transfer, 0 before the first."""
    row = transaction.one(_NEWEST)
    return int(row.sequence) if row is not None else 0
