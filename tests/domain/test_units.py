"""Units: what is taken as an amount, a rate or an instant, and how they are written."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain import units
from quotas.domain.units import LARGEST, InvalidValue, amount, parse_instant, parse_rate_gflops


@pytest.mark.parametrize("value", [1, 2**53 + 1, LARGEST])
def test_an_amount_is_a_positive_integer_of_the_store(value: int) -> None:
    assert amount("it", value) == value


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        LARGEST + 1,
        2**64,
        -(2**63),
        True,
        False,
        1.0,
        "1",
        None,
        Decimal(1),
        float("nan"),
        pytest.param("x" * 10**6, id="long"),
    ],
)
def test_anything_else_is_no_amount(value: object) -> None:
    with pytest.raises(InvalidValue) as caught:
        amount("budget", value)
    assert caught.value.field == "budget"
    assert str(caught.value).startswith("budget: ")
    assert caught.value.in_language("ko").startswith("budget: ")
    assert len(str(caught.value)) < 200


def test_a_number_that_cannot_be_written_out_is_no_amount() -> None:
    for number in (-(10**9999), 10**9999):
        with pytest.raises(InvalidValue, match="budget"):
            amount("budget", number)


@pytest.mark.parametrize(
    ("text", "gflops"),
    [
        ("0.08PF", 80_000),
        ("0.08 PF", 80_000),
        ("80TF", 80_000),
        ("80000 GFLOPS", 80_000),
        ("66.9 tflops", 66_900),
        ("8.85PFLOPS", 8_850_000),
        (" 1 GF ", 1),
        ("9223372036854775807GF", LARGEST),
    ],
)
def test_a_rate_is_read_in_whole_gflops(text: str, gflops: int) -> None:
    assert parse_rate_gflops("rate", text) == gflops


@pytest.mark.parametrize(
    "text",
    [
        "",
        "80",
        "PF",
        "-1PF",
        "+1PF",
        "0PF",
        "0.0000001PF",
        "0.5GF",
        "1e3PF",
        "1,000PF",
        ".5PF",
        "1.PF",
        "nanPF",
        "infPF",
        "１PF",
        "9223372036854775808GF",
        "1.00000000000000000000000000000000001PF",
        "1.000000000000001PF",
        pytest.param("9" * 5000 + "GF", id="long"),
        "1PF; DROP TABLE",
    ],
)
def test_what_is_no_rate_is_refused_not_rounded(text: str) -> None:
    with pytest.raises(InvalidValue, match="rate"):
        parse_rate_gflops("rate", text)


@given(st.integers(1, LARGEST))
def test_every_rate_of_whole_gflops_is_read_exactly(gflops: int) -> None:
    assert parse_rate_gflops("rate", f"{gflops}GF") == gflops
    assert parse_rate_gflops("rate", f"{gflops // 10**6}.{gflops % 10**6:06}PF") == gflops


def test_a_day_starts_at_midnight_in_korea() -> None:
    """00:00 KST is 15:00 UTC of the day before; Korea changes no clocks."""
    assert parse_instant("ends", "2026-12-31") == int(datetime(2026, 12, 30, 15, tzinfo=UTC).timestamp())
    assert units.show_instant(parse_instant("ends", "2026-12-31")) == "2026-12-31 00:00 KST"


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-12-31T09:00+09:00", datetime(2026, 12, 31, 0, tzinfo=UTC)),
        ("2026-12-31T00:00Z", datetime(2026, 12, 31, 0, tzinfo=UTC)),
        ("2026-12-31T09:00", datetime(2026, 12, 31, 0, tzinfo=UTC)),
        ("2028-02-29", datetime(2028, 2, 28, 15, tzinfo=UTC)),
    ],
)
def test_an_instant_is_read_in_its_zone_or_in_ours(text: str, utc: datetime) -> None:
    assert units.moment(parse_instant("at", text)) == utc


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2026-13-01",
        "2026-02-29",
        "2026-02-30",
        "31-12-2026",
        "２０２６-12-31",
        "1970-01-01",
        "9999-12-31",
        "0001-01-01",
        "9999-12-31T23:59-23:59",
        "2026-12-31T25:00",
        pytest.param("2026-12-31" * 1000, id="long"),
    ],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="ends") as caught:
        parse_instant("ends", text)
    assert len(caught.value.message_ko) < 300


@given(st.datetimes(datetime(1971, 1, 2), datetime(9998, 12, 30), timezones=st.timezones()))  # noqa: DTZ001 - bounds
def test_every_instant_that_is_read_can_be_shown(when: datetime) -> None:
    instant = parse_instant("at", when.replace(microsecond=0).isoformat())
    assert units.moment(instant) == when.replace(microsecond=0).astimezone(UTC)
    assert units.show_instant(instant).endswith(("KST", "KDT"))  # Korea had summer time in 1987 and 1988


@pytest.mark.parametrize(
    ("seconds", "english", "korean"),
    [
        (0, "0 s", "0초"),
        (59, "59 s", "59초"),
        (60, "1 min", "1분"),
        (7_800, "2 h 10 min", "2시간 10분"),
        (3_600, "1 h", "1시간"),
        (90_061, "25 h 1 min", "25시간 1분"),
        (-5, "0 s", "0초"),
    ],
)
def test_a_duration_is_written_as_people_say_it(seconds: int, english: str, korean: str) -> None:
    assert (units.show_duration(seconds), units.show_duration(seconds, "ko")) == (english, korean)


@pytest.mark.parametrize(
    ("gflops", "text"),
    [(50, "50 GF"), (999, "999 GF"), (66_900, "66.9 TF"), (8_850_000, "8.85 PF"), (10**6, "1 PF"), (10**9, "1,000 PF")],
)
def test_a_rate_is_written_in_its_largest_unit(gflops: int, text: str) -> None:
    assert units.show_rate(gflops) == text


@pytest.mark.parametrize(
    ("amount_", "text"),
    [
        (0, "0.000 TF·h"),
        (3600 * 10**6, "1.000 PF·h"),
        (2_709_640_800_000, "752.678 PF·h"),
        (1_800_000, "0.500 TF·h"),
        (-3600 * 10**6, "-1.000 PF·h"),
        (LARGEST, "2,562,047,788.015 PF·h"),
    ],
)
def test_a_budget_is_written_in_hours(amount_: int, text: str) -> None:
    assert units.show_budget(amount_) == text


@given(st.integers(0, 10**60))
def test_any_number_can_be_written(number: int) -> None:
    assert units.show_budget(number).endswith("h")
    assert units.show_rate(number)
