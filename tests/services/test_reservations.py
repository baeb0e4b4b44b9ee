"""Reservations asked for, checked and decided: what is refused, what does not fit, and what would instead."""

from __future__ import annotations

from itertools import pairwise

import pytest
from sqlalchemy import insert

from quotas.domain.admission import Admitted
from quotas.domain.pools import CapacityPhase
from quotas.domain.reservations import ReservationState, Roster
from quotas.domain.runs import RunKind
from quotas.domain.units import InvalidValue
from quotas.services import pools, projects, reservations
from quotas.services.reservation_fit import Alternatives, Assessment
from quotas.services.reservation_texts import warnings
from quotas.services.reservation_views import latest, roster, show
from quotas.services.reservations import Approval, DoesNotFit
from quotas.store.tables import device_models, pool_devices, project_profiles
from tests.services.centre import DAY, GPU_GFLOPS, POLICY, START, Centre
from tests.services.classes import (
    ENDS,
    HOUR,
    LECTURE,
    LENGTH,
    OPENS,
    PLENTY,
    WEEK,
    approve,
    approved,
    asked,
    noted,
    requested,
    sound,
    told,
)

END = START + 365 * DAY
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


def refusal(centre: Centre, now: int = START, **changes: object) -> str:
    with pytest.raises(InvalidValue) as refused:
        check(centre, now, **changes)
    assert refused.value.message_ko != refused.value.message_en
    return str(refused.value)


class TestAsking:
    def test_it_waits_for_the_decision(self, course: Centre) -> None:
        found, assessment = reservations.request(
            course.database, asked(rrule=WEEKLY, roster=("cho", "bob")), by="ira", now=START, policy=POLICY
        )
        assert (found.state, found.requester, found.pool, found.windows) == (
            ReservationState.REQUESTED,
            "ira",
            "main",
            (),
        )
        assert (found.zone, found.rrule, found.charge_idle) == ("Asia/Seoul", WEEKLY, True)
        assert [each.username for each in roster(course.database, found.number)] == ["bob", "cho"]
        assert assessment.fits
        assert len(assessment.windows) == 3
        assert noted(course, "reservation requested") == 1
        assert latest(course.database, "vision")[0].number == found.number

    def test_the_check_stores_nothing(self, course: Centre) -> None:
        assert check(course, rrule=WEEKLY).fits
        assert latest(course.database) == []

    @pytest.mark.parametrize("person", ["bob", "cho", "zoe", "nobody"])
    def test_only_a_pi_or_an_instructor_asks(self, course: Centre, person: str) -> None:
        course.person("zoe")
        with pytest.raises(InvalidValue, match=r"^by: "):
            requested(course, by=person)

    def test_at_any_hour_of_a_year_in_seoul(self, course: Centre) -> None:
        found = approved(course, rrule="FREQ=WEEKLY;COUNT=52", now=START)
        starts = [each.starts_at for each in found.windows]
        assert len(starts) == 52
        assert {later - earlier for earlier, later in pairwise(starts)} == {WEEK}

    def test_over_a_change_of_clocks_in_berlin(self, course: Centre) -> None:
        found = approved(course, zone="Europe/Berlin", rrule="FREQ=WEEKLY;COUNT=12", seconds=HOUR)
        starts = [each.starts_at for each in found.windows]
        steps = [later - earlier for earlier, later in pairwise(starts)]
        assert steps.count(WEEK - HOUR) == 1  # 2027-03-28
        assert steps.count(WEEK) == 10


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"seats": 0}, "seats: must be 1 to 1000, not 0"),
            ({"seats": -4}, "seats: must be 1 to 1000, not -4"),
            ({"seats": 10**20}, "seats: must be 1 to 1000"),
            ({"seconds": 0}, "length: must be 15 min to 336 h, not 0 s"),
            ({"seconds": -60}, "length: must be 15 min to 336 h"),
            ({"seconds": 10**20}, "length: must be 15 min to 336 h"),
            ({"title_ko": " "}, "title_ko: must not be empty"),
            ({"title_en": "x" * 201}, "title_en: must be at most 200 characters"),
            ({"zone": "Asia/Atlantis"}, "timezone: 'Asia/Atlantis' is not a time zone"),
            ({"rrule": "FREQ=WEEKLY"}, "rrule: never ends"),
        ],
    )
    def test_before_anything_is_read(self, course: Centre, changes: dict[str, object], says: str) -> None:
        if "rrule" in changes:
            assert refusal(course, **changes).startswith(says)
        else:
            with pytest.raises(InvalidValue) as refused:
                asked(**changes)
            assert str(refused.value).startswith(says)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"project": "moon"}, "project: there is no 'moon'"),
            ({"profile": "moon"}, "profile: there is no 'moon'"),
            ({"profile": "cpu"}, "profile: has no device to reserve; with devices: gpu-2, gpu"),
            ({"pool": "moon"}, "pool: 'moon' has no h100; pools that have: main"),
            ({"starts_at": START - 1}, "starts: must not be in the past: 2027-01-15 16:59 KST; now it is 2027-"),
            ({"starts_at": END - LENGTH + 1}, "starts: the window at 2028-01-15 14:00 KST would end after the award"),
            ({"rrule": "FREQ=YEARLY;COUNT=2"}, "rrule: the window at 2028-01-18 09:00 KST would end after the award"),
            ({"rrule": "FREQ=DAILY;COUNT=3", "seconds": DAY + 1}, "length: the windows at 2027-01-18 09:00 KST and"),
            ({"rrule": "FREQ=DAILY;COUNT=400"}, "rrule: COUNT must be 1 to 366"),
            ({"rrule": "FREQ=MONTHLY;BYMONTHDAY=30;BYMONTH=2;COUNT=2"}, "rrule: has no instance"),
            (
                {"roster": ("bob", "zoe", "nobody")},
                "roster: only members of the project can be on it; these are none: zoe, nobody",
            ),
            ({"roster": ()}, "roster: names nobody"),
        ],
    )
    def test_with_the_field_and_what_is_allowed(self, course: Centre, changes: dict[str, object], says: str) -> None:
        course.person("zoe")
        assert refusal(course, **changes).startswith(says)
        with pytest.raises(InvalidValue):
            requested(course, **changes)
        assert latest(course.database) == []

    def test_a_profile_that_is_not_offered(self, course: Centre) -> None:
        projects.withdraw_profile(course.database, "vision", "gpu", actor="operator", now=START)
        assert refusal(course) == "profile: is not offered to the project; offered: gpu-2"

    def test_a_profile_without_a_rate(self, course: Centre) -> None:
        course.rate_card({"gpu-2": GPU_GFLOPS}, START + 60)
        assert refusal(course, START + 60) == "profile: has no published rate; with a rate: gpu-2"

    def test_before_the_award_starts(self, centre: Centre) -> None:
        centre.award("vision", PLENTY, starts_at=LECTURE + 1)
        assert refusal(centre).startswith("starts: must not be before the award starts at 2027-01-18 09:00 KST")

    def test_a_project_without_an_award(self, centre: Centre) -> None:
        assert refusal(centre) == "project: vision has no award"

    def test_an_award_that_has_ended(self, centre: Centre) -> None:
        centre.award("vision", PLENTY, ends_at=START + DAY)
        assert refusal(centre, START + DAY) == "project: the award ended at 2027-01-16 17:00 KST"


