"""A launch in the terms of Docker, as docker-py's low-level client and the dictionaries of DockerSpawner take them.

The image and the command are the caller's to pass: DockerSpawner has its own ways to both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from quotas.domain.inventory import AssignedDevice
from quotas.domain.launch import RUN_LABEL, RUN_VARIABLE, Launch, Mount
from quotas.domain.terms_local import checked, device_files, nvidia_uuids, thread_variables
from quotas.domain.units import InvalidValue

HOME_FOLDER = "/home/jovyan"
PROJECT_FOLDER = "/home/jovyan/project"
CPU_PERIOD_MICROSECONDS = 100_000
SMALLEST_QUOTA_MICROSECONDS = 1_000
"""The kernel takes no smaller one."""
PIDS_LIMIT = 4096

KIND_LABEL = "mudeung.kind"
PERSON_LABEL = "mudeung.person"
PROJECT_LABEL = "mudeung.project"
PROFILE_LABEL = "mudeung.profile"
DEVICES_LABEL = "mudeung.devices"
"""The UUIDs of the container's devices, a space between two."""

CDI_NVIDIA = "nvidia.com/gpu={}"
"""How the NVIDIA Container Toolkit names a device in its CDI specification."""
_DRIVERS = ("nvidia", "cdi")
_REBELLIONS = re.compile(r"/dev/(?:rbln|rsd)\d+")
_REBELLIONS_GROUP = re.compile(r"/dev/rsd\d+")
_FURIOSA_RNGD = re.compile(r"/dev/rngd/.+")
_IO_URING = ["io_uring_enter", "io_uring_register", "io_uring_setup"]


@dataclass(frozen=True)
class HostSide:
    """What is known on the machine only: the groups that own the run's device files, and a profile of system calls.

    `groups` are numeric. `seccomp` is Docker's default profile as JSON, for a device that needs more calls than it
    has (see :func:`needs_io_uring`), otherwise empty.
    """

    groups: tuple[int, ...] = ()
    seccomp: str = ""


def container_name(run_id: str) -> str:
    """Return the name of the run's container: a run has one of its own, so that no old one is ever started again."""
    return f"mudeung-{run_id}"


def labels(launch: Launch) -> dict[str, str]:
    """Return the labels by which the platform knows its container; they win over the labels of the image."""
    devices = {DEVICES_LABEL: " ".join(device.uuid for device in launch.devices)} if launch.devices else {}
    return {
        RUN_LABEL: launch.run_id,
        KIND_LABEL: launch.kind.value,
        PERSON_LABEL: launch.person,
        PROJECT_LABEL: launch.project,
        PROFILE_LABEL: launch.profile.code,
        **devices,
    }


def environment(launch: Launch) -> dict[str, str]:
    """Return the container's environment.

    Where NVIDIA's runtime is the engine's default, a base image that asks for all devices gets them: hence the
    variable is always set, to the devices of the run or to none. By CDI they come without it. Raises InvalidValue for
    a device that cannot be attached.
    """
    ids = nvidia_uuids(checked(launch)) if _driver(launch) == "nvidia" else []
    return {
        **launch.environment,
        **thread_variables(launch.profile.cpu_millis),
        RUN_VARIABLE: launch.run_id,
        "HOME": HOME_FOLDER,
        "NVIDIA_VISIBLE_DEVICES": ",".join(ids) or "void",
    }


def create_kwargs(launch: Launch, user: str | None = None) -> dict[str, Any]:
    """Return the keyword arguments of `create_container` other than image, command and host configuration.

    `user` is ``uid:gid``, or None for the image's own user (see `container_user` of the Docker backend).
    """
    kwargs: dict[str, Any] = {
        "name": container_name(launch.run_id),
        "labels": labels(launch),
        "environment": environment(launch),
        "working_dir": PROJECT_FOLDER,
        "stop_signal": "SIGTERM",
        # A health check of the image would start a process in every container every few seconds; the platform asks.
        "healthcheck": {"test": ["NONE"]},
    }
    if user is not None:
        kwargs["user"] = user
    return kwargs


