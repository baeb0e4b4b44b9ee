"""The devices of an admitted run, and that nothing which has ended still has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quotas.backends.local import LocalBackend
from quotas.domain.admission import Admitted
from quotas.domain.inventory import AssignedDevice, Cleaning
from quotas.domain.launch import Launch
from quotas.domain.profiles import Profile
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.units import InvalidValue
from quotas.services import admission, assignment, cleaning
from quotas.services.admission import Ended
from tests.backends.processes import of_run
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre
from tests.services.machines import Machines

NOW = START + DAY
GPU = Profile("gpu", "gpu", "gpu", "image", 1000, 2**30, 2**30, "h100", 1)


@pytest.fixture
def machines(centre: Centre) -> Machines:
    """The machines of one team, whose devices go from one run to the next as they are."""
    centre.award("vision", 10**6 * GPU_GFLOPS)
    cleaning.set_cleaning(centre.database, "main", Cleaning.NONE, actor="op", now=NOW)
    return Machines(centre)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    made = LocalBackend(tmp_path / "runs")
    yield made
    for seen in made.list_runs():
        made.stop(seen.run_id, 0)


@pytest.fixture
def launch(backend: LocalBackend, tmp_path: Path) -> Callable[..., None]:
    """Launches a process for a run with these devices."""

    def launched(run_id: str, devices: tuple[AssignedDevice, ...]) -> None:
        command = ("/bin/sleep", "600")
        backend.launch(Launch(run_id, RunKind.NOTEBOOK, "ada", "vision", GPU, command, str(tmp_path), devices=devices))

    return launched


def given(machines: Machines, backend: LocalBackend, admitted: Admitted) -> tuple[AssignedDevice, ...]:
    return assignment.devices_for(machines.database, backend, admitted, NOW)


def settle(machines: Machines, run_id: str) -> None:
    admission.settle(machines.database, run_id, Ended(None, None, Outcome.FAILED_TO_START), NOW)


def test_a_run_is_given_what_it_holds(machines: Machines, backend: LocalBackend) -> None:
    _, uuids = machines.with_gpus(3, NOW)
    one, two = machines.centre.admitted(NOW), machines.centre.admitted(NOW, person="bob", profile="gpu-2")
    held = [device.uuid for admitted in (one, two) for device in given(machines, backend, admitted)]
    assert sorted(held) == uuids
    assert given(machines, backend, one) == assignment.devices_of(machines.database, one.run_id)
    machines.centre.member("vision", "cho")
    assert given(machines, backend, machines.centre.admitted(NOW, profile="cpu", person="cho")) == ()


def test_on_a_simulated_pool_nothing_is_given(centre: Centre, backend: LocalBackend) -> None:
    centre.award("vision", 10**6 * GPU_GFLOPS)
    admitted = centre.admitted(NOW)
    assert admitted.simulated
    assert assignment.devices_for(centre.database, backend, admitted, NOW) == ()


def test_a_pool_without_machines_has_nothing_to_give(machines: Machines, backend: LocalBackend) -> None:
    with pytest.raises(InvalidValue, match="mudeung nodes add") as refused:
        given(machines, backend, machines.centre.admitted(NOW))
    assert refused.value.field == "devices"
    assert "mudeung nodes add" in refused.value.message_ko


def test_what_has_ended_and_still_runs_is_stopped_first(
    machines: Machines, backend: LocalBackend, launch: Callable[..., None]
) -> None:
    machines.with_gpus(1, NOW)
    leftover = machines.centre.admitted(NOW)
    launch(leftover.run_id, given(machines, backend, leftover))
    settle(machines, leftover.run_id)
    late = machines.centre.admitted(NOW, person="bob")
    devices = given(machines, backend, late)
    assert of_run(leftover.run_id) == []
    assert machines.audited("stopped without a hold")[0].subject == leftover.run_id
    launch(late.run_id, devices)
    assert backend.holders([devices[0].uuid]) == (late.run_id,)


def test_what_was_made_and_never_begun_begins_no_more(machines: Machines, backend: LocalBackend) -> None:
    machines.with_gpus(1, NOW)
    slow = machines.centre.admitted(NOW)
    (device,) = given(machines, backend, slow)
    record = backend.state_folder / slow.run_id
    record.mkdir(parents=True)
    (record / "devices").write_text(device.uuid)
    assert backend.holders([device.uuid]) == (slow.run_id,)
    settle(machines, slow.run_id)
    late = machines.centre.admitted(NOW, person="bob")
    assert given(machines, backend, late) == (device,)
    assert not record.exists()


def test_a_launch_that_comes_too_late_ends_nobodys_run(
    machines: Machines, backend: LocalBackend, launch: Callable[..., None]
) -> None:
    """Its run was given up, and the device is another's already."""
    machines.with_gpus(1, NOW)
    slow = machines.centre.admitted(NOW)
    devices = given(machines, backend, slow)
    settle(machines, slow.run_id)
    other = machines.centre.admitted(NOW, person="bob")
    launch(other.run_id, given(machines, backend, other))
    with pytest.raises(InvalidValue, match="given up"):
        given(machines, backend, slow)
    with pytest.raises(InvalidValue, match=other.run_id):
        launch(slow.run_id, devices)
    assert of_run(slow.run_id) == []
    assert len(of_run(other.run_id)) >= 1
    assert backend.inspect(slow.run_id) is None


def test_a_stranger_with_the_device_is_stopped(
    machines: Machines, backend: LocalBackend, launch: Callable[..., None]
) -> None:
    """The ledger has never heard of it: a backup was restored, say."""
    machines.with_gpus(1, NOW)
    admitted = machines.centre.admitted(NOW)
    stranger = new_run_id()
    launch(stranger, assignment.devices_of(machines.database, admitted.run_id))
    given(machines, backend, admitted)
    assert of_run(stranger) == []
