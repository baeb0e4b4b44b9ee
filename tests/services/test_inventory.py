"""Reports of machines: taken once, matched with the catalogue, and capacity follows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quotas.domain.inventory import REPORTED_AHEAD_SECONDS, REPORTED_BACK_SECONDS
from quotas.domain.node_reports import DeviceEvent, DeviceKind, EventKind, FoundDevice, Sample
from quotas.domain.pools import CapacityPhase
from quotas.domain.profiles import Profile
from quotas.domain.refusals import Refused
from quotas.domain.units import InvalidValue
from quotas.services import inventory, nodes, pools, profiles, projects
from quotas.store.tables import devices as devices_table
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre
from tests.services.machines import GIB, SLICE, Machines, cut, gpu

NOW = START + DAY
BY: dict[str, Any] = {"actor": "op", "now": NOW}


@pytest.fixture
def machines(centre: Centre) -> Machines:
    centre.award("vision", 10**6 * GPU_GFLOPS)
    return Machines(centre)


def healthy(machines: Machines, now: int) -> dict[str, int]:
    return {f"{view.code} {view.device_model}": view.healthy for view in pools.capacity(machines.database, now)}


class TestTaking:
    def test_a_report_is_taken_once(self, machines: Machines) -> None:
        machine, (device, *_) = machines.with_gpus(2, NOW)
        report = machine.made(NOW, events=(DeviceEvent(device, NOW, EventKind.XID, 13),))
        answers = [inventory.take_report(machines.database, machine.token, report, NOW + n) for n in range(3)]
        assert [answer.accepted for answer in answers] == [2, 2, 2]
        assert len(inventory.events(machines.database, 10)) == 1

    def test_an_older_report_changes_nothing(self, machines: Machines) -> None:
        machine, (device, *_) = machines.with_gpus(2, NOW)
        late = machine.made(NOW, events=(DeviceEvent(device, NOW, EventKind.LOST),))
        machine.report(NOW + 10)
        assert inventory.take_report(machines.database, machine.token, late, NOW + 20).accepted == 3
        assert set(machines.states().values()) == {"available"}

    def test_numbers_may_be_left_out_and_are_counted_as_missed(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(1, NOW)
        for _ in range(4):
            machine.made(NOW)
        assert machine.report(NOW + 10).accepted == 6
        assert nodes.list_nodes(machines.database, NOW, 180)[0].reports_missed == 4

    def test_a_new_stream_begins_at_any_number(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(1, NOW)
        machine.stream = "another"
        answer = machine.report(NOW + 10)
        assert (answer.accepted, answer.send_devices) == (2, True)
        assert machine.list(NOW + 20).send_devices is False

    def test_devices_are_asked_for_where_none_are_known_and_after_an_hour(self, machines: Machines) -> None:
        machine = machines.add("gpu-1", NOW)
        assert machine.report(NOW).send_devices is True
        machine.has(gpu(0))
        machine.list(NOW)
        wanted = [machine.report(NOW + after).send_devices for after in (10, 3600, 3601)]
        assert wanted == [False, False, True]

    def test_nobody_reports_without_a_token(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(1, NOW)
        machine.token = "x"
        with pytest.raises(inventory.UnknownToken):
            machine.report(NOW)

    @pytest.mark.parametrize(
        ("at", "taken"),
        [
            (NOW - REPORTED_BACK_SECONDS, True),
            (NOW - REPORTED_BACK_SECONDS - 1, False),
            (NOW + REPORTED_AHEAD_SECONDS, True),
            (NOW + REPORTED_AHEAD_SECONDS + 1, False),
        ],
    )
    def test_what_is_of_long_ago_or_of_the_future_is_left_aside(self, machines: Machines, at: int, taken: bool) -> None:
        machine, (device,) = machines.with_gpus(1, NOW)
        sample = Sample(device, float(at), 10.0, 7, GIB, 300_000)
        machine.report(NOW, events=(DeviceEvent(device, float(at), EventKind.XID, 13),), samples=(sample,))
        events = inventory.events(machines.database, 10)
        assert len(events) == int(taken)
        assert all(event.at <= NOW for event in events)
        if not taken:
            assert machines.views()[device].read_at is None

    def test_what_is_of_an_unknown_device_is_left_aside(self, machines: Machines) -> None:
        machine, (device,) = machines.with_gpus(1, NOW)
        event = DeviceEvent("GPU-unknown", NOW, EventKind.LOST)
        machine.report(NOW, events=(event,), samples=(Sample("GPU-unknown", NOW, 10.0), Sample(device, NOW, 10.0, 5)))
        assert inventory.events(machines.database, 10) == []
        assert machines.views()[device].busy_ppm == 5
        machines.sound(NOW)

    def test_a_machine_says_nothing_of_the_devices_of_another(self, machines: Machines) -> None:
        _, (mine,) = machines.with_gpus(1, NOW)
        other, _ = machines.with_gpus(1, NOW, name="gpu-2")
        other.lose(NOW, mine)
        other.has(gpu(0, machine="gpu-2"), gpu(0))
        other.list(NOW + 10)
        assert machines.views()[mine].node == "gpu-1"
        assert machines.states()[mine] == "available"
        machines.sound(NOW + 10)


class TestCapacity:
    def test_follows_what_is_found(self, machines: Machines) -> None:
        machines.add_slices()
        machine, _ = machines.with_gpus(3, NOW)
        assert healthy(machines, NOW) == {"main h100": 3}
        slices = cut(gpu(2), 7)
        machine.has(gpu(0), gpu(1), *slices)
        machine.list(NOW + 10)
        assert healthy(machines, NOW + 10) == {"main h100": 2, f"main {SLICE}": 7}
        assert machines.states(retired=True)[gpu(2).uuid] == "retired"
        machine.has(gpu(0), gpu(1), gpu(2))
        machine.list(NOW + 20)
        assert healthy(machines, NOW + 20) == {"main h100": 3, f"main {SLICE}": 0}
        assert {machines.states(retired=True)[each.uuid] for each in slices} == {"retired"}
        assert [row.actor for row in machines.audited("capacity phase added")] == ["inventory"] * 6
        machines.sound(NOW + 20)

    def test_what_is_cut_otherwise_is_no_more_and_one_slice_that_is_missing_is_gone(self, machines: Machines) -> None:
        machines.add_slices()
        machine = machines.add("gpu-1", NOW)
        slices = cut(gpu(0), 7)
        machine.has(*slices)
        machine.list(NOW)
        machine.has(*slices[1:])
        machine.list(NOW + 10)
        assert machines.states()[slices[0].uuid] == "lost"
        machine.has(*cut(gpu(0), 2, units=60, profile="3g.40gb"))
        machine.list(NOW + 20)
        assert {machines.states(retired=True)[each.uuid] for each in slices} == {"retired"}
        machines.sound(NOW + 20)

    def test_of_the_same_moment_the_later_list_counts(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(3, NOW)
        machine.has(*(gpu(number) for number in range(5)))
        machine.list(NOW)
        assert healthy(machines, NOW) == {"main h100": 5}
        machines.sound(NOW)

    def test_two_machines_add_up(self, machines: Machines) -> None:
        machines.with_gpus(3, NOW)
        machines.with_gpus(2, NOW + 5, name="gpu-2")
        assert healthy(machines, NOW + 5) == {"main h100": 5}

    def test_a_card_that_moves_is_counted_where_it_is(self, machines: Machines) -> None:
        pools.add_pool(machines.database, "lab", "실습", "Lab", simulated=False, **BY)
        first, (one, two) = machines.with_gpus(2, NOW)
        second = machines.add("gpu-2", NOW, pool="lab")
        first.has(gpu(0))
        first.list(NOW + 10)
        second.has(gpu(1))
        second.list(NOW + 20)
        assert machines.views()[two].node == "gpu-2"
        assert healthy(machines, NOW + 20) == {"main h100": 1, "lab h100": 1}
        assert (machines.counts(), machines.counts(pool=2)) == ((0, 0), (0, 1))
        assert one in machines.views()
        machines.sound(NOW + 20)


class TestMatching:
    def test_a_name_that_the_catalogue_does_not_know_is_listed_until_someone_says_what_it_is(
        self, machines: Machines
    ) -> None:
        machine = machines.add("gpu-1", NOW)
        strange = replace(gpu(0), name="NVIDIA H100 NVL")
        machine.has(strange)
        machine.list(NOW)
        assert machines.views()[strange.uuid].device_model is None
        machine.lose(NOW + 5, strange.uuid)
        machines.sound(NOW + 5)
        with pytest.raises(InvalidValue, match="h200"):
            inventory.match(machines.database, strange.uuid, "h200", **BY)
        assert inventory.match(machines.database, strange.uuid[:12], "h100", actor="op", now=NOW + 6) == strange.uuid
        assert (healthy(machines, NOW + 6), machines.counts()) == ({"main h100": 1}, (0, 1))
        machines.sound(NOW + 6)
        machine.list(NOW + 10)
        assert machines.views()[strange.uuid].device_model == "h100"

    def test_what_is_matched_anew_is_counted_there(self, machines: Machines) -> None:
        machines.add_slices()
        machine, (first, second) = machines.with_gpus(2, NOW)
        machine.lose(NOW + 5, first)
        for each in (first, second):
            inventory.match(machines.database, each, SLICE, actor="op", now=NOW + 6)
        assert healthy(machines, NOW + 6) == {"main h100": 0, f"main {SLICE}": 2}
        assert (machines.counts(), machines.counts(SLICE)) == ((0, 0), (0, 1))
        machines.sound(NOW + 6)

    def test_what_a_run_holds_stays_what_it_is(self, machines: Machines) -> None:
        _, (device,) = machines.with_gpus(1, NOW)
        run = machines.centre.admitted(NOW)
        with pytest.raises(InvalidValue, match=run.run_id):
            inventory.match(machines.database, device, "h100", **BY)

    def test_operators_know_of_slices_of_another_size_than_the_catalogue_says(self, machines: Machines) -> None:
        machines.add_slices()
        machine = machines.add("gpu-1", NOW)
        machine.has(*cut(gpu(0), 2), *cut(gpu(1), 3, units=18))
        machine.list(NOW)
        assert [view.units_differ for view in machines.views().values()] == [False] * 2 + [True] * 3
        told = [text for kind, text in machines.told("operator") if kind == "slice differs"]
        assert len(told) == 1
        assert "have 18 multiprocessors, the catalogue says 16" in told[0]

    def test_a_beginning_that_several_have_names_none(self, machines: Machines) -> None:
        machines.with_gpus(2, NOW)
        with pytest.raises(InvalidValue, match="beginning of several"):
            inventory.match(machines.database, "GPU-gpu-1", "h100", **BY)
        with pytest.raises(InvalidValue, match="there is no"):
            inventory.match(machines.database, "GPU", "h100", **BY)


class TestAssigning:
    def test_a_run_holds_devices_of_one_machine_only(self, machines: Machines) -> None:
        machines.with_gpus(1, NOW)
        machines.with_gpus(1, NOW, name="gpu-2")
        assert isinstance(machines.centre.reserve(NOW, profile="gpu-2"), Refused)
        run = machines.centre.admitted(NOW)
        assert [view.run_id for view in machines.views().values()].count(run.run_id) == 1
        machines.sound(NOW)

    def test_an_unmatched_device_is_given_to_nobody(self, machines: Machines) -> None:
        machine = machines.add("gpu-1", NOW)
        machine.has(replace(gpu(0), name="Something else"))
        machine.list(NOW)
        assert isinstance(machines.centre.reserve(NOW), Refused)

    def test_what_the_agent_says_of_a_device_is_kept(self, machines: Machines) -> None:
        machine = machines.add("npu-1", NOW)
        npu = FoundDevice("npu-1:rbln0", DeviceKind.NPU, "RBLN-CA12", 16 * GIB, 0, paths=("/dev/rbln0",), ecc=True)
        machine.has(npu)
        machine.list(NOW)
        with machines.database.read() as transaction:
            (row,) = transaction.rows(devices_table.select())
        assert (row.kind, row.paths, row.ecc, row.units) == ("npu", '["/dev/rbln0"]', 1, None)
        machine.has(replace(npu, position=3, ecc=None))
        machine.list(NOW + 10)
        view = machines.views()[npu.uuid]
        assert (view.position, view.ecc) == (3, None)


class TestTheOperatorsDesk:
    """What no machine has is refused when it is offered, and not to the person who wants to start it."""

    def profile(self, model: str | None, count: int) -> Profile:
        return Profile("new", "새", "New", "notebook", 1000, GIB, GIB, model, count)

    def test_a_platform_without_machines_is_not_asked(self, machines: Machines) -> None:
        machines.add_slices()
        profiles.add_profile(machines.database, self.profile(SLICE, 40), 1, **BY)

    def test_a_profile_of_a_device_that_no_machine_has(self, machines: Machines) -> None:
        machines.add_slices()
        machines.with_gpus(4, NOW)
        with pytest.raises(InvalidValue, match=rf"no machine has {SLICE}; there are .*h100 × 4") as refused:
            profiles.add_profile(machines.database, self.profile(SLICE, 1), 1, **BY)
        assert refused.value.field == "device_model"
        assert "h100 × 4" in refused.value.message_ko
        profiles.add_profile(machines.database, self.profile(None, 0), 1, **BY)

    def test_a_profile_of_more_devices_than_a_machine_has(self, machines: Machines) -> None:
        machines.with_gpus(4, NOW)
        machines.with_gpus(3, NOW, name="gpu-2")
        with pytest.raises(InvalidValue, match="no single machine has 5 h100"):
            profiles.add_profile(machines.database, self.profile("h100", 5), 1, **BY)
        profiles.add_profile(machines.database, self.profile("h100", 4), 1, **BY)

    def test_a_pool_without_machines_has_what_its_phases_say(self, machines: Machines) -> None:
        pools.add_pool(machines.database, "mock", "모의", "Mock", simulated=True, **BY)
        pools.add_phase(machines.database, "mock", CapacityPhase("h100", NOW + DAY, 16, 16, 16), **BY)
        machines.with_gpus(4, NOW)
        profiles.add_profile(machines.database, self.profile("h100", 16), 1, **BY)

    def test_what_is_not_there_is_offered_to_no_project(self, machines: Machines) -> None:
        machines.centre.project("sound", {"ada": "pi"})
        projects.withdraw_profile(machines.database, "sound", "gpu-2", **BY)
        machines.with_gpus(1, NOW)
        with pytest.raises(InvalidValue, match="no single machine has 2 h100"):
            projects.offer_profile(machines.database, "sound", "gpu-2", **BY)