def host_config(launch: Launch, host: HostSide = HostSide()) -> dict[str, Any]:
    """Return the keyword arguments of `create_host_config`. Raises InvalidValue for a device that cannot be attached.

    A quota, unlike `nano_cpus`, is also taken by a machine with fewer cores than the profile, and goes together
    with DockerSpawner's own `cpu_limit`. A mount, unlike a bind, never creates a missing project folder as root, and
    takes a path with a colon.
    """
    profile = launch.profile
    config: dict[str, Any] = {
        "mem_limit": profile.memory_bytes,
        "memswap_limit": profile.memory_bytes,
        "cpu_period": CPU_PERIOD_MICROSECONDS,
        "cpu_quota": max(profile.cpu_millis * CPU_PERIOD_MICROSECONDS // 1000, SMALLEST_QUOTA_MICROSECONDS),
        "pids_limit": PIDS_LIMIT,
        "shm_size": _shm_bytes(launch),
        "init": True,
        "auto_remove": False,
        "restart_policy": {"Name": "no"},
        "security_opt": ["no-new-privileges"],
        "cap_drop": ["ALL"],
        "log_config": {"type": "json-file", "config": {"max-size": "10m", "max-file": "3"}},
        "mounts": [
            {"Type": "bind", "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only}
            for mount in (Mount(launch.project_folder, PROJECT_FOLDER, read_only=False), *launch.mounts)
        ],
    }
    devices = checked(launch)
    uuids, files = nvidia_uuids(devices), device_files(devices)
    if uuids:
        config["device_requests"] = [_device_request(_driver(launch), uuids)]
    if files:
        config["devices"] = _mapped(files)
        config["group_add"] = [str(group) for group in host.groups]
    if any(map(_REBELLIONS.fullmatch, files)):
        # Its driver pins the memory that the device reads and writes.
        config["cap_add"] = ["IPC_LOCK"]
        config["ulimits"] = [{"Name": "memlock", "Soft": -1, "Hard": -1}]
    if needs_io_uring(devices):
        config["security_opt"] = [*config["security_opt"], f"seccomp={with_io_uring(host.seccomp)}"]
    return config


def needs_io_uring(devices: Iterable[AssignedDevice]) -> bool:
    """Return whether a device's driver is spoken to by calls that Docker's default profile of them refuses."""
    return any(map(_FURIOSA_RNGD.fullmatch, device_files(devices)))


def with_io_uring(profile: str) -> str:
    """Return Docker's profile of system calls, as JSON, with those of io_uring allowed and nothing else changed."""
    terms = json.loads(profile)
    allowed = {"names": _IO_URING, "action": "SCMP_ACT_ALLOW"}
    return json.dumps({**terms, "syscalls": [*terms["syscalls"], allowed]}, separators=(",", ":"))


def for_dockerspawner(terms: Any) -> Any:
    """Return the same terms with their braces doubled, as DockerSpawner takes every text and key for a template."""
    if isinstance(terms, str):
        return terms.replace("{", "{{").replace("}", "}}")
    if isinstance(terms, dict):
        return {for_dockerspawner(key): for_dockerspawner(value) for key, value in terms.items()}
    if isinstance(terms, list):
        return [for_dockerspawner(each) for each in terms]
    return terms


def _shm_bytes(launch: Launch) -> int:
    """Docker's default of 64 MB ends data loaders; half of the memory is what a plain Linux gives."""
    given = launch.profile.backend_terms.get("docker", {}).get("shm_bytes", launch.profile.memory_bytes // 2)
    if isinstance(given, bool) or not isinstance(given, int) or given <= 0:
        raise InvalidValue("shm_bytes", "must be a whole number of bytes above zero", "0보다 큰 바이트 수여야 합니다")
    return given


def _driver(launch: Launch) -> str:
    """Return by what the engine is to attach NVIDIA's devices."""
    driver = launch.profile.backend_terms.get("docker", {}).get("device_driver", _DRIVERS[0])
    if driver not in _DRIVERS:
        known = ", ".join(_DRIVERS)
        raise InvalidValue("device_driver", f"must be one of {known}", f"다음 중 하나여야 합니다: {known}")
    return str(driver)


def _device_request(driver: str, uuids: list[str]) -> dict[str, Any]:
    """Only devices named one by one: a count would leave the choice, and so the accounting, to the engine."""
    if driver == "cdi":
        return {"driver": "cdi", "device_ids": [CDI_NVIDIA.format(uuid) for uuid in uuids]}
    return {"driver": "nvidia", "device_ids": uuids, "capabilities": [["gpu"]]}


def _mapped(files: list[str]) -> list[dict[str, str]]:
    """Return each file where the container sees it: as on the machine, but for the group of Rebellions' devices.

    The maker's library looks for its one group under the number 0.
    """
    groups = [path for path in files if _REBELLIONS_GROUP.fullmatch(path)]
    inside = {groups[0]: "/dev/rsd0"} if len(groups) == 1 else {}
    return [
        {"PathOnHost": path, "PathInContainer": inside.get(path, path), "CgroupPermissions": "rwm"} for path in files
    ]
