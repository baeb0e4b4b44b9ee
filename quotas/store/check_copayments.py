"""The stored statements of the co-payment that break an invariant; as in :mod:`quotas.store.check`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    String,
    and_,
    cast,
    func,
    literal,
    or_,
    select,
)

from quotas.domain.copayments import DEVICE_MONTH_SECONDS, LineKind
from quotas.domain.ledger import AccountKind, TransferKind
from quotas.store.check import LIMIT
from quotas.store.database import Prepared
from quotas.store.tables import (
    accounts,
    allocations,
    charges,
    copayment_lines,
    copayment_statements,
    holds,
    projects,
    rates,
    runs,
    transfers,
)

_statements, _lines = copayment_statements, copayment_lines
_name = (projects.c.code + " " + _statements.c.month).label("statement")


def _word(text: str) -> ColumnElement[str]:
    return literal(text, literal_execute=True)


def _prepared(statement: Select[*tuple[Any, ...]]) -> Prepared:
    return Prepared(statement.limit(LIMIT))


def _sum(column: ColumnElement[Any], kind: LineKind, *keys: ColumnElement[Any]) -> FromClause:
    total = cast(func.sum(column), BigInteger).label("total")
    return select(*keys, total).where(_lines.c.kind == _word(kind.value)).group_by(*keys).subquery(f"of_{kind.value}")


_used = _sum(_lines.c.numerator, LineKind.USE, _lines.c.statement_id)
_credited = _sum(_lines.c.numerator, LineKind.CREDIT, _lines.c.statement_id)
STATEMENTS_DIFFER = _prepared(
    select(
        _name,
        _statements.c.use_numerator.label("use"),
        func.coalesce(_used.c.total, 0).label("its_lines"),
        _statements.c.credit_numerator.label("credit"),
        func.coalesce(_credited.c.total, 0).label("its_credits"),
        _statements.c.amount,
    )
    .join(projects, projects.c.id == _statements.c.project_id)
    .outerjoin(_used, _used.c.statement_id == _statements.c.id)
    .outerjoin(_credited, _credited.c.statement_id == _statements.c.id)
    .where(
        or_(
            _statements.c.use_numerator != func.coalesce(_used.c.total, 0),
            _statements.c.credit_numerator != func.coalesce(_credited.c.total, 0),
            _statements.c.carried_in + _statements.c.use_numerator - _statements.c.credit_numerator
            != _statements.c.amount * DEVICE_MONTH_SECONDS + _statements.c.carried_out,
        )
    )
)

_carried = func.coalesce(
    func.lag(_statements.c.carried_out).over(partition_by=_statements.c.project_id, order_by=_statements.c.month), 0
)
_chain = select(
    _statements.c.project_id, _statements.c.month, _statements.c.carried_in, _carried.label("carried")
).subquery("chain")
CARRIED_DIFFERS = _prepared(
    select((projects.c.code + " " + _chain.c.month).label("statement"), _chain.c.carried_in, _chain.c.carried)
    .join(projects, projects.c.id == _chain.c.project_id)
    .where(_chain.c.carried_in != _chain.c.carried)
)

_SIGNS = {TransferKind.BILL: 1, TransferKind.APPLY: 1, TransferKind.CREDIT: -1, TransferKind.RETURN: -1}
_by_kind = {kind: transfers.alias(kind.value) for kind in _SIGNS}
_key = _word("krw:") + cast(_statements.c.project_id, String) + ":" + _statements.c.month + ":"
_posted: ColumnElement[Any] = literal(0)
for _kind, _sign in _SIGNS.items():
    _posted = _posted + func.coalesce(_by_kind[_kind].c.amount, 0) * _sign
_with_transfers = select(_name, _statements.c.amount, _posted.label("transfers")).join(
    projects, projects.c.id == _statements.c.project_id
)
for _kind, _alias in _by_kind.items():
    _with_transfers = _with_transfers.outerjoin(_alias, _alias.c.key == _key + _word(_kind.value))
POSTED_DIFFERS = _prepared(_with_transfers.where(_statements.c.amount != _posted))

_amounts = (
    select(_statements.c.project_id, cast(func.sum(_statements.c.amount), BigInteger).label("total"))
    .group_by(_statements.c.project_id)
    .subquery("amounts")
)
_balances = (
    select(allocations.c.project_id, cast(func.sum(accounts.c.balance), BigInteger).label("total"))
    .join(allocations, allocations.c.id == accounts.c.allocation_id)
    .where(accounts.c.kind.in_([_word(AccountKind.OWED.value), _word(AccountKind.PAID.value)]))
    .group_by(allocations.c.project_id)
    .subquery("balances")
)
BILLED_DIFFERS = _prepared(
    select(
        projects.c.code,
        func.coalesce(_amounts.c.total, 0).label("statements"),
        func.coalesce(_balances.c.total, 0).label("owed_and_paid"),
    )
    .outerjoin(_amounts, _amounts.c.project_id == projects.c.id)
    .outerjoin(_balances, _balances.c.project_id == projects.c.id)
    .where(func.coalesce(_amounts.c.total, 0) != func.coalesce(_balances.c.total, 0))
)

PRICE_DIFFERS = _prepared(
    select(
        _lines.c.run_id,
        _lines.c.month,
        _lines.c.krw_per_device_month.label("price"),
        rates.c.krw_per_device_month.label("card"),
        _lines.c.devices,
        holds.c.device_count.label("held"),
        _lines.c.numerator,
    )
    .join(runs, runs.c.id == _lines.c.run_id)
    .join(holds, holds.c.run_id == _lines.c.run_id)
    .outerjoin(rates, and_(rates.c.version == holds.c.card_version, rates.c.profile_id == runs.c.profile_id))
    .where(
        or_(
            rates.c.krw_per_device_month.is_(None),
            rates.c.krw_per_device_month != _lines.c.krw_per_device_month,
            holds.c.device_count != _lines.c.devices,
            _lines.c.numerator != _lines.c.krw_per_device_month * _lines.c.devices * _lines.c.seconds,
        )
    )
)

_seconds = _sum(_lines.c.seconds, LineKind.USE, _lines.c.run_id)
_back = _sum(_lines.c.seconds, LineKind.CREDIT, _lines.c.run_id)
_refunds = (
    select(transfers.c.run_id, cast(func.sum(transfers.c.amount), BigInteger).label("total"))
    .where(transfers.c.kind == _word(TransferKind.REFUND.value))
    .group_by(transfers.c.run_id)
    .subquery("refunds")
)
_refunded = func.coalesce(_refunds.c.total, 0) // func.coalesce(charges.c.gflops, 1)
_paid = (func.coalesce(charges.c.amount, 0) - func.coalesce(charges.c.overrun_amount, 0)) // func.coalesce(
    charges.c.gflops, 1
)
TIME_DIFFERS = _prepared(
    select(
        _seconds.c.run_id,
        _seconds.c.total.label("billed_seconds"),
        _paid.label("paid_seconds"),
        func.coalesce(_back.c.total, 0).label("credited_seconds"),
        _refunded.label("refunded_seconds"),
    )
    .outerjoin(charges, charges.c.run_id == _seconds.c.run_id)
    .outerjoin(_back, _back.c.run_id == _seconds.c.run_id)
    .outerjoin(_refunds, _refunds.c.run_id == _seconds.c.run_id)
    .where(
        or_(
            _seconds.c.total > _paid,
            func.coalesce(_back.c.total, 0) > _refunded,
            func.coalesce(_back.c.total, 0) > _seconds.c.total,
        )
    )
)
