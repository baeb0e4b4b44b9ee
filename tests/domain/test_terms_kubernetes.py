"""The launch in the terms of Kubernetes: whole values, and that nothing a person sets becomes a right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quotas.domain.launch import Launch, Mount
from quotas.domain.priorities import Priority
from quotas.domain.runs import RunKind
from quotas.domain.terms_kubernetes import (
    Site,
    home_claim,
    job_fields,
    label_value,
    pod_fields,
    resource,
    slug,
    with_what_is_added,
)
from quotas.domain.units import InvalidValue
from tests.domain.launches import CPU, GPU, RUN, SITE, launch_of

SHARED = replace(SITE, files_claim="home", files_root="/srv/home")
LABELS = {
    "mudeung.run": RUN,
    "mudeung.home": "mudeung",
    "mudeung.kind": "notebook",
    "mudeung.person": "kim",
    "mudeung.project": "vision",
    "mudeung.profile": "cpu-small",
}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS")
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": f"mudeung-{RUN}",
        "namespace": "mudeung-vision",
        "labels": LABELS,
        "annotations": {"mudeung.person": "kim"},
        "finalizers": ["mudeung.home/settled"],
    },
    "spec": {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 100,
            "fsGroup": 100,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": {},
        "tolerations": [],
        "volumes": [
            {"name": "home", "persistentVolumeClaim": {"claimName": "home-kim"}},
            {"name": "files", "persistentVolumeClaim": {"claimName": "project"}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(2**30)}},
        ],
        "containers": [
            {
                "name": "notebook",
                "image": "mudeung/notebook:1",
                "imagePullPolicy": "IfNotPresent",
                "workingDir": "/home/jovyan/project",
                "env": [
                    {"name": "LANG", "value": "C"},
                    *({"name": name, "value": "2"} for name in THREADS),
                    {"name": "MUDEUNG_RUN", "value": RUN},
                    {"name": "HOME", "value": "/home/jovyan"},
                    {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"},
                ],
                "resources": {
                    "requests": {"cpu": "1500m", "memory": str(2 * 2**30)},
                    "limits": {"cpu": "1500m", "memory": str(2 * 2**30), "ephemeral-storage": str(10 * 2**30)},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "privileged": False,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "home", "mountPath": "/home/jovyan"},
                    {"name": "files", "mountPath": "/home/jovyan/project", "readOnly": False},
                    {"name": "shm", "mountPath": "/dev/shm"},
                ],
            }
        ],
    },
}


def test_the_pod_of_a_cpu_profile() -> None:
    assert pod_fields(launch_of(), SITE) == POD


def changed(launch: Launch, site: Site = SITE) -> dict[str, Any]:
    """Return what of the pod's specification and its container is other than that of the CPU profile."""
    spec, base = pod_fields(launch, site)["spec"], POD["spec"]
    (container,), (plain,) = spec.pop("containers"), base["containers"]
    of_pod = {key: value for key, value in spec.items() if value != base.get(key)}
    return {**of_pod, **{key: value for key, value in container.items() if value != plain.get(key)}}


def test_the_pod_of_two_gpus_leaves_the_choice_to_the_plugin() -> None:
    given = {"node_selector": {"gpu": "H100"}, "tolerations": [{"key": "team", "operator": "Exists"}], "shm_bytes": 9}
    profile = replace(GPU, backend_terms={"kubernetes": given})
    forged = {"LANG": "C", "NVIDIA_VISIBLE_DEVICES": "all"}
    found = changed(launch_of(profile, environment=forged))
    gpus = {"nvidia.com/gpu": "2"}
    (plain,) = POD["spec"]["containers"]
    assert found == {
        "nodeSelector": {"gpu": "H100"},
        "tolerations": [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "team", "operator": "Exists"},
        ],
        "volumes": [*POD["spec"]["volumes"][:2], {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "9"}}],
        "env": plain["env"][:-1],
        "resources": {
            "requests": {**plain["resources"]["requests"], **gpus},
            "limits": {**plain["resources"]["limits"], **gpus},
        },
    }
    assert changed(launch_of(GPU, simulated=True)) == {}


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("h100", "nvidia.com/gpu"),
        ("an-unknown-gpu", "nvidia.com/gpu"),
        ("h100-mig-1g.10gb", "nvidia.com/mig-1g.10gb"),
        ("a100-mig-1g.10gb+me", "nvidia.com/mig-1g.10gb.me"),
        ("h200-mig-3g.71gb", "nvidia.com/mig-3g.71gb"),
        ("atom", "rebellions.ai/ATOM"),
        ("rngd", "furiosa.ai/rngd"),
        (None, None),
    ],
)
def test_the_resource_of_a_device(model: str | None, expected: str | None) -> None:
    assert resource(launch_of(replace(CPU, device_model=model, device_count=int(model is not None)))) == expected


