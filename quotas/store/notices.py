"""Notices to persons: each (kind, about) once."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, insert, select, update

from quotas.domain.units import LARGEST
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import notices, persons

_PRESENT = Prepared(
    select(notices.c.id).where(
        notices.c.person_id == bindparam("person_id"),
        notices.c.kind == bindparam("kind"),
        notices.c.about == bindparam("about"),
    )
)
_NOTICES = (
    select(
        notices.c.id,
        persons.c.username,
        notices.c.kind,
        notices.c.about,
        notices.c.text_ko,
        notices.c.text_en,
        notices.c.at,
        notices.c.read_at,
    )
    .join(persons, persons.c.id == notices.c.person_id)
    .where(notices.c.id < bindparam("before"))
    .order_by(notices.c.id.desc())
    .limit(bindparam("limit"))
)
_OF_ALL = Prepared(_NOTICES)
_of_person = _NOTICES.where(persons.c.username == bindparam("username"), notices.c.at >= bindparam("since"))
_OF_PERSON = Prepared(_of_person)
_UNREAD = Prepared(_of_person.where(notices.c.read_at.is_(None)))

_theirs = notices.c.person_id == (
    select(persons.c.id).where(persons.c.username == bindparam("username")).scalar_subquery()
)
_READ_ALL = Prepared(
    update(notices)
    .where(_theirs, notices.c.read_at.is_(None), notices.c.id <= bindparam("newest"))
    .values(read_at=bindparam("at"))
)
_READ_ONE = Prepared(
    update(notices)
    .where(_theirs, notices.c.read_at.is_(None), notices.c.id == bindparam("notice"))
    .values(read_at=bindparam("at"))
)
_THEIRS = Prepared(select(notices.c.id).where(_theirs, notices.c.id == bindparam("notice")))


@dataclass(frozen=True)
class Notice:
    """What a person is told, in both languages; `about` is what it is about, as a run's UUID."""

    person_id: int
    kind: str
    about: str
    text_ko: str
    text_en: str


def tell(transaction: Transaction, notice: Notice, now: int) -> bool:
    """The person has the notice; return False if it had been told before."""
    present = transaction.one(_PRESENT, person_id=notice.person_id, kind=notice.kind, about=notice.about)
    if present is not None:
        return False
    transaction.run(
        insert(notices).values(
            person_id=notice.person_id,
            kind=notice.kind,
            about=notice.about,
            text_ko=notice.text_ko,
            text_en=notice.text_en,
            at=now,
        )
    )
    return True


def of_person(
    transaction: Transaction,
    username: str,
    since: int,
    limit: int = 20,
    *,
    before: int = LARGEST,
    unread: bool = False,
) -> list[Row]:
    """Return the person's notices since an instant, newest first, of ids below `before`; `unread`: only those."""
    statement = _UNREAD if unread else _OF_PERSON
    return transaction.rows(statement, username=username, since=since, before=before, limit=limit)


def latest(transaction: Transaction, limit: int) -> list[Row]:
    """Return the newest notices of all persons, newest first."""
    return transaction.rows(_OF_ALL, before=LARGEST, limit=limit)


def mark_read(transaction: Transaction, username: str, notice: int, now: int) -> bool:
    """The person's notice is read; the first time is kept. Return False where there is no such notice of theirs."""
    if transaction.run(_READ_ONE, username=username, notice=notice, at=now) == 1:
        return True
    return transaction.one(_THEIRS, username=username, notice=notice) is not None


def mark_all_read(transaction: Transaction, username: str, newest: int, now: int) -> int:
    """The person's notices up to the id `newest` are read; return how many were not before."""
    return transaction.run(_READ_ALL, username=username, newest=newest, at=now)
