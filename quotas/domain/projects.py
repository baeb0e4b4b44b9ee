"""Projects, awards and allocations: codes, states and the table of allowed changes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.units import LARGEST, PPM, InvalidValue, amount


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
    """Where a project stands now, derived from its state, its award's dates and its balance."""

    APPLIED = "applied"
    REJECTED = "rejected"
    SCHEDULED = "scheduled"
    ACTIVE = "active"
    NEARLY_SPENT = "nearly_spent"
    EXHAUSTED = "exhausted"
    ENDED = "ended"


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
    if new not in ALLOWED_CHANGES[old]:
        allowed = ", ".join(sorted(ALLOWED_CHANGES[old])) or "nothing"
        raise InvalidValue(
            "project",
            f"{code} is {old} and cannot become {new}; allowed: {allowed}",
            f"{code}의 상태 {old}에서 {new}(으)로 바꿀 수 없습니다. 가능: {allowed}",
        )
    return new


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
    """Facts of one project, read together, from which its phase follows. Amounts in GFLOPS·s."""

    state: ProjectState
    starts_at: int | None
    ends_at: int | None
    granted: int
    available: int


def phase(standing: Standing, now: int) -> Phase:
    """Return where the project stands at `now`; a late nightly job changes nothing, as nothing here is stored."""
    if standing.state is not ProjectState.APPROVED:
        return Phase(standing.state.value)
    if standing.ends_at is None or standing.starts_at is None or now >= standing.ends_at:
        return Phase.ENDED
    if now < standing.starts_at:
        return Phase.SCHEDULED
    if standing.available <= 0:
        return Phase.EXHAUSTED
    if (standing.granted - standing.available) * PPM >= standing.granted * NEARLY_SPENT_PPM:
        return Phase.NEARLY_SPENT
    return Phase.ACTIVE
