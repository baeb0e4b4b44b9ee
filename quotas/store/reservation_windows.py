"""Windows of reservations: their changes, each guarded by the state before; and what speaks for a pool's devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, BindParameter, and_, bindparam, case, exists, func, literal, or_, select, update

from quotas.domain.ledger import AccountKind
from quotas.domain.projects import ProjectState
from quotas.domain.reservations import COMING, ReservationState, Roster, WindowState
from quotas.domain.room import Need
from quotas.domain.runs import HoldState, RunKind
from quotas.store.admission import chosen_allocation
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.reservations import words
from quotas.store.tables import (
    accounts,
    allocations,
    capacity_phases,
    holds,
    memberships,
    pool_devices,
    pools,
    profiles,
    project_profiles,
    projects,
    rate_cards,
    rates,
    reservation_roster,
    reservation_windows,
    reservations,
    runs,
)

_now: BindParameter[int] = bindparam("now", type_=BigInteger)
_id: BindParameter[int] = bindparam("id")
_from_at: BindParameter[int] = bindparam("from_at", type_=BigInteger)
_to_at: BindParameter[int] = bindparam("to_at", type_=BigInteger)


def _word(constant: str) -> BindParameter[Any]:
    return literal(constant, literal_execute=True)


_scheduled, _open, _released, _ended, _cancelled = words(WindowState)
_state = reservation_windows.c.state
_comes = _state.in_(words(COMING))
"""Said in the words of the indexes, so that windows of the past are not gone through."""
_open_hold = holds.c.state == _word(HoldState.OPEN.value)

_taken = (
    select(func.count())
    .select_from(holds)
    .where(_open_hold, holds.c.window_id == reservation_windows.c.id, holds.c.device_count > 0)
    .correlate(reservation_windows)
    .scalar_subquery()
)
_WINDOWS = Prepared(
    select(reservation_windows, _taken.label("taken"))
    .where(reservation_windows.c.reservation_id == _id)
    .order_by(reservation_windows.c.starts_at)
)
_FULL = (
    select(
        reservation_windows,
        reservations.c.state.label("reservation_state"),
        reservations.c.title_ko,
        reservations.c.title_en,
        reservations.c.zone,
        reservations.c.charge_idle,
        reservations.c.roster,
        reservations.c.requested_by,
        projects.c.code.label("project"),
        projects.c.state.label("project_state"),
        profiles.c.code.label("profile"),
        profiles.c.name_ko.label("profile_ko"),
        profiles.c.name_en.label("profile_en"),
        allocations.c.revoked_at,
    )
    .select_from(reservation_windows)
    .join(reservations, reservations.c.id == reservation_windows.c.reservation_id)
    .join(projects, projects.c.id == reservation_windows.c.project_id)
    .join(profiles, profiles.c.id == reservation_windows.c.profile_id)
    .outerjoin(allocations, allocations.c.id == chosen_allocation)
)
_ONE = Prepared(_FULL.where(reservation_windows.c.id == _id))
_NEXT = Prepared(
    select(
        reservation_windows.c.reservation_id,
        func.count().label("windows"),
        func.min(case((_comes, reservation_windows.c.starts_at))).label("next_at"),
        func.max(reservation_windows.c.ends_at).label("ends_at"),
    )
    .join(reservations, reservations.c.id == reservation_windows.c.reservation_id)
    .where(reservations.c.id >= bindparam("oldest"))
    .group_by(reservation_windows.c.reservation_id)
)
_DUE = Prepared(
    select(reservation_windows.c.id)
    .where(
        _comes,
        reservation_windows.c.opens_at <= _now,
        or_(
            _state == _scheduled,
            and_(_state == _open, reservation_windows.c.release_at <= _now),
            reservation_windows.c.ends_at <= _now,
        ),
    )
    .order_by(reservation_windows.c.opens_at, reservation_windows.c.id)
    .limit(bindparam("limit"))
)
_member_of_it = and_(
    memberships.c.project_id == reservation_windows.c.project_id,
    memberships.c.person_id == reservation_roster.c.person_id,
)
_on_it = and_(
    reservation_roster.c.reservation_id == reservation_windows.c.reservation_id,
    reservation_roster.c.removed_at.is_(None),
)
_somebody_left = exists(
    select(literal(1))
    .select_from(reservation_roster)
    .where(_on_it, ~exists().where(_member_of_it).correlate(reservation_windows, reservation_roster))
)
_somebody_came = exists(
    select(literal(1))
    .select_from(memberships)
    .where(
        memberships.c.project_id == reservation_windows.c.project_id,
        ~exists()
        .where(_on_it, reservation_roster.c.person_id == memberships.c.person_id)
        .correlate(reservation_windows, memberships),
    )
)
_BEHIND = Prepared(
    select(reservation_windows.c.id)
    .join(reservations, reservations.c.id == reservation_windows.c.reservation_id)
    .where(
        _comes,
        _state.in_([_open, _released]),
        reservation_windows.c.opens_at <= _now,
        reservations.c.roster == _word(Roster.MEMBERS.value),
        or_(_somebody_left, _somebody_came),
    )
)
_OF_THE_DEAD = Prepared(
    select(reservations.c.id)
    .join(projects, projects.c.id == reservations.c.project_id)
    .outerjoin(allocations, allocations.c.id == chosen_allocation)
    .where(
        reservations.c.state.in_(words([ReservationState.REQUESTED, ReservationState.APPROVED])),
        or_(projects.c.state != _word(ProjectState.APPROVED.value), allocations.c.revoked_at.is_not(None)),
    )
    .order_by(reservations.c.id)
)

_this = reservation_windows.c.id == _id
_OPEN = Prepared(
    update(reservation_windows)
    .where(_this, _state == _scheduled)
    .values(state=_open, kept=reservation_windows.c.seats, release_at=bindparam("release_at"))
)
_RELEASE = Prepared(
    update(reservation_windows)
    .where(_this, _state == _open, reservation_windows.c.claimed == bindparam("claimed_before"))
    .values(state=_released, kept=reservation_windows.c.kept - bindparam("freed"))
)
_CLOSE = Prepared(
    update(reservation_windows)
    .where(_this, _state == bindparam("old_state"), reservation_windows.c.kept == bindparam("kept_before"))
    .values(state=bindparam("new_state"), kept=0)
)
_RESERVE = Prepared(
    update(pool_devices)
    .where(pool_devices.c.device_model == bindparam("model"), pool_devices.c.pool_id == bindparam("pool"))
    .values(reserved=pool_devices.c.reserved + bindparam("devices"))
)


def add(transaction: Transaction, values: Mapping[str, Any]) -> int:
    """The window is stored; return its id."""
    return transaction.insert(reservation_windows, values)


def of_reservation(transaction: Transaction, number: int) -> list[Row]:
    """Return the reservation's windows in order of time; `taken` seats have an open hold."""
    return transaction.rows(_WINDOWS, id=number)


