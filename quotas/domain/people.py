"""Who there is, and what each role may do: one table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.units import InvalidValue


class MembershipRole(StrEnum):
    """A person's role in one project."""

    PI = "pi"
    MEMBER = "member"
    INSTRUCTOR = "instructor"
    LEARNER = "learner"


class PlatformRole(StrEnum):
    """A person's role on the whole platform."""

    OPERATOR = "operator"
    REVIEWER = "reviewer"
    AUDITOR = "auditor"


@dataclass(frozen=True)
class Rights:
    """What a membership role may do in its project."""

    start: bool
    schedule: bool
    manage_members: bool


MEMBERSHIP_RIGHTS: dict[MembershipRole, Rights] = {
    MembershipRole.PI: Rights(start=True, schedule=True, manage_members=True),
    MembershipRole.MEMBER: Rights(start=True, schedule=True, manage_members=False),
    MembershipRole.INSTRUCTOR: Rights(start=True, schedule=True, manage_members=True),
    MembershipRole.LEARNER: Rights(start=True, schedule=False, manage_members=False),
}

LANGUAGES = ("ko", "en")


@dataclass(frozen=True)
class Organisation:
    """A firm, university or agency; `code` is its stable ASCII name."""

    code: str
    name_ko: str
    name_en: str
    kind: str


@dataclass(frozen=True)
class Person:
    """A person who may log in as `username`."""

    id: int
    username: str
    display_name: str
    organisation: str | None
    language: str
    platform_roles: frozenset[PlatformRole]


_USERNAME = re.compile(r"[a-z][a-z0-9._-]{0,62}")


def username(text: str) -> str:
    """Return `text` as a username: 1 to 63 of a-z 0-9 . _ -, a letter first. Raises InvalidValue."""
    if _USERNAME.fullmatch(text) is None:
        raise InvalidValue(
            "username",
            f"{text!r} must be 1 to 63 of a-z, 0-9, '.', '_', '-' and start with a letter",
            f"{text!r}: a-z, 0-9, '.', '_', '-'로 1~63자, 첫 글자는 영문 소문자여야 합니다",
        )
    return text
