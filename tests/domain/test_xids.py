"""Error numbers of GPUs: whose fault each is, and that each is said in both languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from quotas.domain.xids import XIDS, Fault, xid


@pytest.mark.parametrize("number", [13, 31, 43, 45, 68, 109])
def test_what_a_program_does_wrong_takes_no_device_out_of_use(number: int) -> None:
    assert xid(number).fault is Fault.APPLICATION
    assert not xid(number).resets


@pytest.mark.parametrize("number", [48, 62, 63, 64, 74, 79, 92, 93, 94, 95, 119, 120, 121, 140])
def test_what_is_the_device_s_own(number: int) -> None:
    assert xid(number).fault is Fault.DEVICE


@pytest.mark.parametrize("number", [48, 64, 79, 95, 119, 120, 140])
def test_what_asks_for_a_reset(number: int) -> None:
    assert xid(number).resets


@pytest.mark.parametrize("number", [None, 0, -1, 999])
def test_what_is_not_in_the_table_is_of_unknown_fault(number: int | None) -> None:
    assert xid(number).fault is Fault.UNKNOWN


def test_each_number_has_its_own_words_in_both_languages() -> None:
    for number, known in XIDS.items():
        assert known.number == number
        assert known.meaning("en") == known.meaning_en
        assert known.meaning("ko") == known.meaning_ko
        assert known.meaning_en.isascii()
        assert any("가" <= character <= "힣" for character in known.meaning_ko)


def test_the_page_for_operators_has_the_same_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "devices.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.split("\n## Xids\n")[1].splitlines() if line[:3] != "|--"]
    shown = [row for row in rows if row[0].isdigit()]
    assert [row[:3] for row in shown] == [
        [str(number), known.fault.value, known.meaning_en] for number, known in sorted(XIDS.items())
    ]
    assert [row[-1] == "yes" for row in shown] == [known.resets for _, known in sorted(XIDS.items())]
