"""What the seats cost that nobody claims: held at the opening, charged at the release, never more than was held."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import RunKind
from quotas.services import refunds, reports, runs
from quotas.store.tables import allocations
from tests.services.centre import CPU_GFLOPS, DAY, GPU_GFLOPS, POLICY, Centre
from tests.services.classes import (
    ENDS,
    HOUR,
    LECTURE,
    OPENS,
    PLENTY,
    RELEASE,
    approved,
    leave,
    noted,
    seats,
    seats_runs,
    sound,
    tick,
)

LEARNERS = ("bob", "cho", "dan", "eun", "fay")


@pytest.fixture
def course(centre: Centre) -> Centre:
    """The project has five learners and money; the pool has eight devices."""
    for name in LEARNERS[1:]:
        centre.member("vision", name, "learner")
    centre.award("vision", PLENTY, ceiling=2 * GPU_GFLOPS)
    return centre


class TestIdleTime:
    RATE = GPU_GFLOPS

    def test_unclaimed_seats_are_charged_from_the_start_to_the_release(self, course: Centre) -> None:
        approved(course, seats=4)
        tick(course, OPENS)
        held = 4 * POLICY.seats_release * self.RATE
        assert course.balances(1)["held"] == held
        sound(course, OPENS)
        course.admitted(OPENS, person="bob")
        tick(course, RELEASE)
        assert course.balances(1)["spent"] == 3 * POLICY.seats_release * self.RATE
        sound(course, RELEASE)
        (row,) = seats_runs(course)
        run = runs.run(course.database, row.id)
        assert run is not None
        assert (run.kind, run.person, run.project, run.profile) == (RunKind.SEATS, "ada", "vision", "gpu")
        assert (run.started_at, run.finished_at) == (LECTURE, RELEASE)
        assert (run.seconds, run.charge, run.overrun) == (2_700, 2_700 * self.RATE, 0)
        kinds = [entry.kind.value for entry in reports.journal(course.database, "vision") if entry.run_id == row.id]
        assert kinds == ["hold", "release", "charge"]
        assert [each.id for each in runs.runs(course.database, "vision")][-1] == row.id

    def test_when_all_are_claimed_nothing_is_charged(self, course: Centre) -> None:
        approved(course, seats=2)
        tick(course, OPENS)
        for name in LEARNERS[:2]:
            course.admitted(OPENS, person=name)
        tick(course, RELEASE)
        assert course.balances(1)["spent"] == 0
        (row,) = seats_runs(course)
        assert runs.run(course.database, row.id).charge == 0  # type: ignore[union-attr]
        sound(course, RELEASE)

    def test_where_it_is_not_charged_nothing_is_held(self, course: Centre) -> None:
        approved(course, charge_idle=False)
        tick(course, OPENS)
        assert course.balances(1)["held"] == 0
        tick(course, RELEASE)
        tick(course, ENDS)
        assert seats_runs(course) == []
        assert course.balances(1)["spent"] == 0

    def test_no_more_is_charged_than_the_balance_allowed(self, centre: Centre) -> None:
        left = 1_000 * self.RATE + 7
        centre.award("vision", left)
        approved(centre, seats=4)
        tick(centre, OPENS)
        assert (centre.balances(1)["available"], centre.balances(1)["held"]) == (7, left - 7)
        tick(centre, RELEASE)
        assert centre.balances(1)["spent"] == left - 7
        assert centre.balances(1)["overrun"] == 0
        sound(centre, RELEASE)

    def test_with_nothing_left_the_seats_are_kept_all_the_same(self, centre: Centre) -> None:
        centre.award("vision", self.RATE - 1)
        number = approved(centre).number
        tick(centre, OPENS)
        assert seats(centre, number) == ("open", 4, 0, 0)
        assert seats_runs(centre) == []
        assert noted(centre, "idle seats not held") == 1
        sound(centre, OPENS)

    def test_what_was_late_is_not_charged(self, course: Centre) -> None:
        approved(course, seats=1)
        tick(course, LECTURE + HOUR)
        tick(course, LECTURE + 3 * HOUR - 60)
        assert course.balances(1)["spent"] == POLICY.seats_release * self.RATE
        (row,) = seats_runs(course)
        assert (row.started_at, row.finished_at) == (LECTURE + HOUR, LECTURE + HOUR + POLICY.seats_release)

    def test_a_suspended_award_is_not_charged(self, course: Centre) -> None:
        approved(course)
        with course.database.write() as transaction:
            transaction.run(update(allocations).values(suspended_at=LECTURE - DAY))
        tick(course, OPENS)
        assert seats_runs(course) == []
        refused = course.reserve(OPENS, person="bob")
        assert isinstance(refused, Refused)
        assert refused.code is Code.AWARD_SUSPENDED

    def test_the_monthly_report_shows_it_as_idle(self, course: Centre) -> None:
        approved(course, seats=3, profile="gpu-2")
        tick(course, OPENS)
        assert reports.status(course.database, OPENS).open_runs == 0
        run = course.admitted(OPENS, person="bob", profile="gpu-2")
        tick(course, RELEASE)
        leave(course, run.run_id, OPENS, OPENS + 1000)
        (line,) = reports.monthly(course.database, "2027-01", now=ENDS).lines
        idle = 2 * 2 * POLICY.seats_release
        assert (line.device_model, line.runs) == ("h100", 1)
        assert (line.idle_device_seconds, line.device_seconds) == (idle, idle + 2 * 1000)
        assert line.charged == line.used == (idle + 2 * 1000) * GPU_GFLOPS

    def test_it_can_be_refunded(self, course: Centre) -> None:
        approved(course, seats=1)
        tick(course, OPENS)
        tick(course, RELEASE)
        (row,) = seats_runs(course)
        charge = POLICY.seats_release * self.RATE
        refunds.refund_charge(course.database, row.id, charge, reason="a fault", actor="operator", now=RELEASE)
        assert course.balances(1)["spent"] == 0
        sound(course, RELEASE)

    def test_the_rate_is_that_of_the_opening(self, course: Centre) -> None:
        approved(course, seats=1)
        tick(course, OPENS)
        course.rate_card({"gpu": 5 * GPU_GFLOPS, "gpu-2": 1, "cpu": CPU_GFLOPS}, OPENS + 1)
        tick(course, RELEASE)
        assert course.balances(1)["spent"] == POLICY.seats_release * self.RATE
        sound(course, RELEASE)
