"""Which awards are to be looked at, how they stand, and what was told of them.

No statement reads more than the awards that it is about: an award's granted sum is read from the few transfers that
belong to no run, and those whose balance moved from the newest piece of the journal.
"""

from __future__ import annotations

from sqlalchemy import BindParameter, and_, bindparam, func, insert, literal, or_, select, update

from quotas.domain.award_notices import Due, Topic
from quotas.domain.ledger import COMPUTE, AccountKind
from quotas.domain.people import MembershipRole
from quotas.store.awards import granted_of_allocation
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    accounts,
    allocations,
    award_notices,
    award_watches,
    awards,
    memberships,
    projects,
    transfers,
)

_now: BindParameter[int] = bindparam("now")


def _word(text: str) -> BindParameter[str]:
    return literal(text, literal_execute=True)


_available, _expired = accounts.alias("available"), accounts.alias("expired")
_other = allocations.alias("other")
_others = and_(
    _other.c.project_id == allocations.c.project_id,
    _other.c.asset == _word(COMPUTE),
    _other.c.id != allocations.c.id,
    _other.c.revoked_at.is_(None),
)
_others_until = select(func.max(_other.c.ends_at)).where(_others).correlate(allocations).scalar_subquery()
_next_starts_at = (
    select(func.min(_other.c.starts_at))
    .where(_others, _other.c.ends_at > allocations.c.ends_at)
    .correlate(allocations)
    .scalar_subquery()
)

TO_LOOK_AT = Prepared(
    select(
        allocations.c.id,
        award_watches.c.look_at,
        projects.c.id.label("project_id"),
        projects.c.code.label("project"),
        projects.c.state.label("project_state"),
        projects.c.ended_at.label("project_ended_at"),
        projects.c.closed_at.label("project_closed_at"),
        allocations.c.starts_at,
        allocations.c.ends_at,
        allocations.c.suspended_at,
        allocations.c.revoked_at,
        awards.c.storage_grace_days,
        _available.c.balance.label("available"),
        _expired.c.balance.label("expired"),
        granted_of_allocation.label("granted"),
        _others_until.label("others_until"),
        _next_starts_at.label("next_starts_at"),
    )
    .select_from(award_watches)
    .join(allocations, allocations.c.id == award_watches.c.allocation_id)
    .join(awards, awards.c.id == allocations.c.award_id)
    .join(projects, projects.c.id == allocations.c.project_id)
    .join(
        _available,
        and_(_available.c.allocation_id == allocations.c.id, _available.c.kind == _word(AccountKind.AVAILABLE.value)),
    )
    .join(
        _expired,
        and_(_expired.c.allocation_id == allocations.c.id, _expired.c.kind == _word(AccountKind.EXPIRED.value)),
    )
    .where(award_watches.c.look_at <= _now)
    .order_by(award_watches.c.look_at)
    .limit(bindparam("limit"))
)

_LOOKED_AT = Prepared(
    update(award_watches)
    .where(award_watches.c.allocation_id == bindparam("allocation_id"), award_watches.c.look_at == bindparam("old"))
    .values(look_at=bindparam("new"))
)

MOVED = Prepared(
    select(transfers.c.allocation_id)
    .where(transfers.c.sequence > bindparam("after"), transfers.c.sequence <= bindparam("until"))
    .distinct()
)
_WAKE = Prepared(
    update(award_watches)
    .where(
        award_watches.c.allocation_id == bindparam("allocation_id"),
        or_(award_watches.c.look_at.is_(None), award_watches.c.look_at > 0),
    )
    .values(look_at=0)
)
_WATCH = Prepared(
    insert(award_watches).from_select(
        ["allocation_id", "look_at"],
        select(allocations.c.id, literal(0, literal_execute=True)).where(
            allocations.c.id == bindparam("allocation_id"),
            ~select(award_watches.c.allocation_id)
            .where(award_watches.c.allocation_id == allocations.c.id)
            .correlate(allocations)
            .exists(),
        ),
    )
)

_TOLD = Prepared(
    select(award_notices.c.topic, award_notices.c.about, award_notices.c.mark).where(
        award_notices.c.allocation_id == bindparam("allocation_id")
    )
)
_TELL = Prepared(
    insert(award_notices).values(
        allocation_id=bindparam("allocation_id"),
        topic=bindparam("topic"),
        about=bindparam("about"),
        mark=bindparam("mark"),
        at=bindparam("at"),
    )
)
_RESPONSIBLE = Prepared(
    select(memberships.c.person_id)
    .where(
        memberships.c.project_id == bindparam("project_id"),
        memberships.c.role.in_([_word(MembershipRole.PI.value), _word(MembershipRole.INSTRUCTOR.value)]),
    )
    .order_by(memberships.c.person_id)
)


def to_look_at(transaction: Transaction, now: int, limit: int) -> list[Row]:
    """Return up to `limit` awards that are due to be looked at, with how they stand; those due longest first."""
    return transaction.rows(TO_LOOK_AT, now=now, limit=limit)


def looked_at(transaction: Transaction, allocation_id: int, old: int, new: int | None) -> bool:
    """The award is next looked at at `new`; return False if somebody else has looked at it, or it moved, since."""
    return transaction.run(_LOOKED_AT, allocation_id=allocation_id, old=old, new=new) == 1


def moved(transaction: Transaction, after: int, until: int) -> list[int]:
    """Return the allocations of the transfers numbered above `after`, up to `until`."""
    return [int(row.allocation_id) for row in transaction.rows(MOVED, after=after, until=until)]


def wake(transaction: Transaction, allocation_id: int) -> None:
    """The award is looked at in the next round. Raises Conflict where another process has just said so first."""
    if transaction.run(_WAKE, allocation_id=allocation_id) == 0:
        transaction.run(_WATCH, allocation_id=allocation_id)


def told(transaction: Transaction, allocation_id: int) -> dict[tuple[Topic, int], frozenset[int]]:
    """Return the marks that were told of the award, by topic and what they are marks of."""
    found: dict[tuple[Topic, int], frozenset[int]] = {}
    for row in transaction.rows(_TOLD, allocation_id=allocation_id):
        key = (Topic(row.topic), int(row.about))
        found[key] = found.get(key, frozenset()) | {int(row.mark)}
    return found


def tell(transaction: Transaction, allocation_id: int, due: Due, now: int) -> None:
    """The mark was told of the award. Raises Conflict when it had been."""
    transaction.run(_TELL, allocation_id=allocation_id, topic=due.topic.value, about=due.about, mark=due.mark, at=now)


def responsible(transaction: Transaction, project_id: int) -> list[int]:
    """Return the ids of the project's PIs and instructors."""
    return [int(row.person_id) for row in transaction.rows(_RESPONSIBLE, project_id=project_id)]
