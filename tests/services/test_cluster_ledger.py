"""What follows from the devices that a cluster has given to runs: losses, idleness, capacity; and that all is sound."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from sqlalchemy import select

from quotas.domain.idleness import Then
from quotas.domain.inventory import Cleaning
from quotas.domain.node_reports import DeviceEvent, EventKind
from quotas.domain.runs import new_run_id
from quotas.domain.units import InvalidValue
from quotas.services import admission, cleaning, idleness, nodes, pools, profiles
from quotas.store import sessions as activity_store
from quotas.store.tables import capacity_phases, pool_devices
from tests.services.centre import DAY, GPU_GFLOPS, POLICY, Centre
from tests.services.cluster_pods import NOW, began, held, metered, pod, stranger, used, uuid
from tests.services.machines import Machine, Machines, gpu


@pytest.fixture
def machines(centre: Centre) -> Machines:
    centre.award("vision", 10**6 * GPU_GFLOPS)
    return Machines(centre)


@pytest.fixture
def machine(machines: Machines) -> Machine:
    """A machine of a cluster with four H100."""
    return machines.with_gpus(4, NOW - 100, assigns=False)[0]


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


class TestIdleness:
    IDLE = 7200

    @pytest.mark.parametrize(("told_of", "then"), [(True, Then.KEEP), (False, Then.MARK)])
    def test_a_server_that_computes_on_its_device_is_not_idle(
        self, machines: Machines, machine: Machine, told_of: bool, then: Then
    ) -> None:
        profiles.set_limits(machines.database, "gpu", self.IDLE, None, actor="op", now=NOW)
        run_id = began(machines)
        own = [pod(run_id, uuid(0))] if told_of else []
        at = NOW + self.IDLE - POLICY.idle_notice
        # Its kernels say that they do nothing, as when a program of a terminal computes.
        with machines.database.write() as transaction:
            activity_store.note_activity(transaction, run_id, 0, None, at)
        machine.pods(at, *own, **used(at, uuid(0)))
        assert idleness.look(machines.database, "ada", "vision", at, at, POLICY) is then


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
