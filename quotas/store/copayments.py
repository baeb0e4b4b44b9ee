"""Co-payments: what a statement reads of a project's runs, statements with their lines, and accounts in KRW."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import BindParameter, and_, bindparam, func, insert, literal, select

from quotas.domain.copayments import Account, Line, LineKind, RunTime, Total
from quotas.domain.ledger import COMPUTE, KRW, AccountKind, TransferKind
from quotas.domain.months import Month, read_month
from quotas.domain.runs import HoldState
from quotas.domain.units import DAY_SECONDS
from quotas.store import ledger as ledger_store
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    allocations,
    charges,
    copayment_lines,
    copayment_statements,
    holds,
    profiles,
    projects,
    rates,
    runs,
    transfers,
)

SETTLED_BEFORE_SECONDS = DAY_SECONDS
"""How long a settlement may take to be written: a statement looks so far back behind the end of the one before."""

_project: BindParameter[int] = bindparam("project_id")


def _word(text: str) -> BindParameter[str]:
    return literal(text, literal_execute=True)


_PROJECTS = (
    select(projects.c.id, projects.c.code, func.min(allocations.c.id).label("allocation_id"))
    .join(allocations, and_(allocations.c.project_id == projects.c.id, allocations.c.asset == _word(COMPUTE)))
    .group_by(projects.c.id, projects.c.code)
    .order_by(projects.c.code)
)
_ALL_PROJECTS = Prepared(_PROJECTS)
_ONE_PROJECT = Prepared(_PROJECTS.where(projects.c.code == bindparam("code")))
# Others may go on writing rows that refer to the project; two that close its months wait for each other.
_LOCK = Prepared(select(projects.c.id).where(projects.c.id == _project).with_for_update(key_share=True))

_LAST = Prepared(
    select(copayment_statements)
    .where(copayment_statements.c.project_id == _project)
    .order_by(copayment_statements.c.month.desc())
    .limit(1)
)
_BEFORE = Prepared(
    select(copayment_statements)
    .where(copayment_statements.c.project_id == _project, copayment_statements.c.month < bindparam("month"))
    .order_by(copayment_statements.c.month.desc())
    .limit(1)
)
_STATEMENT = Prepared(
    select(copayment_statements).where(
        copayment_statements.c.project_id == _project, copayment_statements.c.month == bindparam("month")
    )
)
_LINES = Prepared(
    select(copayment_lines, profiles.c.code.label("profile"))
    .join(runs, runs.c.id == copayment_lines.c.run_id)
    .join(profiles, profiles.c.id == runs.c.profile_id)
    .where(copayment_lines.c.statement_id == bindparam("statement_id"))
    .order_by(copayment_lines.c.month, copayment_lines.c.run_id, copayment_lines.c.kind.desc())
)

_refunded = (
    select(func.sum(transfers.c.amount))
    .where(
        transfers.c.kind == _word(TransferKind.REFUND.value),
        transfers.c.allocation_id == charges.c.allocation_id,
        transfers.c.run_id == charges.c.run_id,
    )
    .correlate(charges)
    .scalar_subquery()
)
_TIMES = (
    select(
        charges.c.run_id,
        charges.c.gflops,
        charges.c.amount,
        charges.c.overrun_amount,
        func.coalesce(_refunded, 0).label("refunded"),
        charges.c.settled_at,
        runs.c.started_at,
        holds.c.device_count,
        rates.c.krw_per_device_month,
        profiles.c.code.label("profile"),
    )
    .select_from(allocations)
    .join(charges, charges.c.allocation_id == allocations.c.id)
    .join(runs, runs.c.id == charges.c.run_id)
    .join(holds, holds.c.run_id == charges.c.run_id)
    .join(profiles, profiles.c.id == runs.c.profile_id)
    .join(rates, and_(rates.c.version == charges.c.card_version, rates.c.profile_id == runs.c.profile_id))
    .where(allocations.c.project_id == _project, allocations.c.asset == _word(COMPUTE))
)
_SETTLED = _TIMES.where(charges.c.settled_at >= bindparam("since"), runs.c.started_at < bindparam("before"))
_refunded_runs = (
    select(transfers.c.run_id)
    .join(allocations, allocations.c.id == transfers.c.allocation_id)
    .where(
        allocations.c.project_id == _project,
        transfers.c.kind == _word(TransferKind.REFUND.value),
        transfers.c.run_id.is_not(None),  # so that SQLite takes the refunds' own index
    )
)
_REFUNDED = _TIMES.where(charges.c.run_id.in_(_refunded_runs))
_SETTLED_SINCE, _EVER_REFUNDED = Prepared(_SETTLED), Prepared(_REFUNDED)
_TAKEN = select(
    copayment_lines.c.run_id,
    copayment_lines.c.kind,
    copayment_lines.c.month,
    copayment_lines.c.seconds,
)
_TAKEN_OF_SETTLED = Prepared(
    _TAKEN.where(copayment_lines.c.run_id.in_(_SETTLED.with_only_columns(charges.c.run_id, maintain_column_froms=True)))
)
_TAKEN_OF_REFUNDED = Prepared(_TAKEN.where(copayment_lines.c.run_id.in_(_refunded_runs)))

_OPEN_RUNS = Prepared(
    select(func.count().label("number"))
    .select_from(holds)
    .join(allocations, allocations.c.id == holds.c.allocation_id)
    .where(
        allocations.c.project_id == _project,
        holds.c.state == _word(HoldState.OPEN.value),
        holds.c.opened_at < bindparam("before"),
    )
)
_INSERT_LINE = Prepared(
    insert(copayment_lines).values(
        statement_id=bindparam("statement_id"),
        run_id=bindparam("run_id"),
        kind=bindparam("kind"),
        month=bindparam("month"),
        devices=bindparam("devices"),
        seconds=bindparam("seconds"),
        krw_per_device_month=bindparam("price"),
        numerator=bindparam("numerator"),
    )
)
_BY_KEY = Prepared(
    select(transfers.c.kind, transfers.c.amount, transfers.c.allocation_id).where(transfers.c.key == bindparam("key"))
)


@dataclass(frozen=True)
class Times:
    """What a statement takes its lines from; `profiles` has each run's.

    `settled` is how many runs were settled since the last statement; of those, `unpriced` have a card without a price.
    """

    priced: tuple[RunTime, ...]
    settled: int
    unpriced: int
    profiles: dict[str, str]


@dataclass(frozen=True)
class Closing:
    """A month's statement as it is closed `at` (seconds UTC) by `actor`."""

    month: Month
    total: Total
    lines: tuple[Line, ...]
    actor: str
    at: int


