"""On a cluster the kubelet says which pod has which device: what the ledger makes of it."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from quotas.domain.node_reports import EventKind
from quotas.domain.refusals import Refused
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.terms_kubernetes import pod_name, run_of_pod
from quotas.domain.units import InvalidValue
from quotas.services import assignment, cleaning, inventory
from quotas.store.tables import device_grants, devices
from tests.services.centre import GPU_GFLOPS, POLICY, Centre
from tests.services.cluster_pods import NOW, began, held, metered, pod, stranger, used, uuid
from tests.services.machines import Machine, Machines


@pytest.fixture
def machines(centre: Centre) -> Machines:
    centre.award("vision", 10**6 * GPU_GFLOPS)
    return Machines(centre)


@pytest.fixture
def machine(machines: Machines) -> Machine:
    """A machine of a cluster with four H100."""
    return machines.with_gpus(4, NOW - 100, assigns=False)[0]


class TestWhoseItIs:
    def test_the_run_of_the_pod_holds_the_device_until_it_is_settled(
        self, machines: Machines, machine: Machine
    ) -> None:
        run_id = began(machines)
        assert held(machines) == {}  # it is the cluster that chooses
        machines.sound(NOW)
        machine.pods(NOW + 10, pod(run_id, uuid(2)))
        assert held(machines) == {uuid(2): run_id}
        assert machines.counts() == (1, 0)
        machines.sound(NOW + 10)
        charge = machines.centre.settle(run_id, NOW, NOW + 100)
        assert (charge.seconds, held(machines)) == (100, {})
        # Nothing is scrubbed in between: the next pod may have the device already.
        assert machines.states()[uuid(2)] == "available"
        assert machine.report(NOW + 101).scrub == ()
        machines.sound(NOW + 101)

    def test_a_run_of_a_job_is_known_by_its_pod_s_name(self, machines: Machines, machine: Machine) -> None:
        run_id = began(machines, kind=RunKind.BATCH, seconds=600)
        machine.pods(NOW + 10, pod(run_id, uuid(0), pod=f"{pod_name(run_id)}-x7k2p"))
        assert held(machines) == {uuid(0): run_id}

    def test_several_devices_of_a_run_are_held_together_or_not_at_all(
        self, machines: Machines, machine: Machine
    ) -> None:
        run_id = began(machines, profile="gpu-2")
        machine.pods(NOW + 10, pod(run_id, uuid(0)))
        assert held(machines) == {}
        machines.sound(NOW + 10)
        machine.pods(NOW + 20, pod(run_id, uuid(0), uuid(3)))
        assert held(machines) == {uuid(0): run_id, uuid(3): run_id}
        machines.sound(NOW + 20)

    def test_saying_it_again_changes_nothing_and_what_is_not_said_neither(
        self, machines: Machines, machine: Machine
    ) -> None:
        run_id = began(machines)
        machine.pods(NOW + 10, pod(run_id, uuid(1), since=NOW + 5))
        with machines.database.read() as transaction:
            before = transaction.rows(select(device_grants))
        machine.pods(NOW + 20, pod(run_id, uuid(1), since=NOW + 15))  # an agent that was started anew
        machine.report(NOW + 30)  # a kubelet that does not answer
        machine.pods(NOW + 40)  # a pod that has ended, and is not settled
        with machines.database.read() as transaction:
            assert transaction.rows(select(device_grants)) == before
        assert [row.granted_at for row in before] == [NOW + 5]

    @pytest.mark.parametrize(
        "changes",
        [
            {"namespace": "others-vision"},
            {"namespace": "mudeung-"},
            {"namespace": "mudeung-other"},
            {"pod": "mudeung-"},
            {"pod": f"mudeung-{new_run_id()}"},
            {"pod": "training-0"},
        ],
    )
    def test_a_pod_is_a_run_s_by_its_name_and_its_namespace(
        self, machines: Machines, machine: Machine, changes: dict[str, str]
    ) -> None:
        run_id = began(machines)
        machine.pods(NOW + 10, pod(run_id, uuid(0), **changes))
        assert held(machines) == {}
        assert machines.states()[uuid(0)] == "occupied"
        machines.sound(NOW + 10)

    def test_the_prefix_of_namespaces_is_the_platform_s_own(self, machines: Machines, machine: Machine) -> None:
        run_id = began(machines)
        given = pod(run_id, uuid(0), namespace="lab-p-vision")
        report = machine.made(NOW + 10, pods=(given,))
        inventory.take_report(machines.database, machine.token, report, NOW + 10, POLICY, prefix="lab-p-")
        assert held(machines) == {uuid(0): run_id}

    def test_where_the_platform_assigns_a_kubelet_says_nothing(self, machines: Machines) -> None:
        machine, _ = machines.with_gpus(2, NOW - 100)
        run_id = began(machines)
        before = held(machines)
        other = next(each for each in (uuid(0), uuid(1)) if each not in before)
        machine.pods(NOW + 10, pod(run_id, other), stranger(uuid(0)))
        assert held(machines) == before
        machines.sound(NOW + 10)


class TestTwoPods:
    def test_a_device_of_two_runs_stays_with_the_first(self, machines: Machines, machine: Machine) -> None:
        first, second = began(machines), began(machines, person="bob")
        machine.pods(NOW + 10, pod(first, uuid(0)), pod(second, uuid(0)))
        (holder,) = held(machines).values()
        assert holder == first
        machines.sound(NOW + 10)
        machine.pods(NOW + 20, pod(second, uuid(0), since=NOW + 15), pod(first, uuid(0)))
        assert held(machines) == {uuid(0): first}
        machines.sound(NOW + 20)

    def test_a_later_run_has_what_an_earlier_one_no_longer_has(self, machines: Machines, machine: Machine) -> None:
        """The earlier one's pod has ended, and the ledger does not know it yet."""
        first = began(machines, profile="gpu-2")
        machine.pods(NOW + 10, pod(first, uuid(0), uuid(1)))
        second = began(machines, NOW + 60, person="bob")
        machine.pods(NOW + 70, pod(second, uuid(1), since=NOW + 60))
        assert held(machines) == {uuid(1): second}
        machines.sound(NOW + 70)
        machines.centre.settle(first, NOW, NOW + 58)
        assert held(machines) == {uuid(1): second}
        machines.sound(NOW + 70)

    def test_what_each_used_is_its_own(self, machines: Machines, machine: Machine) -> None:
        first = began(machines)
        machine.pods(NOW + 10, pod(first, uuid(0)), **used(NOW + 10, uuid(0)))
        machine.pods(NOW + 20, pod(first, uuid(0)), **used(NOW + 20, uuid(0)))
        second = began(machines, NOW + 24, person="bob")
        machine.pods(NOW + 30, pod(second, uuid(0), since=NOW + 20), **used(NOW + 30, uuid(0)))
        assert metered(machines, first) == 20
        assert metered(machines, second) == 6  # from its beginning on
        machines.sound(NOW + 30)

    def test_a_run_that_has_another_device_holds_that(self, machines: Machines, machine: Machine) -> None:
        run_id = began(machines)
        machine.pods(NOW + 10, pod(run_id, uuid(0)))
        machine.pods(NOW + 20, pod(run_id, uuid(1), since=NOW + 15))
        assert held(machines) == {uuid(1): run_id}
        machine.pods(NOW + 30, pod(run_id, uuid(0), since=NOW + 25))
        assert held(machines) == {uuid(0): run_id}
        machines.sound(NOW + 30)

    def test_devices_that_are_shared_out_by_time_are_told_once_a_day(
        self, machines: Machines, machine: Machine
    ) -> None:
        run_id = began(machines)
        for at in (10, 20):
            machine.pods(NOW + at, pod(run_id, uuid(0), shared=True))
        (told,) = (text for kind, text in machines.told("operator") if kind == "device shared")
        assert "turn time slicing off" in told


