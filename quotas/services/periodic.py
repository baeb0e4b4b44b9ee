"""What the loop beside the hub does now and then, in short pieces: it must not keep the next tick waiting.

Each job remembers in the ledger when it is due again and how far it is. A process that dies in the middle leaves a
job that is due again after its pause, from where it last was: everything that a job does may be done again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from quotas.domain.recalls import RecallPolicy
from quotas.services import award_notices, metering, recall_rounds
from quotas.store import periodic as store
from quotas.store.database import Conflict, Database, DatabaseAway

log = logging.getLogger("mudeung.periodic")

HEARTBEAT = "heartbeat"
"""The job whose position is when the loop last went round."""


@dataclass(frozen=True)
class Progress:
    """How far a job is: at `position` of its round, whose name only the job knows; at the beginning ("", 0)."""

    round: str = ""
    position: int = 0


@dataclass(frozen=True)
class Job:
    """`work` does one piece and returns how far it is, and whether the next piece is due at the next tick already."""

    name: str
    pause_seconds: int
    work: Callable[[Database, Progress, int], tuple[Progress, bool]]


def jobs(recalls: RecallPolicy) -> tuple[Job, ...]:
    """Return all jobs."""

    def look_at_awards(database: Database, progress: Progress, now: int) -> tuple[Progress, bool]:
        position, more = award_notices.look(database, progress.position, now)
        return Progress(progress.round, position), more

    def recall(database: Database, progress: Progress, now: int) -> tuple[Progress, bool]:
        month, position, more = recall_rounds.go_round(database, recalls, progress.round, progress.position, now)
        return Progress(month, position), more

    def remove_old_measurements(database: Database, progress: Progress, now: int) -> tuple[Progress, bool]:
        return progress, metering.remove_old(database, now)

    return (
        Job("award notices", 300, look_at_awards),
        Job("recalls", 600, recall),
        Job("old measurements", 3600, remove_old_measurements),
        Job(HEARTBEAT, 10, _note_the_time),
    )


def _note_the_time(_database: Database, progress: Progress, now: int) -> tuple[Progress, bool]:
    """The loop's last round is its job's position, for those who watch whether it goes round."""
    return Progress(progress.round, now), False


def run(database: Database, due: tuple[Job, ...], now: int) -> list[str]:
    """One piece was done of each of the jobs whose time has come; return their names. Raises DatabaseAway.

    A job that fails is logged and due again after its pause; the others are done all the same.
    """
    with database.read() as transaction:
        known = store.jobs(transaction)
    done = []
    for job in due:
        row = known.get(job.name)
        if row is not None and row.due_at > now:
            continue
        if not _claim(database, job, None if row is None else row.due_at, now):
            continue
        progress = Progress() if row is None else Progress(row.round, row.position)
        try:
            progress, more = job.work(database, progress, now)
        except DatabaseAway:
            raise
        except Exception:
            log.exception("the job %s was not finished; it is due again after its pause", job.name)
            continue
        with database.write() as transaction:
            again_at = now if more else now + job.pause_seconds
            store.keep(transaction, job.name, again_at, progress.round, progress.position)
        done.append(job.name)
    return done


def _claim(database: Database, job: Job, due_at: int | None, now: int) -> bool:
    try:
        with database.write() as transaction:
            if due_at is None:
                store.add(transaction, job.name, now + job.pause_seconds)
                return True
            return store.claim(transaction, job.name, due_at, now + job.pause_seconds)
    except Conflict:
        return False
