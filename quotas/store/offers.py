"""What the start page reads: a person's projects and all profiles."""

from __future__ import annotations

from sqlalchemy import ColumnElement, FromClause, and_, bindparam, select

from quotas.domain.ledger import AccountKind
from quotas.store.admission import chosen_allocation, open_notebook
from quotas.store.awards import granted_of_allocation
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    accounts,
    allocations,
    awards,
    device_models,
    persons,
    projects,
    runs,
)
from quotas.store.tables import (
    memberships as memberships_table,
)
from quotas.store.tables import (
    profiles as profiles_table,
)

_available = accounts.alias("available")
_held = accounts.alias("held")


def _account(alias: FromClause, kind: AccountKind) -> ColumnElement[bool]:
    return and_(alias.c.allocation_id == allocations.c.id, alias.c.kind == kind.value)


_MEMBERSHIPS = Prepared(
    select(
        projects.c.code,
        projects.c.kind,
        projects.c.title_ko,
        projects.c.title_en,
        projects.c.state,
        projects.c.ended_at,
        projects.c.closed_at,
        memberships_table.c.role,
        allocations.c.starts_at,
        allocations.c.ends_at,
        allocations.c.ceiling_gflops,
        allocations.c.in_use_gflops,
        allocations.c.suspended_at,
        allocations.c.revoked_at,
        awards.c.storage_grace_days,
        granted_of_allocation.label("granted"),
        _available.c.balance.label("available"),
        _held.c.balance.label("held"),
        runs.c.id.label("open_run"),
        profiles_table.c.code.label("open_profile"),
    )
    .select_from(persons)
    .join(memberships_table, memberships_table.c.person_id == persons.c.id)
    .join(projects, projects.c.id == memberships_table.c.project_id)
    .outerjoin(allocations, allocations.c.id == chosen_allocation)
    .outerjoin(awards, awards.c.id == allocations.c.award_id)
    .outerjoin(_available, _account(_available, AccountKind.AVAILABLE))
    .outerjoin(_held, _account(_held, AccountKind.HELD))
    .outerjoin(runs, open_notebook)
    .outerjoin(profiles_table, profiles_table.c.id == runs.c.profile_id)
    .where(persons.c.username == bindparam("person"))
    .order_by(projects.c.code)
)

_PROFILES = Prepared(
    select(
        profiles_table.c.code,
        profiles_table.c.name_ko,
        profiles_table.c.name_en,
        profiles_table.c.device_model,
        device_models.c.name.label("device_name"),
        profiles_table.c.device_count,
        profiles_table.c.cpu_millis,
        profiles_table.c.memory_bytes,
        profiles_table.c.storage_bytes,
    )
    .outerjoin(device_models, device_models.c.code == profiles_table.c.device_model)
    .order_by(profiles_table.c.position, profiles_table.c.code)
)


def memberships(transaction: Transaction, person: str, now: int) -> list[Row]:
    """Return the person's projects with role, dates, balances and an open server, by code."""
    return transaction.rows(_MEMBERSHIPS, person=person, now=now)


def profiles(transaction: Transaction) -> list[Row]:
    """Return every profile in the operator's order."""
    return transaction.rows(_PROFILES)
