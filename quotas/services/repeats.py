"""A batch run that gave its borrowed devices back is run once more, from its beginning."""

from __future__ import annotations

from quotas.domain.runs import new_run_id
from quotas.domain.schedules import ExecutionState
from quotas.store import audit
from quotas.store import repeats as store
from quotas.store.database import Database


def claim(database: Database, run_id: str, now: int) -> str | None:
    """The preempted execution is claimed once more; return the new run, the same however often this is asked.

    None where it is not run again: it was such a repeat itself, its schedule is paused, or it was not preempted.
    """
    with database.write() as transaction:
        row = store.preempted(transaction, run_id)
        if row is None:
            return None
        there = store.firing(transaction, row.schedule_id, row.finished_at)
        if there is not None:
            return there
        if not row.enabled or store.is_repeat(transaction, row.schedule_id, row.scheduled_for):
            return None
        again = new_run_id()
        store.add(
            transaction,
            {
                "run_id": again,
                "schedule_id": row.schedule_id,
                "scheduled_for": row.finished_at,
                "state": ExecutionState.CLAIMED.value,
                "parameters": row.parameters,
                "claimed_at": now,
            },
        )
        audit.record(transaction, now, "platform", "execution to run again", run_id, {"run": again})
        return again
