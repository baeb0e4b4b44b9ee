"""The days of the example centre, counted from the day of loading, and what happens on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from quotas.domain.units import CALENDAR, HOUR_SECONDS
from quotas.services.example_centre import NEXT_MONTH

_WORKING_DAYS = 5
_DAYS_BEFORE_A_CLASS = 2
_WEEK = 7


@dataclass(frozen=True)
class Step:
    """Something that happened `at` (seconds UTC)."""

    at: int
    act: Callable[[], object]


class Days:
    """Days from the one of `now`, in the calendar's zone."""

    def __init__(self, now: int) -> None:
        self.now = now
        self._today = datetime.fromtimestamp(now, CALENDAR).replace(hour=0, minute=0, second=0, microsecond=0)

    def day(self, number: int) -> int:
        """Return the first instant of a day, in seconds UTC."""
        if number == NEXT_MONTH:
            return int((self._today.replace(day=1) + timedelta(days=32)).replace(day=1).timestamp())
        return int((self._today + timedelta(days=number)).timestamp())

    def hour(self, number: int, hour: int) -> int:
        """Return `hour` o'clock of a day, in seconds UTC."""
        return self.day(number) + hour * HOUR_SECONDS

    def last_class(self) -> int:
        """Return the number of the day on which the weekly class was last held, a working day.

        The next is two to four days away, so that on the day of loading and the day after nothing of it happens.
        """
        coming = _DAYS_BEFORE_A_CLASS
        while (self._today + timedelta(days=coming)).weekday() >= _WORKING_DAYS:
            coming += 1
        return coming - _WEEK
