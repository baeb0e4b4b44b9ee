"""Devices of containers on a real engine: each has its own, none shares one, and one that is taken away is missed."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from quotas.backends.docker import DockerBackend
from quotas.backends.docker_devices import SECCOMP
from quotas.backends.port import BackendAway
from quotas.domain import terms_docker
from quotas.domain.inventory import AssignedDevice
from quotas.domain.launch import Launch
from quotas.domain.runs import new_run_id
from quotas.domain.terms_docker import DEVICES_LABEL, container_name
from quotas.domain.units import InvalidValue
from tests.backends.processes import until
from tests.devices import GROUP, character_devices

pytestmark = pytest.mark.docker

MakeFile = Callable[[str], str]
MakeLaunch = Callable[..., Launch]
NO_SUCH_GPU = "GPU-00000000-0000-0000-0000-000000000000"
RBLN, RSD = Path("/dev/rbln99"), Path("/dev/rsd77")
"""Names as Rebellions gives them, of devices that no machine of a developer has."""
LOOK = 'for each in "$@"; do if ( : < $each ) 2>/dev/null; then echo "open $each"; else echo "shut $each"; fi; done'


@pytest.fixture
def file_of() -> Iterator[MakeFile]:
    with character_devices() as make:
        yield make


@pytest.fixture
def with_devices(launch_of: MakeLaunch) -> MakeLaunch:
    """Makes launches that hold an NPU for each of the given files."""

    def make(line: str, *paths: str, **changes: Any) -> Launch:
        devices = tuple(AssignedDevice(path, "npu", "an NPU", "npu", 0, (path,)) for path in paths)
        return with_these(launch_of(line, **changes), *devices)

    return make


@contextmanager
def named_like(path: Path) -> Iterator[None]:
    """There is a device file of that name."""
    if path.exists():
        pytest.fail(f"{path} is there; this test is for a machine with fewer devices")
    with character_devices() as make:
        Path(make("npu")).rename(path)
        try:
            yield
        finally:
            path.unlink()


def with_these(launch: Launch, *devices: AssignedDevice) -> Launch:
    profile = replace(launch.profile, device_model="npu", device_count=len(devices))
    return replace(launch, profile=profile, devices=devices)


def printed(backend: DockerBackend, launch: Launch) -> list[str]:
    until(lambda: (seen := backend.inspect(launch.run_id)) and not seen.running)
    return backend.log(launch.run_id, 2000).splitlines()


def test_two_containers_each_have_their_own(
    backend: DockerBackend, engine: docker.APIClient, with_devices: MakeLaunch, file_of: MakeFile
) -> None:
    one, two = file_of("npu"), file_of("npu")
    launches = [with_devices("", path, command=("sh", "-c", LOOK, "sh", one, two)) for path in (one, two)]
    for launch in launches:
        backend.launch(launch)
    assert printed(backend, launches[0]) == [f"open {one}", f"shut {two}"]
    assert printed(backend, launches[1]) == [f"shut {one}", f"open {two}"]
    state = engine.inspect_container(container_name(launches[0].run_id))
    assert state["HostConfig"]["GroupAdd"] == [str(GROUP)]
    assert (state["HostConfig"]["CapAdd"], state["HostConfig"]["Ulimits"]) == (None, None)
    assert state["Config"]["Labels"][DEVICES_LABEL] == one
    assert (state["HostConfig"]["Memory"], state["HostConfig"]["CpuQuota"]) == (64 * 2**20, 50_000)


def test_without_a_device_nothing_is_open(backend: DockerBackend, launch_of: MakeLaunch, file_of: MakeFile) -> None:
    path = file_of("npu")
    plain = launch_of("", command=("sh", "-c", LOOK, "sh", path))
    backend.launch(plain)
    assert printed(backend, plain) == [f"shut {path}"]


def test_a_rebellions_npu_may_pin_memory(
    backend: DockerBackend, engine: docker.APIClient, launch_of: MakeLaunch, with_devices: MakeLaunch
) -> None:
    """With what its driver asks for; an engine that may not lift the limit of its own containers says so."""
    plain = launch_of("true")
    config = terms_docker.host_config(plain)
    config["ulimits"] = [{"Name": "memlock", "Soft": -1, "Hard": -1}]
    kwargs = {**backend.create_kwargs(plain), "host_config": engine.create_host_config(**config)}
    engine.create_container(plain.profile.image, list(plain.command), **kwargs)
    said = ""
    try:
        engine.start(container_name(plain.run_id))
    except docker.errors.APIError as error:
        said = str(error)
    assert said == "" or "error setting rlimit" in said
    with named_like(RBLN):
        launch = with_devices(f"ulimit -l; grep CapBnd /proc/self/status; ( : < {RBLN} ) && echo open", str(RBLN))
        if said == "":
            backend.launch(launch)
            assert printed(backend, launch) == ["unlimited", f"CapBnd:\t{1 << 14:016x}", "open"]
        else:
            with pytest.raises(InvalidValue, match="error setting rlimit") as refused:
                backend.launch(launch)
            assert refused.value.field == "devices"
            assert backend.inspect(launch.run_id) is None


def test_the_profile_for_an_rngd_allows_io_uring_and_keeps_dockers_refusals(
    backend: DockerBackend, engine: docker.APIClient, launch_of: MakeLaunch
) -> None:
    """Numbers of system calls are those of x86-64: io_uring_setup, and three that Docker's default refuses."""
    calls = {"io_uring_setup": 425, "keyctl": 250, "bpf": 321, "userfaultfd": 323}
    asked = (
        "import ctypes, os, platform\nassert platform.machine() == 'x86_64'\nc = ctypes.CDLL(None, use_errno=True)\n"
    )
    asked += f"for name, number in {calls}.items():\n"
    asked += "    c.syscall(number, 0, None, 0, 0, 0)\n    print(name, os.strerror(ctypes.get_errno()))\n"
    launch = launch_of("", command=("python3", "-c", asked))
    profile = terms_docker.with_io_uring(SECCOMP.read_text("ascii"))
    config = terms_docker.host_config(launch)
    config["security_opt"] = [*config["security_opt"], f"seccomp={profile}"]
    kwargs = {**backend.create_kwargs(launch), "host_config": engine.create_host_config(**config)}
    engine.create_container(launch.profile.image, list(launch.command), **kwargs)
    engine.start(container_name(launch.run_id))
    found = dict(line.split(" ", 1) for line in printed(backend, launch))
    assert found.pop("io_uring_setup") in ("Bad address", "Invalid argument")
    assert set(found.values()) == {"Operation not permitted"}


