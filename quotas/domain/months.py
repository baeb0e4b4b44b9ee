"""Calendar months in the centre's zone, as people write them: 2026-11."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from quotas.domain.units import CALENDAR, FIRST_YEAR, LAST_YEAR, InvalidValue, show_instant


@dataclass(frozen=True, order=True)
class Month:
    """A calendar month in the centre's zone."""

    year: int
    number: int

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.number:02d}"

    @property
    def starts_at(self) -> int:
        return int(datetime(self.year, self.number, 1, tzinfo=CALENDAR).timestamp())

    @property
    def ends_at(self) -> int:
        """The first instant after it."""
        return self.plus(1).starts_at

    def plus(self, months: int) -> Month:
        year, number = divmod(self.year * 12 + self.number - 1 + months, 12)
        return Month(year, number + 1)


def month_of(instant: int) -> Month:
    """Return the month in which an instant lies."""
    moment = datetime.fromtimestamp(instant, CALENDAR)
    return Month(moment.year, moment.month)


def ended_month(field: str, text: str, now: int) -> Month:
    """Read ``2026-11`` as a month that is over. Raises InvalidValue with the newest such month."""
    newest = month_of(now).plus(-1)
    month = read_month(field, text, str(newest))
    if month > newest:
        over = show_instant(month.ends_at)
        raise InvalidValue(
            field,
            f"{month} is over at {over}; allowed is {newest} or an earlier month",
            f"{month}은(는) {over}에 끝납니다. {newest} 또는 그 이전 달이어야 합니다",
        )
    return month


def begun_month(field: str, text: str, now: int) -> Month:
    """Read ``2026-11`` as a month that has begun. Raises InvalidValue with the newest such month."""
    newest = month_of(now)
    month = read_month(field, text, str(newest))
    if month > newest:
        begins = show_instant(month.starts_at)
        raise InvalidValue(
            field,
            f"{month} is in the future, it begins at {begins}; allowed is {newest} or an earlier month",
            f"{month}은(는) {begins}에 시작하는 미래의 달입니다. {newest} 또는 그 이전 달이어야 합니다",
        )
    return month


def read_month(field: str, text: str, example: str = "2026-11") -> Month:
    """Read ``2026-11``. Raises InvalidValue, which shows an `example`."""
    match = re.fullmatch(r"([0-9]{4})-(0[1-9]|1[0-2])", text, re.ASCII)
    if match is None or not FIRST_YEAR <= int(match[1]) <= LAST_YEAR:
        raise InvalidValue(
            field,
            f"{text!r:.60} is no month; write one as in {example}",
            f"{text!r:.60}은(는) 월이 아닙니다. {example}처럼 쓰세요",
        )
    return Month(int(match[1]), int(match[2]))
