"""The whole fleet at one moment: who holds what since when, sums of the ledger, and what waits."""

from __future__ import annotations

from sqlalchemy import BigInteger, bindparam, case, func, literal, select

from quotas.domain.ledger import AccountKind
from quotas.domain.runs import HoldState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    accounts,
    allocations,
    audit_events,
    device_events,
    device_grants,
    devices,
    holds,
    periodic_jobs,
    projects,
    queue_entries,
    runs,
)

_now = bindparam("now", type_=BigInteger)
_HOLDERS = Prepared(
    select(
        devices.c.uuid,
        runs.c.id.label("run"),
        runs.c.kind,
        projects.c.code.label("project"),
        device_grants.c.granted_at,
    )
    .join(devices, devices.c.id == device_grants.c.device_id)
    .join(runs, runs.c.id == device_grants.c.run_id)
    .join(projects, projects.c.id == runs.c.project_id)
    .where(device_grants.c.released_at.is_(None))
)
_from = case((device_grants.c.granted_at > runs.c.started_at, device_grants.c.granted_at), else_=runs.c.started_at)
_until = func.coalesce(device_grants.c.released_at, _now)
_EVER_HELD = Prepared(
    select(projects.c.code.label("project"), func.sum(case((_until > _from, _until - _from), else_=0)).label("seconds"))
    .select_from(device_grants)
    .join(runs, runs.c.id == device_grants.c.run_id)
    .join(projects, projects.c.id == runs.c.project_id)
    .where(runs.c.started_at.is_not(None))
    .group_by(projects.c.code)
)
_OPEN_RUNS = Prepared(
    select(runs.c.kind, projects.c.code.label("project"), func.count().label("number"))
    .select_from(holds)
    .join(runs, runs.c.id == holds.c.run_id)
    .join(projects, projects.c.id == runs.c.project_id)
    .where(holds.c.state == literal(HoldState.OPEN.value, literal_execute=True))
    .group_by(runs.c.kind, projects.c.code)
)
_WAITING = Prepared(
    select(queue_entries.c.device_model, queue_entries.c.state, func.count().label("number"))
    .where(queue_entries.c.ended_at.is_(None))
    .group_by(queue_entries.c.device_model, queue_entries.c.state)
    .order_by(queue_entries.c.device_model, queue_entries.c.state)
)
_BUDGETS = Prepared(
    select(projects.c.code.label("project"), accounts.c.kind, func.sum(accounts.c.balance).label("amount"))
    .join(allocations, allocations.c.id == accounts.c.allocation_id)
    .join(projects, projects.c.id == allocations.c.project_id)
    .where(
        accounts.c.kind.in_([AccountKind.AVAILABLE.value, AccountKind.HELD.value]),
        allocations.c.starts_at <= _now,
        allocations.c.ends_at > _now,
    )
    .group_by(projects.c.code, accounts.c.kind)
)
_EVENTS = Prepared(select(device_events.c.kind, func.count().label("number")).group_by(device_events.c.kind))
_AUDIT = Prepared(
    select(audit_events.c.id, audit_events.c.at, audit_events.c.action, audit_events.c.detail)
    .where(audit_events.c.id > bindparam("after", type_=BigInteger))
    .order_by(audit_events.c.id)
    .limit(bindparam("limit", type_=BigInteger))
)
_JOB = Prepared(select(periodic_jobs.c.position).where(periodic_jobs.c.name == bindparam("name")))


def holders(transaction: Transaction) -> list[Row]:
    """Return which run holds which device, and since when."""
    return transaction.rows(_HOLDERS)


def ever_held(transaction: Transaction, now: int) -> dict[str, int]:
    """Return for how many seconds each project's runs ever held devices, until `now`."""
    return {row.project: int(row.seconds) for row in transaction.rows(_EVER_HELD, now=now)}


def open_runs(transaction: Transaction) -> list[Row]:
    """Return how many runs of each kind each project has open."""
    return transaction.rows(_OPEN_RUNS)


def waiting(transaction: Transaction) -> list[Row]:
    """Return how many entries wait for each device model, or have a turn."""
    return transaction.rows(_WAITING)


def budgets(transaction: Transaction, now: int) -> list[Row]:
    """Return what each project with a running award has available, and what its runs hold."""
    return transaction.rows(_BUDGETS, now=now)


def events(transaction: Transaction) -> dict[str, int]:
    """Return how many events of each kind befell devices."""
    return {row.kind: row.number for row in transaction.rows(_EVENTS)}


def audit_after(transaction: Transaction, after: int, limit: int) -> list[Row]:
    """Return the audit events that follow the one of this number, oldest first."""
    return transaction.rows(_AUDIT, after=after, limit=limit)


def position_of_job(transaction: Transaction, name: str) -> int | None:
    """Return how far the periodic job is, or None before its first time."""
    row = transaction.one(_JOB, name=name)
    return None if row is None else int(row.position)
