"""Schedules and their executions: a firing is claimed by one row that can exist once."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, insert, select, update

from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import executions, persons, profiles, projects, queue_entries, schedules

_SCHEDULE = (
    select(
        schedules.c.id,
        schedules.c.title,
        schedules.c.notebook,
        schedules.c.parameters,
        schedules.c.zone,
        schedules.c.cron,
        schedules.c.once_at,
        schedules.c.timeout_seconds,
        schedules.c.enabled,
        schedules.c.pause_reason,
        schedules.c.next_at,
        schedules.c.created_at,
        schedules.c.wish,
        projects.c.code.label("project"),
        persons.c.username.label("person"),
        profiles.c.code.label("profile"),
    )
    .join(projects, projects.c.id == schedules.c.project_id)
    .join(persons, persons.c.id == schedules.c.person_id)
    .join(profiles, profiles.c.id == schedules.c.profile_id)
)
_ONE = Prepared(_SCHEDULE.where(schedules.c.id == bindparam("id")))
_ALL = Prepared(_SCHEDULE.order_by(schedules.c.id))
_OF_PROJECT = Prepared(_SCHEDULE.where(projects.c.code == bindparam("project")).order_by(schedules.c.id))
_DUE = Prepared(
    _SCHEDULE.where(schedules.c.enabled == 1, schedules.c.next_at <= bindparam("now"))
    .order_by(schedules.c.next_at, schedules.c.id)
    .limit(bindparam("limit"))
)
_ADVANCE = Prepared(
    update(schedules)
    .where(schedules.c.id == bindparam("schedule"), schedules.c.next_at == bindparam("old_next_at"))
    .values(next_at=bindparam("new_next_at"))
)
_EXECUTION = (
    select(
        executions.c.run_id,
        executions.c.schedule_id,
        executions.c.scheduled_for,
        executions.c.state,
        executions.c.reason_ko,
        executions.c.reason_en,
        executions.c.notebook_sha256,
        executions.c.parameters,
        executions.c.output,
        executions.c.exit_code,
        executions.c.failing_cell,
        executions.c.log,
        executions.c.claimed_at,
        executions.c.finished_at,
        schedules.c.title,
        schedules.c.notebook,
        schedules.c.timeout_seconds,
        schedules.c.wish,
        queue_entries.c.state.label("queue_state"),
        projects.c.code.label("project"),
        persons.c.username.label("person"),
        profiles.c.code.label("profile"),
    )
    .join(schedules, schedules.c.id == executions.c.schedule_id)
    .join(projects, projects.c.id == schedules.c.project_id)
    .join(persons, persons.c.id == schedules.c.person_id)
    .join(profiles, profiles.c.id == schedules.c.profile_id)
    .outerjoin(queue_entries, queue_entries.c.run_id == executions.c.run_id)
)
_EXECUTION_OF_RUN = Prepared(_EXECUTION.where(executions.c.run_id == bindparam("run")))
_UNFINISHED = Prepared(_EXECUTION.where(executions.c.finished_at.is_(None)).order_by(executions.c.claimed_at))
_UNFINISHED_OF_SCHEDULE = Prepared(
    select(executions.c.run_id)
    .where(executions.c.schedule_id == bindparam("schedule"), executions.c.finished_at.is_(None))
    .limit(1)
)
_LATEST = Prepared(
    _EXECUTION.where(projects.c.code == bindparam("project"))
    .order_by(executions.c.claimed_at.desc(), executions.c.run_id.desc())
    .limit(bindparam("limit"))
)


def add(transaction: Transaction, values: dict[str, Any]) -> int:
    """The schedule is stored; return its id."""
    return transaction.insert(schedules, values)


def change(transaction: Transaction, schedule_id: int, values: dict[str, Any]) -> int:
    """Return how many schedules were changed: 1, or 0 when there is none with this id."""
    return transaction.run(update(schedules).where(schedules.c.id == schedule_id).values(values))


def one(transaction: Transaction, schedule_id: int) -> Row | None:
    """Return the schedule, or None."""
    return transaction.one(_ONE, id=schedule_id)


def every(transaction: Transaction, project: str | None) -> list[Row]:
    """Return the schedules of one project or of all."""
    return transaction.rows(_ALL) if project is None else transaction.rows(_OF_PROJECT, project=project)


def due(transaction: Transaction, now: int, limit: int) -> list[Row]:
    """Return enabled schedules whose next instant has come, the longest waiting first."""
    return transaction.rows(_DUE, now=now, limit=limit)


def advance(transaction: Transaction, schedule_id: int, old_next_at: int, new_next_at: int | None) -> bool:
    """The schedule's next instant is `new_next_at`; False when another claim moved it first."""
    changed = transaction.run(_ADVANCE, schedule=schedule_id, old_next_at=old_next_at, new_next_at=new_next_at)
    return changed == 1


_FIRING = Prepared(
    select(executions.c.run_id).where(
        executions.c.schedule_id == bindparam("schedule_id"), executions.c.scheduled_for == bindparam("scheduled_for")
    )
)


def claim(transaction: Transaction, values: dict[str, Any]) -> bool:
    """The firing is claimed; False when it was claimed before (the schema lets it exist once).

    The transaction must be alone: a broken constraint could not be told apart and passed over.
    """
    firing = {name: values[name] for name in ("schedule_id", "scheduled_for")}
    if transaction.one(_FIRING, **firing) is not None:
        return False
    transaction.run(insert(executions).values(values))
    return True


def has_unfinished(transaction: Transaction, schedule_id: int) -> bool:
    """Return whether an execution of the schedule has not finished."""
    return transaction.one(_UNFINISHED_OF_SCHEDULE, schedule=schedule_id) is not None


def change_execution(transaction: Transaction, run_id: str, values: dict[str, Any], *, unfinished: bool = True) -> bool:
    """The execution has the values; False when there is none, or it has finished and `unfinished` is asked."""
    statement = update(executions).where(executions.c.run_id == run_id)
    if unfinished:
        statement = statement.where(executions.c.finished_at.is_(None))
    return transaction.run(statement.values(values)) == 1


def execution(transaction: Transaction, run_id: str) -> Row | None:
    """Return the execution with its schedule, or None."""
    return transaction.one(_EXECUTION_OF_RUN, run=run_id)


def unfinished(transaction: Transaction) -> list[Row]:
    """Return every execution that was claimed and has not finished."""
    return transaction.rows(_UNFINISHED)


def latest(transaction: Transaction, project: str, limit: int) -> list[Row]:
    """Return the project's newest executions, newest first."""
    return transaction.rows(_LATEST, project=project, limit=limit)
