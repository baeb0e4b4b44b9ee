"""What the simulated centre's people want, day by day: notebooks in working hours, batch runs over night, classes.

Each project has its own appetite. It follows the project's award as that grows with the centre, and the week.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from functools import partial

from bench.centre_build import CPU, SEAT, gpus
from bench.centre_plan import (
    BATCH,
    CLASS_SECONDS,
    H100_GFLOPS,
    NOTEBOOKS,
    SIZES,
    ProjectPlan,
    Shape,
    Term,
    burst_gflops,
    weekday,
)
from bench.centre_runs import Intent, Runs
from quotas.domain.priorities import Priority
from quotas.domain.queue import Mode
from quotas.domain.units import DAY_SECONDS, HOUR_SECONDS

NOTEBOOKS_A_DAY = 0.15
"""How many each person opens on a working day."""
LONGEST = 48 * HOUR_SECONDS


class Demand:
    """Plans each day's requests. `awards` is what each project has now, in GFLOPS; without one it asks for nothing."""

    def __init__(
        self, runs: Runs, plans: list[ProjectPlan], awards: dict[str, int], terms: list[Term], seed: int
    ) -> None:
        self.runs = runs
        self.plans = plans
        self.awards = awards
        self.terms = terms
        self.draw = random.Random(f"{seed}/demand")  # noqa: S311 - a repeatable year, no secret

    def plan_day(self, day_at: int) -> None:
        """What is asked for on this day is among the events."""
        for plan in self.plans:
            award = self.awards.get(plan.code, 0)
            if plan.is_course:
                self._plan_class(plan, day_at)
            elif award:
                self._plan_notebooks(plan, award, day_at)
                self._plan_batch(plan, award, day_at)

    def _times(self, expected: float, shape: Shape, day_at: int) -> Iterator[int]:
        """Yield about as many instants of the day as are expected on one of its kind."""
        mean = expected * shape.days[weekday(day_at)]
        for _ in range(_poisson(self.draw, mean)):
            [hour] = self.draw.choices(range(24), shape.hours)
            yield day_at + hour * HOUR_SECONDS + self.draw.randrange(HOUR_SECONDS)

    def _plan_notebooks(self, plan: ProjectPlan, award: int, day_at: int) -> None:
        expected = NOTEBOOKS_A_DAY * len(plan.members) * min(max(plan.demand, 0.1), 1.5)
        for at in self._times(expected, NOTEBOOKS, day_at):
            chance = self.draw.random()
            profile = gpus(1)
            if chance < 0.08:
                profile = CPU
            elif chance < 0.3 and award < 60_000:
                profile = SEAT
            elif chance > 0.8 and award > 300_000:
                profile = gpus(2)
            length = min(self.draw.lognormvariate(math.log(3.5 * HOUR_SECONDS), 0.7), 14 * HOUR_SECONDS)
            if plan.is_idle or self.draw.random() < 0.03:
                length = self.draw.uniform(0.5, 1.5) * DAY_SECONDS  # it was forgotten
            mode = Mode.START if self.draw.random() < 0.5 else Mode.OFFER
            borrows = self.draw.random() < 0.6
            patience = round(self.draw.expovariate(1 / (5 * HOUR_SECONDS)))
            self.runs.clock.at(at, partial(self._ask_notebook, plan, profile, length, mode, borrows, patience))

    def _ask_notebook(
        self, plan: ProjectPlan, profile: str, length: float, mode: Mode, borrows: bool, patience: int
    ) -> None:
        free = [person for person in plan.members if (person, plan.code) not in self.runs.busy]
        if free:
            person = self.draw.choice(free)
            self.runs.ask(
                Intent(person, plan.code, profile, length, mode=mode, may_borrow=borrows, patience=patience + 600)
            )

    def _plan_batch(self, plan: ProjectPlan, award: int, day_at: int) -> None:
        sizes = [size for size in SIZES if size * H100_GFLOPS <= burst_gflops(award)]
        weights = range(1, len(sizes) + 1)
        size = sum(each * weight for each, weight in zip(sizes, weights, strict=True)) / sum(weights)
        median_hours = 10 if award < 150_000 else 18
        wanted = plan.demand * award * 24 / H100_GFLOPS - NOTEBOOKS_A_DAY * len(plan.members) * 4
        expected = max(wanted, 0.3 * plan.demand) / (size * median_hours * 1.13)
        for at in self._times(expected, BATCH, day_at):
            [devices] = self.draw.choices(sizes, weights)
            length = min(self.draw.lognormvariate(math.log(median_hours * HOUR_SECONDS), 0.5), LONGEST)
            limit = length * (0.9 if self.draw.random() < 0.04 else self.draw.uniform(1.1, 2.0))
            wish = Priority.GUARANTEED
            chance = self.draw.random()
            if chance < (0.5 if plan.demand > 1.2 else 0.1):
                wish = Priority.OPPORTUNISTIC if chance < 0.08 else Priority.BORROWED
            patience = round(self.draw.expovariate(1 / (2 * DAY_SECONDS))) + HOUR_SECONDS
            whole = min(round(limit), LONGEST)
            intent = Intent(
                self.draw.choice(plan.members), plan.code, gpus(devices), length, whole, wish, patience=patience
            )
            self.runs.clock.at(at, partial(self.runs.ask, intent))

    def _plan_class(self, plan: ProjectPlan, day_at: int) -> None:
        """Of the learners most come on time, some late and some not at all; most leave a little before the end."""
        begin = day_at + 9 * HOUR_SECONDS
        if weekday(day_at) > 4 or not any(term.first_at <= begin < term.until_at for term in self.terms):
            return
        attending = self.draw.uniform(0.75, 0.97)
        for learner in plan.members[1:]:
            if self.draw.random() < attending:
                at = begin + round(min(max(self.draw.gauss(-60, 300), -540), 2400))
                length = begin + CLASS_SECONDS - at - self.draw.uniform(0, 900)
                self.runs.clock.at(at, partial(self.runs.ask, Intent(learner, plan.code, SEAT, length, patience=1800)))


def _poisson(draw: random.Random, mean: float) -> int:
    """Return how many, by Knuth's product of uniform draws; the means here are small."""
    limit, product, number = math.exp(-mean), draw.random(), 0
    while product > limit:
        product *= draw.random()
        number += 1
    return number
