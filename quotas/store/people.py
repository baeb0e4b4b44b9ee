"""Organisations, persons, their roles on the platform, and their stored passwords."""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import bindparam, delete, exists, insert, literal, select, update

from quotas.domain.people import MembershipRole, Organisation, Person, PlatformRole
from quotas.domain.projects import ProjectState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import credentials, memberships, organisations, persons, platform_roles, projects

_other = memberships.alias("other")
_PERSONS = (
    select(
        persons.c.id,
        persons.c.username,
        persons.c.display_name,
        persons.c.language,
        organisations.c.code.label("organisation"),
    )
    .select_from(persons)
    .outerjoin(organisations, organisations.c.id == persons.c.organisation_id)
)
_IS_THERE = persons.c.removed_at.is_(None)
_NAMED = persons.c.username == bindparam("username")
_ONE = Prepared(_PERSONS.where(_NAMED, _IS_THERE))
_ALL = Prepared(_PERSONS.where(_IS_THERE).order_by(persons.c.username))
_ID = Prepared(select(persons.c.id).where(_NAMED, _IS_THERE))
_REMOVED_ID = Prepared(select(persons.c.id).where(_NAMED, persons.c.removed_at.is_not(None)))
_REMOVED = Prepared(
    select(persons.c.username, persons.c.display_name, persons.c.removed_at)
    .where(persons.c.removed_at.is_not(None))
    .order_by(persons.c.username)
)
_LAST_PI_OF = Prepared(
    select(projects.c.code)
    .join(memberships, memberships.c.project_id == projects.c.id)
    .where(
        memberships.c.person_id == bindparam("person_id"),
        memberships.c.role == MembershipRole.PI.value,
        projects.c.state.in_([ProjectState.APPLIED.value, ProjectState.APPROVED.value]),
        ~exists().where(
            _other.c.project_id == projects.c.id,
            _other.c.role == MembershipRole.PI.value,
            _other.c.person_id != memberships.c.person_id,
        ),
    )
    .order_by(projects.c.code)
)
_ROLES_OF_ONE = Prepared(select(platform_roles.c.role).where(platform_roles.c.person_id == bindparam("person_id")))
_ALL_ROLES = Prepared(select(platform_roles.c.person_id, platform_roles.c.role))
_ORGANISATION = Prepared(select(organisations.c.id).where(organisations.c.code == bindparam("code")))
_ANY_ORGANISATION = Prepared(select(literal(1)).select_from(organisations).limit(1))
_ANY_PERSON = Prepared(select(literal(1)).select_from(persons).limit(1))
_ANY_PASSWORD = Prepared(select(literal(1)).select_from(credentials).limit(1))
_PASSWORD = Prepared(
    select(credentials.c.scrypt)
    .join(persons, persons.c.id == credentials.c.person_id)
    .where(persons.c.username == bindparam("username"))
)


def add_organisation(transaction: Transaction, organisation: Organisation) -> int:
    """The organisation is stored; return its id. Raises Conflict when its code is taken."""
    values = {
        "code": organisation.code,
        "name_ko": organisation.name_ko,
        "name_en": organisation.name_en,
        "kind": organisation.kind,
    }
    return transaction.insert(organisations, values)


def organisation_id(transaction: Transaction, code: str) -> int | None:
    """Return the id of the organisation, or None."""
    row = transaction.one(_ORGANISATION, code=code)
    return None if row is None else int(row.id)


def add_person(transaction: Transaction, person: Person, organisation: int | None, now: int) -> Person:
    """The person and the roles are stored; return the person with the new id. Raises Conflict for a taken username."""
    values = {
        "username": person.username,
        "display_name": person.display_name,
        "organisation_id": organisation,
        "language": person.language,
        "added_at": now,
    }
    new_id = transaction.insert(persons, values)
    for role in sorted(person.platform_roles):
        transaction.run(insert(platform_roles).values(person_id=new_id, role=role.value))
    return _person(person, new_id, person.platform_roles)


def _person(row: Row, row_id: int, roles: frozenset[PlatformRole]) -> Person:
    return Person(row_id, row.username, row.display_name, row.organisation, row.language, roles)


def one(transaction: Transaction, username: str) -> Person | None:
    """Return the person, or None; someone who was removed is none."""
    row = transaction.one(_ONE, username=username)
    if row is None:
        return None
    roles = frozenset(PlatformRole(found.role) for found in transaction.rows(_ROLES_OF_ONE, person_id=row.id))
    return _person(row, row.id, roles)


def everyone(transaction: Transaction) -> list[Person]:
    """Return all persons by username, without those who were removed."""
    roles: defaultdict[int, set[PlatformRole]] = defaultdict(set)
    for found in transaction.rows(_ALL_ROLES):
        roles[found.person_id].add(PlatformRole(found.role))
    return [_person(row, row.id, frozenset(roles[row.id])) for row in transaction.rows(_ALL)]


def person_id(transaction: Transaction, username: str) -> int | None:
    """Return the id of the person, or None; someone who was removed is none."""
    row = transaction.one(_ID, username=username)
    return None if row is None else int(row.id)


def removed_id(transaction: Transaction, username: str) -> int | None:
    """Return the id of the person who was removed, or None."""
    row = transaction.one(_REMOVED_ID, username=username)
    return None if row is None else int(row.id)


def removed(transaction: Transaction) -> list[Row]:
    """Return (username, display_name, removed_at) of all who were removed, by username."""
    return transaction.rows(_REMOVED)


def last_pi_of(transaction: Transaction, person: int) -> list[str]:
    """Return the codes of the projects, applied for or approved, that have no other PI than the person."""
    return [str(row.code) for row in transaction.rows(_LAST_PI_OF, person_id=person)]


def remove(transaction: Transaction, person: int, now: int) -> None:
    """The person is removed: neither member of a project nor of any role, without a password."""
    for table in (memberships, platform_roles, credentials):
        transaction.run(delete(table).where(table.c.person_id == person))
    transaction.run(update(persons).where(persons.c.id == person).values(removed_at=now))


def restore(transaction: Transaction, person: int) -> None:
    """The person is there again, without project, role or password."""
    transaction.run(update(persons).where(persons.c.id == person).values(removed_at=None))


def anyone(transaction: Transaction) -> bool:
    """Return whether there is an organisation or a person."""
    return transaction.one(_ANY_ORGANISATION) is not None or transaction.one(_ANY_PERSON) is not None


def set_language(transaction: Transaction, username: str, language: str) -> bool:
    """The person's pages are in `language`; return False when there is no such person."""
    return transaction.run(update(persons).where(persons.c.username == username).values(language=language)) == 1


def keep_password(transaction: Transaction, person: int, scrypt: str, now: int) -> None:
    """The stored password of the person is `scrypt`, in place of an earlier one."""
    changed = transaction.run(
        update(credentials).where(credentials.c.person_id == person).values(scrypt=scrypt, set_at=now)
    )
    if changed == 0:
        transaction.run(insert(credentials).values(person_id=person, scrypt=scrypt, set_at=now))


def stored_password(transaction: Transaction, username: str) -> str | None:
    """Return what `keep_password` stored, or None."""
    row = transaction.one(_PASSWORD, username=username)
    return None if row is None else str(row.scrypt)


def any_passwords(transaction: Transaction) -> bool:
    """Return whether anyone has a stored password."""
    return transaction.one(_ANY_PASSWORD) is not None
