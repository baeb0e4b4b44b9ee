"""Projects with their members, profiles, awards and allocations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, FromClause, and_, bindparam, delete, insert, select, update

from quotas.domain.capacity import Promise, lowered
from quotas.domain.ledger import COMPUTE, AccountKind
from quotas.domain.projects import Award, ProjectState
from quotas.store.admission import chosen_allocation
from quotas.store.awards import granted_of_allocation, pending_of_award
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    accounts,
    allocations,
    awards,
    memberships,
    organisations,
    persons,
    profiles,
    project_profiles,
    projects,
    recalls,
)

_code: BindParameter[str] = bindparam("code")
_by_kind = {kind: accounts.alias(kind.value) for kind in (AccountKind.AVAILABLE, AccountKind.HELD)}
_by_kind |= {kind: accounts.alias(kind.value) for kind in (AccountKind.SPENT, AccountKind.EXPIRED)}


def _of_allocation(alias: FromClause, kind: AccountKind) -> ColumnElement[bool]:
    return and_(alias.c.allocation_id == allocations.c.id, alias.c.kind == kind.value)


_VIEWS = (
    select(
        projects.c.id,
        projects.c.code,
        projects.c.kind,
        projects.c.title_ko,
        projects.c.title_en,
        organisations.c.code.label("organisation"),
        projects.c.state,
        projects.c.requested_gflops,
        projects.c.requested_precision,
        projects.c.requested_starts_at,
        projects.c.requested_ends_at,
        projects.c.applied_at,
        projects.c.decided_at,
        projects.c.decided_by,
        projects.c.decision_reason,
        projects.c.ended_at,
        projects.c.closed_at,
        awards.c.gflops,
        awards.c.precision,
        awards.c.starts_at,
        awards.c.ends_at,
        awards.c.storage_grace_days,
        allocations.c.ceiling_gflops,
        allocations.c.in_use_gflops,
        allocations.c.suspended_at,
        allocations.c.revoked_at,
        allocations.c.standing_reason,
        granted_of_allocation.label("granted"),
        pending_of_award.label("pending"),
        *(alias.c.balance.label(kind.value) for kind, alias in _by_kind.items()),
    )
    .select_from(projects)
    .join(organisations, organisations.c.id == projects.c.organisation_id)
    .outerjoin(allocations, allocations.c.id == chosen_allocation)
    .outerjoin(awards, awards.c.id == allocations.c.award_id)
)
for _kind, _alias in _by_kind.items():
    _VIEWS = _VIEWS.outerjoin(_alias, _of_allocation(_alias, _kind))
_VIEW = Prepared(_VIEWS.where(projects.c.code == _code))
_ALL_VIEWS = Prepared(_VIEWS.order_by(projects.c.code))

_MEMBERS = (
    select(
        memberships.c.project_id,
        persons.c.id.label("person_id"),
        persons.c.username,
        persons.c.display_name,
        memberships.c.role,
    )
    .join(persons, persons.c.id == memberships.c.person_id)
    .order_by(memberships.c.project_id, memberships.c.added_at, persons.c.username)
)
_ALL_MEMBERS = Prepared(_MEMBERS)
_MEMBERS_OF_ONE = Prepared(_MEMBERS.where(memberships.c.project_id == bindparam("project_id")))
_OFFERED = (
    select(project_profiles.c.project_id, profiles.c.code)
    .join(profiles, profiles.c.id == project_profiles.c.profile_id)
    .order_by(project_profiles.c.project_id, profiles.c.position, profiles.c.code)
)
_ALL_OFFERED = Prepared(_OFFERED)
_OFFERED_TO_ONE = Prepared(_OFFERED.where(project_profiles.c.project_id == bindparam("project_id")))

_ONE = Prepared(select(projects.c.id, projects.c.state).where(projects.c.code == _code))
_PROFILE_ID = Prepared(select(profiles.c.id).where(profiles.c.code == _code))
_promised = and_(
    projects.c.state == ProjectState.APPROVED.value,
    allocations.c.revoked_at.is_(None),
    awards.c.starts_at < bindparam("before"),
    awards.c.ends_at > bindparam("after"),
)
_PROMISES = Prepared(
    select(
        allocations.c.id,
        (awards.c.gflops + awards.c.extra_gflops).label("gflops"),
        awards.c.starts_at,
        awards.c.ends_at,
    )
    .join(projects, projects.c.id == awards.c.project_id)
    .join(allocations, and_(allocations.c.award_id == awards.c.id, allocations.c.asset == COMPUTE))
    .where(_promised)
)
_FREED = Prepared(
    select(recalls.c.allocation_id, recalls.c.closed_at, recalls.c.freed_gflops)
    .join(allocations, allocations.c.id == recalls.c.allocation_id)
    .join(awards, awards.c.id == allocations.c.award_id)
    .join(projects, projects.c.id == awards.c.project_id)
    .where(_promised, recalls.c.freed_gflops > 0)
)
_CLOSE = Prepared(
    update(projects)
    .where(
        projects.c.id == bindparam("project_id"),
        projects.c.state == ProjectState.ENDED.value,
        projects.c.closed_at.is_(None),
    )
    .values(closed_at=bindparam("now"))
)
_ALLOCATIONS = Prepared(
    select(allocations.c.id)
    .where(allocations.c.project_id == bindparam("project_id"), allocations.c.asset == COMPUTE)
    .order_by(allocations.c.id)
)


def views(transaction: Transaction, now: int) -> list[Row]:
    """Return every project with its organisation, the award that counts now and its balances, by code."""
    return transaction.rows(_ALL_VIEWS, now=now)


def view(transaction: Transaction, code: str, now: int) -> Row | None:
    """Return the same of one project, or None."""
    return transaction.one(_VIEW, code=code, now=now)


def members(transaction: Transaction, project_id: int | None = None) -> list[Row]:
    """Return (project_id, person_id, username, display_name, role) of one project or of all, by joining."""
    if project_id is None:
        return transaction.rows(_ALL_MEMBERS)
    return transaction.rows(_MEMBERS_OF_ONE, project_id=project_id)


def offered(transaction: Transaction, project_id: int | None = None) -> list[Row]:
    """Return (project_id, code) of the profiles that one project may use, or all."""
    if project_id is None:
        return transaction.rows(_ALL_OFFERED)
    return transaction.rows(_OFFERED_TO_ONE, project_id=project_id)


def one(transaction: Transaction, code: str) -> tuple[int, ProjectState] | None:
    """Return (id, state) of the project, or None."""
    row = transaction.one(_ONE, code=code)
    return None if row is None else (int(row.id), ProjectState(row.state))


def add(transaction: Transaction, values: Mapping[str, Any]) -> int:
    """The application is stored; return its id. Raises Conflict when its code is taken."""
    return transaction.insert(projects, {**values, "state": ProjectState.APPLIED.value})


def change_state(
    transaction: Transaction, project_id: int, old: ProjectState, new: ProjectState, values: Mapping[str, Any]
) -> bool:
    """The project is `new` with `values`, if it still was `old`; return whether it was."""
    statement = update(projects).where(projects.c.id == project_id, projects.c.state == old.value)
    return transaction.run(statement.values(state=new.value, **values)) == 1


def add_award(
    transaction: Transaction, project_id: int, award: Award, storage_grace_days: int, actor: str, now: int
) -> tuple[int, int]:
    """The award and its allocation are stored, without accounts; return both ids."""
    award_id = transaction.insert(
        awards,
        {
            "project_id": project_id,
            "gflops": award.gflops,
            "precision": award.precision,
            "starts_at": award.starts_at,
            "ends_at": award.ends_at,
            "burst_ppm": award.burst_ppm,
            "utilisation_ppm": award.utilisation_ppm,
            "awarded_at": now,
            "awarded_by": actor[:63],
            "storage_grace_days": storage_grace_days,
        },
    )
    allocation_id = transaction.insert(
        allocations,
        {
            "project_id": project_id,
            "award_id": award_id,
            "asset": COMPUTE,
            "starts_at": award.starts_at,
            "ends_at": award.ends_at,
            "ceiling_gflops": award.ceiling_gflops(),
        },
    )
    return award_id, allocation_id


def close(transaction: Transaction, project_id: int, now: int) -> bool:
    """The ended project is closed; return whether that is new."""
    return transaction.run(_CLOSE, project_id=project_id, now=now) == 1


def promises(transaction: Transaction, starts_at: int, ends_at: int) -> list[Promise]:
    """Return what is promised to approved projects at some time from `starts_at` to `ends_at`.

    What was recalled of an award is promised no more, from then on: such an award is several promises.
    """
    freed: dict[int, list[tuple[int, int]]] = {}
    for row in transaction.rows(_FREED, after=starts_at, before=ends_at):
        freed.setdefault(row.allocation_id, []).append((row.closed_at, row.freed_gflops))
    return [
        part
        for row in transaction.rows(_PROMISES, after=starts_at, before=ends_at)
        for part in lowered(Promise(row.gflops, row.starts_at, row.ends_at), freed.get(row.id, ()))
    ]


def allocation_ids(transaction: Transaction, project_id: int) -> list[int]:
    """Return the ids of the project's allocations, oldest first."""
    return [int(row.id) for row in transaction.rows(_ALLOCATIONS, project_id=project_id)]


