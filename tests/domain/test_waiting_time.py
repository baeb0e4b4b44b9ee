"""When a turn is to be expected, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quotas.domain.waiting_time import Coming, History, Line, Occupied, Wanted, estimate

NOW = 1_800_000_000
HOUR = 3600
MEAN = History(20, HOUR)


def at(needed: int, line: Line, *before: Wanted) -> tuple[int | None, bool]:
    """Return after how many seconds the turn is expected, and whether that is certain."""
    found = estimate(needed, before, line, NOW)
    return None if found.at is None else found.at - NOW, found.certain


def test_what_is_free_is_there_at_once() -> None:
    assert at(2, Line(4, 2)) == (0, True)


def test_a_known_end_is_certain() -> None:
    line = Line(2, 0, (Occupied(1, NOW, NOW + 50), Occupied(1, NOW, NOW + 90)), history=MEAN)
    assert at(1, line) == (50, True)
    assert at(2, line) == (90, True)


def test_what_should_have_ended_already_ends_now() -> None:
    assert at(1, Line(1, 0, (Occupied(1, NOW - 100, NOW - 50),))) == (0, True)


def test_others_take_as_long_as_runs_took() -> None:
    line = Line(2, 0, (Occupied(1, NOW - 600), Occupied(1, NOW - 2 * HOUR)), history=MEAN)
    assert at(1, line) == (HOUR // 2, False), "the longer one has gone on for longer than most"
    assert at(2, line) == (HOUR - 600, False)


def test_those_before_take_theirs_first_and_for_as_long() -> None:
    line = Line(1, 0, (Occupied(1, NOW, NOW + 50),), history=MEAN)
    assert at(1, line, Wanted(1)) == (50 + HOUR, False)
    assert at(1, line, Wanted(1, seconds=100)) == (150, True)
    assert at(1, line, Wanted(1, seconds=100), Wanted(1, seconds=200)) == (350, True)


def test_one_who_wants_many_holds_up_those_behind() -> None:
    line = Line(2, 1, (Occupied(1, NOW, NOW + 50),), history=MEAN)
    assert at(1, line) == (0, True)
    assert at(1, line, Wanted(2, seconds=10)) == (60, True)


def test_devices_that_come_and_go_count() -> None:
    assert at(1, Line(0, 0, coming=(Coming(NOW + 70, 2),))) == (70, True)
    taken = Line(1, 0, (Occupied(1, NOW, NOW + 50),), coming=(Coming(NOW + 40, -1), Coming(NOW + 100, 1)))
    assert at(1, taken) == (100, True)


def test_without_any_history_nothing_is_guessed() -> None:
    line = Line(1, 0, (Occupied(1, NOW - 600),))
    assert at(1, line) == (None, False)
    assert at(1, Line(1, 1), Wanted(1)) == (None, False)
    assert at(3, replace(line, history=MEAN)) == (None, False), "there are not so many"


def test_the_basis_is_told() -> None:
    line = Line(4, 1, (Occupied(1, NOW), Occupied(2, NOW, NOW + 60)), history=MEAN)
    found = estimate(3, [Wanted(1), Wanted(2)], line, NOW)
    assert (found.entries_before, found.devices_before, found.usable, found.free) == (2, 3, 4, 1)
    assert (found.history, found.known_ends) == (MEAN, 1)


@pytest.mark.parametrize(
    ("line", "needed", "english", "korean"),
    [
        (
            Line(4, 0, (Occupied(4, NOW - 1800),), history=MEAN),
            1,
            (
                "About 2027-01-15 17:30 KST (in 30 min): nobody waits before you; 0 of 4 are free; the last 20 runs"
                " on them took 1 h on average."
            ),
            (
                "약 2027-01-15 17:30 KST (30분 후): 앞선 대기 없음, 전체 4대 중 0대 사용 가능, 최근 실행 20건의"
                " 평균 시간 1시간."
            ),
        ),
        (
            Line(1, 0, (Occupied(1, NOW, NOW + 600),)),
            1,
            (
                "At the latest at 2027-01-15 17:10 KST (in 10 min): nobody waits before you; 0 of 1 are free; 1 of"
                " those that run have a known end."
            ),
            (
                "늦어도 2027-01-15 17:10 KST (10분 후): 앞선 대기 없음, 전체 1대 중 0대 사용 가능,"
                " 실행 중인 1건은 종료 시각이 정해짐."
            ),
        ),
        (
            Line(1, 0, (Occupied(1, NOW),)),
            1,
            (
                "No time can be given, as no run has ended yet that says how long one takes: nobody waits"
                " before you; 0 of 1 are free."
            ),
            "아직 종료된 실행이 없어 예상 시각을 알 수 없습니다: 앞선 대기 없음, 전체 1대 중 0대 사용 가능.",
        ),
        (
            Line(1, 1, history=MEAN),
            2,
            (
                "No time can be given, as there are not as many devices as things stand: nobody waits before you;"
                " 1 of 1 are free; the last 20 runs on them took 1 h on average."
            ),
            (
                "현재 장치 수가 부족하여 예상 시각을 알 수 없습니다: 앞선 대기 없음, 전체 1대 중 1대 사용 가능,"
                " 최근 실행 20건의 평균 시간 1시간."
            ),
        ),
    ],
)
def test_people_read_it_with_how_it_was_made(line: Line, needed: int, english: str, korean: str) -> None:
    found = estimate(needed, [], line, NOW)
    assert found.sentence("en", NOW) == english
    assert found.sentence("ko", NOW) == korean
