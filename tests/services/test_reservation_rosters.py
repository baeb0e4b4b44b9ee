"""Rosters of reservations: all members as they come and go, or a list; and who may claim after a change."""

from __future__ import annotations

import pytest

from quotas.domain.admission import Admitted
from quotas.domain.priorities import Priority
from quotas.domain.reservations import Roster
from quotas.domain.rosters import Names
from quotas.domain.units import InvalidValue
from quotas.services import projects, reservations, rosters
from quotas.services.reservation_views import claims, roster, show
from tests.services.centre import POLICY, START, Centre
from tests.services.classes import LECTURE, OPENS, PLENTY, RELEASE, approved, leave, noted, seats, sound, tick, told

BY = {"actor": "ada", "now": START}


@pytest.fixture
def course(centre: Centre) -> Centre:
    for name in ("cho", "dan", "eun"):
        centre.member("vision", name, "learner")
    centre.person("zoe")
    centre.award("vision", PLENTY)
    return centre


def names(centre: Centre, number: int) -> list[str]:
    return [each.username for each in roster(centre.database, number)]


def claims_a_seat(centre: Centre, person: str, now: int) -> bool:
    decision = centre.reserve(now, person=person)
    assert isinstance(decision, Admitted), decision
    leave(centre, decision.run_id, now, now + 1)
    return decision.priority is Priority.RESERVED


class TestAllMembers:
    def test_who_joins_after_the_approval_is_on_it(self, course: Centre) -> None:
        number = approved(course).number
        course.member("vision", "zoe", "learner")
        assert names(course, number) == ["ada", "bob", "cho", "dan", "eun", "zoe"]
        tick(course, OPENS)
        assert claims_a_seat(course, "zoe", OPENS)
        assert len(told(course, "zoe")) == 1

    def test_who_joins_while_it_is_open_is_told_and_can_claim(self, course: Centre) -> None:
        approved(course)
        tick(course, OPENS)
        course.member("vision", "zoe", "learner")
        assert not claims_a_seat(course, "zoe", OPENS + 10)
        assert tick(course, OPENS + 20) == {"followed": 1}
        assert tick(course, OPENS + 40) == {}
        assert claims_a_seat(course, "zoe", OPENS + 40)
        assert len(told(course, "zoe")) == 1
        assert len(told(course, "bob")) == 1

    def test_who_left_can_claim_nothing_and_who_came_back_can(self, course: Centre) -> None:
        number = approved(course).number
        tick(course, OPENS)
        assert claims_a_seat(course, "cho", OPENS)
        projects.remove_member(course.database, "vision", "cho", actor="ada", now=OPENS + 5)
        tick(course, OPENS + 10)
        assert "cho" not in names(course, number)
        sound(course, OPENS + 10)
        course.member("vision", "cho", "learner")
        tick(course, OPENS + 20)
        assert claims_a_seat(course, "cho", OPENS + 20)
        sound(course, OPENS + 20)


