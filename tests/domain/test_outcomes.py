"""When a report is overdue, and of what it may tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.outcomes import Period, ReportState, check_period, is_overdue
from quotas.domain.units import InvalidValue

AWARD = Period(1_000_000, 2_000_000)
TIMES = st.integers(900_000, 2_100_000)


@pytest.mark.parametrize("state", ReportState)
def test_overdue_is_what_the_project_has_not_handed_in(state: ReportState) -> None:
    late = state in {ReportState.DUE, ReportState.DRAFT, ReportState.RETURNED}
    assert [is_overdue(state, 100, now) for now in (99, 100)] == [False, late]


@given(TIMES, TIMES, TIMES, st.lists(st.tuples(TIMES, st.integers(1, 50_000)), max_size=3))
def test_a_period_is_taken_only_if_it_is_past_of_its_award_and_not_told_of(
    starts_at: int, ends_at: int, now: int, told: list[tuple[int, int]]
) -> None:
    verified = [Period(start, start + length) for start, length in told]
    period = Period(starts_at, ends_at)
    fits = AWARD.starts_at <= starts_at < ends_at <= min(now, AWARD.ends_at)
    if fits and not any(period.overlaps(other) for other in verified):
        check_period(period, AWARD, verified, now)
        return
    with pytest.raises(InvalidValue) as refused:
        check_period(period, AWARD, verified, now)
    assert refused.value.field in {"from", "to"}
    assert refused.value.message_ko


@given(*[st.integers(0, 30)] * 4)
def test_an_overlap_is_a_second_that_both_have(first: int, first_end: int, second: int, second_end: int) -> None:
    one, other = Period(first, first + first_end + 1), Period(second, second + second_end + 1)
    shared = set(range(one.starts_at, one.ends_at)) & set(range(other.starts_at, other.ends_at))
    assert one.overlaps(other) is other.overlaps(one) is bool(shared)


def test_neighbours_do_not_overlap() -> None:
    assert not Period(10, 20).overlaps(Period(20, 30))
    assert Period(10, 21).overlaps(Period(20, 30))
    assert Period(10, 40).overlaps(Period(20, 30))


@pytest.mark.parametrize(
    ("period", "message"),
    [
        (Period(999_999, 1_500_000), "from: must be at or after the award's start, 1970-01-12 22:46 KST, and before"),
        (Period(1_600_000, 1_700_000), "and before 1970-01-19 21:26 KST"),
        (
            Period(1_100_000, 1_600_060),
            "to: a report tells of the past: at most 1970-01-19 21:26 KST, not 1970-01-19 21:27",
        ),
        (Period(1_100_000, 1_100_000), "to: must be after 1970-01-14 02:33 KST"),
    ],
)
def test_a_refusal_names_the_field_and_what_is_allowed(period: Period, message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        check_period(period, AWARD, (), 1_600_000)
