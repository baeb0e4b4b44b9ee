"""A renewal: what is asked to follow an award. It is its own object, and none of its states changes the award."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.units import InvalidValue, amount, show_instant


class RenewalState(StrEnum):
    """Where a renewal is on its way."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


ALLOWED_CHANGES: dict[RenewalState, frozenset[RenewalState]] = {
    RenewalState.DRAFT: frozenset({RenewalState.DRAFT, RenewalState.SUBMITTED, RenewalState.WITHDRAWN}),
    RenewalState.SUBMITTED: frozenset({RenewalState.IN_REVIEW, RenewalState.WITHDRAWN}),
    RenewalState.IN_REVIEW: frozenset({RenewalState.APPROVED, RenewalState.REJECTED, RenewalState.WITHDRAWN}),
    RenewalState.APPROVED: frozenset(),
    RenewalState.REJECTED: frozenset(),
    RenewalState.WITHDRAWN: frozenset(),
}
OPEN = frozenset({RenewalState.DRAFT, RenewalState.SUBMITTED, RenewalState.IN_REVIEW})
"""A project has one renewal in these states at the most."""


@dataclass(frozen=True)
class Wish:
    """What is asked for: `gflops` at `precision`, from the end of the present award until `ends_at` (exclusive)."""

    gflops: int
    precision: str
    ends_at: int

    def __post_init__(self) -> None:
        amount("award", self.gflops)
        amount("until", self.ends_at)


def starts_at(last_end: int, now: int) -> int:
    """Return when the next award starts: as the last one ends, or now where that is past."""
    return max(last_end, now)


def check_until(ends_at: int, start: int) -> None:
    """The next award ends after it starts. Raises InvalidValue, which says after when."""
    if ends_at <= start:
        first = show_instant(start)
        raise InvalidValue(
            "until", f"must be after {first}, when it would start", f"시작 예정 시각 {first} 이후여야 합니다"
        )
