"""Reservations, their rosters, and who claimed which seat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    String,
    and_,
    bindparam,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from quotas.domain.reservations import COMING, ReservationState, Roster, WindowState
from quotas.domain.runs import HoldState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    holds,
    memberships,
    notices,
    persons,
    pools,
    profiles,
    projects,
    reservation_roster,
    reservation_windows,
    reservations,
    runs,
)

_id: BindParameter[int] = bindparam("id")
_at: BindParameter[int] = bindparam("at", type_=BigInteger)


def _word(constant: str) -> BindParameter[Any]:
    return literal(constant, literal_execute=True)


def words(states: Iterable[WindowState | ReservationState]) -> list[BindParameter[Any]]:
    """Return the states as parts of a statement."""
    return [_word(state.value) for state in states]


_requester = persons.alias("requester")
_FULL = (
    select(
        reservations,
        projects.c.code.label("project"),
        projects.c.state.label("project_state"),
        profiles.c.code.label("profile"),
        profiles.c.device_model,
        profiles.c.device_count,
        pools.c.code.label("pool"),
        _requester.c.username.label("requester"),
    )
    .select_from(reservations)
    .join(projects, projects.c.id == reservations.c.project_id)
    .join(profiles, profiles.c.id == reservations.c.profile_id)
    .join(pools, pools.c.id == reservations.c.pool_id)
    .join(_requester, _requester.c.id == reservations.c.requested_by)
)
_ONE = Prepared(_FULL.where(reservations.c.id == _id))
_newest = _FULL.order_by(reservations.c.id.desc()).limit(bindparam("limit"))
_LIST = Prepared(_newest)
_OF_PROJECT = Prepared(_newest.where(projects.c.code == bindparam("project")))

_still_comes = exists().where(
    reservation_windows.c.reservation_id == reservations.c.id,
    reservation_windows.c.state.in_(words(COMING)),
)
_CHANGE = Prepared(
    update(reservations)
    .where(reservations.c.id == _id, reservations.c.state == bindparam("old_state"))
    .values(
        state=bindparam("new_state"),
        decided_at=_at,
        decided_by=bindparam("actor"),
        reason=func.coalesce(bindparam("reason", type_=String()), reservations.c.reason),
    )
)
_APPROVE_AS = Prepared(
    update(reservations).where(reservations.c.id == _id).values(seats=bindparam("seats"), pool_id=bindparam("pool_id"))
)
_END = Prepared(
    update(reservations)
    .where(
        reservations.c.id == _id,
        reservations.c.state == _word(ReservationState.APPROVED.value),
        ~_still_comes,
    )
    .values(state=_word(ReservationState.ENDED.value))
)


def add(transaction: Transaction, values: Mapping[str, Any]) -> int:
    """The reservation is stored; return its number."""
    return transaction.insert(reservations, values)


def one(transaction: Transaction, number: int) -> Row | None:
    """Return the reservation with the names of its project, profile, pool and requester, or None."""
    return transaction.one(_ONE, id=number)


def newest(transaction: Transaction, project: str | None, limit: int) -> list[Row]:
    """Return the newest reservations, newest first, of one project or of all."""
    if project is None:
        return transaction.rows(_LIST, limit=limit)
    return transaction.rows(_OF_PROJECT, project=project, limit=limit)


def change_state(  # noqa: PLR0913 - each is one part of a decision
    transaction: Transaction,
    number: int,
    old: ReservationState,
    new: ReservationState,
    *,
    actor: str,
    reason: str | None,
    at: int,
) -> bool:
    """The reservation stands so by `actor`'s decision; return False where it did not stand at `old` any more."""
    values = {"old_state": old.value, "new_state": new.value, "actor": actor[:80], "reason": reason, "at": at}
    return transaction.run(_CHANGE, id=number, **values) == 1


def approve_as(transaction: Transaction, number: int, seats: int, pool_id: int) -> None:
    """The reservation is for so many seats in this pool."""
    transaction.run(_APPROVE_AS, id=number, seats=seats, pool_id=pool_id)


def end(transaction: Transaction, number: int) -> bool:
    """An approved reservation without any window to come has ended; return whether that was now."""
    return transaction.run(_END, id=number) == 1


# Rosters. A row stays when its person is taken off: their seat was rightly theirs before that.

_on_roster = and_(reservation_roster.c.reservation_id == _id, reservation_roster.c.removed_at.is_(None))
_ROSTER = Prepared(
    select(
        persons.c.id,
        persons.c.username,
        persons.c.display_name,
        memberships.c.role,
        reservation_roster.c.added_at,
    )
    .select_from(reservation_roster)
    .join(reservations, reservations.c.id == reservation_roster.c.reservation_id)
    .join(persons, persons.c.id == reservation_roster.c.person_id)
    .outerjoin(
        memberships,
        and_(memberships.c.person_id == persons.c.id, memberships.c.project_id == reservations.c.project_id),
    )
    .where(_on_roster)
    .order_by(persons.c.username)
)
_MEMBERS = Prepared(
    select(persons.c.id, persons.c.username, persons.c.display_name, memberships.c.role)
    .select_from(memberships)
    .join(persons, persons.c.id == memberships.c.person_id)
    .where(memberships.c.project_id == bindparam("project_id"))
    .order_by(persons.c.username)
)
_RETURN = Prepared(
    update(reservation_roster)
    .where(
        reservation_roster.c.reservation_id == _id,
        reservation_roster.c.person_id == bindparam("person_id"),
        reservation_roster.c.removed_at.is_not(None),
    )
    .values(removed_at=None)
)
_PRESENT = Prepared(
    select(reservation_roster.c.person_id).where(
        reservation_roster.c.reservation_id == _id, reservation_roster.c.person_id == bindparam("person_id")
    )
)
_ADD = Prepared(insert(reservation_roster).values(reservation_id=_id, person_id=bindparam("person_id"), added_at=_at))
_REMOVE = Prepared(
    update(reservation_roster)
    .where(_on_roster, reservation_roster.c.person_id == bindparam("person_id"))
    .values(removed_at=_at)
)
_SET_ROSTER = Prepared(update(reservations).where(reservations.c.id == _id).values(roster=bindparam("roster")))

