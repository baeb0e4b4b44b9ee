"""What is read of the whole: the journal, every project's balances, the use of a month, and how the centre stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from quotas.domain.ledger import AccountKind, TransferKind
from quotas.domain.months import Month, begun_month
from quotas.domain.projects import Phase
from quotas.domain.units import CALENDAR, InvalidValue, moment, show_budget
from quotas.services import pools, project_views
from quotas.services.pools import PoolView
from quotas.services.runs import Run, runs
from quotas.store import ledger as ledger_store
from quotas.store import refunds as refunds_store
from quotas.store import reports as store
from quotas.store.database import Database

__all__ = [
    "Balance",
    "Entry",
    "MonthlyReport",
    "MonthlyUse",
    "Run",
    "Status",
    "balances",
    "journal",
    "ledger_rows",
    "monthly",
    "runs",
    "status",
]


@dataclass(frozen=True)
class Entry:
    """One transfer: `amount` GFLOPS·s from the account `debit` to `credit`, at `at` (seconds UTC)."""

    sequence: int
    at: int
    project: str
    kind: TransferKind
    debit: AccountKind
    credit: AccountKind
    amount: int
    run_id: str | None
    key: str
    note: str | None


@dataclass(frozen=True)
class Balance:
    """A project's accounts over all its awards, in GFLOPS·s.

    available + held + spent + expired = granted + overrun, the last being what the operator bore.
    """

    project: str
    granted: int
    available: int
    held: int
    spent: int
    expired: int
    overrun: int


@dataclass(frozen=True)
class MonthlyUse:
    """What a project used in a month of one device model, None for runs without a device. Amounts in GFLOPS·s.

    `used` and `device_seconds` are of the time that ran in the month, `idle_device_seconds` that part of it in which
    reserved seats were kept and not claimed; `charged` with its `overrun`, and `refunded`, are what was written in
    the month, also of runs that began before it. `runs` are those that ran at some time of the month.
    """

    project: str
    device_model: str | None
    runs: int = 0
    device_seconds: int = 0
    idle_device_seconds: int = 0
    used: int = 0
    charged: int = 0
    overrun: int = 0
    refunded: int = 0

    def plus(self, other: MonthlyUse, project: str, device_model: str | None) -> MonthlyUse:
        """Return both together, as of this project and device."""
        sums = (getattr(self, name) + getattr(other, name) for name in _NUMBERS)
        return MonthlyUse(project, device_model, *sums)


@dataclass(frozen=True)
class MonthlyReport:
    """The use of a month by project and device model, as the journal has it up to its transfer `offset`.

    The same month and offset always give the same lines. `card_versions` are of the rate cards that they were charged
    by. `open_runs` is of the moment of asking: runs of the month, or of before, that are not charged yet.
    """

    month: Month
    offset: int
    card_versions: tuple[int, ...]
    lines: tuple[MonthlyUse, ...]
    open_runs: int
    is_over: bool

    @property
    def is_final(self) -> bool:
        """Whether nothing can be added to the month's use any more; refunds and late charges are of later months."""
        return self.is_over and not self.open_runs

    def by_project(self) -> list[MonthlyUse]:
        """Return each project's lines together, by code."""
        found: dict[str, MonthlyUse] = {}
        for line in self.lines:
            found[line.project] = line.plus(found.get(line.project, _NOTHING), line.project, None)
        return list(found.values())

    def by_device(self) -> list[MonthlyUse]:
        """Return each device model's lines together; runs without a device come first."""
        found: dict[str | None, MonthlyUse] = {}
        for line in sorted(self.lines, key=lambda line: line.device_model or ""):
            found[line.device_model] = line.plus(found.get(line.device_model, _NOTHING), "", line.device_model)
        return list(found.values())

    @property
    def total(self) -> MonthlyUse:
        whole = _NOTHING
        for line in self.lines:
            whole = line.plus(whole, "", None)
        return whole


_NOTHING = MonthlyUse("", None)
_NUMBERS = ("runs", "device_seconds", "idle_device_seconds", "used", "charged", "overrun", "refunded")


@dataclass(frozen=True)
class Status:
    """How the centre stands: awards that run now against what is healthy, both GFLOPS at the rate card's precision."""

    at: int
    projects: Mapping[Phase, int]
    awarded_gflops: int
    healthy_gflops: int
    in_use_gflops: int
    open_runs: int
    pools: tuple[PoolView, ...]


