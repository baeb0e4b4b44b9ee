"""What an admission reads and changes: the situation in one statement, then conditional updates in a fixed order."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import BindParameter, and_, bindparam, case, func, insert, literal, select, update

from quotas.domain.admission import AllocationSituation, PoolSituation, Request, Situation
from quotas.domain.ledger import COMPUTE, AccountKind
from quotas.domain.people import MembershipRole
from quotas.domain.projects import ProjectState
from quotas.domain.runs import HoldState, RunKind, RunState
from quotas.store.database import Prepared, Transaction
from quotas.store.tables import (
    accounts,
    allocations,
    capacity_phases,
    holds,
    memberships,
    persons,
    pool_devices,
    pools,
    profiles,
    project_profiles,
    projects,
    rate_cards,
    rates,
    runs,
)

_available, _held = accounts.alias("available"), accounts.alias("held")
_now: BindParameter[int] = bindparam("now")


def _word(constant: str | int) -> BindParameter[Any]:
    """A constant of ours as a part of the statement, so that it is not bound at each run."""
    return literal(constant, literal_execute=True)


_one = select(_word(1).label("one")).subquery("one")

# The allocation that counts: the one that ends first of those not ended, else the last that ended.
chosen_allocation = (
    select(allocations.c.id)
    .where(allocations.c.project_id == projects.c.id, allocations.c.asset == _word(COMPUTE))
    .order_by(
        (allocations.c.ends_at <= _now),
        (allocations.c.starts_at > _now),
        case((allocations.c.ends_at <= _now, -allocations.c.ends_at), else_=allocations.c.ends_at),
    )
    .limit(_word(1))
    .correlate(projects)
    .scalar_subquery()
)
_card_in_force = select(func.max(rate_cards.c.version)).where(rate_cards.c.effective_from <= _now).scalar_subquery()

_healthy = (
    select(capacity_phases.c.healthy)
    .where(
        capacity_phases.c.pool_id == pool_devices.c.pool_id,
        capacity_phases.c.device_model == pool_devices.c.device_model,
        capacity_phases.c.from_at <= _now,
    )
    .order_by(capacity_phases.c.from_at.desc())
    .limit(_word(1))
    .correlate(pool_devices)
    .scalar_subquery()
)

# One row, or one for each pool that has the device.
open_notebook = and_(
    runs.c.person_id == persons.c.id,
    runs.c.project_id == projects.c.id,
    runs.c.kind == _word(RunKind.NOTEBOOK.value),
    runs.c.state != _word(RunState.SETTLED.value),
)
"""The person's server on the project that is not settled: one at the most."""

_SITUATION = Prepared(
    select(
        persons.c.id.label("person_id"),
        projects.c.id.label("project_id"),
        projects.c.state.label("project_state"),
        memberships.c.role,
        profiles.c.id.label("profile_id"),
        profiles.c.device_model,
        profiles.c.device_count,
        project_profiles.c.profile_id.label("offered"),
        rates.c.version,
        rates.c.gflops,
        allocations.c.id.label("allocation_id"),
        allocations.c.starts_at,
        allocations.c.ends_at,
        allocations.c.ceiling_gflops,
        allocations.c.in_use_gflops,
        _available.c.id.label("available_account"),
        _available.c.balance,
        _held.c.id.label("held_account"),
        runs.c.id.label("open_run"),
        pool_devices.c.pool_id,
        pools.c.simulated,
        pool_devices.c.in_use,
        func.coalesce(_healthy, 0).label("healthy"),
    )
    .select_from(_one)
    .outerjoin(persons, persons.c.username == bindparam("person"))
    .outerjoin(projects, projects.c.code == bindparam("project"))
    .outerjoin(memberships, and_(memberships.c.project_id == projects.c.id, memberships.c.person_id == persons.c.id))
    .outerjoin(profiles, profiles.c.code == bindparam("profile"))
    .outerjoin(
        project_profiles,
        and_(project_profiles.c.project_id == projects.c.id, project_profiles.c.profile_id == profiles.c.id),
    )
    .outerjoin(rates, and_(rates.c.version == _card_in_force, rates.c.profile_id == profiles.c.id))
    .outerjoin(allocations, allocations.c.id == chosen_allocation)
    .outerjoin(
        _available,
        and_(_available.c.allocation_id == allocations.c.id, _available.c.kind == _word(AccountKind.AVAILABLE.value)),
    )
    .outerjoin(_held, and_(_held.c.allocation_id == allocations.c.id, _held.c.kind == _word(AccountKind.HELD.value)))
    .outerjoin(runs, open_notebook)
    .outerjoin(pool_devices, pool_devices.c.device_model == profiles.c.device_model)
    .outerjoin(pools, pools.c.id == pool_devices.c.pool_id)
)