def one(transaction: Transaction, window_id: int, now: int) -> Row | None:
    """Return the window with its reservation's facts, its project's state and award, or None."""
    return transaction.one(_ONE, id=window_id, now=now)


def summaries(transaction: Transaction, oldest: int) -> dict[int, Row]:
    """Return by reservation, from `oldest` on: how many windows it has, when the next begins, when the last ends."""
    return {row.reservation_id: row for row in transaction.rows(_NEXT, oldest=oldest)}


def due(transaction: Transaction, now: int, limit: int) -> list[int]:
    """Return the windows that are to open, to be released or to end by now, in the order of their opening."""
    return [row.id for row in transaction.rows(_DUE, now=now, limit=limit)]


def behind_their_members(transaction: Transaction, now: int) -> list[int]:
    """Return the open windows whose roster is the project's members, and is not that of this moment."""
    return sorted(row.id for row in transaction.rows(_BEHIND, now=now))


def of_the_dead(transaction: Transaction, now: int) -> list[int]:
    """Return the reservations, asked for or approved, of projects that have ended or whose award was revoked."""
    return [row.id for row in transaction.rows(_OF_THE_DEAD, now=now)]


def open_window(transaction: Transaction, window: Row, release_at: int) -> bool:
    """All seats of the window are kept, and their devices reserved; return False where it was not scheduled."""
    if transaction.run(_OPEN, id=window.id, release_at=release_at) != 1:
        return False
    _reserve(transaction, window, window.seats)
    return True


def release(transaction: Transaction, window: Row, freed: int) -> bool:
    """`freed` seats of the window and their devices are free for all; return False where it is not as it was read."""
    if transaction.run(_RELEASE, id=window.id, claimed_before=window.claimed, freed=freed) != 1:
        return False
    _reserve(transaction, window, -freed)
    return True


def close(transaction: Transaction, window: Row, state: WindowState) -> bool:
    """The window keeps nothing any more, in this last state; return False where it is not as it was read."""
    values = {"old_state": window.state, "new_state": state.value, "kept_before": window.kept}
    if transaction.run(_CLOSE, id=window.id, **values) != 1:
        return False
    _reserve(transaction, window, -window.kept)
    return True


def _reserve(transaction: Transaction, window: Row, seats: int) -> None:
    devices = seats * window.device_count
    if devices:
        transaction.run(_RESERVE, model=window.device_model, pool=window.pool_id, devices=devices)


# What the unclaimed seats cost.

_SEATS_RUN = Prepared(
    select(runs.c.id)
    .join(holds, holds.c.run_id == runs.c.id)
    .where(runs.c.kind == _word(RunKind.SEATS.value), holds.c.window_id == _id, _open_hold)
)
_card = select(func.max(rate_cards.c.version)).where(rate_cards.c.effective_from <= _now).scalar_subquery()
_PAYER = Prepared(
    select(
        allocations.c.id,
        allocations.c.ends_at,
        allocations.c.suspended_at,
        allocations.c.revoked_at,
        accounts.c.balance,
        rates.c.version,
        rates.c.gflops,
    )
    .select_from(projects)
    .join(allocations, allocations.c.id == chosen_allocation)
    .join(
        accounts,
        and_(accounts.c.allocation_id == allocations.c.id, accounts.c.kind == _word(AccountKind.AVAILABLE.value)),
    )
    .join(rates, and_(rates.c.version == _card, rates.c.profile_id == bindparam("profile_id")))
    .where(projects.c.id == bindparam("project_id"))
)


