"""A launch in the terms of the local backend: the environment of its processes."""

from __future__ import annotations

from collections.abc import Mapping

from quotas.domain.launch import RUN_VARIABLE, Launch
from quotas.domain.units import InvalidValue

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS")
"""Numerical libraries count the machine's cores, not the profile's, unless one of these says otherwise."""

_EVERY_DEVICE = frozenset({"", "all", "none", "void", "-1"})


def environment(launch: Launch) -> dict[str, str]:
    """Return what the run's processes are given in their environment; the platform's own names win over the launch's.

    Without attached devices no CUDA device is visible. Raises InvalidValue as :func:`device_ids` does.
    """
    ids = device_ids(launch, "local") if launch.attach_devices else ()
    return {
        **launch.environment,
        **thread_variables(launch.profile.cpu_millis),
        RUN_VARIABLE: launch.run_id,
        "CUDA_VISIBLE_DEVICES": ",".join(ids),
    }


def thread_variables(cpu_millis: int) -> dict[str, str]:
    """Return the variables that keep numerical libraries to the profile's cores, a part of a core counted as one."""
    threads = str(max(-(-cpu_millis // 1000), 1))
    return dict.fromkeys(THREAD_VARIABLES, threads)


def device_ids(launch: Launch, backend: str) -> tuple[str, ...]:
    """Return the devices that the operator's terms name for this profile, as many as the profile has.

    Raises InvalidValue when they name none, another number, one twice, or a word that stands for every device.
    """
    profile = launch.profile
    terms: Mapping[str, object] = profile.backend_terms.get(backend, {})
    given = terms.get("device_ids")
    ids = given if isinstance(given, list | tuple) else ()
    well_named = all(isinstance(each, str) and each.strip() == each and each not in _EVERY_DEVICE for each in ids)
    if profile.device_count > 0 and len(ids) == profile.device_count == len(set(map(str, ids))) and well_named:
        return tuple(ids)
    raise InvalidValue(
        "device_ids",
        f"the {backend} backend cannot attach {profile.device_model} to profile {profile.code}: "
        f"its {backend} terms must name {profile.device_count} device(s), each once",
        f"{backend} 백엔드는 프로필 {profile.code}에 {profile.device_model}을(를) 연결할 수 없습니다. "
        f"{backend} 항목의 device_ids에 장치 {profile.device_count}개를 하나씩 적어야 합니다",
    )