class TestDeciding:
    def test_approved_its_windows_are_to_come(self, course: Centre) -> None:
        number = requested(course, rrule=WEEKLY, by="ira")
        found = approve(course, number, reason="room 101")
        assert (found.state, found.decided_by, found.reason) == (ReservationState.APPROVED, "operator", "room 101")
        assert [each.state.value for each in found.windows] == ["scheduled"] * 3
        first = found.windows[0]
        assert (first.opens_at, first.starts_at, first.release_at, first.ends_at) == (
            OPENS,
            LECTURE,
            LECTURE + POLICY.seats_release,
            ENDS,
        )
        (notice,) = told(course, "ira", "seats_decided")
        assert "4 × gpu, windows: 3, the first 2027-01-18 09:00–12:00 KST. Reason: room 101" in notice.text_en
        assert "gpu 4석 × 3회, 첫 회 2027-01-18 09:00–12:00 KST. 사유: room 101" in notice.text_ko

    def test_with_other_seats_in_another_pool(self, course: Centre) -> None:
        pools.add_pool(course.database, "annex", "별관", "Annex", simulated=True, actor="operator", now=START)
        pools.add_phase(course.database, "annex", CapacityPhase("h100", START, 2, 2, 2), actor="operator", now=START)
        found = approve(course, requested(course, seats=8), seats=2, pool="annex")
        assert (found.seats, found.pool, found.windows[0].seats) == (2, "annex", 2)

    def test_rejected_the_requester_is_told_why(self, course: Centre) -> None:
        number = requested(course)
        with pytest.raises(InvalidValue, match="reason: must say why"):
            reservations.reject(course.database, number, reason=" ", actor="operator", now=START)
        found = reservations.reject(course.database, number, reason="no room", actor="operator", now=START)
        assert (found.state, found.windows) == (ReservationState.REJECTED, ())
        (notice,) = told(course, "ada", "seats_decided")
        assert notice.text_en.endswith("was not approved. Reason: no room")

    def test_a_decision_is_taken_once(self, course: Centre) -> None:
        number = requested(course)
        approve(course, number)
        with pytest.raises(InvalidValue, match="is approved and cannot become approved; allowed: cancelled, ended"):
            approve(course, number)
        with pytest.raises(InvalidValue, match="is approved and cannot become rejected"):
            reservations.reject(course.database, number, reason="x", actor="operator", now=START)
        with pytest.raises(InvalidValue, match="reservation: there is no '77'"):
            approve(course, 77)

    def test_what_has_begun_by_then_is_left_out(self, course: Centre) -> None:
        number = requested(course, rrule=WEEKLY)
        _, assessment = reservations.approve(
            course.database, number, Approval(), actor="operator", now=LECTURE + 1, policy=POLICY
        )
        assert assessment.passed == 1
        assert [each.starts_at for each in show(course.database, number).windows] == [
            LECTURE + WEEK,
            LECTURE + 2 * WEEK,
        ]
        assert warnings(assessment)[-1][0] == "Windows that have begun, and are left out: 1."
        late = requested(course)
        with pytest.raises(InvalidValue, match="starts: all its windows have begun"):
            approve(course, late, now=LECTURE + 1)

    def test_a_request_can_be_withdrawn(self, course: Centre) -> None:
        number = requested(course)
        found = reservations.cancel(course.database, number, reason="", actor="ada", now=START)
        assert found.state is ReservationState.CANCELLED
        assert told(course, "bob", "seats_cancelled") == []


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


def test_the_newest_come_first_and_say_when_the_next_window_is(course: Centre) -> None:
    first = approved(course, rrule=WEEKLY).number
    second = requested(course)
    listed = latest(course.database, "vision")
    assert [(each.number, each.next_at, each.window_count) for each in listed] == [
        (second, None, 0),
        (first, LECTURE, 3),
    ]
    assert latest(course.database, "other") == []
    assert listed[0].roster is Roster.MEMBERS
