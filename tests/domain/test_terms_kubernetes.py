"""The launch in the terms of Kubernetes: whole values, and that nothing a person sets becomes a right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quotas.domain.launch import Launch, Mount
from quotas.domain.priorities import Priority
from quotas.domain.profiles import Profile
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
from quotas.domain.terms_kubernetes_projects import (
    Bounds,
    Offered,
    Reach,
    bounds,
    home_claim_fields,
    limits_fields,
    namespace_fields,
    network_fields,
    project_claim_fields,
    queue_fields,
    quota_fields,
    reach_of,
    volume_fields,
)
from quotas.domain.units import InvalidValue

RUN = "019aa0c5-6c00-7000-8000-000000000001"
CPU = Profile("cpu-small", "CPU 소형", "Small CPU", "mudeung/notebook:1", 1500, 2 * 2**30, 10 * 2**30)
GPU = replace(CPU, code="h100-2", device_model="h100", device_count=2)
SITE = Site("mudeung")
SHARED = replace(SITE, files_claim="home", files_root="/srv/home")


def launch_of(profile: Profile = CPU, **changes: Any) -> Launch:
    launch = Launch(RUN, RunKind.NOTEBOOK, "kim", "vision", profile, (), "/srv/home/projects/vision", {"LANG": "C"})
    return replace(launch, **changes)


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


def without_sum(found: dict[str, Any]) -> dict[str, Any]:
    assert len(found["metadata"].pop("annotations")["mudeung.sum"]) == 16
    return found


OWN = {"app.kubernetes.io/managed-by": "mudeung", "mudeung.home": "mudeung", "mudeung.project": "vision"}
WITHIN = {"name": "mudeung", "namespace": "mudeung-vision", "labels": OWN}


def test_the_namespace_of_a_project_and_its_limits() -> None:
    restricted = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    assert without_sum(namespace_fields("vision", SITE)) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "mudeung-vision", "labels": {**OWN, **restricted}},
    }
    none = {"services": "0", "count/deployments.apps": "0", "count/statefulsets.apps": "0"}
    bounds = Bounds(3, 1500, 2**30, {"nvidia.com/gpu": 2, "furiosa.ai/rngd": 0})
    assert without_sum(quota_fields("vision", SITE, bounds)) == {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": WITHIN,
        "spec": {
            "hard": {
                **none,
                "pods": "3",
                "requests.cpu": "1500m",
                "requests.memory": str(2**30),
                "requests.furiosa.ai/rngd": "0",
                "requests.nvidia.com/gpu": "2",
            }
        },
    }
    assert quota_fields("vision", SITE, Bounds())["spec"] == {"hard": none}
    (limit,) = limits_fields("vision", SITE)["spec"]["limits"]
    assert limit["type"] == "Container"


def test_the_bounds_hold_whatever_mix_of_profiles_is_admitted() -> None:
    npu = replace(CPU, code="npu", device_model="rngd", device_count=1)
    kinds = [Offered(CPU, 100), Offered(GPU, 1000), Offered(GPU, None, seats=3), Offered(npu, None)]
    found = bounds(kinds, 5500, [CPU, GPU, npu])
    memory = CPU.memory_bytes
    assert found == Bounds(56 + 3, 59 * 1500, 59 * memory, {"nvidia.com/gpu": 12 + 6, "furiosa.ai/rngd": 0})
    for gpus in range(6):
        cpus = (5500 - 1000 * gpus) // 100
        assert cpus + gpus + 3 <= (found.runs or 0)
        assert 2 * gpus + 6 <= found.devices["nvidia.com/gpu"]
    assert bounds([], 10**6, [GPU]) == Bounds(0, 0, 0, {"nvidia.com/gpu": 0})


def test_who_reaches_a_project_s_pods_and_whom_they_reach() -> None:
    platform = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "mudeung"}}}
    outside, mirror = {"ipBlock": {"cidr": "192.0.2.2/32"}}, {"ipBlock": {"cidr": "10.9.0.1/32"}}
    dns = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "203.0.113.0/24"]
    reach = Reach(("192.0.2.2/32",), (8081,), allowed=("10.9.0.1/32",), forbidden=("203.0.113.0/24", "2001:db8::/32"))
    assert without_sum(network_fields("vision", SITE, reach)) == {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": WITHIN,
        "spec": {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [platform, outside], "ports": [{"protocol": "TCP", "port": 8888}]}],
            "egress": [
                {"to": [platform, outside], "ports": [{"protocol": "TCP", "port": 8081}]},
                {"to": [dns], "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
                {
                    "to": [
                        {"ipBlock": {"cidr": "0.0.0.0/0", "except": private}},
                        {"ipBlock": {"cidr": "::/0", "except": ["fc00::/7", "fe80::/10", "2001:db8::/32"]}},
                        mirror,
                    ]
                },
            ],
        },
    }


def beyond(reach: Reach) -> list[dict[str, Any]]:
    """Return whom pods reach outside of the cluster."""
    rules = network_fields("vision", SITE, reach)["spec"]["egress"][2:]
    return [peer["ipBlock"] for rule in rules for peer in rule["to"]]


def test_a_part_of_what_pods_reach_is_kept_from_them() -> None:
    reach = reach_of(["10.0.0.0/8", "2001:db8::/32"], ["10.5.0.0/16", "2001:db8:1::/48", "192.0.2.0/24"], True)
    *internet, four, six = beyond(reach)
    assert [each["except"][-1] for each in internet] == ["192.0.2.0/24", "2001:db8:1::/48"]
    assert four == {"cidr": "10.0.0.0/8", "except": ["10.5.0.0/16"]}
    assert six == {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}


def test_without_the_internet_pods_reach_what_is_named_and_never_everything() -> None:
    assert beyond(reach_of(["10.9.0.1"], [], False)) == [{"cidr": "10.9.0.1/32"}]
    # A rule for nobody in particular is a rule for everybody.
    rules = network_fields("vision", SITE, reach_of([], [], False))["spec"]["egress"]
    assert [bool(rule["to"]) for rule in rules] == [True, True]


@pytest.mark.parametrize(
    ("allowed", "forbidden", "said"),
    [
        (["10.0.0.1/8"], [], "host bits"),
        (["mirror.example.org"], [], "is no network"),
        (["0.0.0.0/0"], [], "every address"),
        ([], ["::/0"], "every address"),
        (["169.254.169.254/32"], [], "overlaps"),
        (["168.0.0.0/6"], [], "overlaps"),
        (["127.0.0.1/32"], [], "overlaps"),
        (["fe80::1"], [], "overlaps"),
        (["10.1.0.0/16"], ["10.0.0.0/8"], "is in kubernetes_unreachable_cidrs"),
        (["10.1.0.0/16"], ["10.1.0.0/16"], "is in kubernetes_unreachable_cidrs"),
    ],
)
def test_what_pods_may_never_reach_is_refused(allowed: list[str], forbidden: list[str], said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        reach_of(allowed, forbidden, True)


def test_the_local_queue_of_a_project() -> None:
    assert without_sum(queue_fields("vision", replace(SITE, queue="research", cluster_queue="gpus"))) == {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "LocalQueue",
        "metadata": {**WITHIN, "name": "research"},
        "spec": {"clusterQueue": "gpus"},
    }


def test_the_claims_of_files() -> None:
    many = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "5"}}}
    own = project_claim_fields("vision", replace(SITE, storage_class="nfs"), 5)
    assert (own["metadata"]["name"], own["spec"]) == ("project", {**many, "storageClassName": "nfs"})
    shared = project_claim_fields("vision", SITE, 5, "v")
    assert shared["spec"] == {**many, "storageClassName": "", "volumeName": "v"}
    home = home_claim_fields(launch_of(), replace(SITE, home_bytes=5))
    assert home is not None
    assert (home["metadata"]["name"], home["spec"]) == ("home-kim", {**many, "accessModes": ["ReadWriteOnce"]})
    assert home_claim_fields(launch_of(kind=RunKind.BATCH), SITE) is None


def test_a_project_s_volume_is_the_platform_s_storage_for_its_claim_alone() -> None:
    source = {"csi": {"driver": "nfs", "volumeHandle": "h"}, "capacity": {"storage": "1Ti"}}
    kept = {"claimRef": {"name": "home"}, "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "nfs"}
    found = volume_fields("vision", SITE, {"spec": {**source, **kept, "accessModes": ["ReadWriteOnce"]}})
    assert found["metadata"]["name"] == "mudeung-vision-files"
    assert found["spec"] == {
        **source,
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": "mudeung-vision", "name": "project"},
    }
