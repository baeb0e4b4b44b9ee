"""Rate cards as TOML files: what is read, and how wrong rows are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain import card_files
from quotas.domain.rates import MOST_KRW, Density, Precision, Rate, RateCard, RateRule
from quotas.domain.units import InvalidValue, parse_instant
from tests.domain.test_rate_cards import CATALOGUE

HEAD = 'effective_from = 2027-02-01\nreference_precision = "fp32"\n'
ROW = '[rates.h100]\nrule = "fact"\n'
GOOD = (
    HEAD
    + """
[rates.cpu]
rule = "assigned"
gflops = 100
reason = "코어의 출처가 없음"
approver = "operator"
krw_per_device_month = 0

[rates.h100]
rule = "fact"
krw_per_device_month = 100000

[rates.b200-1g]
rule = "fact"
approver = "operator"
"""
)


def read(content: str) -> RateCard:
    return card_files.read(content, CATALOGUE, 2)


def problems(content: str) -> dict[str, str]:
    """Return what is said of each field."""
    with pytest.raises(InvalidValue) as refused:
        read(content)
    lines = str(refused.value).splitlines()
    assert len(refused.value.in_language("ko").splitlines()) == len(lines)
    return dict(line.split(": ", 1) for line in lines)


def test_a_file_is_read_as_the_next_version() -> None:
    card = read(GOOD)
    assert (card.version, card.reference_precision, card.density) == (2, Precision.FP32, Density.DENSE)
    assert card.effective_from == parse_instant("x", "2027-02-01")
    cpu, h100, slice_ = card.rates
    assert cpu == Rate("cpu", 100, RateRule.ASSIGNED, "코어의 출처가 없음", "operator", 0)
    assert (h100.gflops, h100.rule, h100.approver, h100.krw_per_device_month) == (66_900, RateRule.FACT, None, 100_000)
    assert "glennklockwood.com" in h100.reason
    assert (slice_.gflops, slice_.approver, slice_.krw_per_device_month) == (9_121, "operator", None)


@pytest.mark.parametrize(
    ("written", "instant"),
    [
        ("2027-02-01", "2027-02-01T00:00:00+09:00"),
        ("2027-02-01T09:30:00", "2027-02-01T09:30:00+09:00"),
        ("2027-02-01T00:30:00Z", "2027-02-01T09:30:00+09:00"),
        ('"2027-02-01"', "2027-02-01T00:00:00+09:00"),
    ],
)
def test_a_day_begins_in_korea(written: str, instant: str) -> None:
    card = read(f'effective_from = {written}\nreference_precision = "fp32"\n{ROW}')
    assert card.effective_from == parse_instant("x", instant)


@pytest.mark.parametrize(
    ("content", "field", "says"),
    [
        ("", "effective_from", "is not a date"),
        ("effective_from = [", "file", "no TOML"),
        (f"x = {'9' * 5000}", "file", "no TOML"),
        (HEAD, "rates", "must have a table"),
        (HEAD + "rates = 5", "rates", "must have a table"),
        (HEAD + "rate = 5\n" + ROW, "rate", "allowed: version, effective_from"),
        ("effective_from = 5\n" + ROW, "effective_from", "is not a date"),
        ("effective_from = 1969-01-01\n" + ROW, "effective_from", "is not a date"),
        ('effective_from = 2027-02-01\nreference_precision = "fp31"\n' + ROW, "reference_precision", "fp64-tensor"),
        ("version = 3\n" + HEAD + ROW, "version", "must be 2"),
        ("version = true\n" + HEAD + ROW, "version", "must be 2"),
        ('density = "half"\n' + HEAD + ROW, "density", "dense, sparse"),
        ('density = "sparse"\n' + HEAD + ROW, "rates.h100.rule", r"no source states fp32 (sparse)"),
        (HEAD + "[rates.h900]\nrule = 'fact'", "rates.h900", "there are: cpu, h100"),
        (HEAD + "[rates]\nh100 = 5", "rates.h100", "must be a table"),
        (HEAD + "[rates.h100]", "rates.h100.rule", "must be one of fact, assigned"),
        (HEAD + "[rates.h100]\nrule = ['fact']", "rates.h100.rule", "must be one of fact, assigned"),
        (HEAD + ROW + "price = 5", "rates.h100.price", "allowed: rule, source, gflops"),
        (HEAD + ROW + "reason = 'x'", "rates.h100.reason", "is no key here"),
        (HEAD + ROW + "gflops = 66901", "rates.h100.gflops", "the fact gives 66900"),
        (HEAD + ROW + "source = 'my own'", "rates.h100.source", "must be one of: NVIDIA H100 data sheet"),
        (HEAD + ROW + "approver = ''", "rates.h100.approver", "empty"),
        (HEAD + ROW + "krw_per_device_month = -1", "rates.h100.krw_per_device_month", "from 0 to"),
        (HEAD + ROW + "krw_per_device_month = 0.5", "rates.h100.krw_per_device_month", "from 0 to"),
        (HEAD + ROW + f"krw_per_device_month = {MOST_KRW + 1}", "rates.h100.krw_per_device_month", "from 0 to"),
        (HEAD + ROW + "krw_per_device_month = 18446744073709551616", "rates.h100.krw_per_device_month", "from 0"),
        (HEAD + ROW + "krw_per_device_month = true", "rates.h100.krw_per_device_month", "from 0 to"),
        (HEAD + "[rates.rngd]\nrule = 'fact'", "rates.rngd.rule", "it must be assigned"),
        (HEAD + "[rates.cpu]\nrule = 'fact'", "rates.cpu.rule", "it must be assigned"),
        (HEAD + "[rates.bow]\nrule = 'fact'", "rates.bow.approver", "is unverified"),
        (HEAD + "[rates.cpu]\nrule = 'assigned'", "rates.cpu.gflops", "must be given"),
        (HEAD + "[rates.cpu]\nrule = 'assigned'\ngflops = 0", "rates.cpu.gflops", "from 1"),
        (HEAD + "[rates.cpu]\nrule = 'assigned'\ngflops = 9223372036854775808", "rates.cpu.gflops", "from 1"),
        (HEAD + "[rates.cpu]\nrule = 'assigned'\ngflops = 5", "rates.cpu.approver", "who approves"),
        (HEAD + "[rates.cpu]\nrule = 'assigned'\ngflops = 5\napprover = 'o'", "rates.cpu.reason", "empty"),
        (
            HEAD + "[rates.cpu]\nrule = 'assigned'\ngflops = 5\napprover = 'o'\nreason = 'r'\nkrw_per_device_month = 9",
            "rates.cpu.krw_per_device_month",
            "has no device",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_field_and_what_is_allowed(content: str, field: str, says: str) -> None:
    assert says in problems(content)[field]


def test_all_wrong_rows_are_told_at_once() -> None:
    content = "version = 7\n" + HEAD.replace("fp32", "fp") + "[rates.h900]\n[rates.h100]\nrule = 'x'\n[rates.cpu]\n"
    fields = ["version", "reference_precision", "rates.h900", "rates.h100.rule", "rates.cpu.rule"]
    assert list(problems(content)) == fields


def test_a_file_of_a_million_characters_is_not_read() -> None:
    with pytest.raises(InvalidValue, match="at most 1,000,000 characters"):
        read(GOOD + "#" * card_files.MOST_CHARACTERS)


def test_a_card_is_written_as_a_file_that_reads_as_itself() -> None:
    card = read(GOOD)
    assert read(card_files.write(card)) == card


@given(st.text(max_size=200))
def test_no_text_is_taken_for_a_card_or_ends_in_anything_but_a_refusal(content: str) -> None:
    with pytest.raises(InvalidValue):
        read(content)
