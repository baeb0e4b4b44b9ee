"""On a cluster the kubelet says which pod has which device: what the ledger makes of it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from sqlalchemy import select, update

from quotas.domain.inventory import Cleaning
from quotas.domain.node_reports import DeviceEvent, EventKind, PodDevices, Sample
from quotas.domain.refusals import Refused
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.terms_kubernetes import pod_name, run_of_pod
from quotas.domain.units import InvalidValue
from quotas.services import admission, assignment, cleaning, inventory, nodes, pools
from quotas.store.tables import capacity_phases, device_grants, devices, meter_hours, pool_devices
from tests.services.centre import DAY, GPU_GFLOPS, POLICY, START, Centre
from tests.services.machines import GIB, Machine, Machines, gpu

NOW = START + DAY


@pytest.fixture
def machines(centre: Centre) -> Machines:
    centre.award("vision", 10**6 * GPU_GFLOPS)
    return Machines(centre)


@pytest.fixture
def machine(machines: Machines) -> Machine:
    """A machine of a cluster with four H100."""
    return machines.with_gpus(4, NOW - 100, assigns=False)[0]


def began(machines: Machines, now: int = NOW, **asked: object) -> str:
    run_id = machines.centre.admitted(now, **asked).run_id
    admission.started(machines.database, run_id, now)
    return run_id


def pod(run_id: str, *uuids: str, since: float = NOW, **changes: object) -> PodDevices:
    """Return the pod of a run on `vision`, which has these devices."""
    return replace(PodDevices("mudeung-vision", pod_name(run_id), since, uuids), **changes)


def stranger(*uuids: str, since: float = NOW) -> PodDevices:
    return PodDevices("others", "training-0", since, uuids)


def uuid(number: int) -> str:
    return gpu(number).uuid


def held(machines: Machines) -> dict[str, str]:
    return {view.uuid: view.run_id for view in machines.views().values() if view.run_id is not None}


def metered(machines: Machines, run_id: str) -> int:
    """Return the seconds of device time that samples of the run cover."""
    with machines.database.read() as transaction:
        rows = transaction.rows(select(meter_hours.c.seen_milliseconds).where(meter_hours.c.run_id == run_id))
    return sum(row.seen_milliseconds for row in rows) // 1000


def used(now: int, device: str, seconds: float = 10.0) -> dict[str, tuple[Sample, ...]]:
    return {"samples": (Sample(device, float(now), seconds, 800_000, GIB, 500_000),)}


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


class TestLoss:
    def test_a_lost_device_pauses_its_run_and_its_person_knows(self, machines: Machines, machine: Machine) -> None:
        run_id = began(machines)
        machine.pods(NOW + 10, pod(run_id, uuid(0)))
        machine.lose(NOW + 60, uuid(0), at=NOW + 50)
        assert machines.pauses(run_id) == [(NOW + 50, None)]
        assert machines.run(run_id).lost_stop_at == NOW + 60 + POLICY.loss_grace
        assert [kind for kind, _ in machines.told("ada")] == ["device lost"]
        assert machines.counts() == (1, 1)
        machines.sound(NOW + 60)
        assert machines.centre.settle(run_id, NOW, NOW + 200).seconds == 50
        machines.sound(NOW + 200)

    def test_one_that_the_cluster_gives_away_while_it_is_lost_costs_nothing(
        self, machines: Machines, machine: Machine
    ) -> None:
        machine.event(NOW - 10, uuid(0), EventKind.XID, 79)
        run_id = began(machines)
        machine.pods(NOW + 10, pod(run_id, uuid(0)))
        assert machines.pauses(run_id) == [(NOW, None)]
        assert [kind for kind, _ in machines.told("ada")] == ["device lost"]
        machines.sound(NOW + 10)

    def test_both_in_one_report(self, machines: Machines, machine: Machine) -> None:
        run_id = began(machines)
        lost = DeviceEvent(uuid(0), NOW + 9.0, EventKind.LOST)
        machine.pods(NOW + 10, pod(run_id, uuid(0)), events=(lost,))
        assert machines.pauses(run_id) == [(NOW + 9, None)]
        machines.sound(NOW + 10)

    def test_a_quarantined_device_that_the_cluster_gives_away_stays_quarantined(
        self, machines: Machines, machine: Machine
    ) -> None:
        cleaning.quarantine(machines.database, uuid(0), "loud", actor="op", now=NOW - 5)
        run_id = began(machines)
        machine.pods(NOW + 10, pod(run_id, uuid(0)), **used(NOW + 10, uuid(0)))
        assert (held(machines), machines.counts()) == ({uuid(0): run_id}, (1, 1))
        assert metered(machines, run_id) == 10
        machines.sound(NOW + 10)
        machines.centre.settle(run_id, NOW, NOW + 20)
        assert (machines.states()[uuid(0)], machines.counts()) == ("quarantined", (0, 1))


class TestCapacity:
    def healthy(self, machines: Machines) -> int:
        with machines.database.read() as transaction:
            statement = select(capacity_phases.c.healthy).where(capacity_phases.c.pool_id == 1)
            rows = transaction.rows(statement.order_by(capacity_phases.c.from_at.desc()))
        return int(rows[0].healthy)

    def test_it_is_what_the_machines_report_and_never_less_than_runs_hold(self, machines: Machines) -> None:
        runs = [began(machines), began(machines, person="bob")]
        machine = machines.add("gpu-1", NOW + 1, assigns=False)
        assert self.healthy(machines) == 2
        machines.sound(NOW + 1)
        machine.has(gpu(0))
        machine.list(NOW + 2)
        assert self.healthy(machines) == 2
        machines.centre.settle(runs[0], NOW, NOW + 10)
        machine.list(NOW + 11)
        assert self.healthy(machines) == 1
        machine.has(*map(gpu, range(8)))
        machine.list(NOW + 12)
        assert self.healthy(machines) == 8
        machines.sound(NOW + 12)

    def test_nobody_adds_a_phase_by_hand(self, machines: Machines, machine: Machine) -> None:
        assert machine.name == "gpu-1"
        with machines.database.read() as transaction:
            phase = replace(_phase(transaction.one(select(capacity_phases).limit(1))), from_at=NOW + DAY)
        with pytest.raises(InvalidValue, match="has machines"):
            pools.add_phase(machines.database, "main", phase, actor="op", now=NOW)

    def test_a_pool_s_devices_are_given_by_one_of_the_two(self, machines: Machines, machine: Machine) -> None:
        assert machine.name == "gpu-1"
        with pytest.raises(InvalidValue, match="machines of the other sort"):
            nodes.add(machines.database, "gpu-2", "main", actor="op", now=NOW)

    def test_nothing_is_done_between_two_runs(self, machines: Machines, machine: Machine) -> None:
        assert machine.name == "gpu-1"
        with pytest.raises(InvalidValue, match="one right after the other"):
            cleaning.set_cleaning(machines.database, "main", Cleaning.QUARANTINE, actor="op", now=NOW)


def _phase(row: object) -> pools.CapacityPhase:
    names = ("device_model", "from_at", "installed", "powered", "healthy")
    return pools.CapacityPhase(**{name: getattr(row, name) for name in names})


@pytest.mark.parametrize("seed", range(5))
def test_the_ledger_is_sound_whatever_a_kubelet_says(machines: Machines, machine: Machine, seed: int) -> None:
    """Any pods, with any devices, in any order: runs that are open, ended, unknown, twice; and others."""
    chance = random.Random(seed)  # noqa: S311 - the same walk each time
    everyone = [f"person-{number}" for number in range(6)]
    for person in everyone:
        machines.centre.member("vision", person)
    open_runs: dict[str, int] = {}
    ended: list[str] = []
    now = NOW
    for _ in range(60):
        now += chance.randint(1, 30)
        if chance.random() < 0.4:
            profile = chance.choice(["gpu", "gpu-2"])
            decision = machines.centre.reserve(now, person=chance.choice(everyone), profile=profile)
            if isinstance(decision, admission.Admitted):
                admission.started(machines.database, decision.run_id, now)
                open_runs[decision.run_id] = now
        if open_runs and chance.random() < 0.3:
            run_id = chance.choice(list(open_runs))
            machines.centre.settle(run_id, open_runs.pop(run_id), now)
            ended.append(run_id)
        named = [*open_runs, *ended, new_run_id()]
        pods = [
            pod(chance.choice(named), *_some(chance), since=now - chance.randint(0, 60))
            if chance.random() < 0.8
            else stranger(*_some(chance), since=now)
            for _ in range(chance.randint(0, 4))
        ]
        events = ()
        if chance.random() < 0.2:
            kind = chance.choice([EventKind.LOST, EventKind.BACK])
            events = (DeviceEvent(uuid(chance.randrange(4)), float(now), kind),)
        machine.pods(now, *pods, events=events, samples=tuple(used(now, uuid(each))["samples"][0] for each in range(4)))
        machines.sound(now)
    with machines.database.read() as transaction:
        in_use = transaction.one(select(pool_devices.c.in_use)).in_use
    assert in_use <= 8
    assert any(view.run_id for view in machines.views().values()) or ended


def _some(chance: random.Random) -> list[str]:
    return [uuid(number) for number in chance.sample(range(5), chance.randint(0, 3))]


def test_a_pod_s_name_tells_its_run() -> None:
    run_id = new_run_id()
    assert run_of_pod(pod_name(run_id)) == run_id
    assert run_of_pod(f"{pod_name(run_id)}-abc12") == run_id
    for other in (run_id, f"x{pod_name(run_id)}", f"{pod_name(run_id)}-", f"{pod_name(run_id)}-A", "mudeung-hub"):
        assert run_of_pod(other) is None