def test_the_profile_s_own_resource_wins() -> None:
    terms = {"kubernetes": {"resource": "furiosa.ai/rngd-2core.12gb"}}
    assert resource(launch_of(replace(GPU, backend_terms=terms))) == "furiosa.ai/rngd-2core.12gb"


@pytest.mark.parametrize(
    "terms",
    [
        {"resource": "memory"},
        {"resource": 1},
        {"node_selector": ["x"]},
        {"node_selector": {"x": 1}},
        {"tolerations": "all"},
        {"shm_bytes": 0},
        {"shm_bytes": True},
    ],
)
def test_terms_that_are_none_are_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        pod_fields(launch_of(replace(GPU, backend_terms={"kubernetes": terms})), SITE)


def test_the_pool_s_machines_count_before_the_profile_s() -> None:
    profile = {
        "node_selector": {"hall": "cloud", "gpu": "H100"},
        "tolerations": [{"key": "team", "operator": "Exists"}],
    }
    pool = {"node_selector": {"hall": "own"}, "tolerations": [{"key": "hall", "value": "own", "effect": "NoSchedule"}]}
    launch = launch_of(replace(CPU, backend_terms={"kubernetes": profile}), pool_terms={"kubernetes": pool})
    assert changed(launch) == {
        "nodeSelector": {"hall": "own", "gpu": "H100"},
        "tolerations": [*profile["tolerations"], *pool["tolerations"]],
    }


def test_a_reader_and_the_platform_s_own_volume() -> None:
    found = changed(launch_of(reads_only=True), SHARED)
    project = {"name": "files", "mountPath": "/home/jovyan/project", "readOnly": True, "subPath": "projects/vision"}
    assert found == {
        "workingDir": "/home/jovyan",
        "volumeMounts": [
            {"name": "home", "mountPath": "/home/jovyan"},
            project,
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }


@pytest.mark.parametrize("path", ["/etc", "/srv/home", "/srv/home/../etc", "/srv/homes/x", "projects/vision"])
def test_a_folder_that_is_not_the_platform_s_is_no_pod_s(path: str) -> None:
    with pytest.raises(InvalidValue, match="not below"):
        pod_fields(launch_of(project_folder=path), SHARED)
    with pytest.raises(InvalidValue, match="volume of its own"):
        pod_fields(launch_of(mounts=(Mount(path, "/mnt/x"),)), SITE)


def test_the_job_of_a_batch_run() -> None:
    launch = launch_of(kind=RunKind.BATCH, command=("python", "$(HOME)"), deadline_seconds=100)
    pod = pod_fields(launch, SITE)
    assert pod["spec"]["containers"][0]["command"] == ["python", "$$(HOME)"]
    assert pod["spec"]["volumes"][0] == {"name": "home", "emptyDir": {}}
    labels = {**LABELS, "mudeung.kind": "batch"}
    expected = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"mudeung-{RUN}", "namespace": "mudeung-vision", "labels": labels},
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": 0,
            "suspend": False,
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": 700,
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {"mudeung.person": "kim"},
                    "finalizers": ["mudeung.home/settled"],
                },
                "spec": pod["spec"],
            },
        },
    }
    assert job_fields(launch, SITE) == expected
    queued = job_fields(launch, replace(SITE, queue="research"))
    assert queued["spec"]["suspend"] is True
    assert queued["metadata"]["labels"] == {**labels, "kueue.x-k8s.io/queue-name": "research"}
    assert queued["spec"]["template"] == expected["spec"]["template"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        (Priority.RESERVED, "mudeung-guaranteed"),
        (Priority.GUARANTEED, "mudeung-guaranteed"),
        (Priority.BORROWED, "mudeung-borrowed"),
        (Priority.OPPORTUNISTIC, "mudeung-borrowed"),
    ],
)
def test_the_class_follows_from_how_firmly_it_is_held(priority: Priority, expected: str) -> None:
    pod = pod_fields(launch_of(priority=priority), replace(SITE, priority_classes=True))
    assert pod["spec"]["priorityClassName"] == expected


