"""Machines: their names and tokens, which pools may have them, how they are listed, and how they go."""

from __future__ import annotations

from typing import Any

import pytest

from quotas.domain.inventory import DeviceState
from quotas.domain.policy import Policy
from quotas.domain.pools import CapacityPhase
from quotas.domain.units import InvalidValue
from quotas.services import device_health, inventory, nodes, pools
from quotas.services.nodes import NodeState
from quotas.store.tables import nodes as nodes_table
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre
from tests.services.machines import Machines, gpu

NOW = START + DAY
BY: dict[str, Any] = {"actor": "op", "now": NOW}


@pytest.fixture
def machines(centre: Centre) -> Machines:
    centre.award("vision", 10**6 * GPU_GFLOPS)
    return Machines(centre)


def shown(machines: Machines, now: int = NOW) -> dict[str, NodeState]:
    return {view.name: view.state for view in nodes.list_nodes(machines.database, now, 180)}


def test_the_token_is_given_once_and_stored_as_its_hash(machines: Machines) -> None:
    token = nodes.add(machines.database, "gpu-1", "main", **BY)
    with machines.database.read() as transaction:
        (row,) = transaction.rows(nodes_table.select())
    assert len(token) >= 40
    assert token not in repr(row)
    assert row.token_sha256 == nodes.digest(token)
    assert machines.audited("machine added")[0].subject == "gpu-1"


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a_b", "가", "a" * 64, "a b"])
def test_a_name_is_a_dns_label(machines: Machines, name: str) -> None:
    with pytest.raises(InvalidValue, match="machine's name"):
        nodes.add(machines.database, name, "main", **BY)


def test_a_name_is_taken_once(machines: Machines) -> None:
    machines.add("gpu-1", NOW)
    with pytest.raises(InvalidValue, match="taken"):
        machines.add("gpu-1", NOW)


def test_a_simulated_pool_has_no_machines(machines: Machines) -> None:
    pools.add_pool(machines.database, "mock", "모의", "Mock", simulated=True, **BY)
    with pytest.raises(InvalidValue, match="simulated"):
        nodes.add(machines.database, "gpu-1", "mock", **BY)
    with pytest.raises(InvalidValue, match="nothing"):
        nodes.add(machines.database, "gpu-1", "nothing", **BY)


def test_a_pool_in_use_gets_its_first_machine_once_its_runs_have_ended(machines: Machines) -> None:
    run = machines.centre.admitted(NOW, profile="gpu-2")
    with pytest.raises(InvalidValue, match="hold 2 devices"):
        machines.add("gpu-1", NOW)
    machines.centre.settle(run.run_id, None, None)
    machines.add("gpu-1", NOW)
    machines.sound(NOW)


def test_the_phases_that_were_to_come_are_cancelled_with_the_first_machine(machines: Machines) -> None:
    machines.centre.phase(64, NOW + DAY)
    machines.with_gpus(4, NOW)
    dated = pools.phases(machines.database, "main", NOW)
    assert [(each.phase.from_at, each.phase.healthy, each.is_in_force) for each in dated] == [
        (START, 8, False),
        (NOW, 4, True),
    ]


def test_capacity_is_what_the_machines_report_and_not_what_someone_says(machines: Machines) -> None:
    machines.with_gpus(4, NOW)
    with pytest.raises(InvalidValue, match="what they report"):
        pools.add_phase(machines.database, "main", CapacityPhase("h100", NOW + 5, 9, 9, 9), **BY)


def test_a_changed_token_replaces_the_old_one(machines: Machines) -> None:
    machine, _ = machines.with_gpus(1, NOW)
    old = machine.token
    machine.token = nodes.rotate(machines.database, "gpu-1", **BY)
    assert machine.report(NOW).accepted == 2
    machine.token = old
    with pytest.raises(inventory.UnknownToken):
        machine.report(NOW)
    with pytest.raises(InvalidValue, match="gpu-9"):
        nodes.rotate(machines.database, "gpu-9", **BY)


def test_a_machine_is_listed_as_its_reports_are(machines: Machines) -> None:
    machines.add("new", NOW)
    machine, (first, _) = machines.with_gpus(2, NOW)
    machine.lose(NOW, first)
    assert shown(machines) == {"gpu-1": NodeState.REPORTING, "new": NodeState.NEVER_HEARD}
    assert shown(machines, NOW + 181)["gpu-1"] is NodeState.SILENT
    (view,) = [each for each in nodes.list_nodes(machines.database, NOW, 180) if each.name == "gpu-1"]
    assert view.counts == {DeviceState.AVAILABLE: 1, DeviceState.LOST: 1}


def test_operators_are_told_once_of_each_silence(machines: Machines) -> None:
    machine, _ = machines.with_gpus(1, NOW)
    machines.add("never-heard", NOW)
    look, policy = device_health.look_for_silence, Policy(node_silence=100)
    silent = [look(machines.database, NOW + after, policy)["silent"] for after in (100, 101, 120, 200)]
    assert silent == [0, 1, 0, 0]
    machine.report(NOW + 300)
    assert [look(machines.database, NOW + after, policy)["silent"] for after in (310, 401, 402)] == [0, 1, 0]
    told = [text for kind, text in machines.told("operator") if kind == "machine silent"]
    assert len(told) == 2
    assert "gpu-1 (pool main) has not reported since" in told[0]
    assert machines.told("ada") == []


def test_a_machine_goes_with_its_devices_once_no_run_holds_them(machines: Machines) -> None:
    machine, uuids = machines.with_gpus(2, NOW)
    run = machines.centre.admitted(NOW)
    with pytest.raises(InvalidValue, match=run.run_id):
        nodes.remove(machines.database, "gpu-1", **BY)
    machines.centre.settle(run.run_id, None, None)
    assert nodes.remove(machines.database, "gpu-1", **BY) == 2
    assert machines.states() == {}
    assert set(machines.states(retired=True).values()) == {"retired"}
    assert machines.counts() == (0, 0)
    assert [view.healthy for view in pools.capacity(machines.database, NOW)] == [0]
    with pytest.raises(inventory.UnknownToken):
        machine.report(NOW)
    machines.sound(NOW)
    pools.add_phase(machines.database, "main", CapacityPhase("h100", NOW + 5, 9, 9, 9), **BY)
    assert set(machines.views(retired=True)) == set(uuids)


def test_a_machine_that_was_removed_may_come_back_and_its_devices_are_cleaned(machines: Machines) -> None:
    _, uuids = machines.with_gpus(2, NOW)
    nodes.remove(machines.database, "gpu-1", **BY)
    machine = machines.add("gpu-1", NOW + 10)
    machine.has(gpu(0), gpu(1))
    assert machine.list(NOW + 10).scrub == tuple(uuids)
    assert machines.counts() == (0, 2)
    machines.sound(NOW + 10)
    machine.scrub(NOW + 20)
    assert set(machines.states().values()) == {"available"}
    machines.sound(NOW + 20)
