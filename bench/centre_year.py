"""The simulated year: events in order of time, the loop's rounds between them, and a check after each step."""

from __future__ import annotations

from collections.abc import Callable

from bench.centre_office import Office
from bench.centre_plan import START, Scale, phases
from bench.centre_runs import POLICY, Clock, Runs
from bench.centre_watch import Watch
from quotas.domain.recalls import RecallPolicy
from quotas.domain.units import DAY_SECONDS, HOUR_SECONDS
from quotas.services import periodic, preemption, pressure, refunds, reservations
from quotas.store import reports as reports_store
from quotas.store.database import Database

ROUND_SECONDS = 600
"""How often the loop goes round here; the platform's own goes round every few seconds."""
STEP_SECONDS = 1_200
"""How often the queue takes a step where something came free, and how often at all:"""
IDLE_STEP_SECONDS = 3_600


class Year:
    """A centre of a scale in an empty, migrated database, from its first day to its last."""

    def __init__(self, database: Database, scale: Scale) -> None:
        self.database = database
        self.scale = scale
        self.phases = phases(scale)
        self.clock = Clock(START)
        self.watch = Watch(database, self.phases)
        self.runs = Runs(database, self.clock, self.watch, scale.seed)
        self.office = Office(self.runs, scale, self.phases)
        self.jobs = periodic.jobs(RecallPolicy())

    def run(self, told: Callable[[int], None] = lambda _day: None) -> None:
        """The year has passed, and nothing is open any more; `told` gets the number of each day that is over.

        Raises Broken where an invariant does not hold.
        """
        self.office.open()
        for number in range(self.scale.days):
            self.clock.at(self.scale.day(number), self.office.day)
            self.clock.at(self.scale.day(number), self._count_awards)
        self.clock.at(START, self._round)
        self.clock.at(START, self._hour)
        day = 0
        while True:
            self.watch.until(min(self.clock.peek(), self.scale.end))
            while self.scale.day(day + 1) <= min(self.clock.peek(), self.scale.end):
                day += 1
                if day < self.scale.days:
                    self.watch.check_all(self.scale.day(day))
                    told(day)
            act = self.clock.next(self.scale.end)
            if act is None:
                break
            act()
            self.watch.check(self.clock.now)
        self.runs.stop_all()
        refunds.expire_ended(self.database, self.clock.now)
        self.watch.check(self.clock.now)
        self.watch.check_all(self.clock.now)
        told(self.scale.days)

    def _count_awards(self) -> None:
        with self.database.read() as transaction:
            self.watch.awarded_gflops = reports_store.awarded_gflops(transaction, self.clock.now)

    def _round(self) -> None:
        """One round of the loop that goes on beside the hub; what a round would do for each run is among the events."""
        now = self.clock.now
        self.clock.at(now + ROUND_SECONDS, self._round)
        if reservations.tick(self.database, now, POLICY):
            self.runs.is_dirty = True
        pressure.relieve(self.database, now, POLICY)
        preemption.spare_in_vain(self.database, now)
        if (self.runs.is_dirty and now % STEP_SECONDS == 0) or now % IDLE_STEP_SECONDS == 0:
            self.runs.step()

    def _hour(self) -> None:
        now = self.clock.now
        self.clock.at(now + HOUR_SECONDS, self._hour)
        while periodic.run(self.database, self.jobs, now):
            continue
        if now % DAY_SECONDS < HOUR_SECONDS:
            refunds.expire_ended(self.database, now)