def test_a_file_that_is_gone_is_refused_before_anything_is_made(
    backend: DockerBackend, with_devices: MakeLaunch, file_of: MakeFile
) -> None:
    path = file_of("npu")
    launch = with_devices("true", path)
    Path(path).unlink()
    with pytest.raises(InvalidValue, match=f"no {path}") as refused:
        backend.launch(launch)
    assert refused.value.field == "devices"
    Path(path).touch()
    with pytest.raises(InvalidValue, match="no character device"):
        backend.launch(launch)
    assert backend.inspect(launch.run_id) is None


@pytest.mark.parametrize("driver", ["nvidia", "cdi"])
def test_an_engine_without_the_device_driver_says_so_and_keeps_nothing(
    backend: DockerBackend, engine: docker.APIClient, launch_of: MakeLaunch, driver: str
) -> None:
    if "nvidia" in engine.info()["Runtimes"]:
        pytest.fail("this test is for an engine without NVIDIA's runtime")
    launch = with_these(launch_of("true"), AssignedDevice(NO_SUCH_GPU, "gpu", "H100", "h100", 0, ("/dev/nvidia0",)))
    profile = replace(launch.profile, backend_terms={"docker": {"device_driver": driver}})
    with pytest.raises(InvalidValue, match="Docker cannot attach it") as refused:
        backend.launch(replace(launch, profile=profile))
    assert refused.value.field == "devices"
    assert backend.inspect(launch.run_id) is None


def test_a_leftover_container_with_the_device_is_found_and_never_joined(
    backend: DockerBackend, with_devices: MakeLaunch, file_of: MakeFile
) -> None:
    one, two = file_of("npu"), file_of("npu")
    leftover, other, late = (with_devices("sleep 60", path) for path in (one, two, one))
    backend.launch(leftover)
    backend.launch(other)
    assert backend.holders([one]) == (leftover.run_id,)
    assert set(backend.holders([one, two])) == {leftover.run_id, other.run_id}
    assert backend.holders([]) == ()
    with pytest.raises(InvalidValue, match=container_name(leftover.run_id)):
        backend.launch(late)
    assert backend.inspect(late.run_id) is None
    assert backend.launch(leftover).running
    backend.stop(leftover.run_id, 0)
    assert backend.holders([one]) == ()
    assert backend.launch(late).running


