"""Notices to persons: each (kind, about) once."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import bindparam, insert, select

from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import notices, persons

_PRESENT = Prepared(
    select(notices.c.id).where(
        notices.c.person_id == bindparam("person_id"),
        notices.c.kind == bindparam("kind"),
        notices.c.about == bindparam("about"),
    )
)
_OF_PERSON = Prepared(
    select(notices.c.kind, notices.c.about, notices.c.text_ko, notices.c.text_en, notices.c.at)
    .join(persons, persons.c.id == notices.c.person_id)
    .where(persons.c.username == bindparam("username"), notices.c.at >= bindparam("since"))
    .order_by(notices.c.id.desc())
    .limit(bindparam("limit"))
)


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


def of_person(transaction: Transaction, username: str, since: int, limit: int = 20) -> list[Row]:
    """Return the person's notices since an instant, newest first."""
    return transaction.rows(_OF_PERSON, username=username, since=since, limit=limit)