_ROLES = {role.value: role for role in MembershipRole}
_STATES = {state.value: state for state in ProjectState}


class Keys(NamedTuple):
    """Row ids that belong to a situation; None where the row does not exist."""

    person_id: int | None
    project_id: int | None
    profile_id: int | None
    available_account: int | None
    held_account: int | None


def read_situation(transaction: Transaction, request: Request, now: int) -> tuple[Situation, Keys]:
    """Return all that the decision reads, of this transaction's moment."""
    rows = transaction.rows(
        _SITUATION, person=request.person, project=request.project, profile=request.profile, now=now
    )
    row = rows[0]
    found = [
        PoolSituation(each.pool_id, bool(each.simulated), each.healthy, each.in_use)
        for each in rows
        if each.pool_id is not None
    ]
    if len(found) > 1:
        found.sort(key=lambda pool: pool.id)
    allocation = None
    if row.allocation_id is not None:
        allocation = AllocationSituation(
            row.allocation_id, row.starts_at, row.ends_at, row.ceiling_gflops, row.in_use_gflops, row.balance
        )
    situation = Situation(
        person_known=row.person_id is not None,
        role=_ROLES.get(row.role),
        project_state=_STATES.get(row.project_state),
        allocation=allocation,
        profile_known=row.profile_id is not None,
        profile_offered=row.offered is not None,
        device_model=row.device_model,
        device_count=row.device_count or 0,
        card_version=row.version,
        gflops=row.gflops,
        pools=tuple(found),
        open_run=row.open_run if request.kind is RunKind.NOTEBOOK else None,
    )
    return situation, Keys(row.person_id, row.project_id, row.profile_id, row.available_account, row.held_account)


INSERT_RUN = Prepared(
    insert(runs).values(
        id=bindparam("id"),
        kind=bindparam("kind"),
        person_id=bindparam("person_id"),
        project_id=bindparam("project_id"),
        profile_id=bindparam("profile_id"),
        state=_word(RunState.HELD.value),
        door=bindparam("door"),
        requested_at=bindparam("requested_at"),
    )
)

INSERT_HOLD = Prepared(
    insert(holds).values(
        run_id=bindparam("run_id"),
        allocation_id=bindparam("allocation_id"),
        pool_id=bindparam("pool_id"),
        device_model=bindparam("device_model"),
        device_count=bindparam("device_count"),
        card_version=bindparam("card_version"),
        gflops=bindparam("gflops"),
        amount=bindparam("amount"),
        opened_at=bindparam("opened_at"),
        until_at=bindparam("until_at"),
        state=_word(HoldState.OPEN.value),
    )
)

TAKE_RATE = Prepared(
    update(allocations)
    .where(
        allocations.c.id == bindparam("allocation_id"),
        allocations.c.starts_at <= _now,
        allocations.c.ends_at > _now,
        allocations.c.in_use_gflops + bindparam("gflops") <= allocations.c.ceiling_gflops,
    )
    .values(in_use_gflops=allocations.c.in_use_gflops + bindparam("gflops"))
)

GIVE_RATE = Prepared(
    update(allocations)
    .where(allocations.c.id == bindparam("allocation_id"))
    # What comes back after the end is to expire too: see quotas.services.refunds.
    .values(in_use_gflops=allocations.c.in_use_gflops - bindparam("gflops"), expired_at=None)
)

TAKE_DEVICES = Prepared(
    update(pool_devices)
    .where(
        pool_devices.c.device_model == bindparam("model"),
        pool_devices.c.pool_id == bindparam("pool"),
        pool_devices.c.in_use + bindparam("count") <= func.coalesce(_healthy, 0),
    )
    .values(in_use=pool_devices.c.in_use + bindparam("count"))
)

GIVE_DEVICES = Prepared(
    update(pool_devices)
    .where(pool_devices.c.device_model == bindparam("model"), pool_devices.c.pool_id == bindparam("pool"))
    .values(in_use=pool_devices.c.in_use - bindparam("count"))
)