def every_project(transaction: Transaction) -> list[Row]:
    """Return (id, code, allocation_id) of every project that was ever awarded something, by code.

    The allocation is its first, on which its accounts in KRW hang.
    """
    return transaction.rows(_ALL_PROJECTS)


def project(transaction: Transaction, code: str) -> Row | None:
    """Return the same of one project, or None."""
    return transaction.one(_ONE_PROJECT, code=code)


def lock(transaction: Transaction, project_id: int) -> None:
    """No other transaction closes a month of the project before this one ends."""
    transaction.one(_LOCK, project_id=project_id)


def last_statement(transaction: Transaction, project_id: int) -> Row | None:
    """Return the project's latest statement, or None."""
    return transaction.one(_LAST, project_id=project_id)


def statement_before(transaction: Transaction, project_id: int, month: Month) -> Row | None:
    """Return the project's latest statement of an earlier month, or None."""
    return transaction.one(_BEFORE, project_id=project_id, month=str(month))


def statement(transaction: Transaction, project_id: int, month: Month) -> Row | None:
    """Return the project's statement of the month, or None when it is not closed."""
    return transaction.one(_STATEMENT, project_id=project_id, month=str(month))


def lines(transaction: Transaction, statement_id: int) -> list[tuple[Line, str]]:
    """Return a statement's lines, each with the run's profile."""
    return [(_line(row), row.profile) for row in transaction.rows(_LINES, statement_id=statement_id)]


def _line(row: Row) -> Line:
    return Line(
        run_id=row.run_id,
        kind=LineKind(row.kind),
        month=read_month("month", row.month),
        devices=row.devices,
        seconds=row.seconds,
        krw_per_device_month=row.krw_per_device_month,
    )


