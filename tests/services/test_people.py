"""Organisations, persons and their passwords."""

from __future__ import annotations

import time
from statistics import median

import pytest

from quotas.domain.people import Organisation, PlatformRole
from quotas.domain.units import InvalidValue
from quotas.services import people
from quotas.store import audit
from quotas.store.database import Database
from tests.centre import Centre

BY = {"actor": "operator", "now": 1_800_000_000}


def actions(database: Database) -> list[tuple[str, str, str]]:
    with database.read() as transaction:
        return [(row.actor, row.action, row.subject) for row in audit.latest(transaction)]


def test_a_person_is_read_as_added(database: Database) -> None:
    people.add_organisation(database, Organisation("dawn", "새벽", "Dawn", "startup"), **BY)
    roles = frozenset({PlatformRole.OPERATOR, PlatformRole.AUDITOR})
    added = people.add_person(
        database, "minji", "김민지", organisation="dawn", language="en", platform_roles=roles, **BY
    )
    assert people.person(database, "minji") == added
    assert (added.display_name, added.organisation, added.language) == ("김민지", "dawn", "en")
    assert added.platform_roles == roles
    assert people.people(database) == [added]
    assert actions(database)[0] == ("operator", "person added", "minji")


def test_nobody_is_found_under_an_unknown_name(seeded: Centre) -> None:
    assert people.person(seeded.database, "nobody") is None


@pytest.mark.parametrize("username", ["", "Kim", "1kim", "kim lee", "k" * 64, "kim\n", "../kim", "김"])
def test_what_is_no_username_is_refused(seeded: Centre, username: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        people.add_person(seeded.database, username, "Kim", organisation=None, **BY)
    assert refused.value.field == "username"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"username": "pi"}, "username"),
        ({"organisation": "nowhere"}, "organisation"),
        ({"language": "fr"}, "language"),
        ({"display_name": " "}, "display_name"),
        ({"display_name": "x" * 201}, "display_name"),
    ],
)
def test_a_person_that_cannot_be_is_refused_and_nothing_is_kept(
    seeded: Centre, changes: dict[str, str], field: str
) -> None:
    before = people.people(seeded.database), actions(seeded.database)
    values = {"username": "new", "display_name": "New", "organisation": "lab", "language": "ko"} | changes
    with pytest.raises(InvalidValue) as refused:
        people.add_person(seeded.database, **values, **BY)
    assert refused.value.field == field
    assert (people.people(seeded.database), actions(seeded.database)) == before


def test_an_organisation_is_added_once(seeded: Centre) -> None:
    with pytest.raises(InvalidValue, match="taken"):
        people.add_organisation(seeded.database, Organisation("lab", "가", "A", "agency"), **BY)
    with pytest.raises(InvalidValue) as refused:
        people.add_organisation(seeded.database, Organisation("New Lab", "가", "A", "agency"), **BY)
    assert refused.value.field == "organisation"


def test_a_password_is_set_changed_and_checked(seeded: Centre) -> None:
    database = seeded.database
    assert not people.any_passwords(database)
    people.set_password(database, "pi", "first password", **BY)
    assert people.any_passwords(database)
    assert people.password_matches(database, "pi", "first password")
    people.set_password(database, "pi", "second password", **BY)
    assert not people.password_matches(database, "pi", "first password")
    assert people.password_matches(database, "pi", "second password")
    assert not people.password_matches(database, "member", "second password")
    assert "password" not in str(actions(database)).replace("password set", "")


@pytest.mark.parametrize("password", ["", "seven77", "x" * 201])
def test_a_password_that_cannot_be_is_refused(seeded: Centre, password: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        people.set_password(seeded.database, "pi", password, **BY)
    assert refused.value.field == "password"
    assert not people.any_passwords(seeded.database)


def test_nobody_gets_a_password(seeded: Centre) -> None:
    with pytest.raises(InvalidValue) as refused:
        people.set_password(seeded.database, "nobody", "long enough", **BY)
    assert refused.value.field == "username"


@pytest.mark.parametrize("username", ["nobody", "member", "", "no body", "pi\x00", "x" * 10_000, "' OR 1=1 --"])
def test_no_password_matches_someone_unknown_or_without_one(seeded: Centre, username: str) -> None:
    people.set_password(seeded.database, "pi", "long enough", **BY)
    assert not people.password_matches(seeded.database, username, "long enough")


def test_someone_unknown_costs_as_much_as_a_wrong_password(seeded: Centre) -> None:
    people.set_password(seeded.database, "pi", "long enough", **BY)

    def seconds(username: str) -> float:
        begin = time.process_time()
        people.password_matches(seeded.database, username, "wrong password")
        return time.process_time() - begin

    pairs = [(seconds("pi"), seconds("nobody"), seconds("No Name")) for _ in range(7)]
    known, unknown, impossible = (median(column) for column in zip(*pairs, strict=True))
    assert 0.5 < unknown / known < 2
    assert 0.5 < impossible / known < 2


def test_a_very_long_password_is_refused_without_work(seeded: Centre) -> None:
    people.set_password(seeded.database, "pi", "long enough", **BY)
    begin = time.process_time()
    for _ in range(100):
        assert not people.password_matches(seeded.database, "pi", "x" * 10**6)
    assert time.process_time() - begin < 0.2


def test_a_language_is_set(seeded: Centre) -> None:
    people.set_language(seeded.database, "pi", "en", now=seeded.now)
    found = people.person(seeded.database, "pi")
    assert found is not None
    assert found.language == "en"
    for username, language, field in (("pi", "fr", "language"), ("nobody", "en", "username")):
        with pytest.raises(InvalidValue) as refused:
            people.set_language(seeded.database, username, language, now=seeded.now)
        assert refused.value.field == field
