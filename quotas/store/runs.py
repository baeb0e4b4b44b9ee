"""Runs and their holds, read together; and the guarded changes of their states."""

from __future__ import annotations

from sqlalchemy import BindParameter, bindparam, insert, or_, select, update

from quotas.domain.ledger import AccountKind
from quotas.domain.runs import HoldState, RunState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    accounts,
    allocations,
    charges,
    doors,
    holds,
    memberships,
    persons,
    pools,
    profiles,
    projects,
    runs,
)

_run: BindParameter[str] = bindparam("run")

_FULL = (
    select(
        runs.c.id,
        runs.c.kind,
        runs.c.state,
        runs.c.door,
        runs.c.requested_at,
        runs.c.started_at,
        runs.c.seen_at,
        runs.c.finished_at,
        runs.c.outcome,
        runs.c.exit_code,
        runs.c.warned_at,
        runs.c.preempt_at,
        runs.c.preempted_for,
        runs.c.session_ends_at,
        runs.c.idle_stop_at,
        runs.c.lost_stop_at,
        persons.c.id.label("person_id"),
        persons.c.username.label("person"),
        persons.c.language,
        projects.c.code.label("project"),
        projects.c.title_ko,
        projects.c.title_en,
        projects.c.state.label("project_state"),
        profiles.c.code.label("profile"),
        memberships.c.role,
        holds.c.allocation_id,
        holds.c.pool_id,
        pools.c.simulated,
        holds.c.device_model,
        holds.c.device_count,
        holds.c.card_version,
        holds.c.gflops,
        holds.c.amount,
        holds.c.opened_at,
        holds.c.until_at,
        holds.c.state.label("hold_state"),
        holds.c.extensions,
        holds.c.priority,
        holds.c.window_id,
        holds.c.ends_by,
        allocations.c.ends_at.label("award_ends_at"),
        allocations.c.suspended_at,
        allocations.c.revoked_at,
        accounts.c.balance.label("available"),
        charges.c.seconds,
        charges.c.amount.label("charge"),
        charges.c.overrun_amount,
    )
    .join(persons, persons.c.id == runs.c.person_id)
    .join(projects, projects.c.id == runs.c.project_id)
    .join(profiles, profiles.c.id == runs.c.profile_id)
    .join(holds, holds.c.run_id == runs.c.id)
    .outerjoin(pools, pools.c.id == holds.c.pool_id)
    .join(allocations, allocations.c.id == holds.c.allocation_id)
    .join(
        accounts,
        (accounts.c.allocation_id == holds.c.allocation_id) & (accounts.c.kind == AccountKind.AVAILABLE.value),
    )
    .outerjoin(
        memberships,
        (memberships.c.project_id == runs.c.project_id) & (memberships.c.person_id == runs.c.person_id),
    )
    .outerjoin(charges, charges.c.run_id == runs.c.id)
)

_ONE = Prepared(_FULL.where(runs.c.id == _run))
_OPEN = Prepared(_FULL.where(holds.c.state == HoldState.OPEN.value).order_by(runs.c.id))
_LATEST = Prepared(_FULL.order_by(runs.c.id.desc()).limit(bindparam("limit")))
_LATEST_OF_PROJECT = Prepared(
    _FULL.where(projects.c.code == bindparam("project")).order_by(runs.c.id.desc()).limit(bindparam("limit"))
)

CLOSE_HOLD = Prepared(
    update(holds)
    .where(holds.c.run_id == _run, holds.c.state == HoldState.OPEN.value, holds.c.amount == bindparam("amount"))
    .values(state=bindparam("new_state"), closed_at=bindparam("at"))
)
EXTEND_HOLD = Prepared(
    update(holds)
    .where(holds.c.run_id == _run, holds.c.state == HoldState.OPEN.value, holds.c.until_at == bindparam("old_until_at"))
    .values(
        until_at=bindparam("new_until_at"),
        amount=holds.c.amount + bindparam("more"),
        extensions=holds.c.extensions + 1,
    )
)
MARK_STARTED = Prepared(
    update(runs)
    .where(runs.c.id == _run, runs.c.state == RunState.HELD.value)
    .values(state=RunState.RUNNING.value, started_at=bindparam("at"), seen_at=bindparam("at"))
)
MARK_SEEN = Prepared(
    update(runs)
    .where(
        runs.c.id == _run,
        runs.c.state != RunState.SETTLED.value,
        or_(runs.c.seen_at.is_(None), runs.c.seen_at < bindparam("at")),
    )
    .values(seen_at=bindparam("at"))
)
MARK_WARNED = Prepared(
    update(runs).where(runs.c.id == _run, runs.c.warned_at.is_(None)).values(warned_at=bindparam("at"))
)
UNMARK_WARNED = Prepared(update(runs).where(runs.c.id == _run).values(warned_at=None))
MARK_SETTLED = Prepared(
    update(runs)
    .where(runs.c.id == _run)
    .values(
        state=RunState.SETTLED.value,
        started_at=bindparam("started_at"),
        finished_at=bindparam("finished_at"),
        outcome=bindparam("outcome"),
        exit_code=bindparam("exit_code"),
    )
)
INSERT_CHARGE = Prepared(
    insert(charges).values(
        run_id=_run,
        allocation_id=bindparam("allocation_id"),
        card_version=bindparam("card_version"),
        gflops=bindparam("gflops"),
        seconds=bindparam("seconds"),
        amount=bindparam("amount"),
        overrun_amount=bindparam("overrun_amount"),
        settled_at=bindparam("settled_at"),
    )
)


def one(transaction: Transaction, run_id: str) -> Row | None:
    """Return the run with its hold, rights, balance and charge, or None."""
    return transaction.one(_ONE, run=run_id)


def open_runs(transaction: Transaction) -> list[Row]:
    """Return every run whose hold is open, oldest first."""
    return transaction.rows(_OPEN)


def latest(transaction: Transaction, project: str | None, limit: int) -> list[Row]:
    """Return the newest runs, newest first, of one project or of all."""
    if project is None:
        return transaction.rows(_LATEST, limit=limit)
    return transaction.rows(_LATEST_OF_PROJECT, project=project, limit=limit)


_DOOR = Prepared(select(doors.c.instance, doors.c.booted_at).where(doors.c.name == bindparam("name")))


def door(transaction: Transaction, name: str) -> Row | None:
    """Return the newest instance of a door and when it booted, or None."""
    return transaction.one(_DOOR, name=name)


def boot_door(transaction: Transaction, name: str, instance: str, at: int) -> None:
    """The door's newest instance is `instance`; what an older one had begun will not be finished by it."""
    changed = transaction.run(update(doors).where(doors.c.name == name).values(instance=instance, booted_at=at))
    if changed == 0:
        transaction.run(insert(doors).values(name=name, instance=instance, booted_at=at))
