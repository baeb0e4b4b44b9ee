"""The fleet's figures are those of the ledger; refused starts are counted once each."""

from __future__ import annotations

from datetime import timedelta

import pytest

from quotas.domain.admission import Admitted
from quotas.domain.recalls import RecallPolicy
from quotas.services import fleet, periodic
from quotas.services.admission import started
from quotas.services.fleet import Project, Refusals
from quotas.store import audit
from tests.metered import WATTS_BUSY, Machine, machine, samples
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre

NOW = START + DAY
HOUR = int(timedelta(hours=1).total_seconds())
SILENCE = 120


@pytest.fixture
def node(centre: Centre) -> Machine:
    centre.award("vision", 10**6 * GPU_GFLOPS)
    return machine(centre.database, START, count=3)


def figures(centre: Centre, now: int) -> fleet.Figures:
    return fleet.figures(centre.database, now, SILENCE)


def test_before_anything_there_is_nothing(centre: Centre) -> None:
    found = figures(centre, NOW)
    assert (found.machines, found.devices, found.projects, found.budgets, found.open_runs) == ((), (), {}, {}, {})
    assert (found.waiting, found.events, found.loop_at) == ({}, {}, None)


def test_what_is_held_and_used(centre: Centre, node: Machine) -> None:
    first = centre.admitted(NOW, profile="gpu-2").run_id
    second = centre.admitted(NOW, person="bob").run_id
    started(centre.database, first, NOW + 10)
    node.take(list(samples(node.uuids[0], NOW + 10, NOW + HOUR, busy_ppm=250_000)), NOW + HOUR)
    found = figures(centre, NOW + HOUR)
    held = 2 * (HOUR - 10)
    seen = HOUR - 10
    assert found.projects == {"vision": Project(held, seen, seen, seen / 4, seen * WATTS_BUSY)}
    assert {uuid: (each.run, each.since) for uuid, each in found.holders.items()} == {
        node.uuids[0]: (first, NOW),
        node.uuids[1]: (first, NOW),
        node.uuids[2]: (second, NOW),
    }
    assert {fleet.state_of(each) for each in found.devices} == {fleet.HELD}
    assert [fleet.is_current(each, NOW + HOUR) for each in found.devices] == [True, False, False]
    assert found.open_runs == {("notebook", "vision"): 2}
    assert set(found.budgets) == {("vision", "available"), ("vision", "held")}
    assert found.budgets["vision", "available"] + found.budgets["vision", "held"] == 10**6 * GPU_GFLOPS
    centre.settle(first, NOW + 10, NOW + HOUR)
    centre.settle(second, None, None)
    ended = figures(centre, NOW + 5 * HOUR)
    assert (ended.projects, ended.holders, ended.open_runs) == (found.projects, {}, {})
    assert {fleet.state_of(each) for each in ended.devices} == {"cleaning"}


def test_an_overview_has_every_machine(centre: Centre, node: Machine) -> None:
    machine(centre.database, START, name="node-2", count=1)
    assert isinstance(centre.reserve(NOW), Admitted)
    found = fleet.overview(centre.database, NOW, SILENCE)
    assert [(each.name, len(devices)) for each, devices in found.machines] == [("node-1", 3), ("node-2", 1)]
    assert sum(fleet.state_of(each) == fleet.HELD for _, devices in found.machines for each in devices) == 1
    assert len(node.uuids) == 3


def test_refusals_are_counted_once_each(centre: Centre) -> None:
    centre.award("vision", 10**6 * GPU_GFLOPS)
    refusals = Refusals()
    for at in (NOW, NOW + 1):
        centre.reserve(at, person="nobody")
    centre.reserve(NOW + 60, profile="nothing")
    with centre.database.write() as transaction:
        audit.record(transaction, NOW + 60, "bob", "something else", "vision", {"code": "person_unknown"})
    refusals.go_on(centre.database, NOW + 65)
    assert refusals.counted == {"person_unknown": 2}
    for _ in range(2):
        refusals.go_on(centre.database, NOW + 120)
        assert sum(refusals.counted.values()) == 3
    assert refusals.counted["person_unknown"] == 2


def test_more_refusals_than_are_read_at_once(centre: Centre, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "AUDIT_ROWS", 3)
    monkeypatch.setattr(fleet, "AUDIT_PIECES", 2)
    for number in range(10):
        centre.reserve(NOW + number, person="nobody")
    refusals = Refusals()
    counted = []
    for _ in range(3):
        refusals.go_on(centre.database, NOW + 100)
        counted.append(sum(refusals.counted.values()))
    assert counted == [6, 10, 10]


def test_the_loop_tells_when_it_went_round(centre: Centre) -> None:
    jobs = periodic.jobs(RecallPolicy())
    for now in range(NOW, NOW + 60, 5):
        periodic.run(centre.database, jobs, now)
    found = figures(centre, NOW + 1000).loop_at
    assert found is not None
    assert NOW + 45 <= found <= NOW + 55
