from __future__ import annotations

import asyncio

import pytest

from spawners.pace import FIRST_GUESS_SECONDS, Pace


def test_as_many_as_there_are_slots_begin_and_the_others_wait_in_order() -> None:
    pace = Pace(2)
    turns = [pace.queue() for _ in range(5)]
    assert [turn.granted.is_set() for turn in turns] == [True, True, False, False, False]
    assert [turn.position() for turn in turns] == [0, 0, 1, 2, 3]
    assert pace.waiting() == 3
    turns[1].give_back()
    assert [turn.granted.is_set() for turn in turns] == [True, True, True, False, False]
    assert [turn.position() for turn in turns] == [0, 0, 0, 1, 2]


def test_one_who_gives_up_leaves_the_line_and_nobody_is_let_in_for_it() -> None:
    pace = Pace(1)
    first, second, third = (pace.queue() for _ in range(3))
    second.give_back()
    assert third.position() == 1
    assert not third.granted.is_set()
    first.give_back()
    assert third.granted.is_set()


def test_giving_back_twice_lets_only_one_in() -> None:
    pace = Pace(1)
    first, second, third = (pace.queue() for _ in range(3))
    first.give_back()
    first.give_back()
    assert second.granted.is_set()
    assert not third.granted.is_set()


def test_the_expected_wait_follows_the_rounds_before_and_the_last_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("spawners.pace.time.monotonic", lambda: clock[0])
    pace = Pace(2)
    turns = [pace.queue() for _ in range(7)]
    assert [turn.expected_seconds() for turn in turns] == [
        round(n * FIRST_GUESS_SECONDS) for n in (0, 0, 1, 1, 2, 2, 3)
    ]
    clock[0] += 13.0
    turns[0].give_back()
    assert pace.seconds_of_a_start == pytest.approx(FIRST_GUESS_SECONDS + 0.2 * (13.0 - FIRST_GUESS_SECONDS))
    assert turns[3].expected_seconds() == 5


def test_a_waiting_start_goes_on_when_its_turn_comes() -> None:
    async def scene() -> list[str]:
        pace, said = Pace(1), []

        async def one(name: str) -> None:
            turn = pace.queue()
            await turn.granted.wait()
            said.append(f"{name} in")
            await asyncio.sleep(0)
            said.append(f"{name} out")
            turn.give_back()

        await asyncio.gather(*(one(name) for name in "abc"))
        return said

    assert asyncio.run(scene()) == ["a in", "a out", "b in", "b out", "c in", "c out"]


def test_no_slot_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Pace(0)
