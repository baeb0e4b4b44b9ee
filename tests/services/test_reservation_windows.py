"""The windows of a reservation from their opening to their end: seats, devices, idle time and notices."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from quotas.domain.admission import Admitted
from quotas.domain.priorities import Priority
from quotas.domain.refusals import Code, Refused
from quotas.domain.reservations import ReservationState
from quotas.domain.runs import RunKind
from quotas.services import admission, projects, reservations
from quotas.services.reservation_views import show
from quotas.store.tables import allocations
from tests.services.centre import FIRST_HOLD, GPU_GFLOPS, POLICY, START, Centre
from tests.services.classes import (
    ENDS,
    HOUR,
    LECTURE,
    LENGTH,
    OPENS,
    PLENTY,
    RELEASE,
    WEEK,
    approved,
    devices,
    leave,
    noted,
    seats,
    seats_runs,
    sound,
    tick,
    told,
    window,
)

LEARNERS = ("bob", "cho", "dan", "eun", "fay")


@pytest.fixture
def course(centre: Centre) -> Centre:
    """The project has five learners and money; the pool has eight devices."""
    for name in LEARNERS[1:]:
        centre.member("vision", name, "learner")
    centre.award("vision", PLENTY, ceiling=2 * GPU_GFLOPS)
    return centre


class TestALecture:
    def test_from_opening_to_end(self, course: Centre) -> None:
        number = approved(course, seats=4).number
        assert tick(course, OPENS - 1) == {}
        assert seats(course, number) == ("scheduled", 0, 0, 0)
        assert tick(course, OPENS) == {"opened": 1}
        assert seats(course, number) == ("open", 4, 0, 0)
        assert devices(course) == (0, 4)
        runs_of = {name: course.admitted(OPENS + 60, person=name).run_id for name in LEARNERS[:3]}
        assert seats(course, number) == ("open", 1, 3, 3)
        assert devices(course) == (3, 1)
        sound(course, OPENS + 60)
        assert tick(course, RELEASE - 1) == {}
        assert tick(course, RELEASE) == {"released": 1}
        assert seats(course, number) == ("released", 0, 3, 3)
        assert devices(course) == (3, 0)
        assert window(course, number).released == 1
        for run_id in runs_of.values():
            admission.started(course.database, run_id, OPENS + 60)
            leave(course, run_id, OPENS + 60, ENDS - 120)
        assert devices(course) == (0, 3)  # who claimed a seat may come back to the end
        assert tick(course, ENDS) == {"ended": 1}
        assert seats(course, number) == ("ended", 0, 3, 0)
        assert devices(course) == (0, 0)
        assert show(course.database, number).state is ReservationState.ENDED
        sound(course, ENDS)

    def test_a_seat_is_held_to_the_end_without_ceiling_or_queue(self, course: Centre) -> None:
        approved(course, seats=5)
        tick(course, OPENS)
        admitted = [course.admitted(OPENS, person=name) for name in LEARNERS]
        assert {each.priority for each in admitted} == {Priority.RESERVED}
        assert {each.until_at for each in admitted} == {ENDS}
        assert course.in_use(1) == (0, 5)  # the ceiling allows two
        other = course.reserve(OPENS, person="ada", profile="gpu-2")
        assert isinstance(other, Admitted)
        assert (other.priority, other.window_id) == (Priority.GUARANTEED, None)
        sound(course, OPENS)

    def test_ticking_again_changes_nothing(self, course: Centre) -> None:
        number = approved(course).number
        tick(course, OPENS)
        before = seats(course, number), devices(course), told(course, "bob")
        assert tick(course, OPENS) == {}
        assert (seats(course, number), devices(course), told(course, "bob")) == before
        tick(course, RELEASE)
        before = seats(course, number), devices(course), told(course, "bob")
        assert tick(course, RELEASE) == {}
        assert (seats(course, number), devices(course), told(course, "bob")) == before

    def test_everyone_on_the_roster_is_told_once_when_it_opens(self, course: Centre) -> None:
        number = approved(course, zone="Europe/Berlin").number
        tick(course, OPENS)
        tick(course, OPENS + 60)
        for name in ("ada", *LEARNERS):
            (notice,) = told(course, name)
            assert "Deep learning lab: 4 seats are kept for you and the others, 2027-01-18 01:00–04:00 CET" in (
                notice.text_en
            )
            assert "choose the project vision and the profile gpu (gpu) on the start page" in notice.text_en
            assert "딥러닝 실습: 2027-01-18 01:00–04:00 CET, 4석" in notice.text_ko
        assert window(course, number).state == "open"

    def test_nobody_else_is_admitted_into_the_seats(self, course: Centre) -> None:
        course.project("other", {"zoe": "pi"})
        course.award("other", PLENTY)
        approved(course, seats=7)
        asks = {"person": "zoe", "project": "other"}
        long = course.reserve(OPENS - 600, **asks, profile="gpu-2", kind=RunKind.BATCH, seconds=HOUR)
        assert isinstance(long, Refused)
        assert long.code is Code.RESERVED_SOON
        rolling = course.admitted(OPENS - 600, **asks, profile="gpu-2")
        assert rolling.until_at == OPENS  # as long as nobody needs them
        leave(course, rolling.run_id, OPENS - 600, OPENS - 60)
        tick(course, OPENS)
        refused = course.reserve(OPENS, **asks, profile="gpu-2")
        assert isinstance(refused, Refused)
        assert refused.code is Code.POOL_FULL
        assert refused.numbers["reserved"] == 7
        assert isinstance(course.reserve(OPENS, **asks), Admitted)  # the eighth device
        sound(course, OPENS)

    def test_who_is_not_on_the_roster_takes_no_seat(self, course: Centre) -> None:
        number = approved(course, seats=8, roster=("bob", "cho")).number
        tick(course, OPENS)
        refused = course.reserve(OPENS, person="dan")
        assert isinstance(refused, Refused)
        assert refused.code is Code.POOL_FULL
        assert course.admitted(OPENS, person="cho").window_id == window(course, number).id
        assert told(course, "dan") == []

    def test_a_batch_run_and_another_profile_take_no_seat(self, course: Centre) -> None:
        number = approved(course, seats=6).number
        tick(course, OPENS)
        batch = course.admitted(OPENS, person="bob", kind=RunKind.BATCH, seconds=600)
        assert (batch.priority, batch.window_id) == (Priority.GUARANTEED, None)
        assert course.admitted(OPENS, person="bob", profile="cpu").window_id is None
        assert seats(course, number) == ("open", 6, 0, 0)


class TestComingBack:
    def test_a_seat_that_was_stopped_can_be_taken_again_after_the_release(self, course: Centre) -> None:
        number = approved(course).number
        tick(course, OPENS)
        first = course.admitted(OPENS, person="bob")
        leave(course, first.run_id, OPENS, LECTURE)
        assert seats(course, number) == ("open", 4, 1, 0)
        assert devices(course) == (0, 4)
        tick(course, RELEASE)
        assert seats(course, number) == ("released", 1, 1, 0)
        again = course.admitted(RELEASE + 60, person="bob")
        assert (again.priority, again.until_at) == (Priority.RESERVED, ENDS)
        assert seats(course, number) == ("released", 0, 1, 1)
        sound(course, RELEASE + 60)

    def test_who_claimed_counts_once_however_often_they_start(self, course: Centre) -> None:
        number = approved(course).number
        tick(course, OPENS)
        for round_ in range(3):
            run = course.admitted(OPENS + 60 * round_, person="bob")
            leave(course, run.run_id, OPENS + 60 * round_, OPENS + 60 * round_ + 30)
        assert seats(course, number) == ("open", 4, 1, 0)

    def test_two_who_had_a_seat_one_after_the_other_both_may_return(self, course: Centre) -> None:
        number = approved(course).number
        tick(course, OPENS)
        for name in ("bob", "cho"):
            leave(course, course.admitted(OPENS, person=name).run_id, OPENS, OPENS + 30)
        tick(course, RELEASE)
        assert seats(course, number) == ("released", 2, 2, 0)
        for name in ("bob", "cho"):
            assert course.admitted(RELEASE, person=name).priority is Priority.RESERVED
        assert course.admitted(RELEASE, person="dan").priority is Priority.GUARANTEED

    def test_no_more_stay_claimed_than_there_are_seats(self, course: Centre) -> None:
        number = approved(course, seats=2).number
        tick(course, OPENS)
        for name in LEARNERS:
            leave(course, course.admitted(OPENS, person=name).run_id, OPENS, OPENS + 30)
        assert seats(course, number) == ("open", 2, 2, 0)
        tick(course, RELEASE)
        assert seats(course, number) == ("released", 2, 2, 0)

    def test_after_the_release_the_seats_of_who_left_are_the_rosters(self, course: Centre) -> None:
        number = approved(course).number
        tick(course, OPENS)
        run = course.admitted(OPENS, person="bob")
        tick(course, RELEASE)
        leave(course, run.run_id, OPENS, RELEASE + 60)
        assert course.admitted(RELEASE + 60, person="cho").priority is Priority.RESERVED
        assert seats(course, number) == ("released", 0, 1, 1)
        assert window(course, number).released == 3

    def test_a_seat_that_is_left_after_the_end_gives_nothing_back(self, course: Centre) -> None:
        number = approved(course).number
        tick(course, OPENS)
        run = course.admitted(OPENS, person="bob")
        tick(course, ENDS)
        assert devices(course) == (1, 0)
        leave(course, run.run_id, OPENS, ENDS + 5)
        assert devices(course) == (0, 0)
        assert seats(course, number) == ("ended", 0, 1, 0)


class TestALateLoop:
    def test_late_at_the_opening_the_roster_has_its_full_time(self, course: Centre) -> None:
        number = approved(course).number
        assert tick(course, LECTURE + HOUR) == {"opened": 1}
        assert window(course, number).release_at == LECTURE + HOUR + POLICY.seats_release
        assert seats(course, number) == ("open", 4, 0, 0)
        assert tick(course, LECTURE + HOUR + POLICY.seats_release) == {"released": 1}

    def test_shortly_before_the_end_it_is_released_with_the_end(self, course: Centre) -> None:
        number = approved(course).number
        tick(course, ENDS - 60)
        assert window(course, number).release_at == ENDS
        assert tick(course, ENDS) == {"released": 1, "ended": 1}
        assert devices(course) == (0, 0)

    def test_after_the_end_it_never_opens_and_costs_nothing(self, course: Centre) -> None:
        number = approved(course).number
        assert tick(course, ENDS) == {"ended": 1}
        assert seats(course, number) == ("ended", 0, 0, 0)
        assert seats_runs(course) == []
        assert noted(course, "window missed") == 1
        assert told(course, "bob") == []

    def test_late_by_hours_an_open_window_is_released_and_ended_at_once(self, course: Centre) -> None:
        approved(course)
        tick(course, OPENS)
        course.admitted(OPENS, person="bob")
        assert tick(course, ENDS + 5 * HOUR) == {"released": 1, "ended": 1}
        assert devices(course) == (1, 0)
        sound(course, ENDS + 5 * HOUR)
        (idle,) = seats_runs(course)
        assert (idle.started_at, idle.finished_at) == (LECTURE, RELEASE)  # no longer, however late it is told
        assert course.balances(1)["spent"] == 3 * POLICY.seats_release * GPU_GFLOPS

    def test_a_term_of_windows_in_one_call(self, course: Centre) -> None:
        number = approved(course, rrule="FREQ=WEEKLY;COUNT=10").number
        assert tick(course, LECTURE + 8 * WEEK) == {"ended": 8, "opened": 1}
        states = [each.state.value for each in show(course.database, number).windows]
        assert states == ["ended"] * 8 + ["open", "scheduled"]
        assert devices(course) == (0, 4)

    def test_the_next_loop_goes_on_where_there_are_more_than_one_may_do(
        self, course: Centre, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("quotas.services.reservation_windows.AT_ONCE", 3)
        approved(course, rrule="FREQ=WEEKLY;COUNT=5")
        assert tick(course, LECTURE + 30 * WEEK) == {"ended": 3}
        assert tick(course, LECTURE + 30 * WEEK) == {"ended": 2}


class TestLostDevices:
    def test_a_seat_that_the_pool_lost_is_refused_with_the_numbers(self, course: Centre) -> None:
        number = approved(course, seats=5).number
        course.phase(3, LECTURE - HOUR)
        tick(course, OPENS)
        assert seats(course, number)[:2] == ("open", 5)
        for name in LEARNERS[:3]:
            assert course.admitted(OPENS, person=name).priority is Priority.RESERVED
        refused = course.reserve(OPENS, person="eun")
        assert isinstance(refused, Refused)
        assert refused.code is Code.SEAT_LOST
        assert (refused.numbers["healthy"], refused.numbers["in_use"]) == (3, 3)
        assert "of 3 healthy h100, 3 are in use" in refused.message("en")
        assert "정상 h100 3대 중 3대 사용 중" in refused.message("ko")
        sound(course, OPENS)


class TestTheEndOfAProject:
    def test_a_project_that_ends_keeps_no_devices(self, course: Centre) -> None:
        number = approved(course, rrule="FREQ=WEEKLY;COUNT=3").number
        tick(course, OPENS)
        assert devices(course) == (0, 4)
        projects.end(course.database, "vision", actor="operator", now=LECTURE)
        assert tick(course, LECTURE) == {"cancelled": 3}
        assert devices(course) == (0, 0)
        found = show(course.database, number)
        assert found.state is ReservationState.CANCELLED
        assert {each.state.value for each in found.windows} == {"cancelled"}
        assert len(told(course, "ada", "seats_cancelled")) == 1
        sound(course, LECTURE)

    def test_a_revoked_award_keeps_no_devices(self, course: Centre) -> None:
        approved(course)
        with course.database.write() as transaction:
            transaction.run(update(allocations).values(revoked_at=START + HOUR))
        assert tick(course, START + HOUR) == {"cancelled": 1}
        assert tick(course, OPENS) == {}


class TestCancelling:
    def test_a_cancelled_reservation_gives_its_devices_back(self, course: Centre) -> None:
        number = approved(course, seats=8, rrule="FREQ=WEEKLY;COUNT=3").number
        tick(course, OPENS)
        run = course.admitted(OPENS, person="bob")
        reservations.cancel(course.database, number, reason="no lecture", actor="ada", now=LECTURE + 100)
        assert devices(course) == (1, 0)
        assert course.balances(1)["spent"] == 7 * 100 * GPU_GFLOPS  # idle until it was cancelled
        other = course.admitted(LECTURE + 100, person="cho")
        assert other.priority is Priority.GUARANTEED
        leave(course, run.run_id, OPENS, ENDS - 120)  # who has a seat keeps it
        assert devices(course) == (1, 0)
        assert tick(course, LECTURE + 3 * WEEK) == {}
        sound(course, LECTURE + 100)

    def test_before_it_opens_nothing_is_charged_and_holds_reach_over_it(self, course: Centre) -> None:
        number = approved(course, seats=8).number
        assert course.admitted(OPENS - 900).until_at == OPENS
        reservations.cancel(course.database, number, reason="", actor="ada", now=OPENS - 800)
        assert course.admitted(OPENS - 800, person="bob").until_at == OPENS - 800 + FIRST_HOLD
        assert seats_runs(course) == []

    def test_one_window_is_cancelled_and_the_others_stay(self, course: Centre) -> None:
        number = approved(course, rrule="FREQ=WEEKLY;COUNT=3").number
        second = window(course, number, 1)
        found = reservations.cancel_window(
            course.database, number, second.id, reason="a holiday", actor="ada", now=START
        )
        assert [each.state.value for each in found.windows] == ["scheduled", "cancelled", "scheduled"]
        assert found.state is ReservationState.APPROVED
        (notice,) = told(course, "cho", "seats_cancelled")
        assert "2027-01-25 09:00–12:00 KST were cancelled: a holiday" in notice.text_en
        assert tick(course, second.starts_at) == {"ended": 1}

    def test_the_last_window_that_is_cancelled_ends_the_reservation(self, course: Centre) -> None:
        number = approved(course).number
        only = window(course, number).id
        found = reservations.cancel_window(course.database, number, only, reason="", actor="ada", now=START)
        assert found.state is ReservationState.ENDED

    def test_twice_is_refused(self, course: Centre) -> None:
        number = approved(course, rrule="FREQ=WEEKLY;COUNT=2").number
        first = window(course, number).id
        cancel = {"reason": "", "actor": "ada", "now": START}
        reservations.cancel_window(course.database, number, first, **cancel)  # type: ignore[arg-type]
        with pytest.raises(reservations.InvalidValue, match=f"window: {first} is cancelled"):
            reservations.cancel_window(course.database, number, first, **cancel)  # type: ignore[arg-type]
        with pytest.raises(reservations.InvalidValue, match="there is no '999'"):
            reservations.cancel_window(course.database, number, 999, **cancel)  # type: ignore[arg-type]
        reservations.cancel(course.database, number, **cancel)  # type: ignore[arg-type]
        with pytest.raises(
            reservations.InvalidValue, match="is cancelled and cannot become cancelled; allowed: nothing"
        ):
            reservations.cancel(course.database, number, **cancel)  # type: ignore[arg-type]


def test_windows_that_follow_each_other_open_when_the_one_before_ends(course: Centre) -> None:
    number = approved(course, seats=8, rrule="FREQ=DAILY;BYHOUR=9,12;COUNT=2").number
    first, second = show(course.database, number).windows
    assert (first.ends_at, second.opens_at, second.starts_at) == (ENDS, ENDS, ENDS)
    tick(course, OPENS)
    tick(course, RELEASE)
    assert tick(course, ENDS) == {"ended": 1, "opened": 1}
    assert devices(course) == (0, 8)
    assert second.ends_at - second.starts_at == LENGTH
