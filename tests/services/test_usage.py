"""What is held beside what is busy: by run, person, profile, project and day, and the intervals of a run."""

from __future__ import annotations

from datetime import date

import pytest

from quotas.domain.people import PlatformRole
from quotas.domain.usage import Period, Use, together
from quotas.services import people, usage
from quotas.services.admission import started
from quotas.services.usage import Wanted
from tests.metered import GIB, WATTS_BUSY, Machine, machine, samples
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre

NOW = START + DAY
"""2027-01-16 08:00 UTC, which is 17:00 of that day in Seoul."""
HOUR = 3600
DAY_OF_NOW = Period(NOW, NOW + 24 * HOUR)


@pytest.fixture
def node(centre: Centre) -> Machine:
    centre.award("vision", 10**6 * GPU_GFLOPS)
    centre.project("sound", {"cho": "pi"})
    centre.award("sound", 10**6 * GPU_GFLOPS)
    return machine(centre.database, START, count=4)


@pytest.fixture
def runs(centre: Centre, node: Machine) -> dict[str, str]:
    """ada: two devices for two hours, the first seen. bob: one, an hour seen, the rest not. cho: nothing seen."""
    found = {}
    for person, project, profile in (("ada", "vision", "gpu-2"), ("bob", "vision", "gpu"), ("cho", "sound", "gpu")):
        found[person] = centre.admitted(NOW, person=person, project=project, profile=profile).run_id
        started(centre.database, found[person], NOW)
    first, second, third, _ = node.uuids
    node.take(list(samples(first, NOW, NOW + 2 * HOUR, busy_ppm=800_000)), NOW + 2 * HOUR)
    node.take(list(samples(second, NOW, NOW + HOUR, busy_ppm=None)), NOW + HOUR)
    node.take(list(samples(third, NOW, NOW + HOUR, busy_ppm=100_000)), NOW + HOUR)
    centre.settle(found["ada"], NOW, NOW + 2 * HOUR)
    return found


def test_each_run_has_what_it_held_and_what_was_seen(centre: Centre, runs: dict[str, str]) -> None:
    lines = {line.person: line for line in usage.by_run(centre.database, DAY_OF_NOW, NOW + 3 * HOUR)}
    assert {person: line.run for person, line in lines.items()} == runs
    ada = lines["ada"].use
    assert (ada.held_seconds, ada.seen_seconds, ada.measured_seconds, ada.busy_seconds) == (
        4 * HOUR,
        3 * HOUR,
        2 * HOUR,
        2 * HOUR * 8 // 10,
    )
    assert (ada.gap_seconds, ada.busy_ppm) == (HOUR, 800_000)
    assert (ada.watt_hours, ada.most_memory_bytes) == (3 * WATTS_BUSY, 10 * GIB)
    bob = lines["bob"].use
    assert (bob.held_seconds, bob.gap_seconds, bob.idle_seconds) == (3 * HOUR, 2 * HOUR, HOUR * 9 // 10)
    assert lines["cho"].use == Use(held_seconds=3 * HOUR)
    assert (lines["cho"].project, lines["cho"].profile, lines["cho"].use.busy_ppm) == ("sound", "gpu", None)


def test_lines_are_put_together(centre: Centre, runs: dict[str, str]) -> None:
    lines = usage.by_run(centre.database, DAY_OF_NOW, NOW + 3 * HOUR)
    by_project = usage.grouped(lines, "project")
    assert [(line.project, line.person, line.use.held_seconds) for line in by_project] == [
        ("vision", "", 7 * HOUR),
        ("sound", "", 3 * HOUR),
    ]
    assert [(line.person, line.profile) for line in usage.grouped(lines, "person", "profile")] == [
        ("ada", "gpu-2"),
        ("bob", "gpu"),
        ("cho", "gpu"),
    ]
    assert together(line.use for line in by_project) == together(line.use for line in lines)
    assert [line.run for line in usage.idlest(lines, 5)] == [runs["bob"], runs["ada"]]
    assert len(usage.idlest(lines, 1)) == 1


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        (Wanted(project="vision"), 7),
        (Wanted(person="bob"), 3),
        (Wanted(project="sound", person="bob"), 0),
        (Wanted(run="nothing"), 0),
    ],
    ids=str,
)
def test_only_what_is_wanted(centre: Centre, runs: dict[str, str], wanted: Wanted, held: int) -> None:
    del runs
    lines = usage.by_run(centre.database, DAY_OF_NOW, NOW + 3 * HOUR, wanted)
    assert together(line.use for line in lines).held_seconds == held * HOUR


