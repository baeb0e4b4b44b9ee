"""When each of the periodic jobs is due again, and how far it is."""

from __future__ import annotations

from sqlalchemy import bindparam, select, update

from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import periodic_jobs

_ALL = Prepared(select(periodic_jobs.c.name, periodic_jobs.c.due_at, periodic_jobs.c.round, periodic_jobs.c.position))
_CLAIM = Prepared(
    update(periodic_jobs)
    .where(periodic_jobs.c.name == bindparam("name"), periodic_jobs.c.due_at == bindparam("was_due_at"))
    .values(due_at=bindparam("again_at"))
)
_KEEP = Prepared(
    update(periodic_jobs)
    .where(periodic_jobs.c.name == bindparam("name"))
    .values(due_at=bindparam("again_at"), round=bindparam("round"), position=bindparam("position"))
)


def jobs(transaction: Transaction) -> dict[str, Row]:
    """Return every job that was ever due, by name."""
    return {row.name: row for row in transaction.rows(_ALL)}


def add(transaction: Transaction, name: str, due_at: int) -> None:
    """The job is known, and at its beginning. Raises Conflict when it was known."""
    transaction.insert(periodic_jobs, {"name": name, "due_at": due_at, "round": "", "position": 0})


def claim(transaction: Transaction, name: str, was_due_at: int, again_at: int) -> bool:
    """The job is this process's until `again_at`; return False if another process has just taken it."""
    return transaction.run(_CLAIM, name=name, was_due_at=was_due_at, again_at=again_at) == 1


def keep(transaction: Transaction, name: str, again_at: int, round_name: str, position: int) -> None:
    """The job is due at `again_at` and goes on at `position` of its round."""
    transaction.run(_KEEP, name=name, again_at=again_at, round=round_name, position=position)
