"""The stored data that breaks an invariant: one statement each, whose first column says what it is about.

No statement changes anything, and each gives at most `LIMIT` rows. Sums are taken in two halves, so that not even
broken amounts overflow them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    String,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    union_all,
)

from quotas.domain.ledger import ASSETS, MAY_GO_NEGATIVE, SIDES, AccountKind, TransferKind
from quotas.domain.priorities import BEYOND_THE_CEILING, Priority
from quotas.domain.runs import HoldState, RunKind, RunState
from quotas.domain.units import LARGEST
from quotas.store.database import Prepared, Transaction
from quotas.store.grants import OUT_OF_USE_DEVICES
from quotas.store.pools import phase_in_force
from quotas.store.tables import (
    accounts,
    allocations,
    capacity_phases,
    charges,
    drains,
    holds,
    pool_devices,
    pools,
    projects,
    rates,
    runs,
    transfers,
)

LIMIT = 100
_HALF = 2**31


def _word(text: str) -> ColumnElement[str]:
    return literal(text, literal_execute=True)


def _total(column: ColumnElement[Any]) -> ColumnElement[int]:
    """The sum of a column, 0 for no rows; one that leaves the store's integers compares as unequal to all of them."""
    wide = cast(column, BigInteger)  # a narrower column would make PostgreSQL take the halves as narrow, too
    return func.coalesce(func.sum(wide // _HALF), 0) * _HALF + func.coalesce(func.sum(wide % _HALF), 0)


def _prepared(statement: Select[*tuple[Any, ...]]) -> Prepared:
    return Prepared(statement.limit(LIMIT))


_open = holds.c.state == _word(HoldState.OPEN.value)
_account = (cast(accounts.c.id, String) + " " + accounts.c.kind).label("account")

SUMS = _prepared(
    select(accounts.c.asset, _total(accounts.c.balance).label("sum"))
    .group_by(accounts.c.asset)
    .having(_total(accounts.c.balance) != 0)
)

NEGATIVE = _prepared(
    select(_account, accounts.c.balance).where(
        or_(
            and_(
                accounts.c.balance < 0, accounts.c.kind.not_in([_word(kind.value) for kind in sorted(MAY_GO_NEGATIVE)])
            ),
            accounts.c.balance > LARGEST,
        )
    )
)

_sides = union_all(
    select(transfers.c.credit_account_id.label("account_id"), transfers.c.amount.label("amount")),
    select(transfers.c.debit_account_id, -transfers.c.amount),
).subquery("sides")
_moved = (
    select(_sides.c.account_id, _total(_sides.c.amount).label("total")).group_by(_sides.c.account_id).subquery("moved")
)
TRANSFERS_DIFFER = _prepared(
    select(_account, accounts.c.balance, func.coalesce(_moved.c.total, 0).label("transfers"))
    .outerjoin(_moved, _moved.c.account_id == accounts.c.id)
    .where(accounts.c.balance != func.coalesce(_moved.c.total, 0))
)


def _of_open_holds(column: ColumnElement[Any], *keys: ColumnElement[Any]) -> FromClause:
    return select(*keys, _total(column).label("total")).where(_open).group_by(*keys).subquery("open_holds")


_amounts = _of_open_holds(holds.c.amount, holds.c.allocation_id)
HELD_DIFFERS = _prepared(
    select(
        ("allocation " + cast(accounts.c.allocation_id, String)).label("allocation"),
        accounts.c.balance.label("held"),
        func.coalesce(_amounts.c.total, 0).label("open_holds"),
    )
    .outerjoin(_amounts, _amounts.c.allocation_id == accounts.c.allocation_id)
    .where(accounts.c.kind == _word(AccountKind.HELD.value), accounts.c.balance != func.coalesce(_amounts.c.total, 0))
)


def _rate_differs(column: ColumnElement[int], *priorities: Priority) -> Prepared:
    counted = case((holds.c.priority.in_([_word(priority.value) for priority in priorities]), holds.c.gflops), else_=0)
    rates_held = _of_open_holds(counted, holds.c.allocation_id)
    return _prepared(
        select(
            ("allocation " + cast(allocations.c.id, String)).label("allocation"),
            column,
            func.coalesce(rates_held.c.total, 0).label("open_holds"),
        )
        .outerjoin(rates_held, rates_held.c.allocation_id == allocations.c.id)
        .where(column != func.coalesce(rates_held.c.total, 0))
    )


IN_USE_DIFFERS = _rate_differs(allocations.c.in_use_gflops, Priority.GUARANTEED)
BEYOND_DIFFERS = _rate_differs(allocations.c.beyond_gflops, *sorted(BEYOND_THE_CEILING))

_devices = _of_open_holds(holds.c.device_count, holds.c.pool_id, holds.c.device_model)
_pool = (pools.c.code + " " + pool_devices.c.device_model).label("pool")
DEVICES_DIFFER = _prepared(
    select(_pool, pool_devices.c.in_use, func.coalesce(_devices.c.total, 0).label("open_holds"))
    .join(pools, pools.c.id == pool_devices.c.pool_id)
    .outerjoin(
        _devices,
        and_(
            _devices.c.pool_id == pool_devices.c.pool_id,
            _devices.c.device_model == pool_devices.c.device_model,
        ),
    )
    .where(pool_devices.c.in_use != func.coalesce(_devices.c.total, 0))
)
DEVICES_OF_NO_POOL = _prepared(
    select(holds.c.run_id, holds.c.pool_id, holds.c.device_model, holds.c.device_count)
    .outerjoin(
        pool_devices,
        and_(pool_devices.c.pool_id == holds.c.pool_id, pool_devices.c.device_model == holds.c.device_model),
    )
    .where(
        _open,
        or_(
            and_(holds.c.device_count != 0, pool_devices.c.pool_id.is_(None)),
            and_(holds.c.device_count == 0, holds.c.device_model.is_not(None)),
        ),
    )
)

_healthy = func.coalesce(capacity_phases.c.healthy, 0) - pool_devices.c.drained
_last_drain = (
    select(func.max(drains.c.since))
    .where(
        drains.c.pool_id == pool_devices.c.pool_id,
        drains.c.device_model == pool_devices.c.device_model,
        drains.c.ended_at.is_(None),
    )
    .correlate(pool_devices)
    .scalar_subquery()
)
_out = OUT_OF_USE_DEVICES.subquery("out_of_use")
# A shrunk pool may have more in use than it has healthy, but admits nothing until it has not.
OVER_CAPACITY = _prepared(
    select(_pool, holds.c.run_id, pool_devices.c.in_use, _healthy.label("healthy"))
    .join(pools, pools.c.id == pool_devices.c.pool_id)
    .outerjoin(
        capacity_phases,
        and_(
            capacity_phases.c.pool_id == pool_devices.c.pool_id,
            capacity_phases.c.device_model == pool_devices.c.device_model,
            capacity_phases.c.from_at == phase_in_force,
        ),
    )
    .join(
        holds,
        and_(
            _open,
            holds.c.pool_id == pool_devices.c.pool_id,
            holds.c.device_model == pool_devices.c.device_model,
            holds.c.opened_at > func.coalesce(capacity_phases.c.from_at, -1),
            holds.c.opened_at > func.coalesce(_last_drain, -1),
        ),
    )
    .outerjoin(_out, and_(_out.c.pool_id == pool_devices.c.pool_id, _out.c.device_model == pool_devices.c.device_model))
    .where(pool_devices.c.in_use > _healthy, holds.c.opened_at > func.coalesce(_out.c.since, -1))
)

_settled = runs.c.state == _word(RunState.SETTLED.value)
HOLD_OF_RUN = _prepared(
    select(runs.c.id, runs.c.state, func.coalesce(holds.c.state, _word("none")).label("hold"))
    .outerjoin(holds, holds.c.run_id == runs.c.id)
    .where(or_(holds.c.run_id.is_(None), and_(_settled, _open), and_(~_settled, ~_open)))
)
TWO_OPEN_NOTEBOOKS = _prepared(
    select(func.max(runs.c.id).label("run"), func.count().label("open_notebooks"))
    .where(~_settled, runs.c.kind == _word(RunKind.NOTEBOOK.value))
    .group_by(runs.c.person_id, runs.c.project_id)
    .having(func.count() > 1)
)

_posted = holds.c.state == _word(HoldState.POSTED.value)
CHARGE_OF_HOLD = _prepared(
    select(
        holds.c.run_id,
        holds.c.state.label("hold"),
        charges.c.amount.label("charge"),
        charges.c.gflops,
        holds.c.gflops.label("pinned_gflops"),
        charges.c.seconds,
    )
    .outerjoin(charges, charges.c.run_id == holds.c.run_id)
    .where(
        or_(
            and_(_posted, charges.c.run_id.is_(None)),
            and_(~_posted, charges.c.run_id.is_not(None)),
            charges.c.gflops != holds.c.gflops,
            charges.c.card_version != holds.c.card_version,
            charges.c.allocation_id != holds.c.allocation_id,
            charges.c.amount != holds.c.gflops * charges.c.seconds,
        )
    )
)
PINNED_RATE = _prepared(
    select(holds.c.run_id, holds.c.card_version, holds.c.gflops, rates.c.gflops.label("card"))
    .join(runs, runs.c.id == holds.c.run_id)
    .outerjoin(rates, and_(rates.c.version == holds.c.card_version, rates.c.profile_id == runs.c.profile_id))
    .where(or_(rates.c.gflops.is_(None), rates.c.gflops != holds.c.gflops))
)

_from_hold, _overrun = transfers.alias("from_hold"), transfers.alias("overrun")
CHARGE_DIFFERS = _prepared(
    select(
        charges.c.run_id,
        charges.c.amount.label("charge"),
        holds.c.amount.label("held"),
        func.coalesce(_from_hold.c.amount, 0).label("from_hold"),
        func.coalesce(_overrun.c.amount, 0).label("overrun"),
    )
    .join(holds, holds.c.run_id == charges.c.run_id)
    .outerjoin(_from_hold, _from_hold.c.key == charges.c.run_id + _word(":charge"))
    .outerjoin(_overrun, _overrun.c.key == charges.c.run_id + _word(":overrun"))
    .where(
        or_(
            charges.c.overrun_amount != func.coalesce(_overrun.c.amount, 0),
            charges.c.amount != func.coalesce(_from_hold.c.amount, 0) + func.coalesce(_overrun.c.amount, 0),
            func.coalesce(_from_hold.c.amount, 0) > holds.c.amount,
        )
    )
)

_refunds = (
    select(transfers.c.run_id, _total(transfers.c.amount).label("total"))
    .where(transfers.c.kind == _word(TransferKind.REFUND.value))
    .group_by(transfers.c.run_id)
    .subquery("refunds")
)
REFUNDED_TOO_MUCH = _prepared(
    select(_refunds.c.run_id, _refunds.c.total.label("refunds"), charges.c.amount.label("charge"))
    .outerjoin(charges, charges.c.run_id == _refunds.c.run_id)
    .where(or_(charges.c.run_id.is_(None), _refunds.c.total > charges.c.amount - charges.c.overrun_amount))
)

_before = func.max(runs.c.finished_at).over(
    partition_by=(runs.c.person_id, runs.c.project_id), order_by=(runs.c.started_at, runs.c.id), rows=(None, -1)
)
_intervals = (
    select(runs.c.id, runs.c.started_at, _before.label("earlier_until"))
    .where(runs.c.kind == _word(RunKind.NOTEBOOK.value), runs.c.started_at.is_not(None))
    .subquery("intervals")
)
# A start is stored rounded down and an end rounded up, so that neighbours may share the second in which both lie.
INTERVALS_OVERLAP = _prepared(select(_intervals).where(_intervals.c.started_at < _intervals.c.earlier_until - 1))

PAST_THE_END = _prepared(
    select(holds.c.run_id, holds.c.until_at, allocations.c.ends_at)
    .join(allocations, allocations.c.id == holds.c.allocation_id)
    .where(holds.c.until_at > allocations.c.ends_at)
)


def _not_an_amount(column: ColumnElement[Any]) -> ColumnElement[bool]:
    return or_(column <= 0, column > LARGEST)


AMOUNTS = (
    _prepared(select(transfers.c.key, transfers.c.amount).where(_not_an_amount(transfers.c.amount))),
    _prepared(
        select(holds.c.run_id, holds.c.amount, holds.c.gflops).where(
            or_(_not_an_amount(holds.c.amount), _not_an_amount(holds.c.gflops), holds.c.device_count < 0)
        )
    ),
    _prepared(
        select(charges.c.run_id, charges.c.amount, charges.c.seconds).where(
            or_(_not_an_amount(charges.c.amount), _not_an_amount(charges.c.seconds))
        )
    ),
)

_debit, _credit = accounts.alias("debit_account"), accounts.alias("credit_account")


def _other_side(alias: FromClause, place: int) -> ColumnElement[bool]:
    """The account is not of the kind that the transfer's kind has on this side, of another asset or allocation."""
    kinds = {kind.value: _word(SIDES[kind][place].value) for kind in TransferKind}
    expected = case(kinds, value=transfers.c.kind, else_=_word("none"))
    assets = {kind.value: _word(ASSETS[kind]) for kind in TransferKind}
    return or_(
        alias.c.kind.is_(None),
        alias.c.kind != expected,
        alias.c.asset != case(assets, value=transfers.c.kind, else_=_word("none")),
        and_(alias.c.allocation_id.is_not(None), alias.c.allocation_id != transfers.c.allocation_id),
    )


WRONG_SIDES = _prepared(
    select(transfers.c.key, transfers.c.kind, _debit.c.kind.label("debit"), _credit.c.kind.label("credit"))
    .outerjoin(_debit, _debit.c.id == transfers.c.debit_account_id)
    .outerjoin(_credit, _credit.c.id == transfers.c.credit_account_id)
    .where(or_(_other_side(_debit, 0), _other_side(_credit, 1)))
)


def _twice(column: ColumnElement[Any]) -> Prepared:
    times = func.count().label("times")
    return _prepared(select(column, times).group_by(column).having(func.count() > 1))


TWICE = (_twice(transfers.c.key), _twice(transfers.c.sequence))

_TRANSFERS = Prepared(
    select(transfers.c.debit_account_id, transfers.c.credit_account_id, transfers.c.amount).order_by(
        transfers.c.sequence
    )
)
_BALANCES = Prepared(select(accounts.c.id, accounts.c.balance))
_PROJECT_OF_ACCOUNT = Prepared(
    select(_account, projects.c.code.label("project"))
    .outerjoin(allocations, allocations.c.id == accounts.c.allocation_id)
    .outerjoin(projects, projects.c.id == allocations.c.project_id)
    .where(accounts.c.id == bindparam("account_id"))
)


def journal(transaction: Transaction) -> Iterator[tuple[int, int, int]]:
    """Yield (debit account, credit account, amount) of every transfer in order; run nothing else until its end."""
    yield from transaction.each(_TRANSFERS)


def balances(transaction: Transaction) -> Iterable[tuple[int, int]]:
    """Return (account, balance) of every account."""
    transaction.run(_BALANCES)
    return list(transaction.cursor)


def account_name(transaction: Transaction, account_id: int) -> str:
    """Return the account as a person reads it: its id, kind and project."""
    row = transaction.one(_PROJECT_OF_ACCOUNT, account_id=account_id)
    return f"{account_id} of nothing" if row is None else f"{row.account} of {row.project or 'the programme'}"
