"""Who gives way: the stated order, nobody in vain, and always the same ones."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.priorities import (
    RANK,
    Holder,
    Place,
    Priority,
    gives_way_before,
    rates_of,
    where_fewest_give_way,
    who_gives_way,
)

HOLDERS = st.lists(
    st.builds(
        Holder,
        st.uuids().map(str),
        st.sampled_from(list(Priority)),
        st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        st.integers(0, 5),
        st.integers(1, 4),
        st.booleans(),
    ),
    max_size=9,
    unique_by=lambda holder: holder.run_id,
)


def holder(name: str, priority: Priority = Priority.BORROWED, **known: object) -> Holder:
    return Holder(name, **{"priority": priority, "fair_share": 0.5, "started_at": 0, "device_count": 1, **known})


@given(chance=st.randoms(use_true_random=False))
def test_the_order_is_class_then_told_then_share_then_start(chance: Random) -> None:
    ordered = [
        holder("told, idle", Priority.OPPORTUNISTIC, fair_share=0.9, asked=True),
        holder("idle, used much", Priority.OPPORTUNISTIC, fair_share=0.1),
        holder("idle, began last", Priority.OPPORTUNISTIC, started_at=9),
        holder("idle, by its name", Priority.OPPORTUNISTIC, started_at=8),
        holder("idle, its neighbour", Priority.OPPORTUNISTIC, started_at=8),
        holder("borrowed", fair_share=0.0),
        holder("guaranteed", Priority.GUARANTEED, fair_share=0.0),
        holder("reserved", Priority.RESERVED, fair_share=0.0),
    ]
    assert sorted(chance.sample(ordered, len(ordered)), key=gives_way_before) == ordered


@given(holders=HOLDERS, needed=st.integers(-2, 30))
def test_enough_come_free_and_nobody_goes_in_vain(holders: list[Holder], needed: int) -> None:
    chosen = who_gives_way(needed, holders)
    if chosen is None:
        assert sum(each.device_count for each in holders) < needed
        return
    freed = sum(each.device_count for each in chosen)
    assert freed >= needed
    assert all(freed - each.device_count < needed for each in chosen), "one of them need not have gone"
    assert len({each.run_id for each in chosen}) == len(chosen)


@given(holders=HOLDERS, needed=st.integers(1, 30))
def test_no_firmer_class_goes_where_the_weaker_ones_are_enough(holders: list[Holder], needed: int) -> None:
    chosen = who_gives_way(needed, holders)
    if not chosen:
        return
    firmest = min(RANK[each.priority] for each in chosen)
    weaker = [each for each in holders if RANK[each.priority] > firmest]
    assert sum(each.device_count for each in weaker) < needed


@given(holders=HOLDERS, needed=st.integers(1, 12), chance=st.randoms(use_true_random=False))
def test_it_does_not_matter_in_which_order_they_are_found(holders: list[Holder], needed: int, chance: Random) -> None:
    assert who_gives_way(needed, chance.sample(holders, len(holders))) == who_gives_way(needed, holders)


@given(holders=HOLDERS, needed=st.integers(1, 9))
def test_of_equal_sizes_just_the_first_in_the_order_go(holders: list[Holder], needed: int) -> None:
    single = [Holder(h.run_id, h.priority, h.fair_share, h.started_at, 1, h.asked) for h in holders]
    chosen = who_gives_way(needed, single)
    assert chosen is None or list(chosen) == sorted(single, key=gives_way_before)[:needed]


@given(holders=HOLDERS, needed=st.integers(1, 9))
def test_who_was_told_already_stays_the_one_who_goes(holders: list[Holder], needed: int) -> None:
    """Whoever is chosen and told is chosen again while the shares of the others of their class move."""
    single = [Holder(h.run_id, Priority.BORROWED, h.fair_share, h.started_at, 1) for h in holders]
    chosen = who_gives_way(needed, single)
    if chosen is None:
        return
    told = {each.run_id for each in chosen}
    later = [Holder(h.run_id, h.priority, 1 - h.fair_share, h.started_at, 1, h.run_id in told) for h in single]
    assert {each.run_id for each in who_gives_way(needed, later) or ()} == told


def test_one_large_run_is_enough_where_small_ones_would_go_in_vain() -> None:
    small = [holder(f"s{number}", started_at=9) for number in range(2)]
    large = holder("large", device_count=4)
    assert who_gives_way(4, [*small, large]) == (large,)
    assert who_gives_way(2, [*small, large]) == tuple(small)


def test_nothing_is_asked_for_where_nothing_is_needed() -> None:
    assert who_gives_way(0, [holder("a")]) == ()
    assert who_gives_way(1, []) is None


def brute_force(places: list[Place]) -> int | None:
    """Return the least number of runs with which any one place has enough, by trying all."""
    best = None
    for place in places:
        for size in range(len(place.holders) + 1):
            if any(
                sum(each.device_count for each in group) >= place.needed
                for group in combinations(sorted(place.holders, key=gives_way_before), size)
            ):
                best = size if best is None else min(best, size)
                break
    return best


@given(sizes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=4))
def test_of_pools_with_runs_of_one_device_it_is_the_one_where_fewest_go(sizes: list[tuple[int, int]]) -> None:
    places = [
        Place(number, needed, tuple(holder(f"{number}-{index}") for index in range(count)))
        for number, (needed, count) in enumerate(sizes)
    ]
    found = where_fewest_give_way(places)
    least = brute_force(places)
    assert (None if found is None else len(found[1])) == least


def test_what_has_begun_in_a_pool_goes_on_there() -> None:
    begun = Place(2, 2, (holder("a"), holder("b")), begun=True)
    other = Place(1, 1, (holder("c"),))
    assert where_fewest_give_way([other, begun]) == (2, begun.holders)
    hopeless = Place(2, 3, begun.holders, begun=True)
    assert where_fewest_give_way([other, hopeless]) == (1, other.holders)


def test_of_pools_alike_it_is_the_one_whose_runs_go_first_by_the_order() -> None:
    firm, weak = holder("firm"), holder("weak", Priority.OPPORTUNISTIC)
    assert where_fewest_give_way([Place(1, 1, (firm,)), Place(2, 1, (weak,))]) == (2, (weak,))
    assert where_fewest_give_way([]) is None


@pytest.mark.parametrize(
    ("priority", "rates"),
    [
        (Priority.RESERVED, (0, 0)),
        (Priority.GUARANTEED, (7, 0)),
        (Priority.BORROWED, (0, 7)),
        (Priority.OPPORTUNISTIC, (0, 7)),
    ],
)
def test_what_a_class_counts_against(priority: Priority, rates: tuple[int, int]) -> None:
    assert rates_of(priority, 7) == rates
