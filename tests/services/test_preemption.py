"""Who gives borrowed devices back, how long before they are told, and that nobody is asked in vain."""

from __future__ import annotations

import pytest

from quotas.domain.units import show_instant
from quotas.services import admission, check, preemption
from quotas.store import audit
from tests.services.centre import Centre
from tests.services.holders import BORROWED, GUARANTEED, NOW, OPPORTUNISTIC, POLICY, Holders

LATER = NOW + POLICY.borrow_minimum
"""When all that began at NOW may be asked."""


@pytest.fixture
def holders(centre: Centre) -> Holders:
    return Holders(centre)


def make_room(holders: Holders, devices: int, for_run: str, now: int = LATER) -> bool:
    with holders.centre.database.write() as transaction:
        return preemption.make_room(
            transaction, device_model="h100", device_count=devices, for_run=for_run, now=now, policy=POLICY
        )


def extended(holders: Holders, now: int = LATER) -> None:
    """Every hold is as the loop keeps it: never less than the time at which it is extended."""
    for at in range(NOW, now + 1, 600):
        assert holders.extend_all(at) == {}


def test_the_weakest_go_first_then_who_used_most_of_their_share_then_who_began_last(holders: Holders) -> None:
    firm = [holders.start(GUARANTEED, used=9) for _ in range(2)]
    much = holders.start(BORROWED, NOW, used=2)
    little = holders.start(BORROWED, NOW + 5, used=0.5)
    last = holders.start(BORROWED, NOW + 6, used=0.5)
    idle = [holders.start(OPPORTUNISTIC, NOW), holders.start(OPPORTUNISTIC, NOW + 1), holders.start(OPPORTUNISTIC)]
    extended(holders)
    order = []
    for _ in range(6):
        before = set(holders.preempted())
        assert make_room(holders, 1, holders.waits(), LATER + 10)
        order += [person for person in holders.preempted() if person not in before]
    assert order == [idle[1], *sorted((idle[0], idle[2]), key=holders.run_of.get), much, last, little]
    assert not make_room(holders, 1, holders.waits(), LATER + 10), "nobody is asked for a device of their own"
    assert holders.open() >= set(firm)
    assert check.findings(holders.centre.database, LATER + 10) == []


def test_the_person_is_told_at_once_what_when_and_what_then(holders: Holders) -> None:
    person = [holders.start(OPPORTUNISTIC, NOW + number) for number in range(8)][-1]
    extended(holders)
    run_id = holders.waits()
    assert make_room(holders, 1, run_id)
    at = LATER + 300
    assert holders.preempted() == {person: at}
    ((kind, text),) = holders.told(person)
    assert kind == "run preempted"
    assert f"will be stopped at {show_instant(at)}, in 5 min: its devices" in text
    assert show_instant(at).endswith(" KST")
    assert "saved before that" in text
    assert "Start it again" in text
    with holders.centre.database.read() as transaction:
        event = audit.latest(transaction, 1)[0]
    assert (event.action, event.subject) == ("preempted", holders.run_of[person])
    assert run_id in event.detail


def test_asking_again_asks_nobody_else(holders: Holders) -> None:
    for number in range(8):
        holders.start(BORROWED, NOW + number)
    extended(holders, LATER + 100)
    run_id = holders.waits(2)
    assert make_room(holders, 2, run_id, LATER + 100)
    asked = holders.preempted()
    assert len(asked) == 2
    for seconds in (1, 100, 299):
        assert make_room(holders, 2, run_id, LATER + 100 + seconds)
    assert holders.preempted() == asked


def test_borrowed_devices_are_kept_for_their_least_time_idle_ones_are_not(holders: Holders) -> None:
    borrowed = [holders.start(BORROWED) for _ in range(7)]
    idle = holders.start(OPPORTUNISTIC)
    assert not make_room(holders, 2, holders.waits(2), NOW + POLICY.borrow_minimum - 1)
    assert holders.preempted() == {}
    first = holders.waits()
    assert make_room(holders, 1, first, NOW + 1)
    assert set(holders.preempted()) == {idle}
    holders.waits_no_more(first, NOW + 2)
    assert preemption.spare_in_vain(holders.centre.database, NOW + 2) == 1
    extended(holders, LATER)
    assert make_room(holders, 2, holders.waits(2), LATER)
    assert len(holders.preempted()) == 2
    assert set(holders.preempted()) - {idle} < set(borrowed)


