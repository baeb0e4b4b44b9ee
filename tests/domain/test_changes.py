"""What a change of an award needs, and what it comes to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.capacity import Promise
from quotas.domain.changes import Change, ChangeKind, Terms, effect, mean_gflops
from quotas.domain.projects import Award
from quotas.domain.units import LARGEST, PPM, InvalidValue

START, DAY = 1_800_000_000, 86_400
END = START + 10 * DAY
AWARD = Award(1000, "fp32", START, END, 2 * PPM, PPM // 2)
TERMS = Terms(AWARD, 0, 500)
NOW = START + 5 * DAY


@pytest.mark.parametrize(
    ("kind", "values", "field"),
    [
        (ChangeKind.SUPPLEMENT, {}, "rate"),
        (ChangeKind.REDUCTION, {}, "rate"),
        (ChangeKind.SUPPLEMENT, {"gflops": 0}, "rate"),
        (ChangeKind.SUPPLEMENT, {"amount": -1}, "budget"),
        (ChangeKind.SUPPLEMENT, {"amount": LARGEST + 1}, "budget"),
        (ChangeKind.SUPPLEMENT, {"gflops": True}, "rate"),
        (ChangeKind.SUPPLEMENT, {"gflops": 1, "ends_at": END}, "until"),
        (ChangeKind.REDUCTION, {"gflops": 1, "to_project": "a"}, "to"),
        (ChangeKind.EXTENSION, {}, "until"),
        (ChangeKind.EXTENSION, {"ends_at": END, "gflops": 5}, "rate"),
        (ChangeKind.MOVE, {"amount": 5}, "to"),
        (ChangeKind.MOVE, {"to_project": "a"}, "budget"),
        (ChangeKind.MOVE, {"to_project": "a", "amount": 5, "gflops": 5}, "rate"),
    ],
)
def test_a_change_has_what_its_kind_needs_and_nothing_else(
    kind: ChangeKind, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidValue) as caught:
        Change(kind, **values)
    assert caught.value.field == field


def test_more_rate_brings_the_budget_of_the_time_that_is_left() -> None:
    found = effect(Change(ChangeKind.SUPPLEMENT, gflops=100), TERMS, NOW)
    assert (found.award, found.amount) == (replace(AWARD, gflops=1100), 100 * 5 * DAY // 2)
    assert (found.extra_gflops, found.promises) == (0, (Promise(100, NOW, END),))


def test_before_the_start_the_time_that_is_left_is_the_awards() -> None:
    found = effect(Change(ChangeKind.SUPPLEMENT, gflops=100), TERMS, START - 50 * DAY)
    assert (found.amount, found.promises) == (100 * 10 * DAY // 2, (Promise(100, START, END),))


def test_budget_alone_is_promised_as_the_rate_that_uses_it_up() -> None:
    found = effect(Change(ChangeKind.SUPPLEMENT, amount=5 * DAY + 1), TERMS, NOW)
    assert (found.award, found.amount, found.extra_gflops) == (AWARD, 5 * DAY + 1, 2)
    assert found.promises == (Promise(2, NOW, END),)


def test_budget_within_a_new_rate_is_promised_by_it() -> None:
    found = effect(Change(ChangeKind.SUPPLEMENT, gflops=100, amount=7), TERMS, NOW)
    assert (found.amount, found.extra_gflops, found.promises) == (7, 0, (Promise(100, NOW, END),))


def test_a_supplement_of_too_little_to_count_is_refused() -> None:
    with pytest.raises(InvalidValue, match="budget"):
        effect(Change(ChangeKind.SUPPLEMENT, gflops=1), TERMS, END - 1)


def test_an_extension_promises_the_rate_of_the_added_time() -> None:
    found = effect(Change(ChangeKind.EXTENSION, ends_at=END + DAY), replace(TERMS, extra_gflops=7), NOW)
    assert (found.award, found.amount) == (replace(AWARD, ends_at=END + DAY), 0)
    assert (found.extra_gflops, found.promises) == (7, (Promise(1007, END, END + DAY),))


def test_budget_beyond_the_added_time_is_promised_from_now_on() -> None:
    more = 1000 * DAY // 2 + 6 * DAY
    found = effect(Change(ChangeKind.EXTENSION, ends_at=END + DAY, amount=more), TERMS, NOW)
    assert (found.amount, found.extra_gflops) == (more, 1)
    assert found.promises == (Promise(1, NOW, END), Promise(1001, END, END + DAY))


@pytest.mark.parametrize(("amount", "gflops"), [(500, None), (None, 999), (500, 999)])
def test_a_reduction_leaves_what_is_spent_and_held(amount: int | None, gflops: int | None) -> None:
    found = effect(Change(ChangeKind.REDUCTION, gflops, amount), TERMS, NOW)
    assert (found.award.gflops, found.amount, found.promises) == (1000 - (gflops or 0), amount or 0, ())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (Change(ChangeKind.REDUCTION, amount=501), "budget"),
        (Change(ChangeKind.REDUCTION, gflops=1000), "rate"),
        (Change(ChangeKind.MOVE, amount=501, to_project="a"), "budget"),
        (Change(ChangeKind.EXTENSION, ends_at=END), "until"),
        (Change(ChangeKind.SUPPLEMENT, gflops=LARGEST), "budget"),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(change: Change, field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        effect(change, TERMS, NOW)
    assert caught.value.field == field


@given(st.integers(0, LARGEST), st.integers(1, 10**10))
def test_a_mean_rate_never_understates(budget: int, seconds: int) -> None:
    rate = mean_gflops(budget, seconds)
    assert (rate - 1) * seconds < budget <= rate * seconds or budget == rate == 0
