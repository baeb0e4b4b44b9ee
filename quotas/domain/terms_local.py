"""A launch in the terms of the local backend: the environment of its processes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from quotas.domain.inventory import AssignedDevice
from quotas.domain.launch import RUN_VARIABLE, Launch
from quotas.domain.units import InvalidValue

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS")
"""Numerical libraries count the machine's cores, not the profile's, unless one of these says otherwise."""

NPU = "npu"
"""The kind of a device that is known by its files; every other is NVIDIA's, known by its UUID."""
_NVIDIA_UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z/-]{1,90}")
_DEVICE_FILE = re.compile(r"/dev(?:/[\w-][\w.-]*)+")
_NPU_VARIABLES = (
    (re.compile(r"/dev/rbln(\d+)"), "RBLN_DEVICES", "{}"),
    (re.compile(r"/dev/(?:rngd/)?npu(\d+)(?:\D.*)?"), "FURIOSA_DEVICES", "npu:{}"),
)
"""By which variable the makers' libraries are told the devices to use, and how one is named in it."""


def environment(launch: Launch) -> dict[str, str]:
    """Return what the run's processes are given in their environment; the platform's own names win over the launch's.

    Without devices no CUDA device is visible. Raises InvalidValue as :func:`checked` does.
    """
    devices = checked(launch)
    visible = ",".join(nvidia_uuids(devices))
    return {
        **launch.environment,
        **thread_variables(launch.profile.cpu_millis),
        RUN_VARIABLE: launch.run_id,
        "CUDA_VISIBLE_DEVICES": visible,
        "NVIDIA_VISIBLE_DEVICES": visible,
        **_npu_variables(device_files(devices)),
    }


def thread_variables(cpu_millis: int) -> dict[str, str]:
    """Return the variables that keep numerical libraries to the profile's cores, a part of a core counted as one."""
    threads = str(max(-(-cpu_millis // 1000), 1))
    return dict.fromkeys(THREAD_VARIABLES, threads)


def checked(launch: Launch) -> tuple[AssignedDevice, ...]:
    """Return the launch's devices: none, or as many as its profile has, each named so that it means one device only.

    What a machine reports could otherwise name every device (``all``), or a disk. Raises InvalidValue of `devices`.
    """
    devices = launch.devices
    for device in devices:
        if device.kind != NPU and _NVIDIA_UUID.fullmatch(device.uuid) is None:
            raise not_attachable(f"{device.uuid!r:.60} names no device", f"{device.uuid!r:.60}은(는) 장치가 아닙니다")
        if device.kind == NPU and not device.paths:
            raise not_attachable(f"{device.uuid} has no device file", f"{device.uuid}에 장치 파일이 없습니다")
        for path in device.paths:
            if _DEVICE_FILE.fullmatch(path) is None:
                raise not_attachable(f"{path!r:.60} is no device file", f"{path!r:.60}은(는) 장치 파일이 아닙니다")
    wanted = launch.profile.device_count
    if devices and len({device.uuid for device in devices}) != wanted:
        raise not_attachable(
            f"the profile has {wanted} device(s), and {len(devices)} were given",
            f"프로필의 장치는 {wanted}개인데 {len(devices)}개가 배정되었습니다",
        )
    return devices


def nvidia_uuids(devices: Iterable[AssignedDevice]) -> list[str]:
    """Return the UUIDs of the GPUs and their slices."""
    return [device.uuid for device in devices if device.kind != NPU]


def device_files(devices: Iterable[AssignedDevice]) -> list[str]:
    """Return the files of the NPUs, each once."""
    return list(dict.fromkeys(path for device in devices if device.kind == NPU for path in device.paths))


def not_attachable(reason_en: str, reason_ko: str) -> InvalidValue:
    """Return what says that the devices of a run cannot be attached, and why."""
    return InvalidValue("devices", reason_en, reason_ko)


def _npu_variables(paths: Iterable[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for path in paths:
        for pattern, variable, form in _NPU_VARIABLES:
            match = pattern.fullmatch(path)
            named = form.format(match[1]) if match else ""
            if match and named not in found.setdefault(variable, []):
                found[variable].append(named)
    return {variable: ",".join(names) for variable, names in found.items()}
