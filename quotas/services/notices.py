"""What persons were told, and which of it they have read."""

from __future__ import annotations

from dataclasses import dataclass

from quotas.domain.units import LARGEST, InvalidValue
from quotas.services.people import unknown
from quotas.store import notices as store
from quotas.store import people as people_store
from quotas.store.database import Database, Row

MOST_LISTED = 200


@dataclass(frozen=True)
class Notice:
    """One notice to `person`; `read_at` is None until it is marked as read. Instants in seconds UTC."""

    id: int
    person: str
    kind: str
    about: str
    text_ko: str
    text_en: str
    at: int
    read_at: int | None

    def text(self, language: str) -> str:
        return self.text_ko if language == "ko" else self.text_en


def of_person(
    database: Database, username: str, *, before: int | None = None, limit: int = 50, unread: bool = False
) -> list[Notice]:
    """Return the person's notices, newest first, of ids below `before`. Raises InvalidValue for an unknown person."""
    with database.read() as transaction:
        if people_store.person_id(transaction, username) is None:
            raise unknown("person", username)
        given = LARGEST if before is None else before
        found = store.of_person(transaction, username, 0, min(limit, MOST_LISTED), before=given, unread=unread)
    return [_notice(row) for row in found]


def latest(database: Database, *, limit: int = 50) -> list[Notice]:
    """Return the newest notices of all persons, newest first."""
    with database.read() as transaction:
        return [_notice(row) for row in store.latest(transaction, min(limit, MOST_LISTED))]


def mark_read(database: Database, username: str, notice: int, *, now: int) -> None:
    """The person's notice is read. Raises InvalidValue where the person has no such notice."""
    with database.write() as transaction:
        if not store.mark_read(transaction, username, notice, now):
            raise InvalidValue("notice", f"there is no notice {notice} to you", f"알림 {notice}이(가) 없습니다")


def mark_all_read(database: Database, username: str, newest: int, *, now: int) -> int:
    """The person's notices up to `newest` are read, later ones not; return how many were not before."""
    with database.write() as transaction:
        return store.mark_all_read(transaction, username, newest, now)


def _notice(row: Row) -> Notice:
    return Notice(row.id, row.username, row.kind, row.about, row.text_ko, row.text_en, row.at, row.read_at)
