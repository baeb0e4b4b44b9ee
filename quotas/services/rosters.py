"""Who is on a reservation's roster: all members of its project, or a list that can be handed in and changed."""

from __future__ import annotations

from dataclasses import dataclass

from quotas.domain.reservations import ReservationState, Roster
from quotas.domain.rosters import Names, strangers
from quotas.domain.units import InvalidValue
from quotas.services.people import unknown
from quotas.store import audit
from quotas.store import reservations as store
from quotas.store.database import Database, Row, Transaction

_CHANGEABLE = (ReservationState.REQUESTED, ReservationState.APPROVED)


@dataclass(frozen=True)
class Change:
    """What a list makes of a roster: who comes, who goes, who stays; whom nobody knows in the project, who was twice.

    `seats` is how many of them can start at the same time.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    strangers: tuple[str, ...]
    twice: tuple[str, ...]
    seats: int

    @property
    def on_roster(self) -> int:
        return len(self.added) + len(self.kept)


def preview(database: Database, number: int, names: Names) -> Change:
    """Return what the list would make of the roster; nothing is changed. Raises InvalidValue."""
    with database.read() as transaction:
        return _change(transaction, _changeable(transaction, number), names)


def replace(database: Database, number: int, names: Names, *, actor: str, now: int) -> Change:
    """On the roster are those of the list, all of them members of the project; return what that changed.

    Raises InvalidValue, which names every stranger.
    """
    with database.write() as transaction:
        row = _changeable(transaction, number)
        change = _change(transaction, row, names)
        if change.strangers:
            raise strangers(change.strangers)
        _make_a_list(transaction, row, now)
        ids = {each.username: each.id for each in store.members(transaction, row.project_id)}
        ids |= {each.username: each.id for each in store.roster(transaction, number)}
        for name in change.removed:
            store.take_off_roster(transaction, number, ids[name], now)
        for name in change.added:
            store.put_on_roster(transaction, number, ids[name], now)
        _note(transaction, row, actor, now, {"added": len(change.added), "removed": len(change.removed)})
        return change


def add(database: Database, number: int, username: str, *, actor: str, now: int) -> bool:
    """The member is on the roster; return whether they were not before. Raises InvalidValue for a stranger."""
    with database.write() as transaction:
        row = _changeable(transaction, number)
        found = [each for each in store.members(transaction, row.project_id) if each.username == username]
        if not found:
            raise strangers([username])
        if row.roster == Roster.MEMBERS.value:
            return False
        added = store.put_on_roster(transaction, number, found[0].id, now)
        if added:
            _note(transaction, row, actor, now, {"added": username})
        return added


def remove(database: Database, number: int, username: str, *, actor: str, now: int) -> None:
    """The person is not on the roster any more; a seat that they have they keep to its end.

    A roster of all members becomes a list of the others. Raises InvalidValue for who was not on it, and for the last.
    """
    with database.write() as transaction:
        row = _changeable(transaction, number)
        _make_a_list(transaction, row, now)
        found = store.roster(transaction, number)
        gone = [each for each in found if each.username == username]
        if not gone:
            raise unknown("roster", username)
        if len(found) == 1:
            raise InvalidValue(
                "roster",
                f"{username} is the last on it; cancel the reservation instead",
                f"{username}은(는) 명단의 마지막 사람입니다. 예약을 취소하세요",
            )
        store.take_off_roster(transaction, number, gone[0].id, now)
        _note(transaction, row, actor, now, {"removed": username})


def use_members(database: Database, number: int, *, actor: str, now: int) -> None:
    """On the roster are all members of the project, also those who become one later. Raises InvalidValue."""
    with database.write() as transaction:
        row = _changeable(transaction, number)
        if row.roster == Roster.MEMBERS.value:
            return
        store.set_roster(transaction, number, Roster.MEMBERS)
        store.follow_members(transaction, number, now)
        _note(transaction, row, actor, now, {"roster": Roster.MEMBERS.value})


def _changeable(transaction: Transaction, number: int) -> Row:
    row = store.one(transaction, number)
    if row is None:
        raise unknown("reservation", str(number))
    if row.state not in _CHANGEABLE:
        raise InvalidValue("reservation", f"{number} is {row.state}", f"{number}의 상태: {row.state}")
    return row


def _change(transaction: Transaction, row: Row, names: Names) -> Change:
    members = {each.username for each in store.members(transaction, row.project_id)}
    present = members
    if row.roster == Roster.LISTED.value:
        present = {each.username for each in store.roster(transaction, row.id)}
    wanted = set(names.names)
    return Change(
        added=tuple(name for name in names.names if name in members - present),
        removed=tuple(sorted(present - wanted)),
        kept=tuple(name for name in names.names if name in members & present),
        strangers=tuple(name for name in names.names if name not in members),
        twice=names.twice,
        seats=row.seats,
    )


def _make_a_list(transaction: Transaction, row: Row, now: int) -> None:
    if row.roster == Roster.MEMBERS.value:
        store.follow_members(transaction, row.id, now)
        store.set_roster(transaction, row.id, Roster.LISTED)


def _note(transaction: Transaction, row: Row, actor: str, now: int, detail: dict[str, object]) -> None:
    audit.record(transaction, now, actor, "roster changed", f"reservation:{row.id}", detail)
