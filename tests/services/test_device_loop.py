"""The loop over real processes: who lost a device is stopped when it was told, and silence is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quotas.services import nodes, pools
from tests.centre import Centre
from tests.services.loop import POLICY, World, in_a_folder
from tests.services.machines import Machine, gpu


@pytest.fixture
def dialect() -> str:
    """What the loop does follows from what is stored, wherever that is."""
    return "sqlite"


@pytest.fixture
def world(seeded: Centre, tmp_path: Path) -> Iterator[World]:
    yield from in_a_folder(seeded, tmp_path)


@pytest.fixture
def machine(world: World) -> Machine:
    """A machine with two GPUs in a pool of its own, the only one that can be held."""
    database, by = world.centre.database, {"actor": "op", "now": world.now}
    pools.drain(database, world.centre.pool, "h100", 4, "the simulated ones", **by)
    pools.add_pool(database, "hall", "전산실", "Hall", simulated=False, **by)
    found = Machine(database, "gpu-1", nodes.add(database, "gpu-1", "hall", **by))
    found.has(gpu(0), gpu(1))
    found.list(world.now)
    return found


def test_who_lost_a_device_is_stopped_after_the_grace_and_nobody_else_is(world: World, machine: Machine) -> None:
    unlucky, other = world.hold("h100"), world.hold("h100", person=world.centre.pi)
    for run_id in (unlucky, other):
        world.start(run_id)
    world.tick()
    machine.lose(world.now, gpu(0).uuid)
    lost_at = world.now
    while world.now + 20 < lost_at + POLICY.loss_grace:
        machine.report(world.now)
        assert world.tick().get("stopped") is None
    assert world.alive(unlucky)
    world.tick()
    assert world.row(unlucky).outcome == "device_lost"
    assert not world.alive(unlucky)
    assert world.row(other).state == "running"
    assert world.alive(other)
    assert world.told(world.centre.member) == ["device lost"]
    assert world.told(world.centre.pi) == []


def test_a_machine_that_reports_no_more_is_noticed_once(world: World, machine: Machine) -> None:
    assert machine.name == "gpu-1"
    done = [world.tick(POLICY.node_silence // 2).get("silent") for _ in range(5)]
    assert [each for each in done if each is not None] == [1]
    assert world.told(world.centre.operator) == ["machine silent"]
