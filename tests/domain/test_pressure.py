"""Who is extended no further as devices become fewer: as many as must, at the moment from which they must."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.pressure import Held, Supply, who_ends
from quotas.domain.priorities import RANK, Holder, Priority

FOR_EVER = 10**9
CLASSES = [Priority.GUARANTEED, Priority.BORROWED, Priority.OPPORTUNISTIC]


def held(name: str, priority: Priority = Priority.GUARANTEED, *, devices: int = 1, over_at: int = FOR_EVER) -> Held:
    return Held(Holder(name, priority, 0.5, 0, devices), over_at == FOR_EVER, over_at)


def test_as_many_as_must_end_do_the_weakest_first() -> None:
    runs = [held("firm"), held("lent", Priority.BORROWED), held("idle", Priority.OPPORTUNISTIC)]
    assert who_ends(runs, [Supply(0, 3)]) == {}
    assert who_ends(runs, [Supply(0, 2)]) == {"idle": 0}
    assert who_ends(runs, [Supply(0, 3), Supply(50, 1)]) == {"idle": 50, "lent": 50}
    assert who_ends(runs, [Supply(0, 2), Supply(50, 1)]) == {"idle": 0, "lent": 50}
    assert who_ends(runs, [Supply(50, 1), Supply(0, 2)]) == {"idle": 0, "lent": 50}


def test_what_is_over_by_itself_is_not_made_up_for() -> None:
    runs = [held("batch", over_at=100), held("idle", Priority.OPPORTUNISTIC)]
    assert who_ends(runs, [Supply(100, 1)]) == {}
    assert who_ends(runs, [Supply(99, 1)]) == {"idle": 99}


def test_what_is_held_at_its_full_length_cannot_be_asked() -> None:
    runs = [held("batch", over_at=100), held("seat", over_at=80)]
    assert who_ends(runs, [Supply(50, 0)]) == {}
    assert who_ends([*runs, held("firm")], [Supply(50, -3)]) == {"firm": 50}


def test_who_has_ended_at_an_earlier_shortage_makes_room_for_a_later_one() -> None:
    runs = [held("large", Priority.BORROWED, devices=4), held("firm", devices=2)]
    assert who_ends(runs, [Supply(10, 3), Supply(20, 2), Supply(30, 1)]) == {"large": 10, "firm": 30}


@given(
    runs=st.lists(
        st.tuples(st.sampled_from(CLASSES), st.integers(1, 3), st.sampled_from([FOR_EVER, FOR_EVER, 15, 40])),
        max_size=8,
    ),
    supplies=st.lists(st.tuples(st.sampled_from([0, 10, 20, 30]), st.integers(0, 20)), max_size=4),
)
def test_wherever_enough_can_be_asked_what_goes_on_fits(
    runs: list[tuple[Priority, int, int]], supplies: list[tuple[int, int]]
) -> None:
    there = [
        held(str(number), priority, devices=devices, over_at=over_at)
        for number, (priority, devices, over_at) in enumerate(runs)
    ]
    given_supplies = [Supply(at, devices) for at, devices in dict(supplies).items()]
    ends = who_ends(there, given_supplies)
    for supply in given_supplies:
        going = [
            each for each in there if each.goes_on(supply.at) and ends.get(each.holder.run_id, FOR_EVER) > supply.at
        ]
        in_use = sum(each.holder.device_count for each in going)
        assert in_use <= supply.devices or not any(each.rolls for each in going)
    assert {each.holder.run_id for each in there if not each.rolls}.isdisjoint(ends)


@given(
    classes=st.lists(st.sampled_from(CLASSES), max_size=8),
    supplies=st.lists(st.tuples(st.sampled_from([0, 10, 20, 30]), st.integers(0, 8)), max_size=4),
)
def test_nobody_weaker_goes_on_beyond_the_end_of_someone_firmer(
    classes: list[Priority], supplies: list[tuple[int, int]]
) -> None:
    there = [held(str(number), priority) for number, priority in enumerate(classes)]
    ends = who_ends(there, [Supply(at, devices) for at, devices in dict(supplies).items()])
    last = {each.holder.run_id: ends.get(each.holder.run_id, FOR_EVER) for each in there}
    ordered = sorted(there, key=lambda each: RANK[each.holder.priority])
    for firmer, weaker in pairwise(ordered):
        if firmer.holder.priority is not weaker.holder.priority:
            assert last[firmer.holder.run_id] >= last[weaker.holder.run_id]
