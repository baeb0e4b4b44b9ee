"""The recall of what an award does not use: months, shares, and the states of one recall.

An award's share of a month is its budget spread evenly: each sum granted from when it was granted (but not before the
award's start) to the award's end; each sum taken back, the same with the other sign. Use is the time that runs ran,
each at its rate, in the month in which it ran; refunded time counts as use, and so does what the operator bore.

A month counts when the award covers the whole of it and it has no excuse (`Excuse`). Once the newest
`months` months in a row all count and are all under the threshold, a part of what they left unused is proposed
for recall: `share_ppm` of it, of each month once, never more than is available.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain import states
from quotas.domain.months import Month
from quotas.domain.units import DAY_SECONDS, HOUR_SECONDS, PPM, InvalidValue

OBJECTION_DAYS = 14


@dataclass(frozen=True)
class RecallPolicy:
    """When use counts as too little, and what follows; an operator sets it (see :mod:`quotas.settings`).

    With `automatic` the platform proposes recalls each month by itself; without it an operator does.
    """

    threshold_ppm: int = 300_000
    months: int = 2
    share_ppm: int = 500_000
    objection_seconds: int = OBJECTION_DAYS * DAY_SECONDS
    exempt_courses: bool = True
    wait_limit_seconds: int = 10 * HOUR_SECONDS
    automatic: bool = True


@dataclass(frozen=True)
class Grant:
    """At `at` the award's budget grew by `amount` GFLOPS·s, or shrank where that is negative."""

    amount: int
    at: int


@dataclass(frozen=True)
class Ran:
    """Something ran at `gflops` for `seconds` from `started_at` on."""

    gflops: int
    started_at: int
    seconds: int


def expected(grants: Iterable[Grant], starts_at: int, ends_at: int, month: Month) -> int:
    """Return the award's share of the month in GFLOPS·s, at least 0; the award lasts from `starts_at` to `ends_at`."""
    total = 0
    for grant in grants:
        from_at = max(grant.at, starts_at)
        inside = min(ends_at, month.ends_at) - max(from_at, month.starts_at)
        if inside > 0:
            share = abs(grant.amount) * inside // (ends_at - from_at)
            total += share if grant.amount > 0 else -share
    return max(total, 0)


def used(ran: Iterable[Ran], month: Month) -> int:
    """Return what ran in the month, in GFLOPS·s: of a run that crosses its bounds only the seconds inside."""
    total = 0
    for each in ran:
        inside = min(each.started_at + each.seconds, month.ends_at) - max(each.started_at, month.starts_at)
        total += each.gflops * max(inside, 0)
    return total


class Excuse(StrEnum):
    """Why a month does not count against an award."""

    NOT_WHOLE = "not_whole"
    """The award began in it, ended in it, or was not there."""
    SUSPENDED = "suspended"
    """The award was suspended for some time of it."""
    WAITED = "waited"
    """Its people waited for devices of a full pool, together for longer than the limit."""
    FORGIVEN = "forgiven"
    """A recall that counted it was withdrawn."""
    NOTHING_DUE = "nothing_due"
    """The award had no budget of which it could have used a share."""


@dataclass(frozen=True)
class MonthOfAward:
    """An award's month: what was used of which share (GFLOPS·s), and why it does not count, if it does not.

    `counted_before`: an earlier recall took its unused part into account.
    """

    month: Month
    used: int
    expected: int
    excuse: Excuse | None = None
    counted_before: bool = False

    @property
    def unused(self) -> int:
        return max(self.expected - self.used, 0)

    def is_under(self, threshold_ppm: int) -> bool:
        return self.excuse is None and self.used * PPM < self.expected * threshold_ppm


class Standing(StrEnum):
    """What follows from an award's months."""

    PROPOSED = "proposed"
    USED = "used"
    """A month that counts was used enough."""
    EXCUSED = "excused"
    """A month of the row has an excuse."""
    EXEMPT = "exempt"
    """It is a course, and those are exempt."""
    NOTHING_LEFT = "nothing_left"
    """Too little was used, but nothing could be taken."""


@dataclass(frozen=True)
class Assessment:
    """What follows from an award's months, oldest first; `amount` is what is proposed for recall, GFLOPS·s."""

    standing: Standing
    months: tuple[MonthOfAward, ...]
    amount: int = 0


