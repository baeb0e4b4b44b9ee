"""A run's devices in each backend's terms: whole values, and what docker-py makes of them for the wire."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from docker.types import HostConfig

from quotas.backends.docker_devices import SECCOMP
from quotas.domain import terms_docker, terms_local
from quotas.domain.inventory import AssignedDevice
from quotas.domain.launch import Launch
from quotas.domain.profiles import Profile
from quotas.domain.terms_docker import HostSide
from quotas.domain.units import InvalidValue
from tests.domain.test_terms import CPU, CREATE_KWARGS, GPU, HOST_CONFIG, launch_of

FIRST, SECOND = "GPU-11111111-aaaa-bbbb-cccc-000000000001", "GPU-11111111-aaaa-bbbb-cccc-000000000002"
SLICE = "MIG-22222222-aaaa-bbbb-cccc-000000000001"
BY_CDI = {"docker": {"device_driver": "cdi", "shm_bytes": 2**30}}
GPU_CONFIG = {**HOST_CONFIG, "cpu_quota": 1_600_000, "shm_size": 2**30}
GPU_LABELS = {**CREATE_KWARGS["labels"], "mudeung.profile": "h100-2"}
SIXTEEN = dict.fromkeys(terms_local.THREAD_VARIABLES, "16")


def gpu(uuid: str, position: int = 0) -> AssignedDevice:
    kind = "mig" if uuid.startswith("MIG") else "gpu"
    return AssignedDevice(uuid, kind, "NVIDIA H100", "h100", position, ("/dev/nvidia0", "/dev/nvidiactl"))


def npu(position: int, *paths: str) -> AssignedDevice:
    return AssignedDevice(f"node-1-npu{position}", "npu", "an NPU", "atom", position, paths)


def given(profile: Profile, *devices: AssignedDevice) -> Launch:
    """A launch of `profile` with as many devices as it has."""
    return launch_of(replace(profile, device_model="h100", device_count=len(devices)), devices=devices)


def test_processes_see_their_gpus_by_uuid() -> None:
    assert terms_local.environment(given(GPU, gpu(FIRST), gpu(SECOND, 1))) == {
        "LANG": "C.UTF-8",
        **SIXTEEN,
        "MUDEUNG_RUN": launch_of(GPU).run_id,
        "CUDA_VISIBLE_DEVICES": f"{FIRST},{SECOND}",
        "NVIDIA_VISIBLE_DEVICES": f"{FIRST},{SECOND}",
    }


def test_without_devices_none_is_visible() -> None:
    """So it is on a simulated pool."""
    environment = terms_local.environment(launch_of(GPU))
    assert (environment["CUDA_VISIBLE_DEVICES"], environment["NVIDIA_VISIBLE_DEVICES"]) == ("", "")
    assert terms_docker.host_config(launch_of(GPU)) == GPU_CONFIG
    assert terms_docker.environment(launch_of(GPU))["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert terms_docker.labels(launch_of(GPU)) == GPU_LABELS


@pytest.mark.parametrize(
    ("devices", "variable", "value"),
    [
        ((npu(0, "/dev/rbln2", "/dev/rsd1"), npu(1, "/dev/rbln3", "/dev/rsd1")), "RBLN_DEVICES", "2,3"),
        ((npu(0, "/dev/npu0", "/dev/npu0pe0-1"), npu(1, "/dev/npu3")), "FURIOSA_DEVICES", "npu:0,npu:3"),
        ((npu(0, "/dev/rngd/npu4mgmt", "/dev/rngd/npu4pe0-3"),), "FURIOSA_DEVICES", "npu:4"),
    ],
)
def test_processes_are_told_their_npus_as_the_maker_says(
    devices: tuple[AssignedDevice, ...], variable: str, value: str
) -> None:
    environment = terms_local.environment(given(GPU, *devices))
    assert environment[variable] == value
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert terms_docker.environment(given(GPU, *devices))["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_a_container_gets_its_gpus_by_uuid() -> None:
    launch = given(GPU, gpu(FIRST), gpu(SECOND, 1))
    request = {"driver": "nvidia", "device_ids": [FIRST, SECOND], "capabilities": [["gpu"]]}
    assert terms_docker.host_config(launch) == {**GPU_CONFIG, "device_requests": [request]}
    assert terms_docker.environment(launch) == {
        **CREATE_KWARGS["environment"],
        **SIXTEEN,
        "NVIDIA_VISIBLE_DEVICES": f"{FIRST},{SECOND}",
    }
    assert terms_docker.labels(launch) == {**GPU_LABELS, "mudeung.devices": f"{FIRST} {SECOND}"}
    assert HostConfig(version="1.41", **terms_docker.host_config(launch))["DeviceRequests"] == [
        {
            "Driver": "nvidia",
            "Count": 0,
            "DeviceIDs": [FIRST, SECOND],
            "Capabilities": [["gpu"]],
            "Options": {},
        }
    ]


def test_a_slice_is_named_as_a_gpu_is() -> None:
    launch = given(GPU, gpu(SLICE))
    (request,) = terms_docker.host_config(launch)["device_requests"]
    assert request == {"driver": "nvidia", "device_ids": [SLICE], "capabilities": [["gpu"]]}
    assert terms_local.environment(launch)["CUDA_VISIBLE_DEVICES"] == SLICE


def test_by_cdi_the_devices_have_their_names_there() -> None:
    launch = given(replace(GPU, backend_terms=BY_CDI), gpu(FIRST), gpu(SLICE, 1))
    request = {"driver": "cdi", "device_ids": [f"nvidia.com/gpu={FIRST}", f"nvidia.com/gpu={SLICE}"]}
    assert terms_docker.host_config(launch) == {**GPU_CONFIG, "device_requests": [request]}
    assert terms_docker.environment(launch)["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_an_unknown_way_to_attach_is_refused() -> None:
    profile = replace(GPU, backend_terms={"docker": {"device_driver": "amd"}})
    with pytest.raises(InvalidValue, match="device_driver"):
        terms_docker.host_config(given(profile, gpu(FIRST)))


def mapped(path: str, inside: str | None = None) -> dict[str, str]:
    return {"PathOnHost": path, "PathInContainer": inside or path, "CgroupPermissions": "rwm"}


def test_rebellions_devices_come_with_what_their_driver_needs() -> None:
    """The memory that it pins, and its group under the only name that the maker's library looks for."""
    launch = given(GPU, npu(0, "/dev/rbln2", "/dev/rsd1"), npu(1, "/dev/rbln3", "/dev/rsd1"))
    config = terms_docker.host_config(launch, HostSide(groups=(44, 1005)))
    assert config == {
        **GPU_CONFIG,
        "devices": [mapped("/dev/rbln2"), mapped("/dev/rsd1", "/dev/rsd0"), mapped("/dev/rbln3")],
        "group_add": ["44", "1005"],
        "cap_add": ["IPC_LOCK"],
        "ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}],
    }
    wire = HostConfig(version="1.41", **config)
    assert wire["Ulimits"] == [{"Name": "memlock", "Soft": -1, "Hard": -1}]
    assert (wire["CapDrop"], wire["CapAdd"], wire["GroupAdd"]) == (["ALL"], ["IPC_LOCK"], ["44", "1005"])
    assert wire["Devices"] == config["devices"]
    assert terms_docker.labels(launch)["mudeung.devices"] == "node-1-npu0 node-1-npu1"