def journal(database: Database, project: str | None = None) -> list[Entry]:
    """Return the transfers in the order in which they were written, of one project or of all."""
    with database.read() as transaction:
        return [
            Entry(
                sequence=row.sequence,
                at=row.at,
                project=row.project,
                kind=TransferKind(row.kind),
                debit=AccountKind(row.debit),
                credit=AccountKind(row.credit),
                amount=row.amount,
                run_id=row.run_id,
                key=row.key,
                note=row.note,
            )
            for row in ledger_store.journal(transaction, project)
        ]


def ledger_rows(database: Database, project: str | None = None) -> list[dict[str, str]]:
    """Return the journal as texts for a table, JSON or CSV; the instant in the centre's calendar, with its zone.

    The amount is a text too: it exceeds 2**53, above which JSON's readers round.
    """
    return [
        {
            "sequence": str(entry.sequence),
            "at": moment(entry.at).astimezone(CALENDAR).isoformat(),
            "project": entry.project,
            "kind": entry.kind.value,
            "debit": entry.debit.value,
            "credit": entry.credit.value,
            "amount_gflops_seconds": str(entry.amount),
            "amount": show_budget(entry.amount),
            "run": entry.run_id or "",
            "key": entry.key,
            "note": entry.note or "",
        }
        for entry in journal(database, project)
    ]


def balances(database: Database) -> list[Balance]:
    """Return the balances of every project that was ever awarded something, by code, all of one moment."""
    with database.read() as transaction:
        return [
            Balance(
                project=row.code,
                granted=row.available + row.held + row.spent + row.expired - row.overrun,
                available=row.available,
                held=row.held,
                spent=row.spent,
                expired=row.expired,
                overrun=row.overrun,
            )
            for row in store.balances(transaction)
        ]


def status(database: Database, now: int) -> Status:
    """Return how the centre stands at `now`. Before the first rate card no device counts."""
    with database.read() as transaction:
        devices = tuple(pools.views(transaction, now))
        running = store.running(transaction)
        return Status(
            at=now,
            projects=Counter(view.phase for view in project_views.every(transaction, now)),
            awarded_gflops=store.awarded_gflops(transaction, now),
            healthy_gflops=sum(each.healthy_gflops for each in devices),
            in_use_gflops=running.in_use_gflops,
            open_runs=running.open_runs,
            pools=devices,
        )


def monthly(database: Database, month: str, *, now: int, offset: int | None = None) -> MonthlyReport:
    """Return the use of the month (``2026-11``, in the centre's calendar), of one moment of the journal.

    `offset` is the number of the last transfer that counts, None for the newest. Raises InvalidValue for what is no
    month, for one in the future, and for an offset that the journal has not reached.
    """
    wanted = begun_month("month", month, now)
    # Whoever writes alone sees every transfer up to the newest: a lower number may not be committed later.
    with database.write() as transaction:
        newest = refunds_store.newest_sequence(transaction)
    if offset is not None and not 0 <= offset <= newest:
        raise InvalidValue(
            "offset",
            f"must be 0 to {newest}, the number of the newest transfer, not {offset}",
            f"0부터 최신 거래 번호 {newest}까지여야 합니다 (입력: {offset})",
        )
    until = newest if offset is None else offset
    with database.read(by_index=True) as transaction:
        used, charged, refunded = store.month(transaction, wanted.starts_at, wanted.ends_at, until)
        open_runs = store.open_before(transaction, min(wanted.ends_at, now + 1))
    found: dict[tuple[str, str | None], MonthlyUse] = {}
    for row in (*used, *charged, *refunded):
        key = row.code, row.device_model
        line = MonthlyUse(*key, *(int(getattr(row, name, 0)) for name in _NUMBERS))
        found[key] = line.plus(found.get(key, _NOTHING), *key)
    return MonthlyReport(
        month=wanted,
        offset=until,
        card_versions=tuple(sorted({row.card_version for row in (*used, *charged)})),
        lines=tuple(found[key] for key in sorted(found, key=lambda key: (key[0], key[1] or ""))),
        open_runs=open_runs,
        is_over=now >= wanted.ends_at,
    )
