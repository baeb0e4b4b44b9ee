"""How a reservation fits: what stands against its windows, what would fit instead, and whether it can be paid."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from quotas.domain.admission import Admitted
from quotas.domain.pools import CapacityPhase
from quotas.domain.reservations import ReservationState
from quotas.domain.runs import RunKind
from quotas.services import pools, reservations
from quotas.services.reservation_fit import Alternatives, Assessment
from quotas.services.reservation_texts import warnings
from quotas.services.reservation_views import show
from quotas.services.reservations import DoesNotFit
from quotas.store.tables import device_models, pool_devices, project_profiles
from tests.services.centre import DAY, GPU_GFLOPS, POLICY, START, Centre
from tests.services.classes import (
    HOUR,
    LECTURE,
    LENGTH,
    OPENS,
    PLENTY,
    WEEK,
    approve,
    approved,
    asked,
    requested,
    sound,
    told,
)

WEEKLY = "FREQ=WEEKLY;COUNT=3"


@pytest.fixture
def course(centre: Centre) -> Centre:
    for name in ("cho", "dan"):
        centre.member("vision", name, "learner")
    centre.member("vision", "ira", "instructor")
    centre.award("vision", PLENTY)
    return centre


def check(centre: Centre, now: int = START, **changes: object) -> Assessment:
    return reservations.check(centre.database, asked(**changes), now=now, policy=POLICY)


class TestConflicts:
    """Eight devices; another class has six of them on the second Monday from 10 to 11."""

    @pytest.fixture
    def busy(self, course: Centre) -> Centre:
        course.project("other", {"zoe": "pi"})
        course.award("other", PLENTY)
        second = LECTURE + WEEK + HOUR
        number, _ = reservations.request(
            course.database,
            asked(project="other", seats=6, starts_at=second, seconds=HOUR),
            by="zoe",
            now=START,
            policy=POLICY,
        )
        approve(course, number.number)
        return course

    def test_it_says_which_window_is_short_of_how_many_seats_and_when(self, busy: Centre) -> None:
        found = check(busy, seats=4, rrule=WEEKLY)
        (short,) = found.conflicts
        assert (short.window.starts_at, short.fit, short.short) == (LECTURE + WEEK, 2, 2)
        assert (short.from_at, short.to_at) == (LECTURE + WEEK + HOUR - 600, LECTURE + WEEK + 2 * HOUR)
        assert found.alternatives == Alternatives(
            seats=2,
            earlier_at=LECTURE - 2 * HOUR - 1800,
            later_at=LECTURE + 2 * HOUR + 1800,
            pools=(),
            profiles=(),
        )

    def test_what_would_fit_instead_does_fit(self, busy: Centre) -> None:
        others = check(busy, seats=4, rrule=WEEKLY).alternatives
        assert others is not None
        assert check(busy, seats=others.seats, rrule=WEEKLY).fits
        assert not check(busy, seats=others.seats + 1, rrule=WEEKLY).fits
        for at in (others.earlier_at, others.later_at):
            assert check(busy, seats=4, rrule=WEEKLY, starts_at=at).fits

    def test_the_operator_is_refused_and_reads_what_fits(self, busy: Centre) -> None:
        number = requested(busy, seats=4, rrule=WEEKLY)
        with pytest.raises(DoesNotFit) as refused:
            approve(busy, number)
        assert str(refused.value) == (
            "windows: 1 of 3 windows do not fit in main: 2027-01-25 09:00–12:00 KST: 2 of 4 seats short from"
            " 2027-01-25 09:50 KST to 2027-01-25 11:00 KST. What would fit instead: 2 seats in every window; all seats,"
            " begun earlier, the first at 2027-01-18 06:30 KST; all seats, begun later, the first at 2027-01-18 11:30"
            " KST"
        )
        assert "2027-01-25 09:00–12:00 KST: 4석 중 2석 부족 (2027-01-25 09:50 KST ~ 2027-01-25 11:00 KST)" in (
            refused.value.message_ko
        )
        assert show(busy.database, number).state is ReservationState.REQUESTED
        assert len(approve(busy, number, seats=2).windows) == 3
        sound(busy, START)

    def test_windows_that_do_not_fit_can_be_left_out(self, busy: Centre) -> None:
        found = approve(busy, requested(busy, seats=4, rrule=WEEKLY), leave_out=True)
        assert [each.state.value for each in found.windows] == ["scheduled", "cancelled", "scheduled"]
        (notice,) = told(busy, "ada", "seats_decided")
        assert "windows: 2" in notice.text_en

    def test_leaving_all_out_is_refused(self, busy: Centre) -> None:
        number = requested(busy, seats=9)
        with pytest.raises(DoesNotFit, match="1 of 1 windows do not fit"):
            approve(busy, number, leave_out=True)

    def test_another_pool_and_another_profile(self, busy: Centre) -> None:
        by = {"actor": "operator", "now": START}
        pools.add_pool(busy.database, "annex", "별관", "Annex", simulated=True, **by)
        with busy.database.write() as transaction:
            transaction.insert(
                device_models,
                {"code": "slice", "name": "Slice", "kind": "gpu", "memory_bytes": 1, "units": 1, "units_total": 1},
            )
        pools.add_phase(busy.database, "annex", CapacityPhase("h100", START, 4, 4, 4), **by)
        found = check(busy, seats=4, rrule=WEEKLY)
        assert (found.pool, found.fits) == ("annex", True)  # where nobody names one, the pool in which it fits
        found = check(busy, seats=4, rrule=WEEKLY, pool="main")
        assert found.alternatives is not None
        assert found.alternatives.pools == ("annex",)
        found = check(busy, seats=3, rrule=WEEKLY, pool="main", profile="gpu-2")
        assert found.alternatives is not None
        assert found.alternatives.profiles == (("gpu", "annex"),)

    def test_where_nothing_fits_it_says_so(self, course: Centre) -> None:
        found = check(course, seats=9)
        assert found.alternatives is not None
        assert found.alternatives.seats == 8
        course.phase(0, LECTURE - DAY)
        found = check(course, seats=1)
        assert found.alternatives is not None
        assert found.alternatives.nothing
        with pytest.raises(DoesNotFit, match="What would fit instead: nothing of this length on these days"):
            approve(course, requested(course, seats=1))

    def test_phases_to_come_count(self, course: Centre) -> None:
        course.phase(5, LECTURE + WEEK + HOUR)
        found = check(course, seats=6, rrule=WEEKLY)
        assert [fit.fit for fit in found.windows] == [6, 5, 5]
        assert (found.windows[1].from_at, found.windows[1].to_at) == (LECTURE + WEEK + HOUR, LECTURE + WEEK + LENGTH)
        assert check(course, seats=5, rrule=WEEKLY).fits

    def test_drained_devices_do_not_count(self, course: Centre) -> None:
        with course.database.write() as transaction:
            transaction.run(pool_devices.update().values(drained=3))
        assert [fit.fit for fit in check(course, seats=8).windows] == [5]

    def test_a_batch_run_that_reaches_into_it_counts_as_far_as_it_does(self, course: Centre) -> None:
        now = LECTURE - HOUR
        batch = course.admitted(now, profile="gpu-2", kind=RunKind.BATCH, seconds=2 * HOUR)
        (short,) = check(course, now, seats=8).conflicts
        assert (short.fit, short.from_at, short.to_at) == (6, OPENS, batch.until_at)
        assert check(course, now, seats=6).fits

    def test_seats_of_an_open_window_count_claimed_or_not(self, course: Centre) -> None:
        approved(course, seats=6)
        reservations.tick(course.database, OPENS, POLICY)
        for name in ("bob", "cho"):
            assert isinstance(course.admitted(OPENS, person=name), Admitted)
        found = check(course, OPENS, seats=4, starts_at=LECTURE + HOUR)
        assert [fit.fit for fit in found.windows] == [2]


class TestTheBudget:
    def test_a_budget_that_pays_less_is_warned_of_and_approved(self, centre: Centre) -> None:
        each = 4 * LENGTH * GPU_GFLOPS
        centre.award("vision", 2 * each + each // 2)
        found = check(centre, rrule="FREQ=WEEKLY;COUNT=5")
        assert (found.budget.cost, found.budget.payable, found.budget.is_enough) == (5 * each, 2, False)
        assert found.fits
        ((english, korean),) = warnings(found)
        assert english.startswith("The budget pays 2 of 5 windows if every seat is used: they cost 60.000 TF·h, 30.000")
        assert korean.startswith("모든 좌석을 사용하면 5회 중 2회만 가능합니다")
        assert approved(centre, rrule="FREQ=WEEKLY;COUNT=5").window_count == 5

    def test_what_is_reserved_already_is_taken_off(self, centre: Centre) -> None:
        each = 4 * LENGTH * GPU_GFLOPS
        centre.award("vision", 3 * each)
        approved(centre, seats=4, rrule="FREQ=WEEKLY;COUNT=2")
        found = check(centre, starts_at=LECTURE + DAY, rrule="FREQ=WEEKLY;COUNT=2")
        assert (found.budget.promised, found.budget.payable) == (2 * each, 1)

    def test_a_roster_longer_than_the_seats_is_warned_of(self, course: Centre) -> None:
        found = check(course, seats=2, roster=("bob", "cho", "dan"))
        assert [english for english, _ in warnings(found)] == [
            "3 are on the roster for 2 seats: first come, first served."
        ]
        assert warnings(check(course, seats=5)) == []


def test_a_profile_of_another_project_is_not_offered_as_an_alternative(course: Centre) -> None:
    with course.database.write() as transaction:
        transaction.run(project_profiles.delete())
        transaction.run(
            insert(project_profiles).values(project_id=course.projects["vision"], profile_id=course.profiles["gpu-2"])
        )
    found = check(course, seats=5, profile="gpu-2")
    assert found.alternatives is not None
    assert found.alternatives.profiles == ()
