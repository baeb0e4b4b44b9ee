"""What the simulated centre's operators and reviewers do: renewals, classes, failed devices, recalls, a power cut."""

from __future__ import annotations

import random
from functools import partial

from bench.centre_build import (
    BEFORE,
    CUT_KNOWN_BEFORE,
    LIMIT_PPM,
    OPERATOR,
    REFERENCE,
    REVIEWER,
    add_phase,
    build,
    reserve_term,
)
from bench.centre_demand import Demand
from bench.centre_plan import CLOUD, H100, HALL, Phase, ProjectPlan, Scale, Term, projects, terms
from bench.centre_runs import POLICY, Runs
from quotas.domain.awards import Programme
from quotas.domain.recalls import Decision, RecallState
from quotas.domain.renewals import Wish
from quotas.domain.units import DAY_SECONDS, InvalidValue
from quotas.services import pools, recall_steps, recalls, refunds, renewals
from quotas.services.renewals import Given

PROGRAMME = Programme(REFERENCE.value, LIMIT_PPM)


class Office:
    """The centre's awards and devices over the year."""

    def __init__(self, runs: Runs, scale: Scale, all_phases: list[Phase]) -> None:
        self.runs = runs
        self.database = runs.database
        self.scale = scale
        self.phases = all_phases
        self.plans = projects(scale)
        self.draw = random.Random(f"{scale.seed}/office")  # noqa: S311 - a repeatable year, no secret
        self.awards = {plan.code: plan.gflops for plan in self.plans}
        """What each project has now."""
        self._ends = {plan.code: self._award_ends() for plan in self.plans}
        course = self.plans[-1]
        self.terms = terms(scale, self._ends[course.code])
        self.demand = Demand(runs, self.plans, self.awards, self.terms, scale.seed)

    def _award_ends(self) -> list[int]:
        """Return when a project's awards end: the first two some days after a phase has begun, the last after all."""
        spread = 0.06 * self.scale.days * DAY_SECONDS
        ends = [phase.from_at + round(self.draw.uniform(0.1, 1) * spread) for phase in self.phases[1:3]]
        return [*ends, self.scale.end + 30 * DAY_SECONDS]

    def open(self) -> None:
        """The centre is set up, and what its office will do is among the events."""
        build(self.database, self.scale, self.plans, {code: ends[0] for code, ends in self._ends.items()})
        at = self.runs.clock.at
        for plan in self.plans:
            for number, ends_at in enumerate(self._ends[plan.code][:2], start=1):
                at(ends_at - 3 * DAY_SECONDS, partial(self._renew, plan, number))
        course = self.plans[-1]
        for term in self.terms:
            at(self._known_from(course, term.award), partial(self._reserve, course, term))
        last = self.phases[-1]
        at(last.from_at - CUT_KNOWN_BEFORE, partial(self._power_cut, last))

    def _known_from(self, course: ProjectPlan, award: int) -> int:
        """Return when a term is reserved: once its award runs, as windows lie within one."""
        return BEFORE + 2 * DAY_SECONDS if award == 0 else self._ends[course.code][award - 1] + 60

    def _reserve(self, course: ProjectPlan, term: Term) -> None:
        reserve_term(self.database, self.scale, course, term, self.runs.now, POLICY)

    def _renew(self, plan: ProjectPlan, number: int) -> None:
        """The PI asks for what the next phase allows; the reviewer gives it, but to those who used next to nothing."""
        if plan.code not in self.awards:
            return
        now, tally = self.runs.now, self.runs.tally
        factor = 1.0 if plan.is_course else self.phases[number].award_factor
        wish = Wish(round(plan.gflops * factor), REFERENCE.value, self._ends[plan.code][number])
        pi = plan.members[0]
        filed = renewals.file(self.database, plan.code, wish, reason="the work goes on", actor=pi, now=now)
        renewals.submit(self.database, filed.id, actor=pi, now=now)
        renewals.review(self.database, filed.id, actor=REVIEWER, now=now)
        if plan.is_idle and self.draw.random() < 0.4:
            renewals.reject(self.database, filed.id, reason="next to nothing was used", actor=REVIEWER, now=now)
            tally.others["renewals rejected"] += 1
            self.runs.clock.at(self._ends[plan.code][number - 1], partial(self.awards.pop, plan.code, None))
            return
        decision = {"reason": "as asked for", "actor": REVIEWER, "now": now}
        try:
            renewals.approve(self.database, filed.id, Given(), programme=PROGRAMME, **decision)
        except InvalidValue as invalid:
            if invalid.field != "award":
                raise
            consenting = Programme(REFERENCE.value, LIMIT_PPM, consent=True)
            renewals.approve(self.database, filed.id, Given(), programme=consenting, **decision)
            tally.others["renewals above the limit, with consent"] += 1
        tally.others["renewals approved"] += 1
        at = self._ends[plan.code][number - 1]
        self.runs.clock.at(at, partial(self.awards.__setitem__, plan.code, wish.gflops))

    def _power_cut(self, phase: Phase) -> None:
        add_phase(self.database, phase, phase.from_at, self.runs.now, self.phases[-2])

    def day(self) -> None:
        """What the office does each day, and what people will ask for on it."""
        now = self.runs.now
        if self.draw.random() < 0.12:
            at = now + self.draw.randrange(DAY_SECONDS)
            self.runs.clock.at(at, self._device_fails)
        for recall in recalls.list_recalls(self.database):
            self._recall(recall)
        self.demand.plan_day(now)

    def _device_fails(self) -> None:
        """Some devices fail at once; their runs end with their holds, and one that suffered is refunded in part."""
        runs, now = self.runs, self.runs.now
        healthy = {(pool, model): number for pool, model, _, _, number in runs.watch.phase(now).devices()}
        pool = HALL if healthy.get((HALL, H100), 0) and self.draw.random() < 0.7 else CLOUD
        count = min(self.draw.randint(1, 8), max(healthy[pool, H100] // 10, 1))
        try:
            found = pools.drain(self.database, pool, H100, count, "a node failed", actor=OPERATOR, now=now)
        except InvalidValue:
            return  # as many are out of use already
        runs.tally.others["drains"] += 1
        runs.is_dirty = True
        mended = now + round(self.draw.uniform(0.5, 3) * DAY_SECONDS)
        runs.clock.at(mended, partial(self._mended, found.id))
        hurt = [each for each in runs.recent if each[1] == H100]
        if hurt:
            run_id, _, amount = self.draw.choice(hurt)
            runs.recent.remove((run_id, H100, amount))
            given = {"reason": "a node failed", "actor": OPERATOR, "now": now}
            refunds.refund_charge(self.database, run_id, max(amount // 5, 1), **given)
            runs.tally.others["refunds"] += 1

    def _mended(self, drain: int) -> None:
        pools.undrain(self.database, drain, actor=OPERATOR, now=self.runs.now)
        self.runs.is_dirty = True

    def _recall(self, recall: recalls.Recall) -> None:
        """Some PIs object, and the reviewer decides in favour of some of them."""
        now, draw = self.runs.now, random.Random(f"{self.scale.seed}/recall/{recall.id}")  # noqa: S311 - as above
        objects, upheld = draw.random() < 0.4, draw.random() < 0.6
        if recall.state is RecallState.NOTIFIED and objects and now >= (recall.notified_at or 0) + 2 * DAY_SECONDS:
            pi = next(plan.members[0] for plan in self.plans if plan.code == recall.project)
            if recall.object_until is not None and now < recall.object_until:
                recall_steps.object_to(self.database, recall.id, "we start next month", person=pi, now=now)
        elif recall.state is RecallState.OBJECTED:
            decision = Decision.UPHELD if upheld else Decision.WITHDRAWN
            recall_steps.decide(self.database, recall.id, decision, reason="as reviewed", by=REVIEWER, now=now)
