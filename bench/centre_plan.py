"""What the simulated centre has, drawn from a seed: its devices by phase, its projects with awards, and its courses.

Everything follows from the numbers of projects and days: the sums of the centre's first year, 125 projects with
10.74 PF of awards on 8.85 PF, and what a smaller or shorter one has of them. Rates are at FP32, the precision in which
the programme counts.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from quotas.domain.units import DAY_SECONDS, PPM, parse_instant

START = parse_instant("start", "2027-01-01")
"""00:00 in Korea, a Friday."""
WHOLE_PROJECTS = 125
AWARDED_GFLOPS = 10_740_000
CLOUD_GFLOPS, HALF_GFLOPS, FULL_GFLOPS = 8_850_000, 44_250_000, 88_500_000
H100, SLICE = "h100", "h100-mig-1g.10gb"
H100_GFLOPS, SLICE_GFLOPS, CORE_GFLOPS = 66_900, 8_109, 100
SEATS = 60
BURST = 4
CLOUD, HALL = "cloud", "hall"
SIZES = (1, 2, 4, 8)
SMALLEST_GFLOPS = 20_000
"""Four times this is more than one H100: below it a project could start none."""


@dataclass(frozen=True)
class Scale:
    """How large the centre is and for how long it is watched."""

    seed: int
    projects: int = WHOLE_PROJECTS
    days: int = 365

    @property
    def share(self) -> float:
        """How much of the whole centre it is."""
        return self.projects / WHOLE_PROJECTS

    @property
    def end(self) -> int:
        return START + self.days * DAY_SECONDS

    def day(self, number: float) -> int:
        """Return the first instant of a day."""
        return START + math.floor(number) * DAY_SECONDS


@dataclass(frozen=True)
class Phase:
    """From `from_at` on, until the next one, the pools have these healthy devices; `share` is that of the awards."""

    name: str
    from_at: int
    until_at: int
    cloud: dict[str, int]
    hall: int
    hall_installed: int
    award_factor: float

    def devices(self) -> Iterator[tuple[str, str, int, int, int]]:
        """Yield (pool, device model, installed, powered, healthy); two in a hundred that are installed are failed."""
        for model, healthy in self.cloud.items():
            powered = healthy + healthy // 60
            yield CLOUD, model, powered + healthy // 40, powered, healthy
        if self.hall_installed:
            powered = self.hall + self.hall // 60
            yield HALL, H100, max(self.hall_installed, powered), powered, self.hall

    @property
    def healthy_gflops(self) -> int:
        return self.cloud[SLICE] * SLICE_GFLOPS + (self.cloud[H100] + self.hall) * H100_GFLOPS


def seats(scale: Scale) -> int:
    return max(round(SEATS * scale.share), 6)


def phases(scale: Scale) -> list[Phase]:
    """Return the centre's four phases: leased, half, whole, and a power cut to half."""
    slices = 7 * math.ceil(seats(scale) * 1.2 / 7)
    cloud = {H100: round((CLOUD_GFLOPS * scale.share - slices * SLICE_GFLOPS) / H100_GFLOPS), SLICE: slices}

    def hall(gflops: int) -> int:
        return round((gflops - CLOUD_GFLOPS) * scale.share / H100_GFLOPS)

    half, full = hall(HALF_GFLOPS), hall(FULL_GFLOPS)
    starts = [scale.day(scale.days * part) for part in (0, 1 / 3, 7 / 12, 5 / 6)] + [scale.end]
    rows = (
        ("leased, 10 %", 0, 0, 1.0),
        ("50 %", half, half, HALF_GFLOPS / CLOUD_GFLOPS),
        ("100 %", full, full, FULL_GFLOPS / CLOUD_GFLOPS),
        ("power cut to 50 %", half, full, FULL_GFLOPS / CLOUD_GFLOPS),
    )
    return [
        Phase(name, since, until, cloud, healthy, round(installed * 1.05), factor)
        for (name, healthy, installed, factor), (since, until) in zip(rows, pairwise(starts), strict=True)
    ]


