"""What an admission reads and changes: the situation in one statement, then conditional updates in a fixed order."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import BigInteger, BindParameter, and_, bindparam, case, func, insert, literal, or_, select, update

from quotas.domain.admission import (
    Admitted,
    AllocationSituation,
    PoolEvent,
    PoolSituation,
    Request,
    Seat,
    Situation,
    longest_hold,
)
from quotas.domain.ledger import COMPUTE, AccountKind
from quotas.domain.people import MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.priorities import RANK
from quotas.domain.projects import ProjectState
from quotas.domain.queue import EntryState
from quotas.domain.runs import HoldState, RunKind, RunState
from quotas.domain.units import LARGEST
from quotas.store import capacity
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.seats import free_seat
from quotas.store.tables import (
    accounts,
    allocations,
    holds,
    memberships,
    persons,
    pool_devices,
    pools,
    profiles,
    project_profiles,
    projects,
    queue_entries,
    rate_cards,
    rates,
    reservation_windows,
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

_healthy = func.coalesce(capacity.healthy_at(_now), 0)

# One row, or one for each pool that has the device.
open_notebook = and_(
    runs.c.person_id == persons.c.id,
    runs.c.project_id == projects.c.id,
    runs.c.kind == _word(RunKind.NOTEBOOK.value),
    runs.c.state != _word(RunState.SETTLED.value),
)
"""The person's server on the project that is not settled: one at the most."""

_rank = case(
    *((queue_entries.c.wish == _word(priority.value), _word(rank)) for priority, rank in RANK.items()),
    else_=_word(len(RANK)),
)
_waiting_before = (
    select(func.count())
    .select_from(queue_entries)
    .where(
        queue_entries.c.device_model == profiles.c.device_model,
        queue_entries.c.state == _word(EntryState.WAITING.value),
        queue_entries.c.ended_at.is_(None),
        queue_entries.c.blocked_by.is_(None),
        queue_entries.c.run_id != bindparam("run"),
        or_(
            queue_entries.c.kind != _word(RunKind.NOTEBOOK.value),
            queue_entries.c.person_id != persons.c.id,
            queue_entries.c.project_id != projects.c.id,
        ),
        _rank <= bindparam("rank", type_=BigInteger),
    )
    .correlate(profiles, persons, projects)
    .scalar_subquery()
)
"""Those in the queue who could start if there were devices, and are not of a weaker class.

A person who starts a server on a project does not come after their own wish for one there.
"""

_SITUATION = Prepared(
    select(
        persons.c.id.label("person_id"),
        projects.c.id.label("project_id"),
        projects.c.state.label("project_state"),
        memberships.c.role,
        profiles.c.id.label("profile_id"),
        profiles.c.device_model,
        profiles.c.device_count,
        profiles.c.session_seconds,
        project_profiles.c.profile_id.label("offered"),
        rates.c.version,
        rates.c.gflops,
        allocations.c.id.label("allocation_id"),
        allocations.c.starts_at,
        allocations.c.ends_at,
        allocations.c.ceiling_gflops,
        allocations.c.in_use_gflops,
        allocations.c.beyond_gflops,
        allocations.c.suspended_at,
        allocations.c.revoked_at,
        _available.c.id.label("available_account"),
        _available.c.balance,
        _held.c.id.label("held_account"),
        runs.c.id.label("open_run"),
        pool_devices.c.pool_id,
        pools.c.simulated,
        pool_devices.c.in_use,
        _healthy.label("healthy"),
        pool_devices.c.drained,
        pool_devices.c.reserved,
        reservation_windows.c.id.label("window_id"),
        reservation_windows.c.pool_id.label("window_pool"),
        reservation_windows.c.ends_at.label("window_ends_at"),
        _waiting_before.label("waiting_before"),
        capacity.something_comes.label("something_comes"),
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
    .outerjoin(reservation_windows, reservation_windows.c.id == free_seat)
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


def read_situation(transaction: Transaction, request: Request, now: int, policy: Policy) -> tuple[Situation, Keys]:
    """Return all that the decision reads, of this transaction's moment."""
    until = min(now + longest_hold(request, policy), LARGEST)
    rows = transaction.rows(
        _SITUATION,
        person=request.person,
        project=request.project,
        profile=request.profile,
        now=now,
        until=until,
        run=request.run_id,
        rank=RANK[request.wish],
    )
    row = rows[0]
    is_notebook = request.kind is RunKind.NOTEBOOK
    allocation = seat = None
    if row.allocation_id is not None:
        allocation = AllocationSituation(
            row.allocation_id,
            row.starts_at,
            row.ends_at,
            row.ceiling_gflops,
            row.in_use_gflops,
            row.balance,
            row.beyond_gflops,
            row.suspended_at is not None,
            row.revoked_at is not None,
        )
    if row.window_id is not None and is_notebook:
        seat = Seat(row.window_id, row.window_pool, row.window_ends_at)
    pools_found: tuple[PoolSituation, ...] = ()
    if row.device_model is not None:
        coming = any(each.something_comes for each in rows)
        pools_found = _pools(rows, capacity.events(transaction, row.device_model, now, until) if coming else {})
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
        pools=pools_found,
        open_run=row.open_run if is_notebook else None,
        seat=seat,
        waiting_before=row.waiting_before,
        session_seconds=row.session_seconds,
    )
    return situation, Keys(row.person_id, row.project_id, row.profile_id, row.available_account, row.held_account)


def _pools(rows: list[Row], events: dict[int, tuple[PoolEvent, ...]]) -> tuple[PoolSituation, ...]:
    """Return the pools that have the device: real ones first, then by id."""
    found = [
        PoolSituation(
            each.pool_id,
            bool(each.simulated),
            max(each.healthy - each.drained, 0),
            each.in_use,
            each.reserved,
            events.get(each.pool_id, ()),
        )
        for each in rows
        if each.pool_id is not None
    ]
    if len(found) > 1:
        found.sort(key=lambda pool: (pool.simulated, pool.id))
    return tuple(found)


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
        session_ends_at=bindparam("session_ends_at"),
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
        priority=bindparam("priority"),
        window_id=bindparam("window_id"),
        ends_by=bindparam("ends_by"),
    )
)

