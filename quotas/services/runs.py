"""Runs as people see them: who ran what, where it stands, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass

from quotas.domain.runs import HoldState, Outcome, RunKind, RunState
from quotas.store import runs as store
from quotas.store.database import Database, Row


@dataclass(frozen=True)
class Run:
    """One server or batch execution with its hold and charge. Instants are seconds UTC, None where not yet known.

    `held` is what its hold reserves and `charge` what it cost, both GFLOPS·s at `gflops`, the rate pinned at its
    start; `charge` is None until it is settled, and 0 for one that never ran.
    """

    id: str
    kind: RunKind
    state: RunState
    person: str
    project: str
    profile: str
    gflops: int
    requested_at: int
    started_at: int | None
    finished_at: int | None
    until_at: int
    held: int
    outcome: Outcome | None
    exit_code: int | None
    seconds: int | None
    charge: int | None
    overrun: int | None


def run(database: Database, run_id: str) -> Run | None:
    """Return the run, or None when nothing was ever admitted under this id."""
    with database.read() as transaction:
        row = store.one(transaction, run_id)
    return None if row is None else _run(row)


def runs(database: Database, project: str | None = None, limit: int = 30) -> list[Run]:
    """Return the newest runs, newest first, of one project or of all."""
    with database.read() as transaction:
        return [_run(row) for row in store.latest(transaction, project, limit)]


def _run(row: Row) -> Run:
    settled = row.hold_state != HoldState.OPEN.value
    return Run(
        id=row.id,
        kind=RunKind(row.kind),
        state=RunState(row.state),
        person=row.person,
        project=row.project,
        profile=row.profile,
        gflops=row.gflops,
        requested_at=row.requested_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        until_at=row.until_at,
        held=0 if settled else row.amount,
        outcome=Outcome(row.outcome) if row.outcome else None,
        exit_code=row.exit_code,
        seconds=row.seconds,
        charge=(row.charge or 0) if settled else None,
        overrun=row.overrun_amount,
    )
