"""What a start may be asked with: the one option ``profile``, by form, API, stored options or link.

The hub passes on whatever a person sent. Nothing here reads the ledger: whether the profile exists, and whether the
person may use it, is decided at every start.
"""

from __future__ import annotations

from collections.abc import Mapping

from quotas.domain.profiles import profile_code
from quotas.domain.refusals import Code, Refused
from quotas.domain.units import InvalidValue

FIELD = "profile"
OF_THE_HUB = "_xsrf"
"""A form may carry the hub's own token in its body."""
SHOWN_CHARACTERS = 60


def from_form(form: Mapping[str, object]) -> dict[str, str] | Refused:
    """Return the options that the form's fields stand for, each a list of what was sent under its name."""
    fields: dict[str, object] = {}
    for name, values in form.items():
        if name == OF_THE_HUB:
            continue
        if isinstance(values, list) and len(values) > 1:
            return _invalid(name, f"is given {len(values)} times", f"{len(values)}번 입력되었습니다")
        fields[name] = values[0] if isinstance(values, list) and values else values
    profile = profile_of(fields)
    return profile if isinstance(profile, Refused) else {FIELD: profile}


def profile_of(options: object) -> str | Refused:
    """Return the profile's code that the options name, or the refusal that says which field is wrong and how."""
    fields = options if isinstance(options, Mapping) else {}
    for name in fields:
        if name != FIELD:
            return _invalid(name, "is unknown", "알 수 없는 항목입니다")
    if FIELD not in fields:
        return _invalid(FIELD, "is missing", "값이 없습니다")
    value = fields[FIELD]
    if not isinstance(value, str):
        return _invalid(FIELD, f"must be text, not {type(value).__name__}", "문자열이어야 합니다")
    try:
        return profile_code(value)
    except InvalidValue:
        shown = _shown(value) or "''"
        return _invalid(FIELD, f"is not a profile code ({shown})", f"프로필 코드가 아닙니다 ({shown})")


def _invalid(name: object, problem_en: str, problem_ko: str) -> Refused:
    numbers = {"field": _shown(name), "problem_en": problem_en, "problem_ko": problem_ko}
    return Refused(Code.FORM_INVALID, numbers)


def _shown(value: object) -> str:
    """Write what was sent so that it can stand in a message: short, on one line, nothing invisible."""
    text = "".join(character if character.isprintable() else "�" for character in str(value)[: SHOWN_CHARACTERS + 1])
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"