def test_an_rngd_gets_dockers_profile_and_io_uring() -> None:
    launch = given(GPU, npu(0, "/dev/rngd/npu0mgmt", "/dev/rngd/npu0pe0"))
    profile = SECCOMP.read_text("ascii")
    config = terms_docker.host_config(launch, HostSide((44,), profile))
    plain, seccomp = config["security_opt"]
    assert plain == "no-new-privileges"
    assert {**config, "security_opt": [plain]} == {
        **GPU_CONFIG,
        "devices": [mapped("/dev/rngd/npu0mgmt"), mapped("/dev/rngd/npu0pe0")],
        "group_add": ["44"],
    }
    allowed, default = json.loads(seccomp.removeprefix("seccomp=")), json.loads(profile)
    calls = ["io_uring_enter", "io_uring_register", "io_uring_setup"]
    assert allowed.pop("syscalls") == [*default.pop("syscalls"), {"names": calls, "action": "SCMP_ACT_ALLOW"}]
    assert allowed == default
    assert "io_uring" not in profile
    assert hashlib.sha256(SECCOMP.read_bytes()).hexdigest() in SECCOMP.with_name("README.md").read_text()


@pytest.mark.parametrize("path", ["/dev/npu0", "/dev/rngdx", "/dev/rbln0"])
def test_no_other_device_changes_the_profile_of_system_calls(path: str) -> None:
    config = terms_docker.host_config(given(GPU, npu(0, path)), HostSide())
    assert config["security_opt"] == ["no-new-privileges"]


@pytest.mark.parametrize(
    "device",
    [
        *(gpu(uuid) for uuid in ("all", "", "0", "none", f"{FIRST},{SECOND}", "GPU-all;", "GPU-a b")),
        npu(0),
        *(
            npu(0, path)
            for path in ("/dev/../etc/shadow", "/etc/shadow", "/dev/", "/dev/a:b", "dev/a", "/dev/.a", "/dev")
        ),
    ],
    ids=repr,
)
@pytest.mark.parametrize("build", [terms_docker.host_config, terms_local.environment])
def test_what_names_no_single_device_is_refused(build: Any, device: AssignedDevice) -> None:
    """A machine's report is not believed so far that a run would get every device of it, or a disk."""
    with pytest.raises(InvalidValue) as refused:
        build(given(GPU, device))
    assert refused.value.field == "devices"


@pytest.mark.parametrize("devices", [(gpu(FIRST),), (gpu(FIRST), gpu(FIRST)), (gpu(FIRST), gpu(SECOND), gpu(SLICE))])
@pytest.mark.parametrize("build", [terms_docker.host_config, terms_local.environment])
def test_another_number_than_the_profiles_is_refused(build: Any, devices: tuple[AssignedDevice, ...]) -> None:
    with pytest.raises(InvalidValue, match="devices"):
        build(launch_of(GPU, devices=devices))
    with pytest.raises(InvalidValue, match="devices"):
        build(launch_of(CPU, devices=devices))