class TestEndedRuns:
    def test_a_run_that_has_ended_holds_nothing(self, machines: Machines, machine: Machine) -> None:
        """An older kubelet names pods that have ended."""
        run_id = began(machines)
        machine.pods(NOW + 10, pod(run_id, uuid(0)))
        machines.centre.settle(run_id, NOW, NOW + 20)
        machine.pods(NOW + 30, pod(run_id, uuid(0)), **used(NOW + 30, uuid(0)))
        assert held(machines) == {}
        assert machines.states()[uuid(0)] == "available"
        assert metered(machines, run_id) == 0
        machines.sound(NOW + 30)

    def test_one_that_ended_while_its_reports_waited_is_metered_by_them(
        self, machines: Machines, machine: Machine
    ) -> None:
        run_id = began(machines)
        waiting = [
            machine.made(NOW + at, pods=(pod(run_id, uuid(0)),), **used(NOW + at, uuid(0))) for at in (10, 20, 30, 40)
        ]
        machines.centre.settle(run_id, NOW, NOW + 25)
        for report in waiting:
            inventory.take_report(machines.database, machine.token, report, NOW + 50, POLICY)
        assert metered(machines, run_id) == 20  # of a sample within which a run ends nothing is known
        assert held(machines) == {}
        machines.sound(NOW + 50)


