"""Organisations, persons and their passwords."""

from __future__ import annotations

from quotas.domain import passwords
from quotas.domain.people import LANGUAGES, Organisation, Person, PlatformRole
from quotas.domain.people import username as checked_username
from quotas.domain.texts import code, text
from quotas.domain.units import InvalidValue
from quotas.store import audit
from quotas.store import people as store
from quotas.store.database import Conflict, Database


def add_organisation(database: Database, organisation: Organisation, *, actor: str, now: int) -> None:
    """The organisation exists. Raises InvalidValue when its code is taken or a name is empty."""
    checked = Organisation(
        code("organisation", organisation.code),
        text("name_ko", organisation.name_ko, 200),
        text("name_en", organisation.name_en, 200),
        text("kind", organisation.kind, 20),
    )
    try:
        with database.write() as transaction:
            store.add_organisation(transaction, checked)
            audit.record(transaction, now, actor, "organisation added", checked.code)
    except Conflict:
        raise taken("organisation", checked.code) from None


def add_person(  # noqa: PLR0913 - each is one column of a person
    database: Database,
    username: str,
    display_name: str,
    *,
    organisation: str | None,
    language: str = "ko",
    platform_roles: frozenset[PlatformRole] = frozenset(),
    actor: str,
    now: int,
) -> Person:
    """The person exists and may be made a member; return the person. No password is set.

    Raises InvalidValue for a username that is taken or not one, an unknown organisation or language.
    """
    person = Person(
        id=0,
        username=checked_username(username),
        display_name=text("display_name", display_name, 200),
        organisation=organisation,
        language=_language(language),
        platform_roles=frozenset(platform_roles),
    )
    try:
        with database.write() as transaction:
            organisation_id = None
            if organisation is not None:
                organisation_id = store.organisation_id(transaction, organisation)
                if organisation_id is None:
                    raise unknown("organisation", organisation)
            stored = store.add_person(transaction, person, organisation_id, now)
            detail = {"organisation": organisation, "roles": sorted(person.platform_roles)}
            audit.record(transaction, now, actor, "person added", person.username, detail)
            return stored
    except Conflict:
        raise taken("username", person.username) from None


def person(database: Database, username: str) -> Person | None:
    """Return the person, or None."""
    with database.read() as transaction:
        return store.one(transaction, username)


def people(database: Database) -> list[Person]:
    """Return all persons by username."""
    with database.read() as transaction:
        return store.everyone(transaction)


def set_language(database: Database, username: str, language: str, *, now: int) -> None:
    """The person's pages are in `language`. Raises InvalidValue for an unknown person or language."""
    checked = _language(language)
    with database.write() as transaction:
        if not store.set_language(transaction, username, checked):
            raise unknown("username", username)
        audit.record(transaction, now, username, "language set", username, {"language": checked})


def set_password(database: Database, username: str, password: str, *, actor: str, now: int) -> None:
    """The person can log in with `password`; an earlier one no longer works.

    Raises InvalidValue for an unknown person and for a password under 8 or over 200 characters.
    """
    scrypt = passwords.encode(passwords.check(password))
    with database.write() as transaction:
        person_id = store.person_id(transaction, username)
        if person_id is None:
            raise unknown("username", username)
        store.keep_password(transaction, person_id, scrypt, now)
        audit.record(transaction, now, actor, "password set", username)


def password_matches(database: Database, username: str, password: str) -> bool:
    """Return whether `password` is the person's. It takes as long for someone unknown or without a password."""
    if len(password) > passwords.LONGEST:
        return False
    try:
        name = checked_username(username)
    except InvalidValue:
        return passwords.matches(None, password)
    with database.read() as transaction:
        stored = store.stored_password(transaction, name)
    return passwords.matches(stored, password)


def any_passwords(database: Database) -> bool:
    """Return whether anyone can log in with a password."""
    with database.read() as transaction:
        return store.any_passwords(transaction)


def unknown(field: str, value: str) -> InvalidValue:
    """Return the error that says that nothing is called `value`."""
    return InvalidValue(field, f"there is no {value!r:.60}", f"{value!r:.60}이(가) 없습니다")


def taken(field: str, value: str) -> InvalidValue:
    """Return the error that says that the name `value` is in use."""
    return InvalidValue(field, f"{value!r} is taken", f"{value!r}은(는) 이미 사용 중입니다")


def _language(value: str) -> str:
    if value not in LANGUAGES:
        raise InvalidValue("language", f"must be one of {', '.join(LANGUAGES)}", f"{', '.join(LANGUAGES)} 중 하나")
    return value
