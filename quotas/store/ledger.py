"""Accounts and transfers: a transfer is written once, by its key, together with both balances."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import and_, bindparam, case, insert, or_, select, update

from quotas.domain.ledger import (
    COMPUTE,
    MAY_GO_NEGATIVE,
    OF_A_PROJECT,
    OF_AN_ALLOCATION,
    AccountKind,
    Posting,
)
from quotas.domain.units import LARGEST, InvalidValue
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import accounts, allocations, projects, transfers

_of_allocation = accounts.c.allocation_id == bindparam("allocation_id")
_of_asset = accounts.c.asset == bindparam("asset")
_of_programme = and_(accounts.c.allocation_id.is_(None), _of_asset)

_ACCOUNTS = Prepared(
    select(accounts.c.id, accounts.c.kind, accounts.c.balance).where(
        or_(and_(_of_allocation, _of_asset), _of_programme)
    )
)
_PROGRAMME = Prepared(select(accounts.c.kind).where(_of_programme))

# The debit account must hold `at_least`, the credit account `at_most`, before: see `write`.
_MOVE = Prepared(
    update(accounts)
    .where(
        accounts.c.id.in_([bindparam("debit"), bindparam("credit")]),
        case(
            (accounts.c.id == bindparam("debit"), accounts.c.balance >= bindparam("at_least")),
            else_=accounts.c.balance <= bindparam("at_most"),
        ),
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


def open_accounts(transaction: Transaction, allocation_id: int, asset: str = COMPUTE) -> None:
    """The allocation has its accounts of the asset, and the programme its own."""
    for kind in OF_AN_ALLOCATION if asset == COMPUTE else OF_A_PROJECT:
        transaction.insert(accounts, {"asset": asset, "kind": kind.value, "allocation_id": allocation_id, "balance": 0})
    of_programme = MAY_GO_NEGATIVE if asset == COMPUTE else {AccountKind.ISSUANCE}
    present = {row.kind for row in transaction.rows(_PROGRAMME, asset=asset)}
    for kind in sorted(of_programme - {AccountKind(name) for name in present}):
        transaction.insert(accounts, {"asset": asset, "kind": kind.value, "allocation_id": None, "balance": 0})


def account_ids(
    transaction: Transaction, allocation_id: int, asset: str = COMPUTE
) -> dict[AccountKind, tuple[int, int]]:
    """Return (account id, balance) by kind: the allocation's accounts of the asset, and the programme's."""
    rows = transaction.rows(_ACCOUNTS, allocation_id=allocation_id, asset=asset)
    return {AccountKind(row.kind): (row.id, row.balance) for row in rows}


def post(
    transaction: Transaction, allocation_id: int, posting: Posting, at: int, run_id: str | None = None, note: str = ""
) -> None:
    """The transfer is written and both balances have moved; `write` says what can be wrong with it."""
    by_kind = account_ids(transaction, allocation_id, posting.asset)
    debit_kind, credit_kind = posting.sides
    sides = Sides(allocation_id, by_kind[debit_kind][0], by_kind[credit_kind][0])
    write(transaction, sides, posting, at, run_id, note)


class Sides(NamedTuple):
    """The accounts, by id, between which a posting moves its amount."""

    allocation_id: int
    debit: int
    credit: int


def write(
    transaction: Transaction, sides: Sides, posting: Posting, at: int, run_id: str | None = None, note: str = ""
) -> None:
    """The transfer is written between accounts that are known already, and both balances have moved.

    Raises BalanceShort when the debit account does not hold the amount, Conflict when the key is written already, and
    InvalidValue when a balance would leave the range of the store; the caller's transaction is to be rolled back.
    """
    amount = posting.amount
    transaction.run(
        _INSERT_TRANSFER,
        key=posting.key,
        kind=posting.kind.value,
        debit=sides.debit,
        credit=sides.credit,
        allocation_id=sides.allocation_id,
        amount=amount,
        run_id=run_id,
        at=at,
        note=note or None,
    )
    may_go_negative = posting.sides[0] in MAY_GO_NEGATIVE
    moved = transaction.run(
        _MOVE,
        debit=sides.debit,
        credit=sides.credit,
        amount=amount,
        at_least=amount - LARGEST if may_go_negative else amount,
        at_most=LARGEST - amount,
    )
    if moved != 2:
        if may_go_negative:
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
    .join(_debit, and_(_debit.c.id == transfers.c.debit_account_id, _debit.c.asset == bindparam("asset")))
    .join(_credit, _credit.c.id == transfers.c.credit_account_id)
    .join(allocations, allocations.c.id == transfers.c.allocation_id)
    .join(projects, projects.c.id == allocations.c.project_id)
    .order_by(transfers.c.sequence)
)
JOURNAL = Prepared(_JOURNAL)
JOURNAL_OF_PROJECT = Prepared(_JOURNAL.where(projects.c.code == bindparam("project")))


def journal(transaction: Transaction, project: str | None, asset: str = COMPUTE) -> list[Row]:
    """Return the asset's transfers in the order in which they were written, of one project or of all."""
    if project is None:
        return transaction.rows(JOURNAL, asset=asset)
    return transaction.rows(JOURNAL_OF_PROJECT, project=project, asset=asset)