_gflops: BindParameter[int] = bindparam("gflops", type_=BigInteger)
_beyond: BindParameter[int] = bindparam("beyond", type_=BigInteger)
_kept: BindParameter[int] = bindparam("kept", type_=BigInteger)
_count: BindParameter[int] = bindparam("count", type_=BigInteger)

TAKE_RATE = Prepared(
    update(allocations)
    .where(
        allocations.c.id == bindparam("allocation_id"),
        allocations.c.starts_at <= _now,
        allocations.c.ends_at > _now,
        allocations.c.suspended_at.is_(None),
        allocations.c.revoked_at.is_(None),
        # A ceiling that was lowered stands against what counts under it only.
        or_(_gflops == _word(0), allocations.c.in_use_gflops + _gflops <= allocations.c.ceiling_gflops),
        or_(_beyond == _word(0), allocations.c.beyond_gflops + _beyond <= bindparam("beyond_limit", type_=BigInteger)),
    )
    .values(
        in_use_gflops=allocations.c.in_use_gflops + _gflops,
        beyond_gflops=allocations.c.beyond_gflops + _beyond,
    )
)

GIVE_RATE = Prepared(
    update(allocations)
    .where(allocations.c.id == bindparam("allocation_id"))
    # What comes back after the end is to expire too: see quotas.services.refunds.
    .values(
        in_use_gflops=allocations.c.in_use_gflops - _gflops,
        beyond_gflops=allocations.c.beyond_gflops - _beyond,
        expired_at=None,
    )
)

_this_model = pool_devices.c.device_model == bindparam("model")
_this_pool = pool_devices.c.pool_id == bindparam("pool")
_in_use_of_healthy = _healthy - pool_devices.c.drained

TAKE_DEVICES = Prepared(
    update(pool_devices)
    .where(_this_model, _this_pool, pool_devices.c.in_use + pool_devices.c.reserved + _count <= _in_use_of_healthy)
    .values(in_use=pool_devices.c.in_use + _count)
)

TAKE_RESERVED_DEVICES = Prepared(
    update(pool_devices)
    .where(_this_model, _this_pool, pool_devices.c.in_use + _count <= _in_use_of_healthy)
    .values(in_use=pool_devices.c.in_use + _count, reserved=pool_devices.c.reserved - _count)
)

GIVE_DEVICES = Prepared(
    update(pool_devices)
    .where(_this_model, _this_pool)
    .values(
        in_use=pool_devices.c.in_use - _count, reserved=pool_devices.c.reserved + bindparam("kept", type_=BigInteger)
    )
)


def still_has_room(transaction: Transaction, decided: Admitted, now: int) -> bool:
    """Return whether the devices may still be held as far as was decided: asked once the pool's row is ours."""
    if decided.pool_id is None or decided.device_model is None or decided.window_id is not None:
        return True
    coming = capacity.events(transaction, decided.device_model, now, decided.until_at)
    # The hold is stored already, and counts in each event's room.
    return all(event.room >= 0 for event in coming.get(decided.pool_id, ()))