_membership = and_(
    memberships.c.project_id == select(reservations.c.project_id).where(reservations.c.id == _id).scalar_subquery(),
    memberships.c.person_id == reservation_roster.c.person_id,
)
_LEAVE = Prepared(update(reservation_roster).where(_on_roster, ~exists().where(_membership)).values(removed_at=_at))
_COME_BACK = Prepared(
    update(reservation_roster)
    .where(
        reservation_roster.c.reservation_id == _id,
        reservation_roster.c.removed_at.is_not(None),
        exists().where(_membership),
    )
    .values(removed_at=None)
)
_known = reservation_roster.alias("known")
_JOIN = Prepared(
    insert(reservation_roster).from_select(
        ["reservation_id", "person_id", "added_at"],
        select(reservations.c.id, memberships.c.person_id, _at)
        .join(memberships, memberships.c.project_id == reservations.c.project_id)
        .where(
            reservations.c.id == _id,
            ~exists().where(
                _known.c.reservation_id == reservations.c.id, _known.c.person_id == memberships.c.person_id
            ),
        ),
    )
)


def roster(transaction: Transaction, number: int) -> list[Row]:
    """Return who is on the reservation's roster by username; the role is None of one who is no member any more."""
    return transaction.rows(_ROSTER, id=number)


def members(transaction: Transaction, project_id: int) -> list[Row]:
    """Return the project's members by username."""
    return transaction.rows(_MEMBERS, project_id=project_id)


def put_on_roster(transaction: Transaction, number: int, person_id: int, at: int) -> bool:
    """The person is on the roster; return whether they were not before."""
    if transaction.run(_RETURN, id=number, person_id=person_id) == 1:
        return True
    if transaction.one(_PRESENT, id=number, person_id=person_id) is not None:
        return False
    transaction.run(_ADD, id=number, person_id=person_id, at=at)
    return True


def take_off_roster(transaction: Transaction, number: int, person_id: int, at: int) -> bool:
    """The person is not on the roster; return whether they were before."""
    return transaction.run(_REMOVE, id=number, person_id=person_id, at=at) == 1


def set_roster(transaction: Transaction, number: int, kind: Roster) -> None:
    """The roster is of this kind."""
    transaction.run(_SET_ROSTER, id=number, roster=kind.value)


def follow_members(transaction: Transaction, number: int, at: int) -> int:
    """On the roster are exactly the project's members of this moment; return how many came and went."""
    left = transaction.run(_LEAVE, id=number, at=at)
    came_back = transaction.run(_COME_BACK, id=number)
    return left + came_back + transaction.run(_JOIN, id=number, at=at)


_told = notices.alias("told")
_TELL = Prepared(
    insert(notices).from_select(
        ["person_id", "kind", "about", "text_ko", "text_en", "at"],
        select(
            reservation_roster.c.person_id,
            *(bindparam(name, type_=String()) for name in ("kind", "about", "text_ko", "text_en")),
            _at,
        ).where(
            _on_roster,
            ~exists().where(
                _told.c.person_id == reservation_roster.c.person_id,
                _told.c.kind == bindparam("kind", type_=String()),
                _told.c.about == bindparam("about", type_=String()),
            ),
        ),
    )
)


def tell_roster(  # noqa: PLR0913 - a notice, to whom, and when
    transaction: Transaction, number: int, *, kind: str, about: str, text_ko: str, text_en: str, at: int
) -> int:
    """Everyone on the roster has the notice; return how many had not been told before."""
    return transaction.run(_TELL, id=number, kind=kind, about=about, text_ko=text_ko, text_en=text_en, at=at)


_CLAIMS = Prepared(
    select(
        holds.c.window_id,
        persons.c.username,
        persons.c.display_name,
        runs.c.id.label("run_id"),
        runs.c.state,
        holds.c.opened_at,
        runs.c.started_at,
        runs.c.finished_at,
        holds.c.until_at,
        (holds.c.state == _word(HoldState.OPEN.value)).label("is_open"),
    )
    .select_from(holds)
    .join(runs, runs.c.id == holds.c.run_id)
    .join(persons, persons.c.id == runs.c.person_id)
    .join(reservation_windows, reservation_windows.c.id == holds.c.window_id)
    .where(
        reservation_windows.c.reservation_id == _id,
        holds.c.device_count > 0,
        or_(
            reservation_windows.c.id == bindparam("window_id", type_=BigInteger),
            bindparam("window_id", type_=BigInteger) == 0,
        ),
    )
    .order_by(holds.c.opened_at, runs.c.id)
)


def claims(transaction: Transaction, number: int, window_id: int = 0) -> list[Row]:
    """Return who took a seat and when, in that order: of one window of the reservation, or (0) of all."""
    return transaction.rows(_CLAIMS, id=number, window_id=window_id)
