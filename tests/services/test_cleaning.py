"""Between two runs: scrubbed, put aside or taken at once; and whoever waits finds the device when it is clean."""

from __future__ import annotations

from typing import Any

import pytest

from quotas.domain.inventory import Cleaning, DeviceState
from quotas.domain.node_reports import Cleaned
from quotas.domain.refusals import Refused
from quotas.domain.units import InvalidValue
from quotas.services import cleaning, pools
from quotas.store import grants
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre
from tests.services.machines import Machine, Machines, gpu
from tests.services.waiting import Waiters

NOW = START + DAY
BY: dict[str, Any] = {"actor": "op"}


@pytest.fixture
def machines(centre: Centre) -> Machines:
    centre.award("vision", 10**6 * GPU_GFLOPS)
    return Machines(centre)


def ended(machines: Machines, now: int) -> str:
    """A run has begun and ended; return the device that it held."""
    run_id, _ = machines.centre.run(now - 100, 100)
    with machines.database.read() as transaction:
        (device,) = grants.of_run(transaction, run_id)
    return device.uuid


@pytest.mark.parametrize(
    ("kind", "state"),
    [(Cleaning.SCRUB, "cleaning"), (Cleaning.QUARANTINE, "quarantined"), (Cleaning.NONE, "available")],
)
def test_what_follows_a_run_is_the_pool_s_operator_s_choice(machines: Machines, kind: Cleaning, state: str) -> None:
    machine, _ = machines.with_gpus(2, NOW - 200)
    cleaning.set_cleaning(machines.database, "main", kind, now=NOW - 150, **BY)
    device = ended(machines, NOW)
    assert machines.states()[device] == state
    assert machines.counts() == (0, int(state != "available"))
    assert machine.report(NOW + 1).scrub == ((device,) if state == "cleaning" else ())
    (event,) = machines.audited("cleaning set")
    assert event.subject == "main"
    machines.sound(NOW + 1)


def test_only_a_pool_that_there_is_can_be_cleaned_otherwise(machines: Machines) -> None:
    with pytest.raises(InvalidValue, match="nothing"):
        cleaning.set_cleaning(machines.database, "nothing", Cleaning.NONE, now=NOW, **BY)