def times(transaction: Transaction, project_id: int, since: int, before: int) -> Times:
    """Return the project's runs that began before then, with what was billed of each.

    Of all runs those that were settled since the last statement, which took what ended by `since`, and those that
    were ever refunded. A settlement may be written up to `SETTLED_BEFORE_SECONDS` later than it says. A run whose
    device has a price of 0 is priced.
    """
    reach = {"project_id": project_id, "since": max(since - SETTLED_BEFORE_SECONDS, 0), "before": before}
    rows = {row.run_id: row for row in transaction.rows(_SETTLED_SINCE, **reach)}
    taken = transaction.rows(_TAKEN_OF_SETTLED, **reach)
    refunded = {row.run_id: row for row in transaction.rows(_EVER_REFUNDED, project_id=project_id)}
    more = transaction.rows(_TAKEN_OF_REFUNDED, project_id=project_id) if refunded else []
    billed: defaultdict[str, set[Month]] = defaultdict(set)
    credited: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for each in (*taken, *more):
        if each.kind == LineKind.USE.value:
            billed[each.run_id].add(read_month("month", each.month))
        else:
            credited[each.run_id][each.month] = each.seconds
    every = rows | refunded
    fresh = [row for row in rows.values() if row.settled_at >= since]
    return Times(
        priced=tuple(
            RunTime(
                run_id=row.run_id,
                started_at=row.started_at,
                paid_seconds=(row.amount - row.overrun_amount) // row.gflops,
                refunded_seconds=int(row.refunded) // row.gflops,
                devices=row.device_count,
                krw_per_device_month=row.krw_per_device_month,
                billed=frozenset(billed[row.run_id]),
                credited_seconds=sum(credited[row.run_id].values()),
            )
            for row in every.values()
            if row.krw_per_device_month is not None and row.device_count > 0
        ),
        settled=len(fresh),
        unpriced=sum(row.krw_per_device_month is None for row in fresh),
        profiles={row.run_id: row.profile for row in every.values()},
    )


def open_runs(transaction: Transaction, project_id: int, before: int) -> int:
    """Return how many of the project's runs that were held before then are not settled yet."""
    row = transaction.one(_OPEN_RUNS, project_id=project_id, before=before)
    return int(row.number) if row is not None else 0


def add_statement(transaction: Transaction, project_id: int, closing: Closing) -> int:
    """The statement is stored with its lines; return its id. Raises Conflict when the month is closed already."""
    number = transaction.insert(
        copayment_statements,
        {
            "project_id": project_id,
            "month": str(closing.month),
            "carried_in": closing.total.carried_in,
            "use_numerator": closing.total.use,
            "credit_numerator": closing.total.credit,
            "amount": closing.total.amount,
            "carried_out": closing.total.carried_out,
            "closed_at": closing.at,
            "closed_by": closing.actor[:80],
        },
    )
    for line in closing.lines:
        transaction.run(
            _INSERT_LINE,
            statement_id=number,
            run_id=line.run_id,
            kind=line.kind.value,
            month=str(line.month),
            devices=line.devices,
            seconds=line.seconds,
            price=line.krw_per_device_month,
            numerator=line.numerator,
        )
    return number


def account(transaction: Transaction, allocation_id: int) -> Account:
    """Return the project's accounts in KRW, whose first allocation this is; zeros before its first bill."""
    found = ledger_store.account_ids(transaction, allocation_id, KRW)
    balances = {kind: balance for kind, (_, balance) in found.items()}
    kinds = (AccountKind.OWED, AccountKind.PAID, AccountKind.CREDIT)
    return Account(*(balances.get(kind, 0) for kind in kinds))


def open_account(transaction: Transaction, allocation_id: int) -> None:
    """The project has its accounts in KRW."""
    if AccountKind.OWED not in ledger_store.account_ids(transaction, allocation_id, KRW):
        ledger_store.open_accounts(transaction, allocation_id, KRW)


def by_key(transaction: Transaction, key: str) -> Row | None:
    """Return the kind, amount and allocation of the transfer written under `key`, or None."""
    return transaction.one(_BY_KEY, key=key)


def journal(transaction: Transaction, project_code: str | None) -> Iterator[Row]:
    """Yield the transfers in KRW in the order in which they were written, of one project or of all."""
    yield from ledger_store.journal(transaction, project_code, KRW)
