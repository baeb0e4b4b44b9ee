"""Accounts at an identity provider: which person's name an account's claims say, and why an account lets nobody in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.people import LANGUAGES
from quotas.domain.people import username as checked_username
from quotas.domain.units import InvalidValue

LONGEST_SUBJECT = 255
"""So long may a provider's own name of an account be, as OpenID Connect has it."""
LONGEST_NAME = 200


class Denial(StrEnum):
    """Why an account that the provider vouches for belongs to nobody who may log in."""

    NO_SUBJECT = "no_subject"
    NO_CLAIM = "no_claim"
    NO_NAME = "no_name"
    UNKNOWN = "unknown"
    REMOVED = "removed"
    OTHER_ACCOUNT = "other_account"


@dataclass(frozen=True)
class Denied:
    """An account lets nobody in; `name` is what its claim says, cut short."""

    denial: Denial
    name: str = ""


@dataclass(frozen=True)
class Account:
    """An account at the provider `issuer`, which calls it `subject` for ever; all else of it may change there."""

    issuer: str
    subject: str
    username: str
    display_name: str
    language: str | None


def account(claims: Mapping[str, object], issuer: str, username_claim: str) -> Account | Denied:
    """Return the account that the claims are about.

    The name is taken without blanks around it and in small letters; what is no username then, names nobody.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
        return Denied(Denial.NO_SUBJECT)
    said = claims.get(username_claim)
    if not isinstance(said, str) or not said.strip():
        return Denied(Denial.NO_CLAIM)
    try:
        username = checked_username(said.strip().lower())
    except InvalidValue:
        return Denied(Denial.NO_NAME, said.strip()[:80])
    return Account(issuer, subject, username, _display_name(claims, username), _language(claims.get("locale")))


def _display_name(claims: Mapping[str, object], username: str) -> str:
    said = claims.get("name")
    if not isinstance(said, str):
        return username
    shown = " ".join("".join(letter if letter.isprintable() else " " for letter in said).split())
    return shown[:LONGEST_NAME].strip() or username


def _language(locale: object) -> str | None:
    """Return the language of a locale such as ko, ko-KR or ko_KR; None for one that no page is in."""
    if not isinstance(locale, str):
        return None
    language = locale.replace("_", "-").partition("-")[0].lower()
    return language if language in LANGUAGES else None
