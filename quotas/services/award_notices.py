"""The rounds in which awards are looked at, and their PIs and instructors told: see :mod:`quotas.domain.award_notices`.

No round goes through all awards. An award is due when its balance moved, which the newest piece of the journal says,
when a date that it waits for has come, and otherwise once a day.
"""

from __future__ import annotations

from dataclasses import dataclass

from quotas.domain.award_notices import Due, Watched, due, next_look, texts
from quotas.domain.projects import ProjectState, Standing
from quotas.store import audit, notices
from quotas.store import award_notices as store
from quotas.store import refunds as refunds_store
from quotas.store.database import Conflict, Database, Row, Transaction

TRANSFERS_AT_ONCE = 20_000
"""How much of the journal one round reads."""
LATE_TRANSFERS = 200
"""So many of the newest transfers are read again: on PostgreSQL a lower number may be committed after a higher one."""
LOOKS_AT_ONCE = 500
IN_ONE_TRANSACTION = 100
"""Awards that one transaction writes of: starts wait for it no longer than for one another."""


@dataclass(frozen=True)
class Look:
    """What one look at an award found."""

    row: Row
    award: Watched
    to_tell: tuple[Due, ...]
    next_at: int | None


def look(database: Database, position: int, now: int) -> tuple[int, bool]:
    """Those awards were looked at that are due, as many as a round takes, and what is to be told of them was.

    `position` is how far the journal was read; return how far it is now, and whether more is due already.
    """
    position, more_moved = _wake(database, position)
    for _ in range(LOOKS_AT_ONCE // IN_ONE_TRANSACTION):
        found = _read(database, now)
        _write(database, found, now)
        if len(found) < IN_ONE_TRANSACTION:
            return position, more_moved
    return position, True


def _wake(database: Database, position: int) -> tuple[int, bool]:
    """The awards whose balance moved since `position` are due."""
    with database.read() as transaction:
        newest = refunds_store.newest_sequence(transaction)
        if newest <= position:
            return position, False
        until = min(newest, position + TRANSFERS_AT_ONCE)
        moved = store.moved(transaction, max(position - LATE_TRANSFERS, 0), until)
    for first in range(0, len(moved), IN_ONE_TRANSACTION):
        with database.write() as transaction:
            for allocation_id in moved[first : first + IN_ONE_TRANSACTION]:
                store.wake(transaction, allocation_id)
    return until, until < newest


def _read(database: Database, now: int) -> list[Look]:
    with database.read() as transaction:
        rows = store.to_look_at(transaction, now, IN_ONE_TRANSACTION)
        looks = []
        for row in rows:
            award = watched(row, now)
            to_tell = tuple(due(award, store.told(transaction, row.id), now))
            looks.append(Look(row, award, to_tell, next_look(award, now)))
    return looks


def watched(row: Row, now: int) -> Watched:
    """Return the award as it stands at `now`."""
    standing = Standing(
        state=ProjectState(row.project_state),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        granted=row.granted,
        available=row.available,
        ended_at=row.project_ended_at,
        closed_at=row.project_closed_at,
        suspended_at=row.suspended_at,
        revoked_at=row.revoked_at,
        storage_grace_days=row.storage_grace_days,
    )
    ended_at = standing.over_at if standing.is_over(now) else None
    kept_until = None if ended_at is None or row.project_closed_at is not None else standing.storage_until
    if standing.state is not ProjectState.ENDED and (row.others_until or 0) > (ended_at or 0):
        kept_until = None
    return Watched(
        project=row.project,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        stopped=standing.state is not ProjectState.APPROVED
        or row.suspended_at is not None
        or row.revoked_at is not None,
        granted=row.granted,
        available=row.available,
        expired=row.expired,
        ended_at=ended_at,
        kept_until=kept_until,
        next_starts_at=row.next_starts_at,
    )


def _write(database: Database, looks: list[Look], now: int) -> None:
    try:
        with database.write() as transaction:
            for found in looks:
                if store.looked_at(transaction, found.row.id, found.row.look_at, found.next_at):
                    for each in found.to_tell:
                        _tell(transaction, found, each, now)
    except Conflict:
        # Another process has just told of one of them, and that one had moved once more since.
        for found in looks if len(looks) > 1 else ():
            _write(database, [found], now)


def _tell(transaction: Transaction, found: Look, told: Due, now: int) -> None:
    store.tell(transaction, found.row.id, told, now)
    korean, english = texts(found.award, told, now)
    about = f"{found.row.id}:{told.about}:{told.mark}"
    for person_id in store.responsible(transaction, found.row.project_id):
        notices.tell(transaction, notices.Notice(person_id, told.topic.value, about, korean, english), now)
    detail = {"award": found.row.id, "of": told.about, "mark": told.mark}
    audit.record(transaction, now, "platform", f"told of {told.topic.value}", found.award.project, detail)