class TestAList:
    def test_what_it_would_change_is_shown_before(self, course: Centre) -> None:
        number = approved(course, roster=("bob", "cho")).number
        change = rosters.preview(course.database, number, Names(("cho", "dan", "zoe", "nobody"), ("dan",)))
        assert change == rosters.Change(
            added=("dan",), removed=("bob",), kept=("cho",), strangers=("zoe", "nobody"), twice=("dan",), seats=4
        )
        assert names(course, number) == ["bob", "cho"]

    def test_strangers_are_refused_all_by_name_and_nothing_is_changed(self, course: Centre) -> None:
        number = approved(course, roster=("bob", "cho")).number
        with pytest.raises(InvalidValue, match="these are none: zoe, nobody"):
            rosters.replace(course.database, number, Names(("dan", "zoe", "nobody")), **BY)
        assert names(course, number) == ["bob", "cho"]

    def test_it_replaces_the_one_before(self, course: Centre) -> None:
        number = approved(course, roster=("bob", "cho")).number
        change = rosters.replace(course.database, number, Names(("cho", "dan")), **BY)
        assert (change.added, change.removed, change.on_roster) == (("dan",), ("bob",), 2)
        assert names(course, number) == ["cho", "dan"]
        again = rosters.replace(course.database, number, Names(("cho", "dan")), **BY)
        assert (again.added, again.removed) == ((), ())
        tick(course, OPENS)
        assert not claims_a_seat(course, "bob", OPENS)
        assert claims_a_seat(course, "dan", OPENS)

    def test_it_takes_the_place_of_all_members(self, course: Centre) -> None:
        number = approved(course).number
        rosters.replace(course.database, number, Names(("eun",)), **BY)
        assert show(course.database, number).roster is Roster.LISTED
        course.member("vision", "zoe", "learner")
        tick(course, OPENS)
        assert names(course, number) == ["eun"]
        rosters.use_members(course.database, number, **BY)
        assert names(course, number) == ["ada", "bob", "cho", "dan", "eun", "zoe"]
        assert claims_a_seat(course, "zoe", OPENS)

    def test_one_is_added_and_one_is_taken_off(self, course: Centre) -> None:
        number = approved(course, roster=("bob",)).number
        assert rosters.add(course.database, number, "dan", **BY)
        assert not rosters.add(course.database, number, "dan", **BY)
        rosters.remove(course.database, number, "bob", **BY)
        assert names(course, number) == ["dan"]
        assert rosters.add(course.database, number, "bob", **BY)
        assert names(course, number) == ["bob", "dan"]
        assert noted(course, "roster changed") == 3
        with pytest.raises(InvalidValue, match="these are none: zoe"):
            rosters.add(course.database, number, "zoe", **BY)
        with pytest.raises(InvalidValue, match="there is no 'eun'"):
            rosters.remove(course.database, number, "eun", **BY)

    def test_taken_off_all_members_the_others_stay_as_a_list(self, course: Centre) -> None:
        number = approved(course).number
        rosters.remove(course.database, number, "bob", **BY)
        assert names(course, number) == ["ada", "cho", "dan", "eun"]
        assert show(course.database, number).roster is Roster.LISTED

    def test_the_last_cannot_be_taken_off(self, course: Centre) -> None:
        number = approved(course, roster=("bob",)).number
        with pytest.raises(InvalidValue, match="bob is the last on it; cancel the reservation instead"):
            rosters.remove(course.database, number, "bob", **BY)

    def test_who_is_taken_off_keeps_a_seat_that_they_have(self, course: Centre) -> None:
        number = approved(course, seats=2).number
        tick(course, OPENS)
        run = course.admitted(OPENS, person="cho")
        rosters.remove(course.database, number, "cho", actor="ada", now=OPENS + 60)
        tick(course, RELEASE)
        assert seats(course, number) == ("released", 0, 1, 1)
        sound(course, RELEASE)
        leave(course, run.run_id, OPENS, RELEASE + 60)
        assert not claims_a_seat(course, "cho", RELEASE + 60)
        assert claims_a_seat(course, "dan", RELEASE + 60)

    def test_of_a_reservation_that_is_over_it_stays(self, course: Centre) -> None:
        number = approved(course, roster=("bob",)).number
        reservations.cancel(course.database, number, reason="", **BY)
        with pytest.raises(InvalidValue, match=f"reservation: {number} is cancelled"):
            rosters.add(course.database, number, "dan", **BY)
        with pytest.raises(InvalidValue, match="there is no '99'"):
            rosters.preview(course.database, 99, Names(("dan",)))


def test_instructors_see_who_claimed_and_when(course: Centre) -> None:
    found = approved(course)
    tick(course, OPENS)
    stopped = course.admitted(OPENS, person="bob")
    leave(course, stopped.run_id, OPENS, OPENS + 30)
    course.admitted(LECTURE, person="cho")
    course.admitted(LECTURE, person="dan", profile="cpu")
    (window,) = found.windows
    seen = [(each.username, each.claimed_at, each.is_open) for each in claims(course.database, found.number, window.id)]
    assert seen == [("bob", OPENS, False), ("cho", LECTURE, True)]
    assert POLICY.seats_early == LECTURE - OPENS
