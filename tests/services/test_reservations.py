"""Reservations asked for, checked and decided: what is refused, what does not fit, and what would instead."""

from __future__ import annotations

from itertools import pairwise

import pytest

from quotas.domain.pools import CapacityPhase
from quotas.domain.reservations import ReservationState, Roster
from quotas.domain.units import InvalidValue
from quotas.services import pools, projects, reservations
from quotas.services.reservation_fit import Assessment
from quotas.services.reservation_texts import warnings
from quotas.services.reservation_views import latest, roster, show
from quotas.services.reservations import Approval
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