def test_a_container_that_was_made_and_not_started_holds_its_device(
    backend: DockerBackend, engine: docker.APIClient, with_devices: MakeLaunch, file_of: MakeFile
) -> None:
    """Whoever made it may be about to start it."""
    path = file_of("npu")
    slow, late = with_devices("sleep 60", path), with_devices("sleep 60", path)
    kwargs = {**backend.create_kwargs(slow), "host_config": engine.create_host_config(**backend.host_config(slow))}
    engine.create_container(slow.profile.image, list(slow.command), **kwargs)
    assert backend.holders([path]) == (slow.run_id,)
    with pytest.raises(InvalidValue, match="another container"):
        backend.launch(late)
    backend.remove(slow.run_id)
    assert backend.launch(late).running


def test_of_many_at_once_at_most_one_has_the_device(
    backend: DockerBackend, with_devices: MakeLaunch, file_of: MakeFile
) -> None:
    path = file_of("npu")
    launches = [with_devices("sleep 60", path) for _ in range(4)]
    gate = threading.Barrier(len(launches))
    refused: list[InvalidValue] = []

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
    running = [launch for launch in launches if (seen := backend.inspect(launch.run_id)) and seen.running]
    assert len(running) <= 1
    assert len(refused) == len(launches) - len(running)


def test_another_platforms_container_is_seen_and_left_alone(
    backend: DockerBackend, with_devices: MakeLaunch, file_of: MakeFile, tmp_path: Path
) -> None:
    path = file_of("npu")
    theirs, ours = with_devices("sleep 60", path), with_devices("sleep 60", path)
    other = DockerBackend(home=str(tmp_path / "other"))
    other.launch(theirs)
    assert backend.holders([path]) == ()
    with pytest.raises(InvalidValue, match=container_name(theirs.run_id)):
        backend.launch(ours)
    seen = other.inspect(theirs.run_id)
    assert seen is not None
    assert seen.running
    other.close()


def test_a_device_that_is_taken_from_a_container_is_missed(
    backend: DockerBackend, engine: docker.APIClient, with_devices: MakeLaunch, file_of: MakeFile
) -> None:
    paths = [file_of("npu") for _ in range(7)]
    launch = with_devices("sleep 60", *paths)
    backend.launch(launch)
    assert backend.lacks(launch.run_id, paths) == ()
    assert backend.lacks(launch.run_id, ["/dev/fuse", "/dev/null"]) == ("/dev/fuse",)
    gone = [paths[0], paths[5]]
    made = engine.exec_create(container_name(launch.run_id), ["rm", *gone], user="0")
    engine.exec_start(made["Id"])
    assert backend.lacks(launch.run_id, paths) == tuple(gone)
    backend.stop(launch.run_id, 0)
    for run_id in (launch.run_id, new_run_id()):
        with pytest.raises(BackendAway):
            backend.lacks(run_id, paths)


def test_the_group_of_rebellions_devices_is_looked_for_where_the_container_has_it(
    backend: DockerBackend, engine: docker.APIClient, with_devices: MakeLaunch
) -> None:
    with named_like(RSD):
        launch = with_devices("sleep 60", str(RSD))
        config = {**backend.host_config(launch), "ulimits": []}  # not every engine may lift the limit
        kwargs = {**backend.create_kwargs(launch), "host_config": engine.create_host_config(**config)}
        engine.create_container(launch.profile.image, list(launch.command), **kwargs)
        engine.start(container_name(launch.run_id))
        assert backend.lacks(launch.run_id, [str(RSD)]) == ()
        assert backend.lacks(launch.run_id, ["/dev/rsd0", "/dev/rsd1"]) == ("/dev/rsd1",)


@pytest.mark.parametrize("free", [0, 1, 2])
def test_a_container_that_cannot_be_asked_lacks_nothing(
    backend: DockerBackend, with_devices: MakeLaunch, file_of: MakeFile, free: int
) -> None:
    """A person may fill their container with processes: that is no reason to think that their device is gone."""
    path, client = file_of("npu"), backend._client()
    hog = f"""
        import subprocess, time
        made = []
        while True:
            try:
                made.append(subprocess.Popen(["sleep", "60"]))
            except OSError:
                break
        for each in made[:{free}]:
            each.kill()
            each.wait()
        print("full", flush=True)
        time.sleep(60)
    """
    launch = with_devices("", path, command=("python3", "-c", textwrap.dedent(hog)))
    config = {**backend.host_config(launch), "pids_limit": 12}
    kwargs = {**backend.create_kwargs(launch), "host_config": client.create_host_config(**config)}
    client.create_container(launch.profile.image, list(launch.command), **kwargs)
    client.start(container_name(launch.run_id))
    until(lambda: "full" in backend.log(launch.run_id, 100))
    for _ in range(3):
        with suppress(BackendAway):
            assert backend.lacks(launch.run_id, [path]) == ()
