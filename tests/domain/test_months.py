"""Months in the centre's zone, as they are typed."""

from __future__ import annotations

import pytest

from quotas.domain.months import Month, begun_month, ended_month, month_of
from quotas.domain.units import InvalidValue, parse_instant

NOW = parse_instant("now", "2026-11-21T09:00+09:00")


def test_a_month_begins_at_midnight_in_korea() -> None:
    november = Month(2026, 11)
    assert november.starts_at == parse_instant("at", "2026-10-31T15:00:00Z")
    assert november.ends_at == parse_instant("at", "2026-12-01") == Month(2026, 12).starts_at
    assert month_of(november.starts_at) == november == month_of(november.ends_at - 1)
    assert month_of(november.starts_at - 1) == november.plus(-1) == Month(2026, 10)
    assert Month(2026, 12).plus(1) == Month(2027, 1)
    assert str(Month(2026, 3)) == "2026-03"


def test_a_month_that_has_begun_can_be_named_and_a_future_one_not() -> None:
    assert begun_month("month", "2026-11", NOW) == Month(2026, 11)
    assert begun_month("month", "1999-01", NOW) == Month(1999, 1)
    with pytest.raises(
        InvalidValue, match=r"month: 2026-12 is in the future.*allowed is 2026-11 or an earlier"
    ) as told:
        begun_month("month", "2026-12", NOW)
    assert "2026-11 또는 그 이전" in told.value.in_language("ko")


def test_a_month_that_is_over_can_be_named_and_the_present_one_not() -> None:
    assert ended_month("month", "2026-10", NOW) == Month(2026, 10)
    with pytest.raises(InvalidValue, match="allowed is 2026-10 or an earlier"):
        ended_month("month", "2026-11", NOW)


@pytest.mark.parametrize(
    "text", ["", "2026", "2026-13", "2026-00", "26-11", "2026-11-01", "２０２６-11", "1970-01", "x"]
)
def test_what_is_no_month_is_refused_with_an_example(text: str) -> None:
    for read in (begun_month, ended_month):
        with pytest.raises(InvalidValue, match=r"^month: .* is no month; write one as in 2026-1"):
            read("month", text, NOW)
