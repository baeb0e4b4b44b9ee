"""Where an award stands, and the tranches in which it is granted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.awards import (
    ALLOWED_CHANGES,
    LIVING,
    MOST_TRANCHES,
    AwardState,
    Programme,
    TrancheState,
    award_state,
    tranche_state,
    tranches,
)
from quotas.domain.projects import Award, ProjectState, Standing
from quotas.domain.units import PPM, InvalidValue

NOW, DAY = 1_800_000_000, 86_400
AWARD = Award(1000, "fp32", NOW, NOW + 100 * DAY)


@pytest.mark.parametrize(
    ("facts", "now", "expected"),
    [
        ({}, NOW - 1, AwardState.SCHEDULED),
        ({}, NOW, AwardState.ACTIVE),
        ({}, NOW + DAY - 1, AwardState.ACTIVE),
        ({}, NOW + DAY, AwardState.ENDED),
        ({"suspended_at": NOW - 5}, NOW - 1, AwardState.SUSPENDED),
        ({"suspended_at": NOW}, NOW + DAY, AwardState.ENDED),
        ({"revoked_at": NOW, "suspended_at": NOW}, NOW, AwardState.REVOKED),
        ({"revoked_at": NOW}, NOW + 2 * DAY, AwardState.REVOKED),
        ({"state": ProjectState.ENDED, "ended_at": NOW}, NOW, AwardState.ENDED),
        ({"revoked_at": NOW, "closed_at": NOW + 1}, NOW + 1, AwardState.CLOSED),
    ],
)
def test_where_an_award_stands_follows_from_its_facts(facts: dict[str, Any], now: int, expected: AwardState) -> None:
    known: dict[str, Any] = {"state": ProjectState.APPROVED, **facts}
    assert award_state(Standing(starts_at=NOW, ends_at=NOW + DAY, granted=9, available=9, **known), now) is expected


def test_what_is_over_is_closed_and_nothing_else() -> None:
    assert {state for state in AwardState if ALLOWED_CHANGES[state] <= {AwardState.CLOSED}} == set(AwardState) - LIVING


def test_a_pending_tranche_is_forfeited_once_its_award_is_over() -> None:
    for state in AwardState:
        pending = tranche_state(TrancheState.PENDING, state)
        assert pending is (TrancheState.PENDING if state in LIVING else TrancheState.FORFEITED)
        assert tranche_state(TrancheState.RELEASED, state) is TrancheState.RELEASED


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=MOST_TRANCHES), st.integers(1, 10**9))
def test_tranches_are_the_whole_budget_exactly(weights: list[int], gflops: int) -> None:
    total = sum(weights)
    shares = [weight * PPM // total for weight in weights]
    shares[-1] += PPM - sum(shares)
    award = Award(gflops, "fp32", NOW, NOW + 365 * DAY)
    try:
        first, later = tranches(award, shares)
    except InvalidValue:
        assert min(shares) == 0
        return
    assert first + sum(each.amount for each in later) == award.budget_gflops_seconds()
    assert [each.number for each in later] == list(range(2, len(shares) + 1))
    due = [each.due_at for each in later]
    assert due == sorted(due)
    assert all(award.starts_at <= each < award.ends_at for each in due)


def test_reports_are_due_when_the_earlier_tranches_are_used_up() -> None:
    first, later = tranches(AWARD, (PPM // 4, PPM // 4, PPM // 2))
    assert first == 25 * DAY * 1000
    assert [(each.amount, each.due_at) for each in later] == [
        (25 * DAY * 1000, NOW + 25 * DAY),
        (50 * DAY * 1000, NOW + 50 * DAY),
    ]


def test_without_shares_all_is_granted_at_once() -> None:
    assert tranches(AWARD, ()) == (AWARD.budget_gflops_seconds(), ())


@pytest.mark.parametrize("days", [-1, 3651, True, False])
def test_a_grace_is_a_number_of_days(days: int) -> None:
    with pytest.raises(InvalidValue, match="storage_grace_days"):
        Programme("fp32", PPM, days)
