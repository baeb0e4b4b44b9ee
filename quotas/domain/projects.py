"""Projects, awards and allocations: codes, states and the table of allowed changes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain import states
from quotas.domain.units import DAY_SECONDS, LARGEST, PPM, InvalidValue, amount


class ProjectState(StrEnum):
    """What was decided of a project; whether its award runs now is read from dates and balances."""

    APPLIED = "applied"
    APPROVED = "approved"
    REJECTED = "rejected"
    ENDED = "ended"


ALLOWED_CHANGES: dict[ProjectState, frozenset[ProjectState]] = {
    ProjectState.APPLIED: frozenset({ProjectState.APPROVED, ProjectState.REJECTED}),
    ProjectState.APPROVED: frozenset({ProjectState.ENDED}),
    ProjectState.REJECTED: frozenset(),
    ProjectState.ENDED: frozenset(),
}


class ProjectKind(StrEnum):
    """A course is a project with instructors and learners."""

    RESEARCH = "research"
    COURSE = "course"


class Phase(StrEnum):
    """Where a project stands now, derived from its state, its award and its balance.

    `grace`: its award is over, and its files are kept still; `ended`: they may be removed; `closed`: they were.
    """

    APPLIED = "applied"
    REJECTED = "rejected"
    SCHEDULED = "scheduled"
    ACTIVE = "active"
    NEARLY_SPENT = "nearly_spent"
    EXHAUSTED = "exhausted"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    GRACE = "grace"
    ENDED = "ended"
    CLOSED = "closed"


NEARLY_SPENT_PPM = 900_000
"""From this share of the budget spent or held on, a project counts as nearly spent."""

_CODE = re.compile(r"[a-z](?:-?[a-z0-9]){0,29}")


def project_code(text: str) -> str:
    """Return `text` as a project code, which is also the name of its servers in the hub.

    1 to 30 of a-z, 0-9 and single hyphens, a letter first and no hyphen last (the hub's rule for named servers).
    """
    if not isinstance(text, str) or len(text) > 30 or _CODE.fullmatch(text) is None:
        raise InvalidValue(
            "project",
            f"{text!r:.60} is not a project code: 1 to 30 of a-z, 0-9 and single hyphens, a letter first",
            f"{text!r:.60}은(는) 과제 코드가 아닙니다. 영문 소문자로 시작하는 a-z, 0-9, '-' 1~30자",
        )
    return text


def change_state(code: str, old: ProjectState, new: ProjectState) -> ProjectState:
    """Return `new` if the table allows the change; raise InvalidValue otherwise."""
    return states.change(ALLOWED_CHANGES, "project", code, old, new)


@dataclass(frozen=True)
class Award:
    """What was promised: a rate at a named precision, from `starts_at` to `ends_at` (exclusive), seconds UTC.

    `burst_ppm` raises the ceiling of concurrent rate above the award; `utilisation_ppm` scales the budget.
    """

    gflops: int
    precision: str
    starts_at: int
    ends_at: int
    burst_ppm: int = PPM
    utilisation_ppm: int = PPM

    def __post_init__(self) -> None:
        amount("award", self.gflops)
        amount("burst_ppm", self.burst_ppm)
        amount("utilisation_ppm", self.utilisation_ppm)
        if self.ends_at <= self.starts_at:
            raise InvalidValue(
                "ends", "the award must end after it starts", "협약 종료 시각은 시작 시각보다 뒤여야 합니다"
            )
        amount("award budget", self.budget_gflops_seconds())
        amount("award ceiling", self.ceiling_gflops())

    def budget_gflops_seconds(self) -> int:
        """Award × duration × utilisation, in GFLOPS·s."""
        return self.gflops * (self.ends_at - self.starts_at) * self.utilisation_ppm // PPM

    def ceiling_gflops(self) -> int:
        """The rate that may run at once, in GFLOPS."""
        return min(self.gflops * self.burst_ppm // PPM, LARGEST + 1)


@dataclass(frozen=True)
class Standing:
    """Facts of one project and its award, read together, from which its phase follows. Amounts in GFLOPS·s.

    `ended_at` and `closed_at` are the project's, `suspended_at` and `revoked_at` the award's; None: it is not so.
    """

    state: ProjectState
    starts_at: int | None
    ends_at: int | None
    granted: int
    available: int
    ended_at: int | None = None
    closed_at: int | None = None
    suspended_at: int | None = None
    revoked_at: int | None = None
    storage_grace_days: int = 0

    @property
    def over_at(self) -> int | None:
        """From when on nothing can start any more: the award's end, or an earlier one that was decided."""
        if self.ends_at is None:
            return None
        decided = [at for at in (self.ended_at, self.revoked_at) if at is not None]
        return min([self.ends_at, *decided])

    @property
    def storage_until(self) -> int | None:
        """Until when its files are kept at least."""
        over_at = self.over_at
        return None if over_at is None else over_at + self.storage_grace_days * DAY_SECONDS

    def is_over(self, now: int) -> bool:
        """Nothing can start any more; only a renewal could change that, where the award was not revoked."""
        over_at = self.over_at
        return self.state is ProjectState.ENDED or over_at is None or now >= over_at


def phase(standing: Standing, now: int) -> Phase:  # noqa: PLR0911 - one return for each phase
    """Return where the project stands at `now`; a late nightly job changes nothing, as nothing here is stored."""
    if standing.closed_at is not None:
        return Phase.CLOSED
    if standing.state in {ProjectState.APPLIED, ProjectState.REJECTED}:
        return Phase(standing.state.value)
    if standing.revoked_at is not None:
        return Phase.REVOKED
    if standing.is_over(now):
        return Phase.GRACE if now < (standing.storage_until or 0) else Phase.ENDED
    if standing.suspended_at is not None:
        return Phase.SUSPENDED
    if standing.starts_at is None or now < standing.starts_at:
        return Phase.SCHEDULED
    if standing.available <= 0:
        return Phase.EXHAUSTED
    if (standing.granted - standing.available) * PPM >= standing.granted * NEARLY_SPENT_PPM:
        return Phase.NEARLY_SPENT
    return Phase.ACTIVE
