"""Until when the files of projects are kept whose awards are over."""

from __future__ import annotations

from sqlalchemy import BindParameter, bindparam, case, func, literal, select

from quotas.domain.ledger import COMPUTE
from quotas.domain.projects import ProjectState
from quotas.domain.runs import RunState
from quotas.domain.units import DAY_SECONDS
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import allocations, awards, projects, runs

_now: BindParameter[int] = bindparam("now")
_revoked = case(
    (allocations.c.revoked_at < allocations.c.ends_at, allocations.c.revoked_at), else_=allocations.c.ends_at
)
_over_at = case((projects.c.ended_at < _revoked, projects.c.ended_at), else_=_revoked)
_KEPT = Prepared(
    select(
        projects.c.id.label("project_id"),
        projects.c.code.label("project"),
        projects.c.title_ko,
        projects.c.title_en,
        func.max(_over_at + awards.c.storage_grace_days * literal(DAY_SECONDS, literal_execute=True)).label(
            "storage_until"
        ),
    )
    .join(allocations, allocations.c.project_id == projects.c.id)
    .join(awards, awards.c.id == allocations.c.award_id)
    .where(
        allocations.c.asset == COMPUTE,
        projects.c.closed_at.is_(None),
        projects.c.state.in_([ProjectState.APPROVED.value, ProjectState.ENDED.value]),
    )
    .group_by(projects.c.id, projects.c.code, projects.c.title_ko, projects.c.title_en)
    .having(func.max(_over_at) <= _now)
    .order_by("storage_until", projects.c.code)
)
_OPEN_RUNS = Prepared(
    select(func.count().label("number"))
    .select_from(runs)
    .where(runs.c.project_id == bindparam("project_id"), runs.c.state != RunState.SETTLED.value)
)


def kept(transaction: Transaction, now: int) -> list[Row]:
    """Return (project_id, project, titles, storage_until) of every project that is over and not closed, soonest first.

    Files are kept after the last of a project's awards; those whose `storage_until` is past may be removed.
    """
    return transaction.rows(_KEPT, now=now)


def open_runs(transaction: Transaction, project_id: int) -> int:
    """Return how many runs of the project have not been settled."""
    return int(transaction.rows(_OPEN_RUNS, project_id=project_id)[0].number)
