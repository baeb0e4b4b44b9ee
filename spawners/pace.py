"""Starts are paced: as many at the same time as the machine can take, the others in the order in which they came.

Sixty servers that start at the same time on two cores each take minutes, and every one of them is given up by its
time limit; a few at a time are each ready in seconds (`python -m bench.class_of_60`). A start therefore waits for its
turn here, *inside* the hub's start, where a queue has no place as a rule: the hub counts it as pending, and forgets
it when it is restarted. It is taken because the wait is short and bounded by the start's own limit, because its hold
is committed before, so that the turn is never spent on someone who is refused then, and because a hub that comes back
releases the holds of its forerunner at once. Waiting for *devices* is another matter: such a start is refused, not
queued.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field

FIRST_GUESS_SECONDS = 3.0
"""What a start is taken to need before any was seen."""
WEIGHT = 0.2
"""How much the newest start counts in the expectation of the next."""


@dataclass(eq=False)
class Turn:
    """One start's place: waiting until it is `granted`, then at work until it is given back."""

    pace: Pace
    granted: asyncio.Event = field(default_factory=asyncio.Event)
    begun_at: float | None = None

    def position(self) -> int:
        """Return how many must begin until this one has, itself counted; 0 when it has begun."""
        return self.pace.position(self)

    def expected_seconds(self) -> int:
        """Return about how long until this one begins, as starts went lately."""
        return self.pace.expected_seconds(self)

    def give_back(self) -> None:
        """The turn is over, or given up while it waited; repeating changes nothing."""
        self.pace.give_back(self)


class Pace:
    """Lets `slots` starts be at work at the same time, first come first served."""

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError("at least one start must be let through")
        self.slots = slots
        self.seconds_of_a_start = FIRST_GUESS_SECONDS
        self._working: set[Turn] = set()
        self._waiting: deque[Turn] = deque()

    def queue(self) -> Turn:
        """Return a new turn at the end of the line; it may have begun already."""
        turn = Turn(self)
        self._waiting.append(turn)
        self._let_in()
        return turn

    def position(self, turn: Turn) -> int:
        """Return the turn's place in the line from 1 on, or 0 when it does not wait."""
        try:
            return self._waiting.index(turn) + 1
        except ValueError:
            return 0

    def waiting(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def expected_seconds(self, turn: Turn) -> int:
        """Return about how long the turn will wait: whole rounds of starts before it, at the pace of the last ones."""
        rounds = -(-self.position(turn) // self.slots)
        return round(rounds * self.seconds_of_a_start)

    def give_back(self, turn: Turn) -> None:
        """The turn neither waits nor works; the next one begins."""
        with suppress(ValueError):
            self._waiting.remove(turn)
        if turn in self._working:
            self._working.remove(turn)
            took = time.monotonic() - (turn.begun_at or 0)
            self.seconds_of_a_start += WEIGHT * (took - self.seconds_of_a_start)
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and len(self._working) < self.slots:
            turn = self._waiting.popleft()
            self._working.add(turn)
            turn.begun_at = time.monotonic()
            turn.granted.set()
