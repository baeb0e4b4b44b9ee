"""What people see of the queue: their place, when to expect their turn, and what they could wait for."""

from __future__ import annotations

import pytest

from quotas.domain.admission import Request
from quotas.domain.priorities import Priority
from quotas.domain.queue import Mode
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import RunKind, new_run_id
from quotas.services import queue, queue_views
from quotas.services.queue_views import Place
from tests.services.centre import GPU_GFLOPS, Centre
from tests.services.waiting import NOW, POLICY, Waiters

HOUR = 3_600


@pytest.fixture
def waiters(centre: Centre) -> Waiters:
    return Waiters(centre)


def at(place: Place) -> int | None:
    """Return after how many seconds the turn is expected."""
    assert place.estimate is not None
    return None if place.estimate.at is None else place.estimate.at - NOW


class TestPlaces:
    def test_each_has_a_position_in_the_order(self, waiters: Waiters) -> None:
        waiters.fill()
        for number, name in enumerate(("third", "second", "first")):
            waiters.join(name, NOW + number, used=1.0 - number / 3)
        places = queue_views.every(waiters.centre.database, NOW + 9)
        assert [(place.entry.person, place.position, place.waiting) for place in places] == [
            ("third", 3, 3),
            ("second", 2, 3),
            ("first", 1, 3),
        ]
        assert queue_views.of_person(waiters.centre.database, "second", NOW + 9) == [places[1]]
        assert queue_views.one(waiters.centre.database, new_run_id(), NOW) is None

    def test_without_history_no_time_is_given(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("kim")
        assert at(waiters.place("kim")) is None

    def test_the_last_runs_say_how_long_one_takes(self, waiters: Waiters) -> None:
        for _ in range(3):
            holder = waiters.holders.start()
            waiters.centre.settle(waiters.holders.run_of[holder], NOW, NOW + HOUR)
        waiters.fill()
        waiters.join("kim")
        waiters.join("lee", NOW, profile="gpu-2")
        estimate = waiters.place("kim").estimate
        assert (estimate.history.runs, estimate.history.mean_seconds) == (3, HOUR)
        assert at(waiters.place("kim")) == HOUR
        assert (estimate.free, estimate.usable, estimate.certain) == (0, 8, False)
        estimate = waiters.place("lee").estimate
        assert (estimate.entries_before, estimate.devices_before) == (1, 1)

    def test_known_ends_are_certain(self, waiters: Waiters) -> None:
        waiters.fill(7)
        waiters.holders.start(seconds=1_000)
        waiters.join("kim")
        estimate = waiters.place("kim").estimate
        assert (at(waiters.place("kim")), estimate.certain, estimate.known_ends) == (1_120, True, 1)

    def test_windows_and_phases_count(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("kim")
        waiters.centre.phase(9, NOW + 5_000)
        assert at(waiters.place("kim")) == 5_000
        waiters.holders.window(1, NOW + 4_000, HOUR)
        assert at(waiters.place("kim")) == 4_000 + POLICY.seats_early + HOUR

    def test_who_gives_way_is_expected_to(self, waiters: Waiters) -> None:
        waiters.fill(7)
        waiters.fill(1, Priority.OPPORTUNISTIC)
        waiters.join("kim", NOW)
        waiters.step(NOW)
        assert at(waiters.place("kim")) == POLICY.preempt_notice

    def test_one_that_is_passed_over_says_why(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("many", profile="gpu-2")
        waiters.join("kim")
        waiters.centre.phase(1, NOW + 10)
        waiters.step(NOW + 11)
        place = waiters.place("many", NOW + 11)
        assert place.position is None
        assert place.passed_over("en") == "no pool has as many devices as things stand"
        assert place.passed_over("ko") == "지금은 한 자원에 이만큼의 장치가 없습니다"
        assert waiters.place("kim", NOW + 11).position == 1

    def test_one_in_its_turn_or_ended_has_no_position(self, waiters: Waiters) -> None:
        waiters.join("kim")
        waiters.step(NOW)
        assert (waiters.place("kim").position, waiters.place("kim").estimate) == (None, None)
        queue.cancel(waiters.centre.database, waiters.runs["kim"], actor="kim", now=NOW)
        assert waiters.place("kim").passed_over("en") is None


class TestChoices:
    def waits(self, waiters: Waiters, *profiles: str) -> list[tuple[str, str, int, bool]]:
        found = queue_views.waits(waiters.centre.database, "kim", "kim", list(profiles), NOW, POLICY)
        return [(wait.profile, wait.wish.value, wait.position, wait.starts) for wait in found]

    def test_for_a_full_pool_one_can_wait(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("lee")
        waiters.person("kim")
        assert self.waits(waiters, "gpu", "gpu-2") == [
            ("gpu", "guaranteed", 2, False),
            ("gpu-2", "guaranteed", 2, False),
        ]

    def test_whoever_used_less_would_come_sooner(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.join("lee", used=2.0)
        waiters.person("kim")
        assert self.waits(waiters, "gpu") == [("gpu", "guaranteed", 1, False)]

    def test_beyond_the_ceiling_one_can_borrow_or_wait_for_it(self, waiters: Waiters) -> None:
        waiters.person("kim", ceiling=GPU_GFLOPS - 1)
        assert self.waits(waiters, "gpu") == [("gpu", "borrowed", 0, True)]
        waiters.fill()
        assert self.waits(waiters, "gpu") == [("gpu", "borrowed", 1, False)]

    def test_where_waiting_helps_nothing_it_is_not_offered(self, waiters: Waiters) -> None:
        waiters.fill()
        waiters.person("kim", budget=1)
        assert self.waits(waiters, "cpu", "unknown") == []
        waiters.centre.end_project("kim")
        assert self.waits(waiters, "gpu") == []


class TestEarliest:
    def refused(self, waiters: Waiters) -> Refused:
        request = Request(new_run_id(), RunKind.NOTEBOOK, "kim", "kim", "gpu")
        decision = queue.start(waiters.centre.database, request, NOW, POLICY)
        assert isinstance(decision, Refused)
        return queue_views.with_known_time(waiters.centre.database, request, decision, NOW)

    def test_a_refusal_names_the_time_that_is_known(self, waiters: Waiters) -> None:
        waiters.fill(7)
        waiters.holders.start(seconds=1_000)
        waiters.person("kim")
        assert self.refused(waiters).earliest_at == NOW + 1_120

    def test_what_is_a_guess_is_not_named(self, waiters: Waiters) -> None:
        holder = waiters.holders.start()
        waiters.centre.settle(waiters.holders.run_of[holder], NOW, NOW + HOUR)
        waiters.fill()
        waiters.person("kim")
        assert self.refused(waiters).earliest_at is None

    def test_other_refusals_stay_as_they_are(self, waiters: Waiters) -> None:
        refused = Refused(Code.CEILING)
        request = Request(new_run_id(), RunKind.NOTEBOOK, "kim", "kim", "gpu")
        assert queue_views.with_known_time(waiters.centre.database, request, refused, NOW) is refused


def test_a_batch_run_waits_in_the_same_line(waiters: Waiters) -> None:
    waiters.fill()
    waiters.join("job", NOW, seconds=600, mode=Mode.START)
    waiters.join("kim", NOW + 1)
    places = queue_views.every(waiters.centre.database, NOW + 2)
    assert [(place.entry.kind.value, place.position) for place in places] == [("batch", 1), ("notebook", 2)]
