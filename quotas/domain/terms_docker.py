"""A launch in the terms of Docker, as docker-py's low-level client and the dictionaries of DockerSpawner take them.

The image and the command are the caller's to pass: DockerSpawner has its own ways to both.
"""

from __future__ import annotations

from typing import Any

from quotas.domain.launch import RUN_LABEL, RUN_VARIABLE, Launch, Mount
from quotas.domain.terms_local import device_ids, thread_variables
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


def container_name(run_id: str) -> str:
    """Return the name of the run's container: a run has one of its own, so that no old one is ever started again."""
    return f"mudeung-{run_id}"


def labels(launch: Launch) -> dict[str, str]:
    """Return the labels by which the platform knows its container; they win over the labels of the image."""
    return {
        RUN_LABEL: launch.run_id,
        KIND_LABEL: launch.kind.value,
        PERSON_LABEL: launch.person,
        PROJECT_LABEL: launch.project,
        PROFILE_LABEL: launch.profile.code,
    }


def environment(launch: Launch) -> dict[str, str]:
    """Return the container's environment.

    Where NVIDIA's runtime is the engine's default, a base image that asks for all devices gets them: hence the
    variable is always set, to the devices of the run or to none.
    """
    ids = device_ids(launch, "docker") if launch.attach_devices else ()
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


def host_config(launch: Launch) -> dict[str, Any]:
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
    if launch.attach_devices:
        config["device_requests"] = [_device_request(launch)]
    return config


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


def _device_request(launch: Launch) -> dict[str, Any]:
    """Only devices named one by one: a count would leave the choice, and so the accounting, to the engine."""
    driver = launch.profile.backend_terms.get("docker", {}).get("device_driver", "nvidia")
    request: dict[str, Any] = {"driver": driver, "device_ids": list(device_ids(launch, "docker"))}
    if driver == "nvidia":
        request["capabilities"] = [["gpu"]]
    return request
