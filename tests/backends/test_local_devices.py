"""Devices of processes: each run sees its own, and none that another one still has."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quotas.backends import devices
from quotas.backends.local import LocalBackend
from quotas.backends.port import Backend
from quotas.domain.inventory import AssignedDevice
from quotas.domain.launch import Launch
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import InvalidValue
from tests.backends.processes import of_run, until

ONE, TWO = (AssignedDevice(f"GPU-{number:08}", "gpu", "H100", "h100", number) for number in (1, 2))


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    made = LocalBackend(tmp_path / "runs")
    yield made
    for seen in made.list_runs():
        made.stop(seen.run_id, 0)


@pytest.fixture
def launch_of(tmp_path: Path) -> Callable[..., Launch]:
    def made(line: str, *given: AssignedDevice) -> Launch:
        model = given[0].device_model if given else None
        profile = Profile("gpu", "gpu", "gpu", "image", 1000, 2**30, 2**30, model, len(given))
        command = ("/bin/sh", "-c", line)
        return Launch(new_run_id(), RunKind.BATCH, "ada", "vision", profile, command, str(tmp_path), devices=given)

    return made


def test_a_run_sees_its_own(backend: LocalBackend, launch_of: Callable[..., Launch]) -> None:
    as_port: Backend = backend
    assert as_port.holders([]) == ()
    launches = [launch_of("echo $CUDA_VISIBLE_DEVICES:$NVIDIA_VISIBLE_DEVICES", *given) for given in ((ONE, TWO), ())]
    for launch in launches:
        backend.launch(launch)
        until(lambda run_id=launch.run_id: not backend.inspect(run_id).running)
    both = f"{ONE.uuid},{TWO.uuid}"
    assert [backend.log(launch.run_id, 200).strip() for launch in launches] == [f"{both}:{both}", ":"]


def test_who_has_a_device_is_known_until_the_last_process_has_gone(
    backend: LocalBackend, launch_of: Callable[..., Launch]
) -> None:
    """Also one that the command left in the background."""
    left = launch_of("/bin/sleep 600 & exit 0", ONE)
    backend.launch(left)
    until(lambda: not backend.inspect(left.run_id).running)
    until(lambda: backend.holders([TWO.uuid, ONE.uuid]) == (left.run_id,))
    assert backend.holders([TWO.uuid]) == ()
    with pytest.raises(InvalidValue, match=left.run_id) as refused:
        backend.launch(late := launch_of("sleep 600", ONE, TWO))
    assert refused.value.field == "devices"
    assert (backend.inspect(late.run_id), backend.holders([TWO.uuid])) == (None, ())
    backend.stop(left.run_id, 0)
    assert backend.holders([ONE.uuid]) == ()
    assert backend.launch(late).running
    assert backend.launch(late).running


def test_of_many_at_once_at_most_one_has_the_device(backend: LocalBackend, launch_of: Callable[..., Launch]) -> None:
    launches = [launch_of("sleep 600", ONE) for _ in range(6)]
    gate, refused = threading.Barrier(len(launches)), []

    def race(launch: Launch) -> None:
        gate.wait(10)
        try:
            backend.launch(launch)
        except InvalidValue as error:
            refused.append(error)

    threads = [threading.Thread(target=race, args=(launch,)) for launch in launches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    began = [launch for launch in launches if of_run(launch.run_id)]
    assert len(began) == len(launches) - len(refused) <= 1


def test_a_run_whose_record_was_removed_begins_no_more(
    backend: LocalBackend, launch_of: Callable[..., Launch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever launches it was too slow: it was given up between its claim and its start."""
    launch, spawn = launch_of("sleep 600", ONE), backend._spawn

    def slowly(launch: Launch, variables: dict[str, str]) -> int:
        backend.remove(launch.run_id)
        return spawn(launch, variables)

    monkeypatch.setattr(backend, "_spawn", slowly)
    with pytest.raises(Exception, match="keeper"):
        backend.launch(launch)
    assert (of_run(launch.run_id), backend.inspect(launch.run_id)) == ([], None)
    assert backend.holders([ONE.uuid]) == ()


def test_files_that_cannot_be_opened_are_missed(tmp_path: Path) -> None:
    """One with nothing behind it answers as one that was taken; what is not there is the agent's to tell."""
    nobody = tmp_path / "nobody"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(nobody))  # opened as a file it says what a device without its driver says
        paths = ["/dev/null", str(nobody), str(tmp_path / "absent")]
        assert LocalBackend(tmp_path / "runs").lacks(new_run_id(), paths) == (str(nobody),)


def test_the_group_that_owns_a_device_file_is_told() -> None:
    """None for one that everybody may open."""
    assert devices.owners(["/dev/null", "/dev/tty"]) == ()
    ends = os.openpty()
    try:
        path = Path(os.ttyname(ends[1]))
        assert devices.owners([str(path), "/dev/null", str(path)]) == (path.stat().st_gid,)
    finally:
        for each in ends:
            os.close(each)


@pytest.mark.parametrize("path", ["/dev/absent-device", "/etc/passwd", "/dev/fd"])
def test_what_is_no_device_file_is_refused(path: str) -> None:
    with pytest.raises(InvalidValue, match="devices"):
        devices.owners(["/dev/null", path])
