"""What an award was granted, what ran of it, how its people waited and when it was suspended: read for its months."""

from __future__ import annotations

from sqlalchemy import BindParameter, and_, bindparam, func, literal, or_, select

from quotas.domain.ledger import COMPUTE, LOWERS, RAISES, AccountKind, TransferKind
from quotas.domain.projects import ProjectState
from quotas.domain.recalls import Grant, Ran
from quotas.domain.runs import HoldState
from quotas.domain.units import DAY_SECONDS
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    accounts,
    allocations,
    award_suspensions,
    awards,
    charges,
    holds,
    projects,
    queue_entries,
    runs,
    transfers,
)

_now: BindParameter[int] = bindparam("now")
_allocation: BindParameter[int] = bindparam("allocation_id")
_since: BindParameter[int] = bindparam("since")
_until: BindParameter[int] = bindparam("until")


def _word(text: str) -> BindParameter[str]:
    return literal(text, literal_execute=True)


_AWARDS = (
    select(
        allocations.c.id,
        projects.c.id.label("project_id"),
        projects.c.code.label("project"),
        projects.c.kind.label("project_kind"),
        awards.c.id.label("award_id"),
        awards.c.gflops,
        awards.c.extra_gflops,
        awards.c.utilisation_ppm,
        allocations.c.starts_at,
        allocations.c.ends_at,
        accounts.c.balance.label("available"),
    )
    .join(awards, awards.c.id == allocations.c.award_id)
    .join(projects, projects.c.id == allocations.c.project_id)
    .join(
        accounts,
        and_(accounts.c.allocation_id == allocations.c.id, accounts.c.kind == _word(AccountKind.AVAILABLE.value)),
    )
)
_LIVING = Prepared(
    _AWARDS.where(
        allocations.c.id > bindparam("after"),
        allocations.c.asset == _word(COMPUTE),
        allocations.c.starts_at <= _now,
        allocations.c.ends_at > _now,
        allocations.c.suspended_at.is_(None),
        allocations.c.revoked_at.is_(None),
        projects.c.state == _word(ProjectState.APPROVED.value),
    )
    .order_by(allocations.c.id)
    .limit(bindparam("limit"))
)
_ONE = Prepared(
    _AWARDS.add_columns(
        and_(
            projects.c.state == _word(ProjectState.APPROVED.value),
            allocations.c.revoked_at.is_(None),
            allocations.c.ends_at > _now,
        ).label("is_living")
    ).where(allocations.c.id == _allocation)
)

GRANTS = Prepared(
    select(transfers.c.kind, transfers.c.amount, transfers.c.at)
    .where(
        transfers.c.allocation_id == _allocation,
        transfers.c.run_id.is_(None),
        transfers.c.kind.in_([_word(kind.value) for kind in sorted(RAISES | LOWERS)]),
    )
    .order_by(transfers.c.sequence)
)

# A run is settled after it ran, whatever its length; a day more than enough for clocks that differ.
SETTLED = Prepared(
    select(charges.c.gflops, runs.c.started_at, charges.c.seconds)
    .join(runs, runs.c.id == charges.c.run_id)
    .where(charges.c.allocation_id == _allocation, charges.c.settled_at > _since, runs.c.started_at < _until)
)
OPEN = Prepared(
    select(holds.c.gflops, runs.c.started_at)
    .join(runs, runs.c.id == holds.c.run_id)
    .where(
        holds.c.allocation_id == _allocation,
        holds.c.state == _word(HoldState.OPEN.value),
        runs.c.started_at < _until,
    )
)

# An entry that was passed over for a reason of its project's own waited for that, not for a pool.
_waited_until = func.coalesce(queue_entries.c.turn_at, queue_entries.c.ended_at)
WAITS = Prepared(
    select(queue_entries.c.joined_at, _waited_until.label("until_at")).where(
        queue_entries.c.project_id == bindparam("project_id"),
        queue_entries.c.joined_at < _until,
        queue_entries.c.blocked_by.is_(None),
        or_(_waited_until.is_(None), _waited_until > _since),
    )
)
SUSPENSIONS = Prepared(
    select(award_suspensions.c.since, award_suspensions.c.ended_at).where(
        award_suspensions.c.allocation_id == _allocation
    )
)


def living(transaction: Transaction, after: int, now: int, limit: int) -> list[Row]:
    """Return up to `limit` awards that run now and are not suspended, of ids above `after`, by id."""
    return transaction.rows(_LIVING, after=after, now=now, limit=limit)


def one(transaction: Transaction, allocation_id: int, now: int) -> Row | None:
    """Return the award, and whether it is neither over nor revoked; None where there is none."""
    return transaction.one(_ONE, allocation_id=allocation_id, now=now)


def grants(transaction: Transaction, allocation_id: int) -> list[Grant]:
    """Return what was granted of the award and what was taken back, oldest first."""
    return [
        Grant(row.amount if TransferKind(row.kind) in RAISES else -row.amount, row.at)
        for row in transaction.rows(GRANTS, allocation_id=allocation_id)
    ]


def ran(transaction: Transaction, allocation_id: int, since: int, until: int, now: int) -> list[Ran]:
    """Return what ran of the award at some time from `since` to `until`; what still runs has run until `now`."""
    settled = transaction.rows(SETTLED, allocation_id=allocation_id, since=since - DAY_SECONDS, until=until)
    still_open = transaction.rows(OPEN, allocation_id=allocation_id, until=until)
    return [
        *(Ran(row.gflops, row.started_at, row.seconds) for row in settled),
        *(Ran(row.gflops, row.started_at, max(now - row.started_at, 0)) for row in still_open),
    ]


def waits(transaction: Transaction, project_id: int, since: int, until: int, now: int) -> list[tuple[int, int]]:
    """Return from when until when the project's people waited for devices, at some time from `since` to `until`."""
    found = transaction.rows(WAITS, project_id=project_id, since=since, until=until)
    return [(row.joined_at, now if row.until_at is None else row.until_at) for row in found]


def suspensions(transaction: Transaction, allocation_id: int, now: int) -> list[tuple[int, int]]:
    """Return from when until when the award was suspended."""
    found = transaction.rows(SUSPENSIONS, allocation_id=allocation_id)
    return [(row.since, now if row.ended_at is None else row.ended_at) for row in found]
