"""Executions that gave their borrowed devices back: which are claimed once more, and which were that already."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, insert, literal, select

from quotas.domain.runs import Outcome
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import executions, runs, schedules

_earlier, _run_of_earlier = executions.alias("earlier"), runs.alias("run_of_earlier")
_preempted = literal(Outcome.PREEMPTED.value, literal_execute=True)

_PREEMPTED = Prepared(
    select(
        executions.c.schedule_id,
        executions.c.scheduled_for,
        executions.c.parameters,
        schedules.c.enabled,
        runs.c.finished_at,
    )
    .join(runs, runs.c.id == executions.c.run_id)
    .join(schedules, schedules.c.id == executions.c.schedule_id)
    .where(executions.c.run_id == bindparam("run"), runs.c.outcome == _preempted, runs.c.finished_at.is_not(None))
)
_REPEATED = Prepared(
    select(_earlier.c.run_id)
    .join(_run_of_earlier, _run_of_earlier.c.id == _earlier.c.run_id)
    .where(
        _earlier.c.schedule_id == bindparam("schedule"),
        _run_of_earlier.c.outcome == _preempted,
        _run_of_earlier.c.finished_at == bindparam("scheduled_for"),
    )
    .limit(1)
)
_FIRING = Prepared(
    select(executions.c.run_id).where(
        executions.c.schedule_id == bindparam("schedule"), executions.c.scheduled_for == bindparam("scheduled_for")
    )
)


def preempted(transaction: Transaction, run_id: str) -> Row | None:
    """Return the execution that gave its devices back, with its schedule; None for any other."""
    return transaction.one(_PREEMPTED, run=run_id)


def is_repeat(transaction: Transaction, schedule_id: int, scheduled_for: int) -> bool:
    """Return whether the firing is another one's repeat: it is due when that one gave its devices back."""
    return transaction.one(_REPEATED, schedule=schedule_id, scheduled_for=scheduled_for) is not None


def firing(transaction: Transaction, schedule_id: int, scheduled_for: int) -> str | None:
    """Return the run of the schedule's firing at that instant, or None."""
    row = transaction.one(_FIRING, schedule=schedule_id, scheduled_for=scheduled_for)
    return None if row is None else str(row.run_id)


def add(transaction: Transaction, values: dict[str, Any]) -> None:
    """The firing is stored. The transaction must be alone."""
    transaction.run(insert(executions).values(values))