class TestScrubbing:
    def test_it_is_asked_for_until_it_was_done(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(1, NOW - 200)
        device = ended(machines, NOW)
        assert isinstance(machines.centre.reserve(NOW + 1), Refused)
        assert [machine.report(NOW + after).scrub for after in (1, 2)] == [(device,)] * 2
        answer = machine.report(NOW + 9, cleaned=(Cleaned(device, NOW + 8.5),))
        assert answer.scrub == ()
        assert (machines.states()[device], machines.counts()) == ("available", (0, 0))
        machines.centre.admitted(NOW + 10)
        machines.sound(NOW + 10)

    def test_what_could_not_be_scrubbed_waits_for_an_operator(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(1, NOW - 200)
        device = ended(machines, NOW)
        machine.scrub(NOW + 5, problem="12 bytes were not zero")
        view = machines.views()[device]
        assert (view.state, view.reason) == (DeviceState.QUARANTINED, "12 bytes were not zero")
        ((kind, text),) = machines.told("operator")
        assert kind == "device quarantined"
        assert "12 bytes were not zero" in text
        machines.sound(NOW + 5)

    def test_a_scrub_of_before_the_run_s_end_says_nothing(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(1, NOW - 200)
        device = ended(machines, NOW)
        machine.report(NOW + 1, cleaned=(Cleaned(device, NOW - 0.5),))
        assert machines.states()[device] == "cleaning"

    def test_what_is_held_or_of_another_machine_is_not_clean_because_someone_says_so(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(1, NOW - 200)
        other, _ = machines.with_gpus(1, NOW - 200, name="gpu-2")
        run = machines.centre.admitted(NOW - 100, person="bob")
        held = next(view for view in machines.views().values() if view.run_id == run.run_id)
        agents = {"gpu-1": machine, "gpu-2": other}
        agents[held.node].report(NOW, cleaned=(Cleaned(held.uuid, float(NOW)),))
        assert machines.counts() == (1, 0)
        machines.centre.settle(run.run_id, None, None)
        stranger = next(agent for name, agent in agents.items() if name != held.node)
        stranger.report(NOW + 1, cleaned=(Cleaned(held.uuid, NOW + 1.0), Cleaned("GPU-unknown", NOW + 1.0)))
        assert machines.states()[held.uuid] == "cleaning"
        machines.sound(NOW + 1)


class TestOperators:
    def test_a_quarantine_is_ended_with_a_reason(self, machines: Machines) -> None:
        _, (device,) = machines.with_gpus(1, NOW)
        assert cleaning.quarantine(machines.database, device, "it is loud", now=NOW, **BY)
        assert (machines.states()[device], machines.counts()) == ("quarantined", (0, 1))
        assert isinstance(machines.centre.reserve(NOW + 1), Refused)
        with pytest.raises(InvalidValue, match="quarantined already"):
            cleaning.quarantine(machines.database, device, "again", now=NOW, **BY)
        with pytest.raises(InvalidValue, match="reason"):
            cleaning.release(machines.database, device, " ", now=NOW + 2, **BY)
        assert cleaning.release(machines.database, device[:10], "oiled", now=NOW + 2, **BY) == device
        assert (machines.states()[device], machines.counts()) == ("available", (0, 0))
        (event,) = machines.audited("device released")
        assert '"reason": "oiled"' in event.detail
        with pytest.raises(InvalidValue, match="available already"):
            cleaning.release(machines.database, device, "twice", now=NOW + 3, **BY)
        machines.sound(NOW + 3)

    def test_what_a_run_holds_is_quarantined_after_it_or_not_after_all(self, machines: Machines) -> None:
        machines.with_gpus(1, NOW)
        run = machines.centre.admitted(NOW)
        (device,) = machines.views()
        for _ in range(2):
            assert not cleaning.quarantine(machines.database, device, "it is loud", now=NOW, **BY)
            assert machines.counts() == (1, 0)
            with pytest.raises(InvalidValue):
                cleaning.quarantine(machines.database, device, "again", now=NOW, **BY)
            cleaning.release(machines.database, device, "quiet now", now=NOW, **BY)
        cleaning.quarantine(machines.database, device, "loud again", now=NOW, **BY)
        machines.centre.settle(run.run_id, None, None)
        view = machines.views()[device]
        assert (view.state, view.reason) == (DeviceState.QUARANTINED, "loud again")
        machines.sound(NOW)

    def test_what_is_not_in_its_machine_is_not_released_but_retired(self, machines: Machines) -> None:
        machine, (stays, goes) = machines.with_gpus(2, NOW)
        with pytest.raises(InvalidValue, match="quarantine it instead"):
            cleaning.retire(machines.database, goes, "sent back", now=NOW, **BY)
        machine.has(gpu(0))
        machine.list(NOW + 10)
        with pytest.raises(InvalidValue, match="does not have"):
            cleaning.release(machines.database, goes, "why not", now=NOW + 11, **BY)
        assert cleaning.retire(machines.database, goes, "sent back", now=NOW + 12, **BY) == goes
        assert list(machines.states()) == [stays]
        assert [view.healthy for view in pools.capacity(machines.database, NOW + 12)] == [1]
        with pytest.raises(InvalidValue, match="retired already"):
            cleaning.retire(machines.database, goes, "twice", now=NOW + 13, **BY)
        machine.has(gpu(0), gpu(1))
        machine.list(NOW + 20)
        assert machines.states()[goes] == "cleaning"
        machines.sound(NOW + 20)

    def test_a_scrub_that_no_agent_does_may_be_vouched_for(self, machines: Machines) -> None:
        machines.with_gpus(1, NOW - 200)
        device = ended(machines, NOW)
        cleaning.release(machines.database, device, "the same team", now=NOW + 5, **BY)
        assert machines.states()[device] == "available"


class TestWaiting:
    """The queue finds a device that is clean again at its next look, in the order in which people wait."""

    @pytest.fixture
    def waiters(self, machines: Machines) -> tuple[Waiters, Machine]:
        machine, _ = machines.with_gpus(1, NOW - 10)
        return Waiters(machines.centre), machine

    @pytest.mark.parametrize("others", [1, 40])
    def test_whoever_is_first_has_their_turn(self, waiters: tuple[Waiters, Machine], others: int) -> None:
        queue, machine = waiters
        (holder,) = queue.fill(1)
        queue.join("first", NOW + 1)
        for number in range(others):
            queue.join(f"later{number}", NOW + 2 + number)
        assert queue.step(NOW + 60)["turn"] == 0
        queue.stop(holder, NOW + 70)
        for after in (71, 74, 77):
            assert queue.step(NOW + after)["turn"] == 0, "it is being scrubbed"
        assert len(machine.scrub(NOW + 80)) == 1
        assert queue.step(NOW + 81)["turn"] == 1
        assert queue.states()["first"] == "turn"

    def test_one_may_begin_to_wait_while_the_only_device_is_being_scrubbed(
        self, waiters: tuple[Waiters, Machine]
    ) -> None:
        queue, machine = waiters
        (holder,) = queue.fill(1)
        queue.stop(holder, NOW + 10)
        queue.join("first", NOW + 11)
        assert queue.step(NOW + 12)["waits"] == 1
        machine.scrub(NOW + 13)
        assert queue.step(NOW + 14)["turn"] == 1
