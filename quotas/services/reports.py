"""What is read of the whole: the journal, every project's balances, and how the centre stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from quotas.domain.ledger import AccountKind, TransferKind
from quotas.domain.projects import Phase
from quotas.domain.units import CALENDAR, moment, show_budget
from quotas.services import pools, project_views
from quotas.services.pools import PoolView
from quotas.services.runs import Run, runs
from quotas.store import ledger as ledger_store
from quotas.store import reports as store
from quotas.store.database import Database

__all__ = ["Balance", "Entry", "Run", "Status", "balances", "journal", "ledger_rows", "runs", "status"]


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
