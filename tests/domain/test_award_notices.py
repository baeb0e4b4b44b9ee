"""Which mark of an award is told when: once, the most urgent of those that were passed, never of one that is over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.award_notices import MARKS, Due, Topic, Watched, due, next_look, texts
from quotas.domain.units import DAY_SECONDS as DAY

START = 1_800_000_000
END = START + 365 * DAY
GRANTED = 1_000_000
AWARD = Watched("vision", START, END, stopped=False, granted=GRANTED, available=GRANTED)
MIDDLE = START + 100 * DAY


def used(share: float, granted: int = GRANTED) -> Watched:
    return replace(AWARD, granted=granted, available=granted - int(granted * share))


def told(*given: Due) -> dict[tuple[Topic, int], frozenset[int]]:
    found: dict[tuple[Topic, int], frozenset[int]] = {}
    for each in given:
        found[each.topic, each.about] = found.get((each.topic, each.about), frozenset()) | {each.mark}
    return found


@pytest.mark.parametrize(
    ("share", "mark"),
    [(0, None), (0.799999, None), (0.8, 800_000), (0.899999, 800_000), (0.9, 900_000), (0.95, 950_000), (1, 950_000)],
)
def test_the_most_urgent_share_that_was_passed_is_told(share: float, mark: int | None) -> None:
    found = due(used(share), {}, MIDDLE)
    assert found == ([] if mark is None else [Due(Topic.BUDGET, GRANTED, mark)])


def test_a_share_is_told_once_and_no_lesser_one_after_it() -> None:
    first = Due(Topic.BUDGET, GRANTED, 900_000)
    assert due(used(0.91), told(first), MIDDLE) == []
    assert due(used(0.85), told(first), MIDDLE) == []
    assert due(used(0.96), told(first), MIDDLE) == [Due(Topic.BUDGET, GRANTED, 950_000)]


def test_a_supplement_makes_a_new_sum_and_taking_it_back_tells_nothing_again() -> None:
    before = told(Due(Topic.BUDGET, GRANTED, 800_000))
    larger = used(0.5, 2 * GRANTED)
    assert due(larger, before, MIDDLE) == []
    assert due(used(0.8, 2 * GRANTED), before, MIDDLE) == [Due(Topic.BUDGET, 2 * GRANTED, 800_000)]
    assert due(used(0.85), before, MIDDLE) == []


@pytest.mark.parametrize(
    ("left", "mark"),
    [(31 * DAY, None), (30 * DAY, 30), (30 * DAY + 1, None), (14 * DAY, 14), (7 * DAY, 7), (DAY, 1), (1, 1), (0, None)],
)
def test_the_days_before_the_end_are_told_until_it_has_come(left: int, mark: int | None) -> None:
    found = due(AWARD, {}, END - left)
    assert found == ([] if mark is None else [Due(Topic.END, END, mark)])


def test_a_late_loop_tells_only_what_is_most_urgent_and_nothing_lesser_afterwards() -> None:
    late = due(AWARD, {}, END - 3 * DAY)
    assert late == [Due(Topic.END, END, 7)]
    assert due(AWARD, told(*late), END - 3 * DAY) == []
    assert due(AWARD, told(*late), END - DAY) == [Due(Topic.END, END, 1)]


def test_an_award_of_ten_days_is_not_told_to_end_in_thirty() -> None:
    short = replace(AWARD, ends_at=START + 10 * DAY)
    assert due(short, {}, START) == []
    assert due(short, {}, START + 3 * DAY) == [Due(Topic.END, short.ends_at, 7)]


def test_an_end_that_was_moved_is_told_anew() -> None:
    before = told(Due(Topic.END, END, 7))
    assert due(replace(AWARD, ends_at=END + 100 * DAY), before, END) == []
    moved = replace(AWARD, ends_at=END + 20 * DAY)
    assert due(moved, before, END) == [Due(Topic.END, END + 20 * DAY, 30)]


@pytest.mark.parametrize("now", [START - 1, END, END + DAY])
def test_nothing_is_told_of_an_award_that_does_not_run(now: int) -> None:
    assert due(used(1), {}, now) == []


def test_nothing_is_told_of_an_award_that_was_stopped() -> None:
    assert due(replace(used(1), stopped=True), {}, END - DAY) == []


OVER = replace(AWARD, ended_at=END, kept_until=END + 30 * DAY)


@pytest.mark.parametrize(
    ("at", "mark"),
    [(END, None), (END + 16 * DAY, 14), (END + 24 * DAY, 7), (END + 29 * DAY, 1), (END + 30 * DAY, None)],
)
def test_the_days_before_the_files_may_go_are_told(at: int, mark: int | None) -> None:
    found = due(OVER, {}, at)
    assert found == ([] if mark is None else [Due(Topic.STORAGE, END + 30 * DAY, mark)])


def test_files_of_a_project_that_goes_on_are_not_told_to_go() -> None:
    assert due(replace(AWARD, ended_at=END), {}, END + 29 * DAY) == []


def test_a_revoked_award_is_told_of_its_files_before_its_end() -> None:
    revoked = replace(OVER, stopped=True, ended_at=MIDDLE, kept_until=MIDDLE + 30 * DAY)
    assert due(revoked, {}, MIDDLE + 29 * DAY) == [Due(Topic.STORAGE, MIDDLE + 30 * DAY, 1)]


@given(
    st.lists(st.tuples(st.integers(-5, 400), st.integers(0, 100)), min_size=1, max_size=60),
    st.integers(1, 60),
)
def test_whenever_the_loop_comes_every_mark_is_told_at_most_once_and_none_late_of_a_lesser_one(
    looks: list[tuple[int, int]], pause: int
) -> None:
    known: dict[tuple[Topic, int], frozenset[int]] = {}
    all_told: list[Due] = []
    share = 0
    for day, more in sorted(looks):
        share = min(share + more // pause, 100)
        now = START + day * DAY
        award = replace(OVER if now >= END else AWARD, available=GRANTED - GRANTED * share // 100)
        found = due(award, known, now)
        assert len({each.topic for each in found}) == len(found)
        all_told += found
        known = told(*all_told)
    assert len(set(all_told)) == len(all_told)
    for topic, marks in MARKS.items():
        told_in_order = [marks.index(each.mark) for each in all_told if each.topic is topic]
        assert told_in_order == sorted(told_in_order)


def test_the_next_look_is_when_a_date_comes_and_daily_at_the_latest() -> None:
    assert next_look(AWARD, MIDDLE) == MIDDLE + DAY
    assert next_look(AWARD, END - 30 * DAY - 5) == END - 30 * DAY
    assert next_look(AWARD, END - 10) == END
    assert next_look(AWARD, START - 10) == START
    assert next_look(OVER, END + 16 * DAY - 7) == END + 16 * DAY
    assert next_look(OVER, END + 30 * DAY) is None
    assert next_look(AWARD, END) is None


@pytest.mark.parametrize("language", [0, 1])
def test_texts_say_numbers_dates_with_their_zone_and_what_to_do(language: int) -> None:
    award = replace(AWARD, granted=3_600_000_000, available=700_000_000, next_starts_at=END)
    budget = texts(award, Due(Topic.BUDGET, award.granted, 800_000), MIDDLE)[language]
    assert "80.5 %" in budget
    assert "805.556 TF·h" in budget
    assert "1.000 PF·h" in budget
    assert "194.444 TF·h" in budget
    assert "2028-01-15 17:00 KST" in budget
    end = texts(award, Due(Topic.END, END, 7), END - 3 * DAY + 60)[language]
    assert end.count("2028-01-15 17:00 KST") == 2
    assert ("3일" if language == 0 else "within 3 days") in end
    last = texts(replace(award, next_starts_at=None), Due(Topic.END, END, 1), END - 60)[language]
    assert ("재신청" if language == 0 else "a renewal") in last
    assert ("1일" if language == 0 else "1 day,") in last
    storage = texts(OVER, Due(Topic.STORAGE, END + 30 * DAY, 1), END + 29 * DAY)[language]
    assert "2028-02-14 17:00 KST" in storage
