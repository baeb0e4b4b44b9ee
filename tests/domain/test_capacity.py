"""Awards against what is powered, over time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.capacity import Overcommitment, Promise, Span, Strength, Supply, lowered, overcommitted, portfolio
from quotas.domain.units import PPM

POOL = ("main", "h100")


def test_without_any_supply_there_is_nothing_to_compare_with() -> None:
    assert overcommitted(Promise(10**9, 0, 10), [], [], PPM) is None


def test_a_sum_just_at_the_limit_fits_and_one_more_does_not() -> None:
    supply = [Supply(POOL, 0, 100)]
    assert overcommitted(Promise(50, 10, 20), [Promise(50, 0, 30)], supply, PPM) is None
    assert overcommitted(Promise(51, 10, 20), [Promise(50, 0, 30)], supply, PPM) == Overcommitment(10, 101, 100)
    assert overcommitted(Promise(70, 10, 20), [Promise(50, 0, 30)], supply, 1_200_000) is None


def test_an_award_that_ends_when_the_new_one_starts_does_not_count() -> None:
    supply = [Supply(POOL, 0, 100)]
    assert overcommitted(Promise(100, 10, 20), [Promise(100, 0, 10), Promise(100, 20, 30)], supply, PPM) is None


def test_the_worst_moment_is_named() -> None:
    others = [Promise(60, 0, 15), Promise(90, 15, 20)]
    found = overcommitted(Promise(50, 10, 20), others, [Supply(POOL, 0, 100)], PPM)
    assert found == Overcommitment(15, 140, 100)


def test_a_later_phase_that_powers_less_is_seen() -> None:
    supplies = [Supply(POOL, 0, 100), Supply(("annex", "h100"), 0, 50), Supply(POOL, 15, 10)]
    found = overcommitted(Promise(120, 10, 20), [], supplies, PPM)
    assert found == Overcommitment(15, 120, 60)
    assert overcommitted(Promise(120, 10, 15), [], supplies, PPM) is None


promise = st.builds(
    lambda gflops, start, length: Promise(gflops, start, start + length),
    st.integers(1, 50),
    st.integers(0, 20),
    st.integers(1, 20),
)
supply = st.builds(
    Supply, st.sampled_from([("a", "x"), ("a", "y"), ("b", "x")]), st.integers(0, 30), st.integers(0, 90)
)


@given(
    promise,
    st.lists(promise, max_size=6),
    st.lists(supply, min_size=1, max_size=5, unique_by=lambda each: (each.key, each.from_at)),
    st.integers(1, 2 * PPM),
)
def test_it_says_what_looking_at_every_second_says(
    new: Promise, others: list[Promise], supplies: list[Supply], limit_ppm: int
) -> None:
    worst = 0
    for second in range(new.starts_at, new.ends_at):
        promised = new.gflops + sum(each.gflops for each in others if each.starts_at <= second < each.ends_at)
        newest: dict[tuple[str, str], Supply] = {}
        for each in sorted(supplies, key=lambda one: one.from_at):
            if each.from_at <= second:
                newest[each.key] = each
        powered = sum(each.gflops for each in newest.values())
        worst = max(worst, promised * PPM - powered * limit_ppm)
    found = overcommitted(new, others, supplies, limit_ppm)
    assert (0 if found is None else found.promised * PPM - found.powered * limit_ppm) == worst


def test_what_is_freed_is_promised_no_more_from_then_on() -> None:
    whole = Promise(100, 10, 30)
    assert lowered(whole, []) == [whole]
    assert lowered(whole, [(20, 40)]) == [Promise(100, 10, 20), Promise(60, 20, 30)]
    assert lowered(whole, [(25, 10), (20, 40)]) == [Promise(100, 10, 20), Promise(60, 20, 25), Promise(50, 25, 30)]
    assert lowered(whole, [(5, 40)]) == [Promise(60, 10, 30)]
    assert lowered(whole, [(20, 150), (25, 10)]) == [Promise(100, 10, 20)]
    assert lowered(whole, [(40, 50)]) == [whole]
    room = [Supply(POOL, 0, 100)]
    assert overcommitted(Promise(41, 10, 30), lowered(whole, [(10, 40)]), room, PPM) == Overcommitment(10, 101, 100)
    assert overcommitted(Promise(40, 10, 30), lowered(whole, [(10, 40)]), room, PPM) is None


@given(promise, st.lists(st.tuples(st.integers(0, 50), st.integers(1, 40)), max_size=5))
def test_the_parts_of_a_lowered_promise_follow_each_other(whole: Promise, freed: list[tuple[int, int]]) -> None:
    parts = lowered(whole, freed)
    for second in range(60):
        inside = whole.starts_at <= second < whole.ends_at
        left = whole.gflops - sum(less for at, less in freed if at <= second) if inside else 0
        assert sum(part.gflops for part in parts if part.starts_at <= second < part.ends_at) == max(left, 0)


def strength(pool: str, from_at: int, powered: int) -> Strength:
    return Strength((pool, "h100"), from_at, 2 * powered, powered, powered // 2)


def test_the_portfolio_is_cut_at_the_given_instants_and_where_a_phase_begins() -> None:
    strengths = [
        strength("hall", 0, 100),
        strength("hall", 15, 40),
        strength("cloud", 20, 10),
        strength("cloud", 99, 1),
    ]
    promises = [Promise(50, 5, 12), Promise(30, 12, 40)]
    spans = portfolio(promises, strengths, [20, 0, 10, 30], Promise(7, 25, 100))
    assert spans == [
        Span(0, 10, 50, 50, 200, 100, 50),
        Span(10, 15, 50, 50, 200, 100, 50),
        Span(15, 20, 30, 30, 80, 40, 20),
        Span(20, 30, 30, 37, 100, 50, 25),
    ]
    assert [span.promised_ppm for span in spans] == [500_000, 500_000, 750_000, 740_000]


def test_one_award_that_follows_another_is_not_promised_with_it() -> None:
    (span,) = portfolio([Promise(50, 0, 10), Promise(60, 10, 20)], [], [0, 20])
    assert (span.promised, span.promised_ppm) == (60, None)
    (span,) = portfolio([Promise(50, 0, 11), Promise(60, 10, 20)], [], [0, 20])
    assert span.promised == 110


@pytest.mark.parametrize("cuts", [[], [5], [5, 5]])
def test_no_time_has_no_portfolio(cuts: list[int]) -> None:
    assert portfolio([Promise(1, 0, 9)], [strength("hall", 0, 1)], cuts) == []


@given(
    promises=st.lists(
        st.builds(
            lambda gflops, start, length: Promise(gflops, start, start + length),
            st.integers(1, 50),
            st.integers(0, 30),
            st.integers(1, 30),
        ),
        max_size=6,
    ),
    cuts=st.lists(st.integers(0, 40), min_size=2, max_size=5, unique=True),
)
def test_the_most_that_is_promised_in_a_span_is_that_of_its_worst_moment(
    promises: list[Promise], cuts: list[int]
) -> None:
    spans = portfolio(promises, [strength("hall", 7, 9)], cuts)
    assert [span.starts_at for span in spans[1:]] == [span.ends_at for span in spans[:-1]]
    for span in spans:
        by_moment = [
            sum(each.gflops for each in promises if each.starts_at <= moment < each.ends_at)
            for moment in range(span.starts_at, span.ends_at)
        ]
        assert span.promised == max(by_moment)
        assert span.powered == (9 if span.starts_at >= 7 else 0)