class TestOthers:
    def test_what_another_workload_has_is_not_free(self, machines: Machines, machine: Machine) -> None:
        machine.pods(NOW, stranger(uuid(0), uuid(1), uuid(2)))
        assert (machines.counts(), sorted(machines.states().values())) == (
            (0, 3),
            ["available", "occupied", "occupied", "occupied"],
        )
        assert machines.views()[uuid(0)].reason == "others/training-0"
        machines.sound(NOW)
        began(machines, NOW + 1)
        assert isinstance(machines.centre.reserve(NOW + 2, person="bob"), Refused)
        machine.pods(NOW + 10, stranger(uuid(0)))
        machines.centre.admitted(NOW + 11, person="bob")
        machines.sound(NOW + 11)
        machine.pods(NOW + 20)
        assert machines.counts() == (2, 0)
        machines.sound(NOW + 20)

    def test_a_run_may_have_it_next(self, machines: Machines, machine: Machine) -> None:
        machine.pods(NOW, stranger(uuid(0)))
        run_id = began(machines, NOW + 1)
        machine.pods(NOW + 10, pod(run_id, uuid(0)))
        assert (held(machines), machines.counts()) == ({uuid(0): run_id}, (1, 0))
        machines.sound(NOW + 10)
        machine.pods(NOW + 20, stranger(uuid(0), since=NOW + 15))
        assert machines.counts() == (1, 0)  # until the run, whose pod is gone, is settled
        machines.centre.settle(run_id, NOW + 1, NOW + 15)
        machine.pods(NOW + 30, stranger(uuid(0), since=NOW + 15))
        assert (machines.states()[uuid(0)], machines.counts()) == ("occupied", (0, 1))
        machines.sound(NOW + 30)

    def test_it_is_lost_and_back_as_any_other(self, machines: Machines, machine: Machine) -> None:
        machine.pods(NOW, stranger(uuid(0)))
        machine.lose(NOW + 10, uuid(0))
        assert (machines.states()[uuid(0)], machines.counts()) == ("lost", (0, 1))
        machine.event(NOW + 20, uuid(0), EventKind.BACK)
        machine.pods(NOW + 30, stranger(uuid(0)))
        assert machines.states()[uuid(0)] == "occupied"
        machines.sound(NOW + 30)

    def test_an_operator_puts_it_aside_and_cannot_release_what_others_have(
        self, machines: Machines, machine: Machine
    ) -> None:
        machine.pods(NOW, stranger(uuid(0)))
        with pytest.raises(InvalidValue, match="is occupied already"):
            cleaning.release(machines.database, uuid(0), "mine", actor="op", now=NOW)
        assert cleaning.quarantine(machines.database, uuid(0), "loud", actor="op", now=NOW)
        machine.pods(NOW + 10)
        assert (machines.states()[uuid(0)], machines.counts()) == ("quarantined", (0, 1))
        machines.sound(NOW + 10)


class TestWhatIsNotAsHeld:
    def test_a_device_of_another_model_is_told_and_not_metered(self, machines: Machines, machine: Machine) -> None:
        with machines.database.write() as transaction:
            transaction.run(update(devices).where(devices.c.uuid == uuid(0)).values(device_model=None))
        run_id = began(machines)
        for at in (10, 20):
            machine.pods(NOW + at, pod(run_id, uuid(0)), **used(NOW + at, uuid(0)))
        assert (held(machines), metered(machines, run_id)) == ({}, 0)
        (told,) = (text for kind, text in machines.told("operator") if kind == "device differs")
        assert run_id in told
        assert "it holds, and pays for, 1 h100" in told
        machines.sound(NOW + 20)

    def test_what_only_the_cluster_can_name_is_shown_with_the_run(self, machines: Machines, machine: Machine) -> None:
        run_id = began(machines)
        machine.pods(NOW + 10, pod(run_id, unknown=("rebellions.ai/ATOM 0000:b6:00.0",)))
        assert held(machines) == {}
        assert assignment.device_names(machines.database, run_id) == ("rebellions.ai/ATOM 0000:b6:00.0",)
        machines.sound(NOW + 10)

    def test_devices_of_the_ledger_are_shown_with_the_run_after_its_end(
        self, machines: Machines, machine: Machine
    ) -> None:
        run_id = began(machines)
        machine.pods(NOW + 10, pod(run_id, uuid(3)))
        machines.centre.settle(run_id, NOW, NOW + 20)
        assert assignment.device_names(machines.database, run_id) == (uuid(3),)


def test_a_pod_s_name_tells_its_run() -> None:
    run_id = new_run_id()
    assert run_of_pod(pod_name(run_id)) == run_id
    assert run_of_pod(f"{pod_name(run_id)}-abc12") == run_id
    for other in (run_id, f"x{pod_name(run_id)}", f"{pod_name(run_id)}-", f"{pod_name(run_id)}-A", "mudeung-hub"):
        assert run_of_pod(other) is None
