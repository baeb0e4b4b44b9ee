"""Windows of reservations: their changes, each guarded by the state before; and what their idle seats cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from quotas.domain.ledger import AccountKind
from quotas.domain.projects import ProjectState
from quotas.domain.reservations import COMING, ReservationState, Roster, WindowState
from quotas.domain.runs import HoldState, RunKind
from quotas.store.admission import chosen_allocation
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.reservations import words
from quotas.store.tables import (
    accounts,
    allocations,
    holds,
    memberships,
    pool_devices,
    profiles,
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


_ADD = Prepared(
    insert(reservation_windows).values(
        {
            each.name: bindparam(each.name)
            for each in reservation_windows.c
            if each.name not in {"id", "kept", "claimed"}
        }
    )
)


def add(transaction: Transaction, values: Mapping[str, Any]) -> None:
    """The window is stored, with none of its seats kept."""
    transaction.run(_ADD, **values)


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
