"""The life of an award: where it stands, what may be done to it then, and the tranches in which it is granted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.projects import Award, Standing
from quotas.domain.units import PPM, InvalidValue, amount

MOST_TRANCHES = 12
LONGEST_GRACE_DAYS = 3650


class AwardState(StrEnum):
    """Where an award stands, derived from what was decided and from the clock; that it is spent is its balance's."""

    SCHEDULED = "scheduled"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    ENDED = "ended"
    CLOSED = "closed"


ALLOWED_CHANGES: dict[AwardState, frozenset[AwardState]] = {
    AwardState.SCHEDULED: frozenset(
        {AwardState.ACTIVE, AwardState.SUSPENDED, AwardState.REVOKED, AwardState.ENDED},
    ),
    AwardState.ACTIVE: frozenset({AwardState.SUSPENDED, AwardState.REVOKED, AwardState.ENDED}),
    AwardState.SUSPENDED: frozenset(
        {AwardState.SCHEDULED, AwardState.ACTIVE, AwardState.REVOKED, AwardState.ENDED},
    ),
    AwardState.REVOKED: frozenset({AwardState.CLOSED}),
    AwardState.ENDED: frozenset({AwardState.CLOSED}),
    AwardState.CLOSED: frozenset(),
}
LIVING = frozenset({AwardState.SCHEDULED, AwardState.ACTIVE, AwardState.SUSPENDED})
"""States in which an award can still be changed; what is over is renewed instead."""


def award_state(standing: Standing, now: int) -> AwardState:
    """Return where the award of `standing` stands at `now`."""
    if standing.closed_at is not None:
        return AwardState.CLOSED
    if standing.revoked_at is not None:
        return AwardState.REVOKED
    if standing.is_over(now):
        return AwardState.ENDED
    if standing.suspended_at is not None:
        return AwardState.SUSPENDED
    begun = standing.starts_at is not None and now >= standing.starts_at
    return AwardState.ACTIVE if begun else AwardState.SCHEDULED


class TrancheState(StrEnum):
    """`forfeited` is derived: the award was over before it was released, and nothing of it was ever granted."""

    PENDING = "pending"
    RELEASED = "released"
    FORFEITED = "forfeited"


TRANCHE_CHANGES: dict[TrancheState, frozenset[TrancheState]] = {
    TrancheState.PENDING: frozenset({TrancheState.RELEASED, TrancheState.FORFEITED}),
    TrancheState.RELEASED: frozenset(),
    TrancheState.FORFEITED: frozenset(),
}


def tranche_state(stored: TrancheState, award: AwardState) -> TrancheState:
    """Return how a tranche stands, of an award that stands so."""
    if stored is TrancheState.PENDING and award not in LIVING:
        return TrancheState.FORFEITED
    return stored


@dataclass(frozen=True)
class Tranche:
    """A part of an award's budget after the first: `amount` GFLOPS·s, whose report is due at `due_at`."""

    number: int
    amount: int
    due_at: int


def tranches(award: Award, shares_ppm: Sequence[int]) -> tuple[int, tuple[Tranche, ...]]:
    """Return what is granted at once and the tranches that follow; together they are the whole budget, exactly.

    Each tranche's report is due when the earlier ones are used up at an even pace. No shares: all is granted at once.
    Raises InvalidValue for shares that are not 1 to `MOST_TRANCHES`, not above zero or do not add up to the whole.
    """
    budget = award.budget_gflops_seconds()
    if not shares_ppm:
        return budget, ()
    for share in shares_ppm:
        amount("tranches", share)
    if len(shares_ppm) > MOST_TRANCHES or sum(shares_ppm) != PPM:
        raise InvalidValue(
            "tranches",
            f"must be 1 to {MOST_TRANCHES} shares that add up to 100 %, not {sum(shares_ppm) / PPM:.6%}",
            f"합이 100%인 1~{MOST_TRANCHES}개의 비율이어야 합니다 (입력 합계: {sum(shares_ppm) / PPM:.6%})",
        )
    parts = [budget * share // PPM for share in shares_ppm]
    parts[-1] += budget - sum(parts)
    for part in parts:
        amount("tranches", part)
    seconds = award.ends_at - award.starts_at
    due = [award.starts_at + seconds * sum(shares_ppm[:number]) // PPM for number in range(1, len(parts))]
    later = zip(range(2, len(parts) + 1), parts[1:], due, strict=True)
    return parts[0], tuple(Tranche(*each) for each in later)


@dataclass(frozen=True)
class Programme:
    """What the operator has set for every award that is given or changed.

    All awards together may be promised up to `oversubscription_limit_ppm` of what is powered, unless the operator
    consents. Files are kept for `storage_grace_days` after the end of an award that is given with it.
    """

    reference_precision: str
    oversubscription_limit_ppm: int
    storage_grace_days: int = 30
    consent: bool = False

    def __post_init__(self) -> None:
        days = self.storage_grace_days
        if isinstance(days, bool) or not 0 <= days <= LONGEST_GRACE_DAYS:
            raise InvalidValue(
                "storage_grace_days",
                f"must be 0 to {LONGEST_GRACE_DAYS} days, not {days!r:.20}",
                f"0~{LONGEST_GRACE_DAYS}일이어야 합니다 (입력: {days!r:.20})",
            )