def seats_run(transaction: Transaction, window_id: int) -> str | None:
    """Return the open run that holds what the window's unclaimed seats may cost, or None."""
    row = transaction.one(_SEATS_RUN, id=window_id)
    return None if row is None else str(row.id)


def payer(transaction: Transaction, window: Row, now: int) -> Row | None:
    """Return the project's allocation with its balance and the profile's rate; None where there is none of them."""
    return transaction.one(_PAYER, project_id=window.project_id, profile_id=window.profile_id, now=now)


# What speaks for a pool's devices.

_PHASES = Prepared(
    select(capacity_phases.c.from_at, capacity_phases.c.healthy)
    .where(capacity_phases.c.device_model == bindparam("model"), capacity_phases.c.pool_id == bindparam("pool"))
    .order_by(capacity_phases.c.from_at)
)
_POOLS = Prepared(
    select(pools.c.id, pools.c.code, pool_devices.c.drained)
    .select_from(pools)
    .join(pool_devices, pool_devices.c.pool_id == pools.c.id)
    .where(pool_devices.c.device_model == bindparam("model"))
    .order_by(pools.c.code)
)
_RATED = Prepared(
    select(profiles.c.code, profiles.c.device_model, profiles.c.device_count)
    .join(project_profiles, project_profiles.c.profile_id == profiles.c.id)
    .join(rates, and_(rates.c.version == _card, rates.c.profile_id == profiles.c.id))
    .where(project_profiles.c.project_id == bindparam("project_id"), profiles.c.device_model.is_not(None))
    .order_by(rates.c.gflops.desc(), profiles.c.code)
)
_HELD = Prepared(
    select(holds.c.until_at, func.sum(holds.c.device_count).label("devices"))
    .where(
        _open_hold,
        holds.c.device_model == bindparam("model"),
        holds.c.pool_id == bindparam("pool"),
        holds.c.until_at > _from_at,
    )
    .group_by(holds.c.until_at)
)
_SEATS = Prepared(
    select(
        reservation_windows.c.opens_at,
        reservation_windows.c.ends_at,
        func.sum(
            reservation_windows.c.device_count
            * case((_state == _scheduled, reservation_windows.c.seats), else_=reservation_windows.c.kept)
        ).label("devices"),
    )
    .where(
        reservation_windows.c.device_model == bindparam("model"),
        reservation_windows.c.pool_id == bindparam("pool"),
        _comes,
        reservation_windows.c.ends_at > _from_at,
        reservation_windows.c.opens_at < _to_at,
    )
    .group_by(reservation_windows.c.opens_at, reservation_windows.c.ends_at)
)
_PROMISED = Prepared(
    select(
        reservation_windows.c.seats,
        rates.c.gflops,
        func.sum(reservation_windows.c.ends_at - reservation_windows.c.starts_at).label("seconds"),
    )
    .select_from(reservation_windows)
    .join(rates, and_(rates.c.version == _card, rates.c.profile_id == reservation_windows.c.profile_id))
    .where(
        reservation_windows.c.project_id == bindparam("project_id"),
        _comes,
        _state == _scheduled,
        reservation_windows.c.reservation_id != bindparam("except_id"),
    )
    .group_by(reservation_windows.c.seats, rates.c.gflops)
)


def pools_of(transaction: Transaction, device_model: str) -> list[Row]:
    """Return (id, code, drained) of the pools that have the model, by code."""
    return transaction.rows(_POOLS, model=device_model)


def profiles_with_devices(transaction: Transaction, project_id: int, now: int) -> list[Row]:
    """Return the profiles with devices that the project may start and that have a rate, the most capable first."""
    return transaction.rows(_RATED, project_id=project_id, now=now)


def phases(transaction: Transaction, device_model: str, pool_id: int) -> list[tuple[int, int]]:
    """Return (from when on, healthy devices) of each phase."""
    return [(row.from_at, row.healthy) for row in transaction.rows(_PHASES, model=device_model, pool=pool_id)]


def needs(transaction: Transaction, device_model: str, pool_id: int, from_at: int, to_at: int) -> list[Need]:
    """Return what is spoken for between the two: by holds as far as they reach, and by the seats of other windows."""
    pool = {"model": device_model, "pool": pool_id}
    held = [Need(from_at, row.until_at, int(row.devices)) for row in transaction.rows(_HELD, **pool, from_at=from_at)]
    seats = transaction.rows(_SEATS, **pool, from_at=from_at, to_at=to_at)
    return held + [Need(max(row.opens_at, from_at), row.ends_at, int(row.devices)) for row in seats]


def promised(transaction: Transaction, project_id: int, except_id: int, now: int) -> int:
    """Return what the project's other scheduled windows would cost at today's rates, in GFLOPS·s."""
    rows = transaction.rows(_PROMISED, project_id=project_id, except_id=except_id, now=now)
    return sum(int(row.seats) * int(row.gflops) * int(row.seconds) for row in rows)