@dataclass(frozen=True)
class ProjectPlan:
    """A project: its award in the first phase, and how much of it its people want to use, 1 for all of it.

    `members` are its people, the first of whom is its PI.
    """

    code: str
    gflops: int
    demand: float
    members: tuple[str, ...]
    is_course: bool = False

    @property
    def is_idle(self) -> bool:
        return self.demand < 0.1


_MOODS = ((0.08, 0.03, 0.03), (0.25, 0.25, 0.45), (0.75, 0.7, 1.1), (1.0, 1.4, 2.2))
"""Up to which share of the projects, how much they want: idle, light, normal and more than they were awarded."""


def projects(scale: Scale) -> list[ProjectPlan]:
    """Return the research projects, whose awards come to the whole sum, less what the course has, and the course."""
    draw = random.Random(f"{scale.seed}/projects")  # noqa: S311 - a repeatable centre, no secret
    course = ProjectPlan(
        "course-ml",
        max(round(60_000 * scale.share), SMALLEST_GFLOPS),
        1.0,
        ("teacher", *(f"learner-{number}" for number in range(1, seats(scale) + 1))),
        is_course=True,
    )
    research = scale.projects - 1
    weights = [draw.lognormvariate(0, 0.9) for _ in range(research)]
    awarded = round(AWARDED_GFLOPS * scale.share) - course.gflops
    spread = awarded - research * SMALLEST_GFLOPS
    gflops = [SMALLEST_GFLOPS + math.floor(spread * weight / sum(weights)) for weight in weights]
    gflops[0] += awarded - sum(gflops)
    moods = [(number + draw.random()) / research for number in range(research)]
    draw.shuffle(moods)
    plans = []
    for number, (own, place) in enumerate(zip(gflops, moods, strict=True), start=1):
        _, low, high = next(mood for mood in _MOODS if place <= mood[0])
        people = tuple(f"p{number}-{place}" for place in range(1, draw.randint(3, 6) + 1))
        plans.append(ProjectPlan(f"project-{number}", own, draw.uniform(low, high), people))
    return [*plans, course]


@dataclass(frozen=True)
class Term:
    """Days in which the course meets on weekdays at 9:00, from `first_at` to `until_at` (exclusive).

    They lie within the course's award `award`, 0 for the first.
    """

    award: int
    first_at: int
    until_at: int


CLASS_SECONDS = 2 * 3600
CLASS_HOUR = 9
LONGEST_TERM = 16 * 7 * DAY_SECONDS


def terms(scale: Scale, award_ends: list[int]) -> list[Term]:
    """Return one term within each of the course's awards, which end at `award_ends`."""
    bounds = [START + 3 * DAY_SECONDS, *award_ends]
    found = []
    for award, (since, until) in enumerate(pairwise(bounds)):
        first = START + math.ceil((since - START) / DAY_SECONDS) * DAY_SECONDS
        while _weekday(first) > 4:
            first += DAY_SECONDS
        last = min(until - DAY_SECONDS, scale.end, first + LONGEST_TERM)
        if last - first >= DAY_SECONDS:
            found.append(Term(award, first + CLASS_HOUR * 3600, last))
    return found


def _weekday(at: int) -> int:
    """Return 0 for Monday; the first day is a Friday, and Korea does not change its clocks."""
    return ((at - START) // DAY_SECONDS + 4) % 7


weekday = _weekday


@dataclass(frozen=True)
class Shape:
    """The rhythm of a kind of run: how many of a day's begin in each hour, and how much of a usual day each has."""

    hours: tuple[int, ...]
    days: tuple[float, ...] = field(default=(1.0, 1.0, 1.0, 1.0, 1.0, 0.25, 0.2))


NOTEBOOKS = Shape((0, 0, 0, 0, 0, 0, 1, 3, 8, 14, 14, 9, 5, 13, 13, 11, 8, 5, 3, 3, 3, 2, 1, 1))
BATCH = Shape(
    (3, 2, 1, 1, 1, 1, 1, 2, 3, 4, 5, 5, 4, 5, 6, 7, 8, 10, 10, 8, 6, 5, 4, 3), (1.1, 1.1, 1.1, 1.1, 1.2, 0.8, 0.6)
)


def burst_gflops(gflops: int) -> int:
    return gflops * BURST


BURST_PPM = BURST * PPM
