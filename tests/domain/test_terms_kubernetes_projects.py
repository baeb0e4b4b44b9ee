"""A project's namespace in the terms of Kubernetes: its limits, whom its pods reach, its files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quotas.domain.runs import RunKind
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
from tests.domain.launches import CPU, GPU, SITE, launch_of


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
