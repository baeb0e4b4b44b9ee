"""What a start may be asked with: ``profile`` and, optionally, ``wish``; by form, API, stored options or link.

By the API a start may also be asked for in its ``turn`` in the queue only: it is the id of the person's own entry.

The hub passes on whatever a person sent. Nothing here reads the ledger: whether the profile exists, and whether the
person may use it, is decided at every start.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from quotas.domain.priorities import WISHES, Priority
from quotas.domain.profiles import profile_code
from quotas.domain.queue import Mode
from quotas.domain.refusals import Code, Refused
from quotas.domain.units import InvalidValue

FIELD, WISH, MODE, TURN = "profile", "wish", "mode", "turn"
_RUN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OF_THE_HUB = "_xsrf"
"""A form may carry the hub's own token in its body."""
SHOWN_CHARACTERS = 60
Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True)
class Choice:
    """What a person chose to start, and how firmly they ask for its devices; with `turn`, in that turn only."""

    profile: str
    wish: Priority = Priority.GUARANTEED
    turn: str | None = None

    def options(self) -> dict[str, str]:
        """Return the choice as the hub stores it, for a later start too."""
        wish = {} if self.wish is Priority.GUARANTEED else {WISH: self.wish.value}
        return {FIELD: self.profile, **wish}


def from_form(form: Mapping[str, object]) -> dict[str, str] | Refused:
    """Return the options that the form's fields stand for, each a list of what was sent under its name."""
    fields = _once(form)
    if isinstance(fields, Refused):
        return fields
    choice = choice_of(fields)
    return choice if isinstance(choice, Refused) else choice.options()


def waiting_of_form(form: Mapping[str, object]) -> tuple[Choice, Mode] | Refused:
    """Return what a person would wait for, and what is to happen at their turn."""
    fields = _once(form)
    if isinstance(fields, Refused):
        return fields
    mode = _word_of(fields.pop(MODE, None), MODE, tuple(Mode))
    if isinstance(mode, Refused):
        return mode
    choice = choice_of(fields)
    return choice if isinstance(choice, Refused) else (choice, mode)


def choice_of(options: object) -> Choice | Refused:
    """Return what the options name, or the refusal that says which field is wrong and how."""
    fields = options if isinstance(options, Mapping) else {}
    for name in fields:
        if name not in (FIELD, WISH):
            return _invalid(name, "is unknown", "알 수 없는 항목입니다")
    if FIELD not in fields:
        return _invalid(FIELD, "is missing", "값이 없습니다")
    value = fields[FIELD]
    if not isinstance(value, str):
        return _invalid(FIELD, f"must be text, not {type(value).__name__}", "문자열이어야 합니다")
    try:
        profile = profile_code(value)
    except InvalidValue:
        shown = _shown(value) or "''"
        return _invalid(FIELD, f"is not a profile code ({shown})", f"프로필 코드가 아닙니다 ({shown})")
    wish = _word_of(fields[WISH], WISH, WISHES) if WISH in fields else Priority.GUARANTEED
    return wish if isinstance(wish, Refused) else Choice(profile, wish)


def choice_of_api(options: object) -> Choice | Refused:
    """Return what the options of a start name, by whatever way they came."""
    fields = dict(options) if isinstance(options, Mapping) else {}
    turn = fields.pop(TURN, None)
    if turn is not None and not (isinstance(turn, str) and _RUN.fullmatch(turn)):
        return _invalid(TURN, "is not the id of a run", "실행 번호가 아닙니다")
    choice = choice_of(fields)
    return choice if isinstance(choice, Refused) else replace(choice, turn=turn)


def _once(form: Mapping[str, object]) -> dict[str, object] | Refused:
    fields: dict[str, object] = {}
    for name, values in form.items():
        if name == OF_THE_HUB:
            continue
        if isinstance(values, list) and len(values) > 1:
            return _invalid(name, f"is given {len(values)} times", f"{len(values)}번 입력되었습니다")
        fields[name] = values[0] if isinstance(values, list) and values else values
    return fields


def _word_of(value: object, field: str, words: tuple[Word, ...]) -> Word | Refused:
    """Return the one of `words` that the value is."""
    if value is None:
        return _invalid(field, "is missing", "값이 없습니다")
    if not isinstance(value, str):
        return _invalid(field, f"must be text, not {type(value).__name__}", "문자열이어야 합니다")
    known = ", ".join(words)
    found = next((word for word in words if word.value == value), None)
    return found or _invalid(field, f"must be one of {known}", f"다음 중 하나여야 합니다: {known}")


def _invalid(name: object, problem_en: str, problem_ko: str) -> Refused:
    numbers = {"field": _shown(name), "problem_en": problem_en, "problem_ko": problem_ko}
    return Refused(Code.FORM_INVALID, numbers)


def _shown(value: object) -> str:
    """Write what was sent so that it can stand in a message: short, on one line, nothing invisible."""
    text = "".join(character if character.isprintable() else "�" for character in str(value)[: SHOWN_CHARACTERS + 1])
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
