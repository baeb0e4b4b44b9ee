"""What reports read: balances by project, what is promised now, and how much runs."""

from __future__ import annotations

from sqlalchemy import BindParameter, bindparam, case, func, literal, select

from quotas.domain.ledger import AccountKind
from quotas.domain.projects import ProjectState
from quotas.domain.runs import HoldState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import accounts, allocations, awards, charges, holds, projects, recalls

_now: BindParameter[int] = bindparam("now")


def _word(text: str) -> BindParameter[str]:
    return literal(text, literal_execute=True)


_overruns = (
    select(allocations.c.project_id, func.sum(charges.c.overrun_amount).label("overrun"))
    .join(allocations, allocations.c.id == charges.c.allocation_id)
    .where(charges.c.overrun_amount > 0)
    .group_by(allocations.c.project_id)
    .subquery("overruns")
)
_BALANCES = Prepared(
    select(
        projects.c.code,
        *(
            func.coalesce(func.sum(case((accounts.c.kind == _word(kind.value), accounts.c.balance), else_=0)), 0).label(
                kind.value
            )
            for kind in (AccountKind.AVAILABLE, AccountKind.HELD, AccountKind.SPENT, AccountKind.EXPIRED)
        ),
        func.coalesce(func.max(_overruns.c.overrun), 0).label("overrun"),
    )
    .join(allocations, allocations.c.project_id == projects.c.id)
    .join(accounts, accounts.c.allocation_id == allocations.c.id)
    .outerjoin(_overruns, _overruns.c.project_id == projects.c.id)
    .group_by(projects.c.code)
    .order_by(projects.c.code)
)

_freed = (
    select(func.coalesce(func.sum(recalls.c.freed_gflops), 0))
    .where(recalls.c.allocation_id == allocations.c.id)
    .correlate(allocations)
    .scalar_subquery()
)
_promised = awards.c.gflops + awards.c.extra_gflops - _freed
_AWARDED = Prepared(
    select(func.coalesce(func.sum(case((_promised > 0, _promised), else_=0)), 0).label("gflops"))
    .select_from(awards)
    .join(projects, projects.c.id == awards.c.project_id)
    .join(allocations, allocations.c.award_id == awards.c.id)
    .where(
        projects.c.state == _word(ProjectState.APPROVED.value),
        allocations.c.revoked_at.is_(None),
        awards.c.starts_at <= _now,
        awards.c.ends_at > _now,
    )
)
_RUNNING = Prepared(
    select(
        func.count().label("open_runs"),
        func.coalesce(func.sum(holds.c.gflops), 0).label("in_use_gflops"),
    ).where(holds.c.state == _word(HoldState.OPEN.value))
)


def balances(transaction: Transaction) -> list[Row]:
    """Return the balances of every project that was ever awarded something, by code."""
    return transaction.rows(_BALANCES)


def awarded_gflops(transaction: Transaction, now: int) -> int:
    """Return what is promised by the awards that run now, together."""
    return int(transaction.rows(_AWARDED, now=now)[0].gflops)


def running(transaction: Transaction) -> Row:
    """Return how many holds are open, and their rates together."""
    return transaction.rows(_RUNNING)[0]
