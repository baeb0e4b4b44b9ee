"""Names and titles that people give: what is taken, and what is refused with the field's name."""

from __future__ import annotations

import re
import unicodedata

from quotas.domain.units import InvalidValue

_CODE = re.compile(r"[a-z0-9](?:[-.]?[a-z0-9]){0,39}")
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
"""Control and format characters (among them those that turn the writing direction) and what is no character."""


def text(field: str, value: object, longest: int, *, lines: bool = False) -> str:
    """Return `value` composed (NFC) and without blanks around it: 1 to `longest` characters, in one line by default.

    Raises InvalidValue.
    """
    if not isinstance(value, str):
        raise InvalidValue(field, f"must be text, not {type(value).__name__}", "문자열이어야 합니다")
    cleaned = unicodedata.normalize("NFC", value).strip()
    if not cleaned:
        raise InvalidValue(field, "must not be empty", "비워 둘 수 없습니다")
    if len(cleaned) > longest:
        raise InvalidValue(
            field,
            f"must be at most {longest} characters, not {len(cleaned)}",
            f"{longest}자 이하여야 합니다 (입력: {len(cleaned)}자)",
        )
    for character in cleaned:
        if unicodedata.category(character) in _REFUSED_CATEGORIES and not (lines and character in "\r\n\t"):
            number = f"U+{ord(character):04X}"
            raise InvalidValue(field, f"must not contain the character {number}", f"{number} 문자는 사용할 수 없습니다")
    return cleaned


def code(field: str, value: object) -> str:
    """Return `value` as a stable name: 1 to 40 of a-z and 0-9, single hyphens and dots between. Raises InvalidValue."""
    if not isinstance(value, str) or len(value) > 40 or _CODE.fullmatch(value) is None:
        raise InvalidValue(
            field,
            f"{value!r:.60} must be 1 to 40 of a-z and 0-9, with single '-' or '.' between",
            f"{value!r:.60}: a-z, 0-9 1~40자이며 사이에 '-' 또는 '.'를 하나씩 쓸 수 있습니다",
        )
    return value
