"""Random walks of classes, servers, batch runs and lost devices: every invariant holds after each step."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from quotas.domain.admission import Admitted
from quotas.domain.extension import Standing
from quotas.domain.priorities import Priority
from quotas.domain.reservations import ReservationState, WindowState
from quotas.domain.rosters import Names
from quotas.domain.runs import Outcome, RunKind
from quotas.domain.units import InvalidValue
from quotas.services import admission, check, pools, preemption, pressure, reservations, rosters
from quotas.services.reservation_views import ReservationView, latest, show
from quotas.services.reservations import Approval
from quotas.store import runs as runs_store
from tests.databases import Databases
from tests.services import centre as small
from tests.services.centre import DAY, GPU_GFLOPS, POLICY, START
from tests.services.classes import asked, devices

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
WALKS, STEPS = (2_000, 60) if NIGHTLY else (60, 40)
LEARNERS = ("bob", "cho", "dan", "eun", "fay", "gil")
OTHERS = ("zoe", "yan", "xia")
PICK = st.integers(0, 63)
RULES = st.sampled_from([None, None, "FREQ=DAILY;COUNT=3", "FREQ=DAILY;BYHOUR=9,10,11;COUNT=4"])


class Walk(RuleBasedStateMachine):
    """Two projects on eight devices; one of them has classes."""

    databases: Databases

    @initialize(budget=st.sampled_from([10**9, 40_000, 5_000]))
    def open_the_centre(self, budget: int) -> None:
        self.centre = small.found(self.databases.migrated())
        self.database = self.centre.database
        for name in LEARNERS[1:]:
            self.centre.member("vision", name, "learner")
        self.centre.project("other", dict.fromkeys(OTHERS, "member"))
        self.centre.award("vision", budget * GPU_GFLOPS, ceiling=3 * GPU_GFLOPS, ends_at=START + 12 * DAY)
        self.centre.award("other", 10**9 * GPU_GFLOPS)
        self.now = START + 16 * 3600  # 09:00 in Seoul
        self.drains: list[int] = []

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.databases.drop(self.database)

    def _open_runs(self) -> list[Any]:
        with self.database.read() as transaction:
            return [row for row in runs_store.open_runs(transaction) if row.kind != RunKind.SEATS.value]

    def _reservations(self, *states: ReservationState) -> list[ReservationView]:
        return [each for each in latest(self.database) if each.state in states]

    @rule(seconds=st.sampled_from([60, 300, 600, 900, 3_600, 6 * 3_600, DAY]))
    def time_passes(self, seconds: int) -> None:
        """The loop comes by at the end, late or not."""
        self.now += seconds
        reservations.tick(self.database, self.now, POLICY)
        pressure.relieve(self.database, self.now, POLICY)
        preemption.spare_in_vain(self.database, self.now)
        for row in self._open_runs():
            admission.seen(self.database, row.id, self.now)
            extension = admission.extend(self.database, row.id, self.now, POLICY)
            if extension.standing is Standing.ENDING and (extension.stop_at or 0) <= self.now:
                self._settle(row.id)

    def _settle(self, run_id: str) -> None:
        ended = admission.Ended(None, self.now, Outcome.STOPPED)
        admission.settle(self.database, run_id, ended, self.now)

    @rule(
        seats=st.integers(1, 9),
        count=st.sampled_from(["gpu", "gpu", "gpu-2"]),
        begins=st.sampled_from([60, 700, 1_800, 7_200, 86_400]),
        seconds=st.sampled_from([900, 3_600, 7_200]),
        rrule=RULES,
        charge=st.booleans(),
        roster=st.sampled_from([None, ("bob", "cho"), LEARNERS]),
        leave_out=st.booleans(),
    )
    def a_class_is_reserved(
        self,
        seats: int,
        count: str,
        begins: int,
        seconds: int,
        rrule: str | None,
        charge: bool,
        roster: tuple[str, ...] | None,
        leave_out: bool,
    ) -> None:
        values = {"profile": count, "seats": seats, "starts_at": self.now + begins, "seconds": seconds}
        try:
            wanted = asked(**values, rrule=rrule, charge_idle=charge, roster=roster)
            made, found = reservations.request(self.database, wanted, by="ada", now=self.now, policy=POLICY)
        except InvalidValue:
            return
        try:
            approval = Approval(leave_out=leave_out)
            reservations.approve(self.database, made.number, approval, actor="op", now=self.now, policy=POLICY)
        except reservations.DoesNotFit as refused:
            assert not found.fits
            others = refused.assessment.alternatives
            assert others is not None
            if others.seats:  # what is said to fit does
                less = Approval(seats=others.seats)
                reservations.approve(self.database, made.number, less, actor="op", now=self.now, policy=POLICY)
            return
        assert found.fits or leave_out

    @rule(pick=PICK, whole=st.booleans())
    def a_class_is_cancelled(self, pick: int, whole: bool) -> None:
        found = self._reservations(ReservationState.APPROVED, ReservationState.REQUESTED)
        if not found:
            return
        number = found[pick % len(found)].number
        windows = [each for each in show(self.database, number).windows if each.state is not WindowState.ENDED]
        by = {"reason": "", "actor": "op"}
        if whole or not windows:
            reservations.cancel(self.database, number, **by, now=self.now)
        elif windows[pick % len(windows)].state is not WindowState.CANCELLED:
            window = windows[pick % len(windows)].id
            reservations.cancel_window(self.database, number, window, **by, now=self.now)

    @rule(pick=PICK, names=st.lists(st.sampled_from(LEARNERS), min_size=1))
    def a_roster_changes(self, pick: int, names: list[str]) -> None:
        found = self._reservations(ReservationState.APPROVED)
        if found:
            number = found[pick % len(found)].number
            rosters.replace(self.database, number, Names(tuple(dict.fromkeys(names))), actor="op", now=self.now)

    @rule(person=st.sampled_from(LEARNERS), profile=st.sampled_from(["gpu", "gpu", "gpu-2", "cpu"]))
    def a_learner_starts(self, person: str, profile: str) -> None:
        decision = self.centre.reserve(self.now, person=person, profile=profile)
        if isinstance(decision, Admitted):
            admission.started(self.database, decision.run_id, self.now)
            assert (decision.priority is Priority.RESERVED) == (decision.window_id is not None)

    @rule(person=st.sampled_from(OTHERS), batch=st.booleans(), seconds=st.sampled_from([600, 7_200, DAY]))
    def another_starts(self, person: str, batch: bool, seconds: int) -> None:
        kind = RunKind.BATCH if batch else RunKind.NOTEBOOK
        length = seconds if batch else None
        decision = self.centre.reserve(self.now, person=person, project="other", kind=kind, seconds=length)
        if isinstance(decision, Admitted):
            assert decision.priority is not Priority.RESERVED
            admission.started(self.database, decision.run_id, self.now)

    @precondition(lambda self: self._open_runs())
    @rule(pick=PICK)
    def somebody_stops(self, pick: int) -> None:
        found = self._open_runs()
        self._settle(found[pick % len(found)].id)

    @precondition(lambda self: len(self.drains) < 2)
    @rule(count=st.integers(1, 3))
    def devices_fail(self, count: int) -> None:
        made = pools.drain(self.database, "main", "h100", count, "a fault", actor="op", now=self.now)
        self.drains.append(made.id)

    @precondition(lambda self: self.drains)
    @rule()
    def devices_come_back(self) -> None:
        pools.undrain(self.database, self.drains.pop(), actor="op", now=self.now)

    @invariant()
    def everything_is_sound(self) -> None:
        if hasattr(self, "database"):
            assert check.findings(self.database, self.now) == []
            assert min(devices(self.centre)) >= 0


@pytest.mark.timeout(0 if NIGHTLY else 600)
def test_walks(databases: Databases) -> None:
    Walk.databases = databases
    walks = settings(
        max_examples=WALKS,
        stateful_step_count=STEPS,
        phases=tuple(Phase) if NIGHTLY else (Phase.reuse, Phase.generate),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(Walk, settings=walks)