def put_member(transaction: Transaction, project_id: int, person_id: int, role: str, now: int) -> None:
    """The person is a member in `role`, in place of an earlier role."""
    mine = and_(memberships.c.project_id == project_id, memberships.c.person_id == person_id)
    if transaction.run(update(memberships).where(mine).values(role=role)) == 0:
        transaction.run(insert(memberships).values(project_id=project_id, person_id=person_id, role=role, added_at=now))


def remove_member(transaction: Transaction, project_id: int, person_id: int) -> None:
    """The person is no member."""
    mine = and_(memberships.c.project_id == project_id, memberships.c.person_id == person_id)
    transaction.run(delete(memberships).where(mine))


def profile_id(transaction: Transaction, code: str) -> int | None:
    """Return the id of the profile, or None."""
    row = transaction.one(_PROFILE_ID, code=code)
    return None if row is None else int(row.id)


def offer(transaction: Transaction, project_id: int, profile: int) -> None:
    """The project may use the profile. Raises Conflict when it may already."""
    transaction.run(insert(project_profiles).values(project_id=project_id, profile_id=profile))


def withdraw(transaction: Transaction, project_id: int, profile: int) -> bool:
    """The project may no longer use the profile; return whether it could."""
    mine = and_(project_profiles.c.project_id == project_id, project_profiles.c.profile_id == profile)
    return transaction.run(delete(project_profiles).where(mine)) == 1