def test_what_is_free_or_comes_free_in_time_is_not_asked_for(holders: Holders) -> None:
    for _ in range(6):
        holders.start(OPPORTUNISTIC)
    assert make_room(holders, 2, holders.waits(2), NOW), "two are free"
    assert holders.preempted() == {}
    batch = holders.start(GUARANTEED, seconds=600)
    holders.start(GUARANTEED)
    extended(holders, NOW)
    over_at = NOW + 600 + POLICY.stop_margin
    soon = over_at - POLICY.stop_margin - POLICY.preempt_notice
    assert make_room(holders, 1, holders.waits(), soon), f"{batch} is over before a notice would be"
    assert holders.preempted() == {}
    assert make_room(holders, 2, holders.waits(2), soon - 1)
    assert len(holders.preempted()) == 2


def test_others_who_wait_keep_what_they_were_promised(holders: Holders) -> None:
    for number in range(8):
        holders.start(OPPORTUNISTIC, NOW + number)
    first, second = holders.waits(3), holders.waits(1)
    assert make_room(holders, 3, first, NOW + 10)
    assert make_room(holders, 1, second, NOW + 20)
    assert len(holders.preempted()) == 4
    assert make_room(holders, 1, second, NOW + 30)
    assert len(holders.preempted()) == 4


def test_a_large_one_who_leaves_is_enough_for_two(holders: Holders) -> None:
    for number in range(4):
        holders.start(OPPORTUNISTIC, NOW + number, devices=2)
    assert make_room(holders, 1, holders.waits(1), NOW + 10)
    assert make_room(holders, 1, holders.waits(1), NOW + 10)
    assert len(holders.preempted()) == 1


def test_a_device_that_is_about_to_be_kept_for_a_class_is_no_room(holders: Holders) -> None:
    for number in range(7):
        holders.start(OPPORTUNISTIC, NOW + number)
    assert make_room(holders, 1, holders.waits(), NOW + 10)
    assert holders.preempted() == {}, "one is free"
    holders.window(1, NOW + 600)
    assert make_room(holders, 1, holders.waits(), NOW + 10)
    assert len(holders.preempted()) == 1, "the free one is kept for a seat in ten minutes"


def test_who_does_not_wait_any_more_spares_those_who_were_asked(holders: Holders) -> None:
    for number in range(8):
        holders.start(OPPORTUNISTIC, NOW + number)
    gone, blocked, there = holders.waits(2), holders.waits(1), holders.waits(1)
    for run_id, devices in ((gone, 2), (blocked, 1), (there, 1)):
        assert make_room(holders, devices, run_id, NOW + 10)
    asked = holders.preempted()
    assert len(asked) == 4
    assert preemption.spare_in_vain(holders.centre.database, NOW + 11) == 0
    holders.waits_no_more(gone, NOW + 20)
    assert preemption.spare_in_vain(holders.centre.database, NOW + 20) == 2
    (spared, *_) = sorted(set(asked) - set(holders.preempted()))
    assert [kind for kind, _ in holders.told(spared)] == ["run preempted", "run spared"]
    assert f"will not be stopped at {show_instant(asked[spared])}" in holders.told(spared)[-1][1]
    assert preemption.spare_in_vain(holders.centre.database, NOW + 30) == 0
    with holders.centre.database.write() as transaction:
        assert preemption.spare(transaction, there, NOW + 30) == 1
        assert preemption.spare(transaction, there, NOW + 30) == 0
    assert len(holders.preempted()) == 1


def test_a_run_that_was_asked_for_one_who_left_goes_for_the_next_without_a_new_notice(holders: Holders) -> None:
    for number in range(8):
        holders.start(OPPORTUNISTIC, NOW + number)
    first, second = holders.waits(), holders.waits()
    assert make_room(holders, 1, first, NOW + 10)
    asked = holders.preempted()
    holders.waits_no_more(first, NOW + 60)
    assert make_room(holders, 1, second, NOW + 60)
    assert holders.preempted() == asked, "told once, and at the time that was told"
    assert preemption.spare_in_vain(holders.centre.database, NOW + 70) == 0
    (person,) = asked
    assert len(holders.told(person)) == 1


def test_it_is_stopped_when_it_was_told_and_not_extended_meanwhile(holders: Holders) -> None:
    person = [holders.start(OPPORTUNISTIC, NOW + number) for number in range(8)][-1]
    assert make_room(holders, 1, holders.waits(), NOW + 10)
    at = holders.preempted()[person]
    assert at == NOW + 10 + POLICY.preempt_notice
    assert holders.extend_all(at - 1) == {}
    assert holders.extend_all(at) == {person: "preempted"}
    assert person not in holders.open()
    assert len(holders.told(person)) == 1


def test_who_starts_now_is_not_asked_before_they_run(holders: Holders) -> None:
    for _ in range(7):
        holders.start(GUARANTEED)
    person, _ = holders.ask(OPPORTUNISTIC)
    assert not make_room(holders, 1, holders.waits(), NOW + 10)
    admission.started(holders.centre.database, holders.run_of[person], NOW + 20)
    assert make_room(holders, 1, holders.waits(), NOW + 20)
    assert set(holders.preempted()) == {person}
