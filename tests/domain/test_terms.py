"""The launch in each backend's terms: whole values, and what the libraries that take them make of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from docker.types import HostConfig
from dockerspawner import DockerSpawner

from quotas.domain import terms_docker, terms_local
from quotas.domain.launch import Launch, Mount
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind
from quotas.domain.units import InvalidValue

RUN = "019aa0c5-6c00-7000-8000-000000000001"

CPU = Profile(
    code="cpu-small",
    name_ko="CPU 소형",
    name_en="Small CPU",
    image="mudeung/notebook:latest",
    cpu_millis=1500,
    memory_bytes=2 * 2**30,
    storage_bytes=10 * 2**30,
)
GPU = replace(
    CPU,
    code="h100-2",
    cpu_millis=16_000,
    device_model="H100",
    device_count=2,
    backend_terms={"docker": {"shm_bytes": 2**30}},
)


def launch_of(profile: Profile, **changes: Any) -> Launch:
    launch = Launch(
        run_id=RUN,
        kind=RunKind.BATCH,
        person="kim",
        project="vision",
        profile=profile,
        command=("python", "train.py"),
        project_folder="/srv/projects/vision",
        environment={"LANG": "C.UTF-8"},
    )
    return replace(launch, **changes)


def test_the_local_environment_of_a_cpu_profile() -> None:
    assert terms_local.environment(launch_of(CPU)) == {
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "NUMEXPR_MAX_THREADS": "2",
        "MUDEUNG_RUN": RUN,
        "CUDA_VISIBLE_DEVICES": "",
        "NVIDIA_VISIBLE_DEVICES": "",
    }


def test_the_launch_cannot_overrule_the_platform() -> None:
    forged = launch_of(CPU, environment={"MUDEUNG_RUN": "another", "CUDA_VISIBLE_DEVICES": "0", "MINE": "1"})
    environment = terms_local.environment(forged)
    assert environment["MUDEUNG_RUN"] == RUN
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["MINE"] == "1"
    in_container = launch_of(CPU, environment={"MUDEUNG_RUN": "another", "NVIDIA_VISIBLE_DEVICES": "all"})
    assert terms_docker.environment(in_container)["MUDEUNG_RUN"] == RUN
    assert terms_docker.environment(in_container)["NVIDIA_VISIBLE_DEVICES"] == "void"


@pytest.mark.parametrize(("cpu_millis", "threads"), [(1, "1"), (1000, "1"), (1001, "2"), (8000, "8")])
def test_a_part_of_a_core_counts_as_one_thread(cpu_millis: int, threads: str) -> None:
    assert set(terms_local.thread_variables(cpu_millis).values()) == {threads}


CREATE_KWARGS: dict[str, Any] = {
    "name": f"mudeung-{RUN}",
    "labels": {
        "mudeung.run": RUN,
        "mudeung.kind": "batch",
        "mudeung.person": "kim",
        "mudeung.project": "vision",
        "mudeung.profile": "cpu-small",
    },
    "environment": {
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "NUMEXPR_MAX_THREADS": "2",
        "MUDEUNG_RUN": RUN,
        "HOME": "/home/jovyan",
        "NVIDIA_VISIBLE_DEVICES": "void",
    },
    "working_dir": "/home/jovyan/project",
    "stop_signal": "SIGTERM",
    "healthcheck": {"test": ["NONE"]},
}

HOST_CONFIG: dict[str, Any] = {
    "mem_limit": 2 * 2**30,
    "memswap_limit": 2 * 2**30,
    "cpu_period": 100_000,
    "cpu_quota": 150_000,
    "pids_limit": 4096,
    "shm_size": 2**30,
    "init": True,
    "auto_remove": False,
    "restart_policy": {"Name": "no"},
    "security_opt": ["no-new-privileges"],
    "cap_drop": ["ALL"],
    "log_config": {"type": "json-file", "config": {"max-size": "10m", "max-file": "3"}},
    "mounts": [
        {"Type": "bind", "Source": "/srv/projects/vision", "Target": "/home/jovyan/project", "ReadOnly": False},
    ],
}


def test_a_cpu_container() -> None:
    assert terms_docker.create_kwargs(launch_of(CPU)) == CREATE_KWARGS
    assert terms_docker.create_kwargs(launch_of(CPU), "1234:5678") == {**CREATE_KWARGS, "user": "1234:5678"}
    assert terms_docker.host_config(launch_of(CPU)) == HOST_CONFIG


def test_mounts_stand_beside_the_project() -> None:
    mounts = (Mount("/srv/batch/r", "/mnt/run"), Mount("/srv/batch/r/out", "/mnt/run/out", read_only=False))
    assert terms_docker.host_config(launch_of(CPU, mounts=mounts)) == {
        **HOST_CONFIG,
        "mounts": [
            *HOST_CONFIG["mounts"],
            {"Type": "bind", "Source": "/srv/batch/r", "Target": "/mnt/run", "ReadOnly": True},
            {"Type": "bind", "Source": "/srv/batch/r/out", "Target": "/mnt/run/out", "ReadOnly": False},
        ],
    }


@pytest.mark.parametrize("given", [0, -1, True, "64m", 1.5])
def test_a_wrong_size_of_shared_memory_is_refused(given: object) -> None:
    profile = replace(CPU, backend_terms={"docker": {"shm_bytes": given}})
    with pytest.raises(InvalidValue, match="shm_bytes"):
        terms_docker.host_config(launch_of(profile))


def test_the_smallest_cpu_share_is_one_that_the_kernel_takes() -> None:
    assert terms_docker.host_config(launch_of(replace(CPU, cpu_millis=1)))["cpu_quota"] == 1000


def test_docker_py_takes_the_terms() -> None:
    """What goes over the wire, as docker-py's own class makes it."""
    wire = HostConfig(version="1.41", **terms_docker.host_config(launch_of(GPU)))
    assert wire["MemorySwap"] == wire["Memory"] == 2 * 2**30
    assert wire["CpuQuota"] == 1_600_000
    assert wire["Init"] is True
    assert wire["CapDrop"] == ["ALL"]
    assert wire["SecurityOpt"] == ["no-new-privileges"]
    assert wire["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


class PlainSpawner(DockerSpawner):
    """DockerSpawner with the names that it formats templates with, and no hub behind them."""

    def template_namespace(self) -> dict[str, str]:
        return {"username": "mallory", "raw_username": "mallory", "servername": "vision"}


def test_braces_reach_docker_as_they_are() -> None:
    """DockerSpawner formats every text of its extra dictionaries: a name with braces could read or crash the hub."""
    person = "{username.__class__} {} }{ {raw_username}"
    launch = launch_of(CPU, person=person, project_folder="/srv/{username}", environment={"A{B}": "{0}"})
    spawner = PlainSpawner()
    for terms in (terms_docker.create_kwargs(launch), terms_docker.host_config(launch)):
        assert spawner._render_templates(terms_docker.for_dockerspawner(terms)) == terms
    with pytest.raises((AttributeError, IndexError)):
        spawner._render_templates(terms_docker.create_kwargs(launch))
