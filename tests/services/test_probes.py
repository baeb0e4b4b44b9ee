"""Whether runs still have their devices is asked, seldom, and what is found reaches the ledger."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from quotas.backends.local import LocalBackend
from quotas.backends.port import BackendAway
from quotas.domain.node_reports import DeviceKind
from quotas.services import admission, probes
from quotas.services.probes import AGAIN_SECONDS, LOOK_SECONDS, Found, Probes, watched
from quotas.services.reconciliation import Reconciler
from quotas.store.probes import HeldDevice
from tests.services.centre import DAY, GPU_GFLOPS, POLICY, START, Centre
from tests.services.machines import Machines, gpu

NOW = START + DAY


class Containers(LocalBackend):
    """The local backend, from whose runs files can be taken, and of which some do not answer."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.taken: dict[str, set[str]] = {}
        self.away: dict[str, Exception] = {}
        self.asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def lacks(self, run_id: str, paths: Sequence[str]) -> tuple[str, ...]:
        with self._lock:
            self.asked[run_id] += 1
        if run_id in self.away:
            raise self.away[run_id]
        return tuple(path for path in paths if path in self.taken.get(run_id, ()))


class NoHub:
    """The hub, while it does not answer."""

    def known_runs(self) -> None:
        return None

    def forget_server(self, person: str, project: str) -> bool:
        del person, project
        return False


@pytest.fixture
def machines(centre: Centre) -> Machines:
    """A machine with four H100, each with a file of its own and one that all share."""
    centre.award("vision", 10**6 * GPU_GFLOPS)
    made = Machines(centre)
    machine = made.add("gpu-1", NOW)
    machine.has(*(gpu(number, paths=(f"/dev/nvidia{number}", "/dev/nvidiactl")) for number in range(4)))
    machine.list(NOW)
    return made


@pytest.fixture
def backend(tmp_path: Path) -> Containers:
    return Containers(tmp_path / "runs")


def running(machines: Machines, person: str = "ada", profile: str = "gpu") -> tuple[str, list[str], list[str]]:
    """Return a run that has begun, its devices, and their own files."""
    run_id = machines.centre.admitted(NOW, person=person, profile=profile).run_id
    admission.started(machines.database, run_id, NOW)
    held = [uuid for uuid, view in machines.views().items() if view.run_id == run_id]
    return run_id, held, [f"/dev/nvidia{int(uuid.rpartition('-')[2])}" for uuid in held]


def test_a_device_that_was_taken_pauses_the_charge_until_the_run_has_it_again(
    machines: Machines, backend: Containers
) -> None:
    run_id, (device,), (file,) = running(machines)
    probe = Probes()
    assert probe.probe(machines.database, backend, NOW + 60, POLICY) == Counter()
    backend.taken[run_id] = {file}
    assert probe.probe(machines.database, backend, NOW + 120, POLICY) == Counter(taken=1)
    assert machines.pauses(run_id) == [(NOW + 120, None)]
    assert machines.states()[device] == "lost"
    assert probe.probe(machines.database, backend, NOW + 180, POLICY) == Counter()
    backend.taken.clear()
    assert probe.probe(machines.database, backend, NOW + 240, POLICY) == Counter(given_back=1)
    assert machines.pauses(run_id) == [(NOW + 120, NOW + 240)]
    charge = machines.centre.settle(run_id, NOW, NOW + 400)
    assert charge.seconds == 400 - 120
    machines.sound(NOW + 400)


def test_of_several_devices_the_one_that_lacks_is_named(machines: Machines, backend: Containers) -> None:
    run_id, (_, second), (_, file) = running(machines, profile="gpu-2")
    backend.taken[run_id] = {file, "/dev/nvidiactl"}
    assert Probes().look(machines.database, backend, NOW + 60) == [Found(run_id, second, lacks=True)]


def test_a_run_is_asked_once_a_minute_and_less_often_where_it_cannot_be_asked(
    machines: Machines, backend: Containers
) -> None:
    one, two = running(machines)[0], running(machines, "bob")[0]
    probe = Probes()
    backend.away[two] = BackendAway("no answer")
    for now in range(NOW, NOW + 2 * AGAIN_SECONDS, 5):
        assert probe.look(machines.database, backend, now) == []
    assert backend.asked == {one: 2 * AGAIN_SECONDS // LOOK_SECONDS, two: 2}


def test_one_that_fails_keeps_no_other_from_its_turn(machines: Machines, backend: Containers) -> None:
    one, _, _ = running(machines)
    two, (device,), (file,) = running(machines, "bob")
    backend.away[one] = RuntimeError("unforeseen")
    backend.taken[two] = {file}
    assert Probes().look(machines.database, backend, NOW) == [Found(two, device, lacks=True)]


def test_the_longest_not_asked_come_first(
    machines: Machines, backend: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "MOST_RUNS", 1)
    runs = {running(machines)[0], running(machines, "bob")[0]}
    probe = Probes()
    for now in (NOW, NOW + 5, NOW + 10):
        probe.look(machines.database, backend, now)
    assert backend.asked == dict.fromkeys(runs, 1)


def test_what_has_not_begun_has_ended_or_is_lost_otherwise_is_not_asked(
    machines: Machines, backend: Containers
) -> None:
    held = machines.centre.admitted(NOW).run_id
    ended, _, _ = running(machines, "bob")
    machines.centre.settle(ended, NOW, NOW + 10)
    probe = Probes()
    assert probe.look(machines.database, backend, NOW + 20) == []
    assert backend.asked == {}
    assert probe.due == {}
    admission.started(machines.database, held, NOW)
    probe.look(machines.database, backend, NOW + 30)
    assert backend.asked == {held: 1}


def test_a_round_of_the_loop_asks_and_outlives_every_failure(
    machines: Machines, backend: Containers, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, _, (file,) = running(machines)
    monkeypatch.setattr(backend, "list_runs", _away)
    loop = Reconciler(machines.database, backend, NoHub(), POLICY, 600)
    assert "taken" not in loop.tick(NOW + 10)
    assert backend.asked == {run_id: 1}
    backend.taken[run_id] = {file}
    assert loop.tick(NOW + 75)["taken"] == 1
    assert machines.pauses(run_id) == [(NOW + 75, None)]
    monkeypatch.setattr(loop.probes, "look", _fails)
    done = loop.tick(NOW + 140)
    assert done["failed"] == 1
    assert done["kept"] + done["extended"] + done["warned"] + done["ending"] == 1


def _away() -> None:
    raise BackendAway("no answer")


def _fails(*_arguments: object) -> None:
    raise RuntimeError("unforeseen")


@pytest.mark.parametrize(
    ("kind", "paths", "files"),
    [
        (DeviceKind.GPU, ("/dev/nvidia3", "/dev/nvidiactl", "/dev/nvidia-uvm"), ("/dev/nvidia3",)),
        (DeviceKind.MIG, ("/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap21"), ("/dev/nvidia0",)),
        (DeviceKind.NPU, ("/dev/rbln0", "/dev/rsd0"), ("/dev/rbln0", "/dev/rsd0")),
    ],
)
def test_a_device_is_known_by_files_of_its_own(
    kind: DeviceKind, paths: tuple[str, ...], files: tuple[str, ...]
) -> None:
    assert watched(HeldDevice("run", "uuid", kind.value, paths, taken=False)) == files
