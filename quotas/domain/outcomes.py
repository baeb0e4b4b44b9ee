"""Progress reports of an award: when they are due, what period they tell of, and what waits for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.units import InvalidValue, show_instant

LONGEST_SUMMARY = 20_000


class ReportState(StrEnum):
    """Where a report is. `due`: it is asked for and not begun; that it is overdue follows from the clock."""

    DUE = "due"
    DRAFT = "draft"
    SUBMITTED = "submitted"
    VERIFIED = "verified"
    RETURNED = "returned"


ALLOWED_CHANGES: dict[ReportState, frozenset[ReportState]] = {
    ReportState.DUE: frozenset({ReportState.DRAFT}),
    ReportState.DRAFT: frozenset({ReportState.DRAFT, ReportState.SUBMITTED}),
    ReportState.SUBMITTED: frozenset({ReportState.VERIFIED, ReportState.RETURNED}),
    ReportState.RETURNED: frozenset({ReportState.DRAFT, ReportState.SUBMITTED}),
    ReportState.VERIFIED: frozenset(),
}
WITH_THE_PI = frozenset({ReportState.DUE, ReportState.DRAFT, ReportState.RETURNED})
"""States in which the project has to do something; one that waits for its reviewer is not late."""


def is_overdue(state: ReportState, due_at: int, now: int) -> bool:
    """Return whether the report is late: then no further tranche is released and no renewal goes on."""
    return state in WITH_THE_PI and now >= due_at


@dataclass(frozen=True)
class Period:
    """What a report tells of, from `starts_at` to `ends_at` (exclusive), seconds UTC."""

    starts_at: int
    ends_at: int

    def overlaps(self, other: Period) -> bool:
        return self.starts_at < other.ends_at and other.starts_at < self.ends_at


def check_period(period: Period, award: Period, verified: Iterable[Period], now: int) -> None:
    """The period lies within the award and the past, and no verified report has told of any of it.

    Raises InvalidValue, which names the field and what is allowed.
    """
    latest = min(now, award.ends_at)
    if not award.starts_at <= period.starts_at < latest:
        first, last = show_instant(award.starts_at), show_instant(latest)
        raise InvalidValue(
            "from",
            f"must be at or after the award's start, {first}, and before {last}",
            f"배정 시작 {first} 이후, {last} 이전이어야 합니다",
        )
    if period.ends_at > latest:
        last = show_instant(latest)
        raise InvalidValue(
            "to",
            f"a report tells of the past: at most {last}, not {show_instant(period.ends_at)}",
            f"보고 기간은 지난 기간이어야 합니다. {last} 이전 (입력: {show_instant(period.ends_at)})",
        )
    if period.ends_at <= period.starts_at:
        first = show_instant(period.starts_at)
        raise InvalidValue("to", f"must be after {first}", f"{first} 이후여야 합니다")
    for other in verified:
        if period.overlaps(other):
            told = f"{show_instant(other.starts_at)} – {show_instant(other.ends_at)}"
            raise InvalidValue(
                "from",
                f"a verified report has told of {told} already; choose a period before or after it",
                f"이미 확인된 보고서의 기간({told})과 겹칩니다. 그 이전이나 이후의 기간을 지정하세요",
            )
