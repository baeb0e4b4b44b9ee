"""A run's seconds, what is left of it, and its identity."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.policy import Policy
from quotas.domain.runs import (
    ALLOWED_CHANGES,
    Limit,
    Reach,
    RunState,
    TimeLeft,
    charged_seconds,
    new_run_id,
    time_left,
)

NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("used", "seconds"), [(0, 1), (0.000001, 1), (0.4, 1), (1, 1), (1.000001, 2), (59.99, 60), (60, 60), (-5, 1)]
)
def test_time_is_charged_in_whole_seconds_rounded_up_and_at_least_one(used: float, seconds: int) -> None:
    assert charged_seconds(float(NOW), NOW + used) == seconds


@given(st.integers(NOW * 10**6, (NOW + 10**9) * 10**6), st.integers(1, 10**7))
def test_whole_seconds_cost_no_second_more_by_a_floats_last_digit(start: int, seconds: int) -> None:
    assert charged_seconds(start / 10**6, start / 10**6 + seconds) == seconds


@given(st.floats(NOW, 2 * NOW), st.floats(NOW, 2 * NOW), st.floats(NOW, 2 * NOW))
def test_a_longer_run_never_costs_less(start: float, one: float, other: float) -> None:
    shorter, longer = sorted((one, other))
    assert charged_seconds(start, shorter) <= charged_seconds(start, longer)


def test_time_left_is_what_the_balance_buys() -> None:
    assert time_left(Reach(NOW + 100, NOW + 10_000), 999, 10, NOW) == TimeLeft(199, Limit.BUDGET)
    assert time_left(Reach(NOW + 100, NOW + 150), 999, 10, NOW) == TimeLeft(150, Limit.AWARD_END)
    assert time_left(Reach(NOW + 100, NOW + 199), 999, 10, NOW) == TimeLeft(199, Limit.AWARD_END)
    assert time_left(Reach(NOW - 50, NOW + 10_000), 0, 10, NOW) == TimeLeft(0, Limit.BUDGET)
    assert time_left(Reach(NOW, NOW - 1), 10**9, 10, NOW) == TimeLeft(0, Limit.AWARD_END)
    ends = (NOW + 60, Limit.PREEMPTED), (NOW + 60, Limit.CAPACITY)
    assert time_left(Reach(NOW + 100, NOW + 150, ends), 999, 10, NOW) == TimeLeft(60, Limit.PREEMPTED)


def test_run_ids_are_new_uuids_in_the_order_of_time() -> None:
    ids = [new_run_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {uuid.UUID(each).version for each in ids} == {7}
    assert {uuid.UUID(each).variant for each in ids} == {uuid.RFC_4122}
    milliseconds = [uuid.UUID(each).int >> 80 for each in ids]
    assert milliseconds == sorted(milliseconds)


def test_a_state_never_comes_back() -> None:
    reached: set[RunState] = set()
    for state in (RunState.SETTLED, RunState.RUNNING, RunState.HELD):
        assert ALLOWED_CHANGES[state] <= reached
        reached.add(state)


def test_the_windows_leave_room_to_warn_and_to_stop() -> None:
    policy = Policy()
    assert policy.stop_margin < policy.minimum < policy.extend_below < policy.hold
