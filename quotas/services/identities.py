"""Logins by an identity provider: whose an account is, decided by its subject once it is known, not by its name."""

from __future__ import annotations

from quotas.domain.identities import Account, Denial, Denied
from quotas.domain.people import Person
from quotas.services.people import unknown
from quotas.store import audit
from quotas.store import identities as store
from quotas.store import people as people_store
from quotas.store.database import Conflict, Database, Transaction


def log_in(database: Database, account: Account, *, admit: bool, language: str, now: int) -> Person | Denied:
    """Return the person whose account it is.

    At an account's first login it becomes that of the person of its name, once and for all: after a change of name at
    the provider it is still the same person's, and another account that gets the name is nobody's. With `admit` an
    unknown name is entered into the ledger, without organisation, role or project, in `language` if no claim says one.
    """
    with database.read() as transaction:
        found = _settled(transaction, account, admit=admit)
    if found is not None:
        return found
    try:
        with database.write() as transaction:
            return _settled(transaction, account, admit=admit) or _link(transaction, account, language, now)
    except Conflict:  # another login of the same account was sooner
        return Denied(Denial.OTHER_ACCOUNT, account.username)


def _settled(transaction: Transaction, account: Account, *, admit: bool) -> Person | Denied | None:
    """Return the person, or why there is none; None where something is to be written first."""
    holder = store.holder(transaction, account.issuer, account.subject)
    if holder is not None:
        person = people_store.one(transaction, holder.username)
        return person if person is not None else Denied(Denial.REMOVED, holder.username)
    named = store.of_username(transaction, account.issuer, account.username)
    if named is None:
        return None if admit else Denied(Denial.UNKNOWN, account.username)
    if named.removed_at is not None:
        return Denied(Denial.REMOVED, account.username)
    return None if named.subject is None else Denied(Denial.OTHER_ACCOUNT, account.username)


def _link(transaction: Transaction, account: Account, language: str, now: int) -> Person:
    person = people_store.one(transaction, account.username)
    if person is None:
        new = Person(0, account.username, account.display_name, None, account.language or language, frozenset())
        person = people_store.add_person(transaction, new, None, now)
        audit.record(transaction, now, account.username, "person added", account.username, {"by": account.issuer})
    store.link(transaction, person.id, account.issuer, account.subject, now)
    detail = {"issuer": account.issuer, "subject": account.subject}
    audit.record(transaction, now, account.username, "account linked", account.username, detail)
    return person


def is_of(database: Database, issuer: str, subject: str, username: str) -> bool:
    """Return whether the account is that of the person, who is not removed."""
    with database.read() as transaction:
        holder = store.holder(transaction, issuer, subject)
    return holder is not None and holder.removed_at is None and str(holder.username) == username


def unlink(database: Database, username: str, *, actor: str, now: int) -> int:
    """The next account of that name that logs in is the person's; return how many were theirs.

    Raises InvalidValue for an unknown person.
    """
    with database.write() as transaction:
        person_id = people_store.person_id(transaction, username)
        if person_id is None:
            raise unknown("username", username)
        count = store.unlink(transaction, person_id)
        if count:
            audit.record(transaction, now, actor, "account unlinked", username, {"accounts": count})
        return count
