"""What the claims of an account at an identity provider say, and what they cannot say."""

from __future__ import annotations

from typing import Any

import pytest

from quotas.domain.identities import Account, Denial, Denied, account

ISSUER = "https://id.example.org/realms/centre"
MINJI = {"sub": "a1", "preferred_username": "minji", "name": "김민지", "locale": "ko"}


def of(**claims: Any) -> Account | Denied:
    return account({**MINJI, **claims}, ISSUER, "preferred_username")


def test_claims_make_an_account() -> None:
    assert of() == Account(ISSUER, "a1", "minji", "김민지", "ko")


def test_another_claim_can_be_the_name() -> None:
    assert account({"sub": "1", "id": "kim"}, ISSUER, "id") == Account(ISSUER, "1", "kim", "kim", None)


@pytest.mark.parametrize(("said", "name"), [(" Minji ", "minji"), ("KIM.Minji", "kim.minji"), ("a_b-c", "a_b-c")])
def test_capitals_and_blanks_are_forgiven(said: str, name: str) -> None:
    found = of(preferred_username=said)
    assert isinstance(found, Account)
    assert found.username == name


@pytest.mark.parametrize("said", ["minji@example.org", "김민지", "1kim", "../kim", "k" * 64, "kim\nlee", "K\u0130m"])
def test_what_is_no_name_names_nobody(said: str) -> None:
    assert of(preferred_username=said) == Denied(Denial.NO_NAME, said[:80])


@pytest.mark.parametrize("said", [None, "", " ", 7, ["minji"], {"a": 1}, True])
def test_a_claim_that_is_missing_or_no_text_is_told(said: object) -> None:
    assert of(preferred_username=said) == Denied(Denial.NO_CLAIM)


@pytest.mark.parametrize("said", [None, "", 7, "x" * 256])
def test_an_account_without_a_subject_is_none(said: object) -> None:
    assert of(sub=said) == Denied(Denial.NO_SUBJECT)


@pytest.mark.parametrize(
    ("said", "shown"),
    [("  Kim\tMin ji\n", "Kim Min ji"), ("", "minji"), (None, "minji"), ("\x00", "minji"), ("x" * 300, "x" * 200)],
)
def test_the_name_to_show_is_one_line(said: object, shown: str) -> None:
    found = of(name=said)
    assert isinstance(found, Account)
    assert found.display_name == shown


@pytest.mark.parametrize(
    ("said", "language"), [("ko-KR", "ko"), ("en_US", "en"), ("KO", "ko"), ("fr", None), (3, None), (None, None)]
)
def test_the_language_of_a_locale(said: object, language: str | None) -> None:
    found = of(locale=said)
    assert isinstance(found, Account)
    assert found.language == language
