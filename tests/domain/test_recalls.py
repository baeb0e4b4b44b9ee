"""Months, shares and what follows from them; which steps a recall may take."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain import recall_texts
from quotas.domain.months import Month
from quotas.domain.recalls import (
    ALLOWED_CHANGES,
    CLOSED,
    DECIDABLE,
    Decision,
    Excuse,
    Grant,
    MonthOfAward,
    Ran,
    RecallPolicy,
    RecallState,
    Standing,
    assess,
    change_state,
    check_decision,
    expected,
    freed_gflops,
    used,
)
from quotas.domain.units import DAY_SECONDS as DAY
from quotas.domain.units import PPM, InvalidValue

JANUARY, FEBRUARY, MARCH = Month(2027, 1), Month(2027, 2), Month(2027, 3)
YEAR = (JANUARY.starts_at, Month(2028, 1).starts_at)
POLICY = RecallPolicy()


def months(*each: tuple[int, int], **changes: object) -> list[MonthOfAward]:
    return [MonthOfAward(JANUARY.plus(index), *both, **changes) for index, both in enumerate(each)]  # type: ignore[arg-type]


def test_a_budget_is_spread_evenly_over_the_award() -> None:
    whole = [Grant(365 * 1000, YEAR[0] - DAY)]
    assert expected(whole, *YEAR, JANUARY) == 31_000
    assert expected(whole, *YEAR, FEBRUARY) == 28_000
    assert sum(expected(whole, *YEAR, JANUARY.plus(number)) for number in range(12)) == 365_000
    assert expected(whole, *YEAR, Month(2028, 1)) == 0
    assert expected(whole, *YEAR, Month(2026, 12)) == 0


def test_a_supplement_counts_from_when_it_was_granted_and_what_was_taken_back_no_more() -> None:
    first = Grant(365_000, YEAR[0])
    left = (YEAR[1] - FEBRUARY.starts_at) // DAY
    supplement = Grant(left * 500, FEBRUARY.starts_at)
    assert expected([first, supplement], *YEAR, JANUARY) == 31_000
    assert expected([first, supplement], *YEAR, FEBRUARY) == 28_000 + 28 * 500
    recalled = Grant(-left * 400, FEBRUARY.starts_at)
    assert expected([first, recalled], *YEAR, JANUARY) == 31_000
    assert expected([first, recalled], *YEAR, FEBRUARY) == 28_000 - 28 * 400
    assert expected([first, Grant(-2 * left * 1000, FEBRUARY.starts_at)], *YEAR, FEBRUARY) == 0


def test_use_is_split_at_the_months_bounds() -> None:
    over = Ran(10, FEBRUARY.starts_at - 100, 150)
    assert used([over], JANUARY) == 1000
    assert used([over], FEBRUARY) == 500
    assert used([over], MARCH) == 0
    whole = Ran(1, JANUARY.starts_at - DAY, 100 * DAY)
    assert used([over, whole], FEBRUARY) == 500 + 28 * DAY


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 80 * DAY), st.integers(1, 70 * DAY)), max_size=8))
def test_no_second_of_a_run_is_lost_or_counted_twice(given: list[tuple[int, int, int]]) -> None:
    ran = [Ran(gflops, JANUARY.starts_at + start, seconds) for gflops, start, seconds in given]
    assert sum(used(ran, JANUARY.plus(number)) for number in range(6)) == sum(run.gflops * run.seconds for run in ran)


def test_half_of_what_two_months_left_unused_is_proposed() -> None:
    found = assess(months((10, 100), (29, 100)), POLICY, 10**9, is_course=False)
    assert (found.standing, found.amount) == (Standing.PROPOSED, (90 + 71) // 2)


@pytest.mark.parametrize(("use", "standing"), [(29, Standing.PROPOSED), (30, Standing.USED), (100, Standing.USED)])
def test_a_month_at_the_threshold_is_used_enough(use: int, standing: Standing) -> None:
    assert assess(months((0, 100), (use, 100)), POLICY, 10**9, is_course=False).standing is standing
    assert assess(months((use, 100), (0, 100)), POLICY, 10**9, is_course=False).standing is standing


@pytest.mark.parametrize("excuse", list(Excuse))
def test_a_month_with_an_excuse_does_not_count(excuse: Excuse) -> None:
    row = [*months((0, 100)), MonthOfAward(FEBRUARY, 0, 100, excuse)]
    assert assess(row, POLICY, 10**9, is_course=False).standing is Standing.EXCUSED


def test_courses_are_exempt_where_the_operator_says_so() -> None:
    row = months((0, 100), (0, 100))
    assert assess(row, POLICY, 10**9, is_course=True).standing is Standing.EXEMPT
    counted = assess(row, RecallPolicy(exempt_courses=False), 10**9, is_course=True)
    assert counted.standing is Standing.PROPOSED


def test_no_more_is_proposed_than_is_available() -> None:
    row = months((0, 100), (0, 100))
    assert assess(row, POLICY, 40, is_course=False).amount == 40
    for nothing in (0, -5):
        found = assess(row, POLICY, nothing, is_course=False)
        assert (found.standing, found.amount) == (Standing.NOTHING_LEFT, 0)


def test_a_month_that_was_counted_before_is_not_taken_twice() -> None:
    row = [MonthOfAward(JANUARY, 0, 100, counted_before=True), MonthOfAward(FEBRUARY, 0, 100)]
    assert assess(row, POLICY, 10**9, is_course=False).amount == 50
    both = [MonthOfAward(month, 0, 100, counted_before=True) for month in (JANUARY, FEBRUARY)]
    assert assess(both, POLICY, 10**9, is_course=False).standing is Standing.NOTHING_LEFT


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)), min_size=1, max_size=4),
    st.integers(0, PPM),
    st.integers(1, PPM),
    st.integers(-10, 10**7),
)
def test_a_proposal_is_never_more_than_is_unused_or_available(
    each: list[tuple[int, int]], threshold: int, share: int, takeable: int
) -> None:
    policy = RecallPolicy(threshold_ppm=threshold, share_ppm=share)
    found = assess(months(*each), policy, takeable, is_course=False)
    assert 0 <= found.amount <= max(takeable, 0)
    assert found.amount <= sum(max(expected - use, 0) for use, expected in each)
    if found.amount:
        assert all(use * PPM < expected * threshold for use, expected in each)


def test_what_is_freed_is_what_the_amount_came_to_until_the_end() -> None:
    assert freed_gflops(1000 * DAY, PPM, 10**6, 100 * DAY, 90 * DAY) == 100
    assert freed_gflops(1000 * DAY, PPM // 2, 10**6, 100 * DAY, 90 * DAY) == 200
    assert freed_gflops(1000 * DAY, PPM, 60, 100 * DAY, 90 * DAY) == 60
    assert freed_gflops(1000 * DAY, PPM, -5, 100 * DAY, 90 * DAY) == 0
    assert freed_gflops(1000 * DAY, PPM, 10**6, 100 * DAY, 100 * DAY) == 0
    assert freed_gflops(999, PPM, 10**6, 1000, 0) == 0


@pytest.mark.parametrize(("old", "new"), list(product(RecallState, repeat=2)))
def test_only_the_listed_changes_are_allowed(old: RecallState, new: RecallState) -> None:
    if new in ALLOWED_CHANGES[old]:
        assert change_state(3, old, new) is new
        return
    with pytest.raises(InvalidValue) as refused:
        change_state(3, old, new)
    assert refused.value.field == "recall"
    for allowed in ALLOWED_CHANGES[old] or {"nothing"}:
        assert allowed in refused.value.message_en


def test_what_is_closed_stays_closed() -> None:
    assert {RecallState.EXECUTED, RecallState.WITHDRAWN, RecallState.LAPSED} == CLOSED


def test_nothing_is_executed_before_it_was_told_and_its_time_for_objections_over() -> None:
    before = {old for old, allowed in ALLOWED_CHANGES.items() if RecallState.EXECUTED in allowed}
    assert before == {RecallState.DUE}
    before = {old for old, allowed in ALLOWED_CHANGES.items() if RecallState.DUE in allowed}
    assert before == {RecallState.NOTIFIED, RecallState.OBJECTED}


@pytest.mark.parametrize(("state", "decision"), list(product(RecallState, Decision)))
def test_a_decision_leads_where_the_table_allows_or_is_refused(state: RecallState, decision: Decision) -> None:
    if state in DECIDABLE[decision]:
        assert check_decision(3, state, decision) in ALLOWED_CHANGES[state]
        return
    with pytest.raises(InvalidValue) as refused:
        check_decision(3, state, decision)
    assert refused.value.field == "decision"
    possible = [each for each, states in DECIDABLE.items() if state in states]
    assert all(each in refused.value.message_en for each in possible or ["nothing"])


@pytest.mark.parametrize("language", [0, 1])
def test_texts_say_numbers_and_dates_with_their_zone(language: int) -> None:
    of = recall_texts.Of(7, "vision", 3_600_000 * 50)
    told = recall_texts.notified(of, [("2027-01", 3_600_000, 36_000_000)], JANUARY.ends_at)[language]
    for part in ("vision", "50.000 TF·h", "2027-01", "1.000 TF·h", "10.000 TF·h", "10.0 %", "2027-02-01 00:00 KST"):
        assert part in told
    assert "because" in recall_texts.objected(of, "ada", "because")[language]
    for decision in Decision:
        assert "a reason" in recall_texts.decided(of, decision, "a reason")[language]
    executed = recall_texts.executed(of, 1_500, 3_600_000)[language]
    for part in ("50.000 TF·h", "1.000 TF·h", "1.5 TF"):
        assert part in executed
