"""Accounts and transfers: a transfer is written once, by its key, together with both balances."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, bindparam, case, insert, or_, select, update

from quotas.domain.ledger import COMPUTE, MAY_GO_NEGATIVE, OF_AN_ALLOCATION, AccountKind, Posting
from quotas.domain.units import LARGEST, InvalidValue
from quotas.store.database import Conflict, Prepared, Row, Transaction
from quotas.store.tables import accounts, allocations, projects, transfers

_of_allocation = accounts.c.allocation_id == bindparam("allocation_id")
_of_programme = and_(accounts.c.allocation_id.is_(None), accounts.c.asset == COMPUTE)

_ACCOUNTS = Prepared(
    select(accounts.c.id, accounts.c.kind, accounts.c.balance).where(or_(_of_allocation, _of_programme))
)

# `room` is what an account may hold beside the amount: no balance leaves the range of the store's integers.
_MOVE = Prepared(
    update(accounts)
    .where(
        or_(
            and_(accounts.c.id == bindparam("credit"), accounts.c.balance <= bindparam("room")),
            and_(
                accounts.c.id == bindparam("debit"),
                or_(
                    accounts.c.balance >= bindparam("amount"),
                    and_(
                        accounts.c.kind.in_(sorted(kind.value for kind in MAY_GO_NEGATIVE)),
                        accounts.c.balance >= -bindparam("room"),
                    ),
                ),
            ),
        )
    )
    .values(
        balance=accounts.c.balance
        + case((accounts.c.id == bindparam("debit"), -bindparam("amount")), else_=bindparam("amount"))
    )
)

_INSERT_TRANSFER = Prepared(
    insert(transfers).values(
        key=bindparam("key"),
        kind=bindparam("kind"),
        debit_account_id=bindparam("debit"),
        credit_account_id=bindparam("credit"),
        allocation_id=bindparam("allocation_id"),
        amount=bindparam("amount"),
        run_id=bindparam("run_id"),
        at=bindparam("at"),
        note=bindparam("note"),
    )
)


class BalanceShort(Exception):  # noqa: N818 - named for what is so
    """The debit account does not hold the amount; the transaction is to be rolled back."""


def open_accounts(transaction: Transaction, allocation_id: int) -> None:
    """The allocation has its four accounts, and the programme its two."""
    for kind in OF_AN_ALLOCATION:
        transaction.insert(
            accounts, {"asset": COMPUTE, "kind": kind.value, "allocation_id": allocation_id, "balance": 0}
        )
    present = {row.kind for row in transaction.rows(select(accounts.c.kind).where(_of_programme))}
    for kind in sorted(MAY_GO_NEGATIVE - {AccountKind(name) for name in present}):
        transaction.insert(accounts, {"asset": COMPUTE, "kind": kind.value, "allocation_id": None, "balance": 0})


def account_ids(transaction: Transaction, allocation_id: int) -> dict[AccountKind, tuple[int, int]]:
    """Return (account id, balance) by kind: the allocation's accounts and the programme's."""
    rows = transaction.rows(_ACCOUNTS, allocation_id=allocation_id)
    return {AccountKind(row.kind): (row.id, row.balance) for row in rows}


def post(
    transaction: Transaction, allocation_id: int, posting: Posting, at: int, run_id: str | None = None, note: str = ""
) -> None:
    """The transfer is written and both balances have moved.

    Raises BalanceShort when the debit account does not hold the amount, Conflict when the key is written already, and
    InvalidValue when a balance would leave the range of the store; the caller's transaction is to be rolled back.
    """
    by_kind = account_ids(transaction, allocation_id)
    debit_kind, credit_kind = posting.sides
    debit, credit = by_kind[debit_kind][0], by_kind[credit_kind][0]
    values: dict[str, Any] = {"debit": debit, "credit": credit, "amount": posting.amount}
    transaction.run(
        _INSERT_TRANSFER,
        key=posting.key,
        kind=posting.kind.value,
        allocation_id=allocation_id,
        run_id=run_id,
        at=at,
        note=note or None,
        **values,
    )
    try:
        moved = transaction.run(_MOVE, room=LARGEST - posting.amount, **values)
    except Conflict as error:
        raise BalanceShort(posting.key) from error
    if moved != 2:
        if debit_kind in MAY_GO_NEGATIVE:
            raise InvalidValue("amount", f"makes a balance larger than {LARGEST}", f"잔액이 {LARGEST}을(를) 넘습니다")
        raise BalanceShort(posting.key)


_debit = accounts.alias("debit_account")
_credit = accounts.alias("credit_account")
_JOURNAL = (
    select(
        transfers.c.sequence,
        transfers.c.at,
        projects.c.code.label("project"),
        transfers.c.kind,
        _debit.c.kind.label("debit"),
        _credit.c.kind.label("credit"),
        transfers.c.amount,
        transfers.c.run_id,
        transfers.c.key,
        transfers.c.note,
    )
    .join(_debit, _debit.c.id == transfers.c.debit_account_id)
    .join(_credit, _credit.c.id == transfers.c.credit_account_id)
    .join(allocations, allocations.c.id == transfers.c.allocation_id)
    .join(projects, projects.c.id == allocations.c.project_id)
    .order_by(transfers.c.sequence)
)
JOURNAL = Prepared(_JOURNAL)
JOURNAL_OF_PROJECT = Prepared(_JOURNAL.where(projects.c.code == bindparam("project")))


def journal(transaction: Transaction, project: str | None) -> list[Row]:
    """Return the transfers in the order in which they were written, of one project or of all."""
    if project is None:
        return transaction.rows(JOURNAL)
    return transaction.rows(JOURNAL_OF_PROJECT, project=project)