@pytest.mark.usefixtures("runs")
def test_only_what_lies_in_the_period(centre: Centre) -> None:
    first = Period(NOW, NOW + HOUR)
    second = Period(NOW + HOUR, NOW + 2 * HOUR)
    uses = [
        together(line.use for line in usage.by_run(centre.database, period, NOW + 3 * HOUR))
        for period in (first, second)
    ]
    assert [use.held_seconds for use in uses] == [4 * HOUR, 4 * HOUR]
    assert [use.seen_seconds for use in uses] == [3 * HOUR, HOUR]
    assert usage.by_run(centre.database, Period(NOW - HOUR, NOW), NOW) == []
    assert usage.by_run(centre.database, Period(NOW + 9 * HOUR, NOW + 10 * HOUR), NOW + 3 * HOUR) == []


@pytest.mark.usefixtures("runs")
def test_each_day_of_the_calendar_has_its_part(centre: Centre) -> None:
    """In Seoul the day ends seven hours after `NOW`."""
    days = usage.by_day(centre.database, DAY_OF_NOW, NOW + 10 * HOUR, Wanted(project="vision"))
    assert [day for day, _ in days] == [date(2027, 1, 16), date(2027, 1, 17)]
    assert [use.held_seconds for _, use in days] == [4 * HOUR + 7 * HOUR, 3 * HOUR]
    assert [use.seen_seconds for _, use in days] == [4 * HOUR, 0]
    lines = usage.by_run(centre.database, DAY_OF_NOW, NOW + 10 * HOUR, Wanted(project="vision"))
    assert together(use for _, use in days) == together(line.use for line in lines)


def test_a_run_has_its_intervals(centre: Centre, runs: dict[str, str]) -> None:
    found = usage.of_run(centre.database, runs["bob"], NOW + 2 * HOUR)
    assert found is not None
    assert len(found.intervals) == 24
    assert [each.busy_ppm for each in found.intervals] == [100_000] * 12 + [None] * 12
    assert [each.gap_seconds for each in found.intervals] == [0] * 12 + [300] * 12
    assert found.line.use.held_seconds == sum(each.held_seconds for each in found.intervals) == 2 * HOUR
    last = usage.of_run(centre.database, runs["bob"], NOW + 50 * HOUR, most_intervals=6)
    assert last is not None
    assert [each.at for each in last.intervals] == [NOW + 50 * HOUR - 300 * back for back in range(6, 0, -1)]
    assert last.line.use.held_seconds == 50 * HOUR
    ended = usage.of_run(centre.database, runs["ada"], NOW + 50 * HOUR)
    assert ended is not None
    assert [each.held_seconds for each in ended.intervals] == [600] * 24
    assert ended.finished_at == NOW + 2 * HOUR


def test_a_run_that_never_began_has_used_nothing(centre: Centre, node: Machine) -> None:
    del node
    run_id = centre.admitted(NOW).run_id
    found = usage.of_run(centre.database, run_id, NOW + HOUR)
    assert found is not None
    assert (found.line.use, found.intervals, found.started_at) == (Use(), (), None)
    assert usage.by_run(centre.database, DAY_OF_NOW, NOW + HOUR) == []
    assert usage.of_run(centre.database, "nothing", NOW) is None


def test_who_sees_what_each_member_used(centre: Centre) -> None:
    centre.member("vision", "ina", "instructor")
    centre.person("dan")
    roles = {"op": PlatformRole.OPERATOR, "aud": PlatformRole.AUDITOR, "rev": PlatformRole.REVIEWER}
    for name, role in roles.items():
        people.add_person(
            centre.database,
            name,
            name,
            organisation=None,
            platform_roles=frozenset({role}),
            actor="tests",
            now=NOW,
        )
    asked = ("ada", "ina", "op", "aud", "bob", "dan", "rev", "nobody")
    seeing = [name for name in asked if usage.sees_everyone(centre.database, name, "vision")]
    assert seeing == ["ada", "ina", "op", "aud"]
