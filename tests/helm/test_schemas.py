"""What the chart and the platform make is right by the published schema of every version that the chart names."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml
from packaging.version import Version

from quotas.backends.kubernetes_projects import PATHS
from quotas.domain.launch import Launch, Mount
from quotas.domain.priorities import Priority
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind
from quotas.domain.terms_kubernetes import Site, job_fields, pod_fields
from quotas.domain.terms_kubernetes_projects import (
    Bounds,
    home_claim_fields,
    limits_fields,
    namespace_fields,
    network_fields,
    project_claim_fields,
    quota_fields,
    reach_of,
    volume_fields,
)
from tests.helm.conftest import CHART, Tools
from tests.helm.schemas import VERSIONS, faults, objects
from tests.helm.test_chart import ALL_SETS

pytestmark = pytest.mark.kubernetes

OTHERS = {"monitoring.coreos.com", "kueue.x-k8s.io"}
"""Kinds whose schema is their operator's: test_kueue.py tries them."""
RUN = "019aa0c5-6c00-7000-8000-000000000001"
PLAIN = Site("mudeung")
WHOLE = replace(
    PLAIN,
    storage_class="fast",
    files_claim="home",
    files_root="/srv/home",
    queue="research",
    cluster_queue="gpus",
    priority_classes=True,
)
CPU = Profile("cpu-small", "CPU 소형", "Small CPU", "mudeung/notebook:1", 1500, 2 * 2**30, 10 * 2**30)
TERMS = {"node_selector": {"pool": "a"}, "tolerations": [{"key": "a", "operator": "Exists"}], "shm_bytes": 2**30}
GPUS = replace(CPU, device_model="h100-mig-3g.71gb", device_count=2, backend_terms={"kubernetes": TERMS})
LAUNCH = Launch(
    RUN, RunKind.NOTEBOOK, "김 kim@example.org", "vision", CPU, (), "/srv/home/projects/vision", {"LANG": "C"}
)
MOUNTS = (Mount("/srv/home/batch/r1", "/mnt/run"), Mount("/srv/home/batch/r1/out", "/mnt/run/out", read_only=False))
BATCH = replace(
    LAUNCH,
    kind=RunKind.BATCH,
    profile=GPUS,
    command=("sh", "-c", "true"),
    mounts=MOUNTS,
    deadline_seconds=600,
    priority=Priority.BORROWED,
    reads_only=True,
)


@pytest.fixture(scope="module")
def rendered(helm: Tools) -> dict[str, dict[str, Any]]:
    """Each object once that the chart makes of any of the value sets, by a name to tell it by."""
    found: dict[str, dict[str, Any]] = {}
    seen: set[str] = set()
    for name, values in ALL_SETS.items():
        for each in objects(helm.template(*values)):
            text = json.dumps(each, sort_keys=True)
            if text not in seen and each["apiVersion"].split("/")[0] not in OTHERS:
                found[f"{name}: {each['kind']} {each['metadata']['name']}"] = each
            seen.add(text)
    return found


def made_at_run_time() -> Iterator[dict[str, Any]]:
    """Yield every kind of object that the platform creates, small and with all that it can have."""
    volume = {"spec": {"capacity": {"storage": "1Ti"}, "nfs": {"server": "nfs.example.org", "path": "/home"}}}
    reach = reach_of(["10.0.0.0/8", "2001:db8::/32"], ["10.1.0.0/16"], True)
    for site in (PLAIN, WHOLE):
        yield namespace_fields("vision", site)
        yield limits_fields("vision", site)
        yield quota_fields("vision", site, Bounds())
        yield quota_fields("vision", site, Bounds(3, 4000, 2**34, {"nvidia.com/gpu": 2, "rebellions.ai/ATOM": 0}))
        yield network_fields("vision", site)
        yield network_fields("vision", site, reach)
        yield network_fields("vision", site, reach_of([], [], False))
        yield project_claim_fields("vision", site, 2**40)
        yield project_claim_fields("vision", site, 2**40, "mudeung-vision-files")
        yield volume_fields("vision", site, volume)
        claim = home_claim_fields(LAUNCH, site)
        assert claim is not None
        yield claim
        yield pod_fields(LAUNCH, site)
        yield pod_fields(replace(LAUNCH, profile=GPUS), site)
        yield job_fields(replace(BATCH, mounts=MOUNTS if site.files_claim else ()), site)
        yield job_fields(replace(BATCH, mounts=(), deadline_seconds=None), site)


def test_every_version_from_the_oldest_that_the_chart_takes_is_tried() -> None:
    oldest = yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"].removeprefix(">=").removesuffix("-0")
    assert oldest == VERSIONS[0]
    minors = [Version(each).minor for each in VERSIONS]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert minors[-1] >= 36


@pytest.mark.parametrize("version", VERSIONS)
def test_an_api_server_of_each_version_takes_what_the_chart_makes(
    rendered: dict[str, dict[str, Any]], version: str
) -> None:
    found = {name: wrong for name, each in rendered.items() if (wrong := faults(version, each))}
    assert found == {}
    assert len(rendered) > 60


@pytest.mark.parametrize("version", VERSIONS)
def test_an_api_server_of_each_version_takes_what_the_platform_makes(version: str) -> None:
    made = list(made_at_run_time())
    assert [(each["kind"], wrong) for each in made if (wrong := faults(version, each))] == []
    assert {each["kind"] for each in made} == {*PATHS, "Pod", "Job"} - {"LocalQueue"}


def _unknown_key(pod: dict[str, Any]) -> None:
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalations"] = False


def _wrong_type(pod: dict[str, Any]) -> None:
    pod["spec"]["terminationGracePeriodSeconds"] = "30"


def _missing(pod: dict[str, Any]) -> None:
    del pod["spec"]["containers"][0]["name"]


def _other_version(pod: dict[str, Any]) -> None:
    pod["apiVersion"] = "v2"


@pytest.mark.parametrize("spoil", [_unknown_key, _wrong_type, _missing, _other_version])
def test_what_no_version_takes_is_found(spoil: Callable[[dict[str, Any]], None]) -> None:
    pod = copy.deepcopy(pod_fields(LAUNCH, WHOLE))
    spoil(pod)
    assert all(faults(version, pod) for version in VERSIONS)


def test_what_a_younger_version_only_takes_is_found() -> None:
    """The schemas are those of their versions and not the same one many times over."""
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": "x"},
        "spec": {},
    }
    assert faults(VERSIONS[0], policy)
    assert faults(VERSIONS[-1], policy) == []


def test_a_key_that_stands_twice_is_found() -> None:
    with pytest.raises(yaml.YAMLError, match="twice"):
        list(objects("kind: A\nspec: {a: 1, b: 2, a: 3}\n"))
