"""Organisations, persons and their passwords."""

from __future__ import annotations

from quotas.domain import passwords
from quotas.domain.people import LANGUAGES, Organisation, Person, PlatformRole
from quotas.domain.people import username as checked_username
from quotas.domain.texts import code, text
from quotas.domain.units import InvalidValue
from quotas.store import audit
from quotas.store import people as store
from quotas.store.database import Conflict, Database, Row


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


def remove_person(database: Database, username: str, *, actor: str, now: int) -> None:
    """The person has no access any more, and is member of nothing. What runs of theirs is stopped by the loop.

    Their runs and charges stay as they are, and their name stays theirs. Raises InvalidValue for an unknown person, and
    for the last PI of a project that goes on.
    """
    with database.write() as transaction:
        person_id = store.person_id(transaction, username)
        if person_id is None:
            raise unknown("username", username)
        alone = store.last_pi_of(transaction, person_id)
        if alone:
            codes = ", ".join(alone)
            raise InvalidValue(
                "username",
                f"{username} is the last PI of {codes}; name another first",
                f"{username}은(는) 다음 과제의 마지막 연구책임자입니다: {codes}. 다른 책임자를 먼저 지정하세요",
            )
        store.remove(transaction, person_id, now)
        audit.record(transaction, now, actor, "person removed", username)


def restore_person(database: Database, username: str, *, actor: str, now: int) -> None:
    """The person may log in again, without project or role. Raises InvalidValue for someone who was not removed."""
    with database.write() as transaction:
        person_id = store.removed_id(transaction, username)
        if person_id is None:
            raise InvalidValue(
                "username",
                f"nobody called {username!r:.60} was removed",
                f"{username!r:.60}: 삭제된 사용자가 아닙니다",
            )
        store.restore(transaction, person_id)
        audit.record(transaction, now, actor, "person restored", username)


def person(database: Database, username: str) -> Person | None:
    """Return the person, or None; someone who was removed is none."""
    with database.read() as transaction:
        return store.one(transaction, username)


def people(database: Database) -> list[Person]:
    """Return all persons by username, without those who were removed."""
    with database.read() as transaction:
        return store.everyone(transaction)


def removed(database: Database) -> list[Row]:
    """Return (username, display_name, removed_at) of all who were removed, by username."""
    with database.read() as transaction:
        return store.removed(transaction)


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
