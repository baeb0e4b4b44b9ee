"""Stored passwords."""

from __future__ import annotations

import pytest

from quotas.domain import passwords
from quotas.domain.units import InvalidValue


def test_a_password_matches_its_stored_form_only() -> None:
    stored = passwords.encode("correct horse")
    assert passwords.matches(stored, "correct horse")
    assert not passwords.matches(stored, "correct horsE")
    assert not passwords.matches(stored, "")


def test_the_stored_form_has_a_salt_of_its_own_and_not_the_password() -> None:
    first, second = passwords.encode("correct horse"), passwords.encode("correct horse")
    assert first != second
    assert "correct" not in first
    assert first.startswith("scrypt$14$8$1$")
    assert len(first) <= 300


def test_hangul_matches_however_the_keyboard_composes_it() -> None:
    assert passwords.matches(passwords.encode("\u1112\u1161\u11ab" * 8), "한" * 8)


@pytest.mark.parametrize(
    "stored", ["", "plain", "scrypt$14$8$1$x", "scrypt$x$8$1$AA==$AA==", "scrypt$60$8$1$AA==$AA=="]
)
def test_a_broken_stored_form_matches_nothing(stored: str) -> None:
    assert not passwords.matches(stored, "correct horse")


def test_nobody_matches_nothing() -> None:
    assert not passwords.matches(None, "correct horse")


@pytest.mark.parametrize("password", ["", "seven77", "x" * 201, None, 12345678])
def test_what_may_be_no_password(password: object) -> None:
    with pytest.raises(InvalidValue) as refused:
        passwords.check(password)
    assert refused.value.field == "password"
