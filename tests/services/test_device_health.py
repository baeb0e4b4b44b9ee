"""A device is lost and comes back: what its run is charged, who is told what, and that nobody else ends for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quotas.domain.extension import Standing
from quotas.domain.inventory import Cleaning, Loss
from quotas.domain.node_reports import DeviceEvent, EventKind
from quotas.domain.runs import Limit, RunKind
from quotas.domain.xids import XIDS, Fault
from quotas.services import admission, cleaning, device_health, inventory, preemption, pressure
from quotas.services.device_health import Lost
from quotas.store import devices as devices_store
from tests.services.centre import DAY, FIRST_HOLD, GPU_GFLOPS, POLICY, START, Centre
from tests.services.holders import OPPORTUNISTIC, Holders
from tests.services.machines import Machine, Machines, cut, gpu

NOW = START + DAY
LOST = NOW + 100
BY: dict[str, Any] = {"actor": "op"}


@pytest.fixture
def machines(centre: Centre) -> Machines:
    centre.award("vision", 10**6 * GPU_GFLOPS)
    return Machines(centre)


def running(machines: Machines, now: int = NOW, **asked: object) -> tuple[str, list[str]]:
    """Return a run that has begun, and its devices."""
    run_id = machines.centre.admitted(now, **asked).run_id
    admission.started(machines.database, run_id, now)
    return run_id, [uuid for uuid, view in machines.views().items() if view.run_id == run_id]


def kinds(machines: Machines, person: str) -> list[str]:
    return [kind for kind, _ in machines.told(person)]


class TestLoss:
    @pytest.fixture
    def lost(self, machines: Machines) -> tuple[Machines, Machine, str, str]:
        """Return the machines, the one of which a device is lost, its run, and the device."""
        machine, _ = machines.with_gpus(4, NOW)
        run_id, (device,) = running(machines)
        machine.lose(LOST + 5, device, at=LOST)
        return machines, machine, run_id, device

    def test_the_run_is_not_charged_since(self, lost: tuple[Machines, Machine, str, str]) -> None:
        machines, _, run_id, device = lost
        assert machines.pauses(run_id) == [(LOST, None)]
        assert machines.run(run_id).lost_stop_at == LOST + 5 + POLICY.loss_grace
        assert (machines.states()[device], machines.counts()) == ("lost", (1, 1))
        machines.sound(LOST + 5)
        charge = machines.centre.settle(run_id, NOW, LOST + 800)
        assert charge.seconds == LOST - NOW
        assert machines.pauses(run_id) == [(LOST, LOST + 800)]
        assert (machines.states()[device], machines.counts()) == ("lost", (0, 1))
        machines.sound(LOST + 800)

    def test_the_person_and_every_operator_know(self, lost: tuple[Machines, Machine, str, str]) -> None:
        machines, _, run_id, device = lost
        ((kind, text),) = machines.told("ada")
        assert kind == "device lost"
        for part in ("on vision (gpu) lost its device", "Nothing is charged since", "It is stopped at", "KST"):
            assert part in text
        ((kind, text),) = machines.told("operator")
        assert kind == "device lost"
        assert device in text
        assert run_id in text

    def test_it_ends_when_it_was_told_and_is_told_once(self, lost: tuple[Machines, Machine, str, str]) -> None:
        machines, _, run_id, _ = lost
        extension = admission.extend(machines.database, run_id, LOST + 20, POLICY)
        assert (extension.standing, extension.limit) == (Standing.ENDING, Limit.DEVICE_LOST)
        assert extension.stop_at == LOST + 5 + POLICY.loss_grace
        assert kinds(machines, "ada") == ["device lost"]

    def test_nobody_is_given_it(self, lost: tuple[Machines, Machine, str, str]) -> None:
        machines, _, _, device = lost
        others = [machines.centre.admitted(LOST + 10, person="bob", kind=RunKind.BATCH, seconds=60) for _ in range(2)]
        held = [uuid for uuid, view in machines.views().items() if view.run_id in {each.run_id for each in others}]
        assert len(held) == 2
        assert device not in held
        machines.sound(LOST + 10)

    def test_it_is_back_and_the_run_goes_on(self, lost: tuple[Machines, Machine, str, str]) -> None:
        machines, machine, run_id, device = lost
        machine.event(LOST + 60, device, EventKind.BACK, at=LOST + 50)
        assert machines.pauses(run_id) == [(LOST, LOST + 50)]
        assert machines.run(run_id).lost_stop_at is None
        assert (machines.states()[device], machines.counts()) == ("available", (1, 0))
        assert kinds(machines, "ada") == ["device lost", "device back"]
        assert kinds(machines, "operator") == ["device lost", "device back"]
        extension = admission.extend(machines.database, run_id, NOW + 700, POLICY)
        assert extension.standing is Standing.EXTENDED
        assert machines.centre.settle(run_id, NOW, NOW + 800).seconds == 750
        machines.sound(NOW + 800)

    def test_the_list_of_devices_says_that_it_is_back(self, lost: tuple[Machines, Machine, str, str]) -> None:
        machines, machine, run_id, device = lost
        machine.list(LOST + 70)
        assert machines.pauses(run_id) == [(LOST, LOST + 70)]
        assert machines.states()[device] == "available"
        machines.sound(LOST + 70)

    def test_it_may_be_lost_again_and_no_second_counts_twice(self, lost: tuple[Machines, Machine, str, str]) -> None:
        machines, machine, run_id, device = lost
        machine.event(LOST + 60, device, EventKind.BACK)
        machine.lose(LOST + 65, device, at=LOST + 30)  # told late, of a time that was paused already
        machine.event(LOST + 90, device, EventKind.BACK)
        machine.lose(LOST + 90, device)
        machine.event(LOST + 95, device, EventKind.BACK)
        machine.lose(LOST + 95, device)
        assert machines.pauses(run_id) == [
            (LOST, LOST + 60),
            (LOST + 60, LOST + 90),
            (LOST + 90, LOST + 95),
            (LOST + 95, None),
        ]
        assert machines.centre.settle(run_id, NOW, LOST + 100).seconds == 100
        machines.sound(LOST + 100)

    def test_back_after_its_run_it_is_cleaned_first(self, lost: tuple[Machines, Machine, str, str]) -> None:
        machines, machine, run_id, device = lost
        machines.centre.settle(run_id, NOW, LOST + 10)
        assert machine.event(LOST + 20, device, EventKind.BACK).scrub == (device,)
        assert (machines.states()[device], machines.counts()) == ("cleaning", (0, 1))
        machines.sound(LOST + 20)

    def test_a_pause_begins_with_the_run_at_the_earliest(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(1, NOW)
        run_id, (device,) = running(machines)
        machine.lose(NOW + 10, device, at=NOW - 500)
        assert machines.pauses(run_id) == [(NOW, None)]
        assert machines.centre.settle(run_id, NOW, NOW + 300).amount == 0
        machines.sound(NOW + 300)

    def test_of_a_run_with_two_devices_both_have_to_be_back(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(2, NOW)
        run_id, (one, two) = running(machines, profile="gpu-2")
        machine.lose(LOST, one)
        machine.lose(LOST + 10, two)
        machine.event(LOST + 20, one, EventKind.BACK)
        assert machines.pauses(run_id) == [(LOST, None)]
        machine.event(LOST + 30, two, EventKind.BACK)
        assert machines.pauses(run_id) == [(LOST, LOST + 30)]
        assert kinds(machines, "ada") == ["device lost", "device back"]
        machines.sound(LOST + 30)

    def test_what_was_never_held_needs_no_cleaning(self, machines: Machines) -> None:
        machine, (device,) = machines.with_gpus(1, NOW)
        machine.lose(LOST, device)
        assert machines.told("ada") == []
        machine.event(LOST + 5, device, EventKind.BACK)
        assert (machines.states()[device], machines.counts()) == ("available", (0, 0))
        machines.sound(LOST + 5)

    def test_what_the_list_has_not_is_lost_and_a_batch_run_with_it(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(2, NOW)
        run_id, (device,) = running(machines, kind=RunKind.BATCH, seconds=3600)
        machine.has(*(each for each in machine.devices.values() if each.uuid != device))
        machine.list(LOST)
        assert (machines.pauses(run_id), machines.counts()) == ([(LOST, None)], (1, 1))
        assert admission.extend(machines.database, run_id, LOST, POLICY).limit is Limit.DEVICE_LOST
        view = machines.views()[device]
        assert (view.state.value, view.reason, view.listed) == ("lost", "its machine does not find it any more", False)
        machines.sound(LOST)

    def test_what_the_list_has_with_a_problem_is_lost_until_it_has_none(self, machines: Machines) -> None:
        machine, (device,) = machines.with_gpus(1, NOW)
        machine.has(gpu(0, problem="it does not answer"))
        machine.list(LOST)
        view = machines.views()[device]
        assert (view.state.value, view.reason) == ("lost", "it does not answer")
        machine.has(gpu(0))
        machine.list(LOST + 10)
        assert machines.states()[device] == "available"

    def test_of_one_report_the_list_is_newer_than_its_events(self, machines: Machines) -> None:
        machine, (device,) = machines.with_gpus(1, NOW)
        run_id, _ = running(machines)
        machine.list(LOST, events=(DeviceEvent(device, LOST - 20, EventKind.LOST),))
        assert machines.states()[device] == "available"
        assert machines.pauses(run_id) == [(LOST - 20, LOST)]


class TestXids:
    @pytest.mark.parametrize("number", sorted(n for n, each in XIDS.items() if each.fault is Fault.DEVICE))
    def test_an_error_of_the_device_takes_it_out_of_use(self, machines: Machines, number: int) -> None:
        machine, (device,) = machines.with_gpus(1, NOW)
        run_id, _ = running(machines)
        machine.event(LOST, device, EventKind.XID, number)
        assert machines.states()[device] == "lost"
        assert machines.pauses(run_id) == [(LOST, None)]
        assert XIDS[number].meaning_en in machines.told("ada")[0][1]
        (event,) = inventory.events(machines.database, 10)
        assert (event.kind, event.code, event.run_id) == ("xid", number, run_id)
        machine.list(LOST + 10)  # healthy, says the list
        assert machines.states()[device] == ("lost" if XIDS[number].resets else "available")
        machines.sound(LOST + 10)

    @pytest.mark.parametrize("number", sorted(n for n, each in XIDS.items() if each.fault is Fault.APPLICATION))
    def test_an_error_of_the_program_is_told_once_and_takes_nothing_out_of_use(
        self, machines: Machines, number: int
    ) -> None:
        machine, (device,) = machines.with_gpus(1, NOW)
        run_id, _ = running(machines)
        for after in range(3):
            machine.event(LOST + after, device, EventKind.XID, number)
        assert machines.states()[device] == "available"
        assert machines.pauses(run_id) == []
        ((kind, text),) = machines.told("ada")
        assert kind == "device error"
        assert f"(Xid {number})" in text
        assert machines.told("operator") == []
        assert len(inventory.events(machines.database, 10)) == 3

    def test_an_unknown_number_is_told_to_operators_once_a_day(self, machines: Machines) -> None:
        machine, (device,) = machines.with_gpus(1, NOW)
        for after in (0, 10, DAY):
            machine.event(LOST + after, device, EventKind.XID, 999)
        assert kinds(machines, "operator") == ["device error"] * 2
        assert machines.states()[device] == "available"

    def test_what_asks_for_a_reset_is_released_by_an_operator(self, machines: Machines) -> None:
        machine, (device,) = machines.with_gpus(1, NOW)
        run_id, _ = running(machines)
        machine.lose(LOST, device)
        machine.event(LOST + 1, device, EventKind.XID, 79)
        machine.event(LOST + 10, device, EventKind.BACK)
        assert machines.views()[device].reason.startswith("Xid 79: ")
        with pytest.raises(Exception, match=run_id):
            cleaning.release(machines.database, device, "reset", now=LOST + 20, **BY)
        machines.centre.settle(run_id, NOW, LOST + 30)
        cleaning.release(machines.database, device, "reset", now=LOST + 40, **BY)
        assert (machines.states()[device], machines.counts()) == ("available", (0, 0))
        machines.sound(LOST + 40)

    def test_memory_errors_put_the_device_aside_after_its_run(self, machines: Machines) -> None:
        machine, (one, two) = machines.with_gpus(2, NOW)
        run_id, (held,) = running(machines)
        free = two if held == one else one
        for device in (held, free):
            machine.event(LOST, device, EventKind.ECC, 3)
        assert machines.states() == {held: "available", free: "quarantined"}
        assert machines.views()[held].after_run
        assert machines.pauses(run_id) == []
        machines.centre.settle(run_id, NOW, LOST + 10)
        assert machines.states() == {held: "quarantined", free: "quarantined"}
        assert machines.views()[held].reason == "3 memory errors that could not be corrected"
        assert kinds(machines, "operator") == ["device quarantined"] * 2
        machines.sound(LOST + 10)


class TestTaken:
    """The container has lost its device, though the machine has it."""

    def test_the_run_is_paused_until_it_has_it_again(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(2, NOW)
        run_id, (device,) = running(machines)
        take, give = device_health.taken_from, device_health.given_back_to
        assert [take(machines.database, run_id, device, LOST + after, POLICY) for after in (0, 5)] == [True, False]
        machine.list(LOST + 10)  # the machine has it all the time
        assert machines.pauses(run_id) == [(LOST, None)]
        assert "taken from the running container" in machines.told("ada")[0][1]
        assert [give(machines.database, run_id, device, LOST + after) for after in (20, 30)] == [True, False]
        assert machines.pauses(run_id) == [(LOST, LOST + 20)]
        assert machines.states()[device] == "available"
        machines.sound(LOST + 30)

    def test_it_is_cleaned_when_the_run_has_ended(self, machines: Machines) -> None:
        machines.with_gpus(1, NOW)
        run_id, (device,) = running(machines)
        device_health.taken_from(machines.database, run_id, device, LOST, POLICY)
        machines.centre.settle(run_id, NOW, LOST + 10)
        assert (machines.states()[device], machines.counts()) == ("cleaning", (0, 1))
        machines.sound(LOST + 10)

    def test_where_nothing_is_cleaned_it_can_be_held_again_at_once(self, machines: Machines) -> None:
        machines.with_gpus(1, NOW)
        cleaning.set_cleaning(machines.database, "main", Cleaning.NONE, now=NOW, **BY)
        run_id, (device,) = running(machines)
        device_health.taken_from(machines.database, run_id, device, LOST, POLICY)
        machines.centre.settle(run_id, NOW, LOST + 10)
        assert (machines.states()[device], machines.counts()) == ("available", (0, 0))
        machines.sound(LOST + 10)

    def test_of_what_the_run_does_not_hold_nothing_follows(self, machines: Machines) -> None:
        machines.with_gpus(2, NOW)
        run_id, (device,) = running(machines)
        other = next(uuid for uuid in machines.views() if uuid != device)
        assert not device_health.taken_from(machines.database, run_id, other, LOST, POLICY)
        assert not device_health.taken_from(machines.database, "nobody", device, LOST, POLICY)
        assert not device_health.given_back_to(machines.database, run_id, device, LOST)

    def test_what_then_fails_is_not_given_back_by_the_run_s_end(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(1, NOW)
        run_id, (device,) = running(machines)
        device_health.taken_from(machines.database, run_id, device, LOST, POLICY)
        machine.event(LOST + 5, device, EventKind.XID, 48)
        machines.centre.settle(run_id, NOW, LOST + 10)
        assert machines.states()[device] == "lost"


class TestNobodyElseEndsForIt:
    """The pool is full, one device is lost, and it is the run that held it that ends."""

    @pytest.fixture
    def full(self, machines: Machines) -> tuple[Machines, Holders, Machine, dict[str, str]]:
        machine, _ = machines.with_gpus(8, NOW)
        holders = Holders(machines.centre)
        people = [holders.start(at=NOW) for _ in range(4)]
        people += [holders.start(OPPORTUNISTIC, at=NOW) for _ in range(4)]
        of_run = {view.run_id: uuid for uuid, view in machines.views().items()}
        return machines, holders, machine, {person: of_run[holders.run_of[person]] for person in people}

    def test_pressure_chooses_no_other(self, full: tuple[Machines, Holders, Machine, dict[str, str]]) -> None:
        machines, holders, machine, device_of = full
        unlucky, *others = device_of
        machine.lose(LOST, device_of[unlucky])
        stop_at = machines.run(holders.run_of[unlucky]).lost_stop_at
        stopped: dict[str, int] = {}
        for now in range(LOST, stop_at + 1200, 60):
            pressure.relieve(machines.database, now, POLICY)
            stopped |= dict.fromkeys(holders.extend_all(now), now)
            machines.sound(now)
        assert list(stopped) == [unlucky]
        assert stop_at <= stopped[unlucky] < stop_at + 60
        assert holders.open() == set(others)
        assert all(holders.told(person) == [] for person in others)

    def test_as_many_are_asked_to_give_way_as_without_the_loss(
        self, full: tuple[Machines, Holders, Machine, dict[str, str]]
    ) -> None:
        machines, holders, machine, device_of = full
        machine.lose(LOST, next(iter(device_of.values())))
        run_id = holders.waits(at=LOST)
        with machines.database.write() as transaction:
            coming = preemption.make_room(
                transaction, device_model="h100", device_count=1, for_run=run_id, now=LOST + 1, policy=POLICY
            )
        assert coming
        assert len(holders.preempted()) == 1

    def test_what_is_being_cleaned_makes_nobody_end(
        self, full: tuple[Machines, Holders, Machine, dict[str, str]]
    ) -> None:
        machines, holders, machine, device_of = full
        leaving, *others = device_of
        machines.centre.settle(holders.run_of[leaving], NOW, LOST)
        holders.window(1, LOST + 60)
        assert pressure.relieve(machines.database, LOST + 1, POLICY) == 0
        assert holders.marks() == {}
        machine.scrub(LOST + 2)
        assert pressure.relieve(machines.database, LOST + 3, POLICY) == 0
        assert holders.open() == set(others)


def test_a_slice_that_is_lost_is_its_own_run_s_only(machines: Machines) -> None:
    machines.add_slices()
    machine = machines.add("gpu-1", NOW)
    machine.has(*cut(gpu(0), 3))
    machine.list(NOW)
    first, (device,) = running(machines, profile="slice")
    second, _ = running(machines, person="bob", profile="slice")
    machine.lose(LOST, device)
    assert machines.pauses(first) == [(LOST, None)]
    assert machines.pauses(second) == []
    machines.sound(LOST)


def test_what_is_quarantined_or_no_more_is_not_lost(machines: Machines) -> None:
    machine, (device,) = machines.with_gpus(1, NOW)
    cleaning.quarantine(machines.database, device, "noise", now=NOW, **BY)
    machine.lose(LOST, device)
    assert machines.states()[device] == "quarantined"
    with machines.database.write() as transaction:
        row = devices_store.by_uuid(transaction, device)
        assert not device_health.lose(transaction, row, Lost(Loss.GONE, "gone", LOST), LOST, replace(POLICY))
    machines.sound(LOST)


def test_a_run_that_waits_to_begin_is_paused_from_its_hold_on(machines: Machines) -> None:
    machine, _ = machines.with_gpus(1, NOW)
    run_id = machines.centre.admitted(NOW).run_id
    (device,) = machines.views()
    machine.lose(NOW + 30, device)
    assert machines.pauses(run_id) == [(NOW + 30, None)]
    admission.started(machines.database, run_id, NOW + 40)
    assert machines.centre.settle(run_id, NOW + 40, NOW + FIRST_HOLD).amount == 0
    machines.sound(NOW + FIRST_HOLD)
