"""Which account at an identity provider is which person's."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, select

from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import identities, persons

_OF_ACCOUNT = Prepared(
    select(persons.c.username, persons.c.removed_at)
    .join(persons, persons.c.id == identities.c.person_id)
    .where(identities.c.issuer == bindparam("issuer"), identities.c.subject == bindparam("subject"))
)
_OF_PERSON = Prepared(
    select(persons.c.id, persons.c.removed_at, identities.c.subject)
    .select_from(persons)
    .outerjoin(identities, (identities.c.person_id == persons.c.id) & (identities.c.issuer == bindparam("issuer")))
    .where(persons.c.username == bindparam("username"))
)


def holder(transaction: Transaction, issuer: str, subject: str) -> Row | None:
    """Return (username, removed_at) of the person whose account it is, or None."""
    return transaction.one(_OF_ACCOUNT, issuer=issuer, subject=subject)


def of_username(transaction: Transaction, issuer: str, username: str) -> Row | None:
    """Return (id, removed_at, subject) of the person; the subject is None without an account at `issuer`."""
    return transaction.one(_OF_PERSON, issuer=issuer, username=username)


def link(transaction: Transaction, person: int, issuer: str, subject: str, now: int) -> None:
    """The account is the person's. Raises Conflict when it is another's, or the person has another at `issuer`."""
    transaction.run(insert(identities).values(person_id=person, issuer=issuer, subject=subject, linked_at=now))


def unlink(transaction: Transaction, person: int) -> int:
    """The person has no account at any provider; return how many there were."""
    return transaction.run(delete(identities).where(identities.c.person_id == person))
