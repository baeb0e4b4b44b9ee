"""The table of refusals is whole, in both languages."""

from __future__ import annotations

import string

import pytest

from quotas.domain.refusals import TABLE, Code, Explanation, Refused


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_code_has_a_row() -> None:
    assert set(TABLE) == set(Code)


@pytest.mark.parametrize("code", Code)
def test_a_row_says_what_and_what_next_in_both_languages(code: Code) -> None:
    row: Explanation = TABLE[code]
    assert all((row.message_en, row.message_ko, row.next_en, row.next_ko))
    assert row.message_en.isascii()
    assert not row.message_ko.isascii()
    assert not row.next_ko.isascii()


@pytest.mark.parametrize("code", Code)
def test_both_languages_say_the_same_numbers(code: Code) -> None:
    row = TABLE[code]
    english = {name.removesuffix("_en") for name in fields(row.message_en)}
    assert english == {name.removesuffix("_ko") for name in fields(row.message_ko)}


@pytest.mark.parametrize("code", Code)
def test_a_status_says_whose_turn_it_is(code: Code) -> None:
    """Ours are 503 and 504, or a start that failed; the person's are 4xx."""
    assert TABLE[code].status in range(400, 500) or TABLE[code].status in {500, 503, 504}


def test_a_sentence_has_its_numbers_and_what_fits() -> None:
    refused = Refused(Code.RUN_ENDED, {"run": "0190"}, fits_now="cpu-small")
    assert refused.status == 409
    assert "0190" in refused.sentence("en")
    assert refused.sentence("en").endswith("Fits now: cpu-small.")
    assert refused.sentence("ko").endswith("지금 가능한 프로필: cpu-small.")
    assert refused.next_step("en") in refused.sentence("en")