def assess(months: Sequence[MonthOfAward], policy: RecallPolicy, takeable: int, *, is_course: bool) -> Assessment:
    """Return what follows from the months in a row; `takeable` is what is available less what other recalls will take.

    What is held or spent is not available, so that a recall never takes it.
    """
    row = tuple(months)
    if is_course and policy.exempt_courses:
        return Assessment(Standing.EXEMPT, row)
    if any(month.excuse is not None for month in row):
        return Assessment(Standing.EXCUSED, row)
    if not all(month.is_under(policy.threshold_ppm) for month in row):
        return Assessment(Standing.USED, row)
    unused = sum(month.unused for month in row if not month.counted_before)
    amount = min(unused * policy.share_ppm // PPM, takeable)
    return Assessment(Standing.PROPOSED if amount > 0 else Standing.NOTHING_LEFT, row, max(amount, 0))


def freed_gflops(amount: int, utilisation_ppm: int, promised_gflops: int, ends_at: int, now: int) -> int:
    """Return the rate that is no longer promised once `amount` was recalled: what would use it up by the award's end.

    At most all that is still promised of the award, in GFLOPS, rounded down.
    """
    if ends_at <= now:
        return 0
    return min(amount * PPM // (utilisation_ppm * (ends_at - now)), max(promised_gflops, 0))


class RecallState(StrEnum):
    """Where a recall is."""

    PROPOSED = "proposed"
    NOTIFIED = "notified"
    """The award's people were told, and may object until a date."""
    OBJECTED = "objected"
    DUE = "due"
    """Nobody objected in time, or it was upheld or reduced: it is to be executed."""
    EXECUTED = "executed"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"
    """The award ended, or nothing of it was left, before it was executed."""


ALLOWED_CHANGES: dict[RecallState, frozenset[RecallState]] = {
    RecallState.PROPOSED: frozenset({RecallState.NOTIFIED, RecallState.WITHDRAWN, RecallState.LAPSED}),
    RecallState.NOTIFIED: frozenset({RecallState.OBJECTED, RecallState.DUE, RecallState.WITHDRAWN, RecallState.LAPSED}),
    RecallState.OBJECTED: frozenset({RecallState.DUE, RecallState.WITHDRAWN, RecallState.LAPSED}),
    RecallState.DUE: frozenset({RecallState.EXECUTED, RecallState.WITHDRAWN, RecallState.LAPSED}),
    RecallState.EXECUTED: frozenset(),
    RecallState.WITHDRAWN: frozenset(),
    RecallState.LAPSED: frozenset(),
}
CLOSED = frozenset(state for state, next_states in ALLOWED_CHANGES.items() if not next_states)


class Decision(StrEnum):
    """What an operator or reviewer decides of a recall."""

    UPHELD = "upheld"
    REDUCED = "reduced"
    WITHDRAWN = "withdrawn"


DECIDABLE: dict[Decision, frozenset[RecallState]] = {
    # Before the people's time to object is over, only a decision in their favour can be made.
    Decision.UPHELD: frozenset({RecallState.OBJECTED}),
    Decision.REDUCED: frozenset({RecallState.OBJECTED}),
    Decision.WITHDRAWN: frozenset({RecallState.PROPOSED, RecallState.NOTIFIED, RecallState.OBJECTED, RecallState.DUE}),
}


def change_state(recall: int, old: RecallState, new: RecallState) -> RecallState:
    """Return `new` if the table allows the change; raise InvalidValue otherwise."""
    return states.change(ALLOWED_CHANGES, "recall", f"recall {recall}", old, new)


def check_decision(recall: int, state: RecallState, decision: Decision) -> RecallState:
    """Return the state to which the decision leads. Raises InvalidValue where it cannot be made."""
    if state not in DECIDABLE[decision]:
        allowed = ", ".join(sorted(each for each, states in DECIDABLE.items() if state in states)) or "nothing"
        raise InvalidValue(
            "decision",
            f"recall {recall} is {state} and cannot be {decision}; allowed: {allowed}",
            f"회수 {recall}은(는) {state} 상태라 {decision} 결정을 할 수 없습니다. 가능: {allowed}",
        )
    return RecallState.WITHDRAWN if decision is Decision.WITHDRAWN else RecallState.DUE
