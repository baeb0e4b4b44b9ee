"""Whose an account at the identity provider is: by its subject once it is known, and never by a name that moved."""

from __future__ import annotations

import pytest

from quotas.domain.identities import Account, Denial, Denied
from quotas.domain.people import MembershipRole, Person, PlatformRole
from quotas.domain.units import InvalidValue
from quotas.services import identities, people, projects
from quotas.store import audit
from quotas.store.database import Database
from tests.centre import Centre

ISSUER = "https://id.example.org"
BY = {"actor": "operator", "now": 1_800_000_000}


def account(username: str, subject: str | None = None, issuer: str = ISSUER) -> Account:
    return Account(issuer, subject or f"sub-{username}", username, username.title(), "en")


def log_in(database: Database, who: Account, *, admit: bool = False) -> Person | Denied:
    return identities.log_in(database, who, admit=admit, language="ko", now=BY["now"])


def actions(database: Database) -> list[tuple[str, str, str]]:
    with database.read() as transaction:
        return [(row.actor, row.action, row.subject) for row in audit.latest(transaction)]


def test_the_first_login_links_the_account_of_that_name(seeded: Centre) -> None:
    found = log_in(seeded.database, account("member"))
    assert found == people.person(seeded.database, "member")
    assert actions(seeded.database)[0] == ("member", "account linked", "member")
    before = actions(seeded.database)
    assert log_in(seeded.database, account("member")) == found
    assert actions(seeded.database) == before, "a later login writes nothing"


def test_a_renamed_account_is_still_the_same_persons(seeded: Centre) -> None:
    log_in(seeded.database, account("member"))
    for name in ("renamed", "pi"):
        found = log_in(seeded.database, account(name, "sub-member"))
        assert isinstance(found, Person)
        assert found.username == "member"
    assert isinstance(log_in(seeded.database, account("pi")), Person), "the name's own person is as free as before"


def test_another_account_that_gets_the_name_is_nobodys(seeded: Centre) -> None:
    log_in(seeded.database, account("member"))
    assert log_in(seeded.database, account("member", "other")) == Denied(Denial.OTHER_ACCOUNT, "member")
    assert log_in(seeded.database, account("member", "other"), admit=True) == Denied(Denial.OTHER_ACCOUNT, "member")


def test_each_provider_has_accounts_of_its_own(seeded: Centre) -> None:
    log_in(seeded.database, account("member", "1"))
    found = log_in(seeded.database, account("pi", "1", "https://other.example.org"))
    assert isinstance(found, Person)
    assert found.username == "pi"


def test_an_operator_unlinks_an_account(seeded: Centre) -> None:
    log_in(seeded.database, account("member"))
    assert identities.unlink(seeded.database, "member", **BY) == 1
    assert identities.unlink(seeded.database, "member", **BY) == 0
    assert isinstance(log_in(seeded.database, account("member", "new")), Person)
    assert log_in(seeded.database, account("member")) == Denied(Denial.OTHER_ACCOUNT, "member")
    with pytest.raises(InvalidValue):
        identities.unlink(seeded.database, "nobody", **BY)


def test_an_account_is_one_persons_until_it_is_unlinked_or_they_are_removed(seeded: Centre) -> None:
    def is_members() -> bool:
        return identities.is_of(seeded.database, ISSUER, "sub-member", "member")

    assert not is_members()
    log_in(seeded.database, account("member"))
    assert is_members()
    assert not identities.is_of(seeded.database, ISSUER, "sub-member", "pi")
    people.remove_person(seeded.database, "member", **BY)
    assert not is_members()
    people.restore_person(seeded.database, "member", **BY)
    assert is_members()
    identities.unlink(seeded.database, "member", **BY)
    assert not is_members()


def test_someone_unknown_is_denied_and_nothing_is_kept(seeded: Centre) -> None:
    before = actions(seeded.database), people.people(seeded.database)
    assert log_in(seeded.database, account("stranger")) == Denied(Denial.UNKNOWN, "stranger")
    assert (actions(seeded.database), people.people(seeded.database)) == before


def test_someone_unknown_is_entered_where_that_is_set(seeded: Centre) -> None:
    found = log_in(seeded.database, account("stranger"), admit=True)
    assert isinstance(found, Person)
    assert (found.display_name, found.organisation, found.language) == ("Stranger", None, "en")
    assert found.platform_roles == frozenset()
    assert log_in(seeded.database, account("stranger"), admit=True) == found


def test_a_removed_person_is_denied_by_subject_and_by_name(seeded: Centre) -> None:
    log_in(seeded.database, account("member"))
    people.remove_person(seeded.database, "member", **BY)
    for who in (account("member"), account("member", "other"), account("renamed", "sub-member")):
        assert log_in(seeded.database, who, admit=True) == Denied(Denial.REMOVED, "member")
    people.restore_person(seeded.database, "member", **BY)
    assert isinstance(log_in(seeded.database, account("member")), Person)


def test_a_removed_person_has_nothing_left_but_the_name(seeded: Centre) -> None:
    database = seeded.database
    roles = frozenset({PlatformRole.OPERATOR})
    people.add_person(database, "leaver", "Leaver", organisation=None, platform_roles=roles, **BY)
    people.set_password(database, "leaver", "long enough", **BY)
    projects.add_member(database, seeded.project, "leaver", MembershipRole.MEMBER, **BY)
    people.remove_person(database, "leaver", **BY)
    assert people.person(database, "leaver") is None
    assert "leaver" not in [each.username for each in people.people(database)]
    assert [row.username for row in people.removed(database)] == ["leaver"]
    assert not people.password_matches(database, "leaver", "long enough")
    refused = [
        lambda: people.set_password(database, "leaver", "long enough", **BY),
        lambda: projects.add_member(database, seeded.project, "leaver", MembershipRole.MEMBER, **BY),
        lambda: people.add_person(database, "leaver", "Another", organisation=None, **BY),
        lambda: people.remove_person(database, "leaver", **BY),
    ]
    for call in refused:
        with pytest.raises(InvalidValue):
            call()
    people.restore_person(database, "leaver", **BY)
    found = people.person(database, "leaver")
    assert found is not None
    assert found.platform_roles == frozenset()
    with pytest.raises(InvalidValue):
        people.restore_person(database, "leaver", **BY)


def test_the_last_pi_of_a_project_that_goes_on_is_not_removed(seeded: Centre) -> None:
    with pytest.raises(InvalidValue, match=seeded.project):
        people.remove_person(seeded.database, "pi", **BY)
    projects.add_member(seeded.database, seeded.project, "member", MembershipRole.PI, **BY)
    people.remove_person(seeded.database, "pi", **BY)
    assert people.person(seeded.database, "pi") is None