def test_the_launch_cannot_overrule_the_platform() -> None:
    forged = {"MUDEUNG_RUN": "another", "HOME": "/root", "OMP_NUM_THREADS": "900", "X": "$(MUDEUNG_RUN) $X"}
    env = {
        each["name"]: each["value"]
        for each in pod_fields(launch_of(environment=forged), SITE)["spec"]["containers"][0]["env"]
    }
    assert (env["MUDEUNG_RUN"], env["HOME"], env["OMP_NUM_THREADS"]) == (RUN, "/home/jovyan", "2")
    assert env["X"] == "$$(MUDEUNG_RUN) $X"


def test_names_and_labels_are_valid_and_never_shared() -> None:
    people = ["kim", "kim.lee", "kim-lee", "kim_lee", "Kim", "k--l", "김", "a" * 63, "a" * 62 + "b", "kim-", "kim."]
    slugs, values = [slug(each) for each in people], [label_value(each) for each in people]
    assert slugs[0] == values[0] == "kim"
    assert values[1] == "kim.lee"
    assert len(set(slugs)) == len(set(values)) == len(people)
    assert all(len(each) <= 40 for each in slugs)
    assert all(len(each) <= 63 and each[0].isalnum() and each[-1].isalnum() for each in values)
    assert home_claim("kim") == "home-kim"
    with pytest.raises(InvalidValue):
        SITE.namespace_of("x" * 60)
    with pytest.raises(InvalidValue):
        SITE.namespace_of("../kube-system")


def test_what_is_added_changes_nothing_that_is_ours() -> None:
    added = {
        "metadata": {"name": "jupyter-kim", "labels": {"mudeung.run": "another", "team": "x"}, "finalizers": []},
        "spec": {
            "automountServiceAccountToken": True,
            "hostNetwork": False,
            "securityContext": {"runAsUser": 0},
            "imagePullSecrets": [{"name": "registry"}],
            "volumes": [{"name": "files", "hostPath": {"path": "/"}}, {"name": "cache", "emptyDir": {}}],
            "tolerations": [{"key": "a"}],
            "nodeSelector": {"zone": "1"},
            "containers": [
                {
                    "name": "other",
                    "image": "evil/img",
                    "args": ["jupyterhub-singleuser"],
                    "env": [{"name": "HOME", "value": "/root"}, {"name": "JUPYTERHUB_API_TOKEN", "value": "secret"}],
                    "resources": {"limits": {"nvidia.com/gpu": "8"}},
                    "securityContext": {"privileged": True},
                    "volumeMounts": [
                        {"name": "files", "mountPath": "/home/jovyan/project"},
                        {"name": "cache", "mountPath": "/cache"},
                    ],
                },
                {"name": "beside", "image": "x"},
            ],
        },
    }
    (own,) = POD["spec"]["containers"]
    expected = {
        **POD,
        "metadata": {**POD["metadata"], "labels": {**LABELS, "team": "x"}},
        "spec": {
            **POD["spec"],
            "hostNetwork": False,
            "imagePullSecrets": [{"name": "registry"}],
            "volumes": [*POD["spec"]["volumes"], {"name": "cache", "emptyDir": {}}],
            "tolerations": [{"key": "a"}],
            "nodeSelector": {"zone": "1"},
            "containers": [
                {
                    **own,
                    "args": ["jupyterhub-singleuser"],
                    "env": [*own["env"], {"name": "JUPYTERHUB_API_TOKEN", "value": "secret"}],
                    "volumeMounts": [*own["volumeMounts"], {"name": "cache", "mountPath": "/cache"}],
                },
                {"name": "beside", "image": "x"},
            ],
        },
    }
    assert with_what_is_added(POD, added) == expected
    assert with_what_is_added(POD, {}) == POD
