"""Names and titles that people give."""

from __future__ import annotations

import pytest

from quotas.domain.texts import code, text
from quotas.domain.units import InvalidValue


def test_blanks_go_and_hangul_is_composed() -> None:
    decomposed = "\u1112\u1161\u11ab\u1100\u1173\u11af"
    assert text("title", f"  {decomposed} ", 10) == "한글"
    assert text("reason", "one\ntwo", 10, lines=True) == "one\ntwo"


@pytest.mark.parametrize("value", ["", "  ", "x" * 11, "a\nb", "a\x00b", "a\u202eb", "a\ud800", 5, None, ["a"]])
def test_what_is_no_title_is_refused_with_its_field(value: object) -> None:
    with pytest.raises(InvalidValue) as refused:
        text("title_ko", value, 10)
    assert refused.value.field == "title_ko"


def test_lines_may_still_hold_no_other_control_character() -> None:
    with pytest.raises(InvalidValue, match=r"U\+0007"):
        text("reason", "ring\x07", 10, lines=True)


@pytest.mark.parametrize("value", ["a", "4g", "h100-mig-1g.10gb", "x" * 40])
def test_codes(value: str) -> None:
    assert code("code", value) == value


@pytest.mark.parametrize("value", ["", "A", "a--b", "-a", "a.", "a b", "가", "x" * 41, "a\n", 1, None])
def test_what_is_no_code(value: object) -> None:
    with pytest.raises(InvalidValue):
        code("code", value)
