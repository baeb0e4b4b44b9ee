"""What a project has on a cluster before anything of it runs: its namespace, the limits and rules in it, its volumes.

The limits are a second line of defence. The ledger decides what may run; where it were wrong, or somebody else had made
a pod, the cluster itself refuses what no award of the project allows.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from quotas.domain.launch import Launch
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind
from quotas.domain.terms_docker import PROJECT_LABEL
from quotas.domain.terms_kubernetes import HOME_LABEL, PORT, PROJECT_CLAIM, Site, home_claim, resource_of
from quotas.domain.units import InvalidValue

NAME = "mudeung"
"""Each of these objects is the only one of its kind in its namespace."""
MANAGED_LABEL = "app.kubernetes.io/managed-by"
SUM_ANNOTATION = "mudeung.sum"
"""The digest of what the platform made last: an object that was made alike is left alone."""
PLATFORM_PORTS = (8000, 8081, 8082)
"""The proxy, the hub and the portal. The database beside them has another."""
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16")
"""Where other tenants, machines and the metadata of clouds are."""
PRIVATE_V6 = ("fc00::/7", "fe80::/10")
NEVER = ("169.254.0.0/16", "fe80::/10", "127.0.0.0/8", "::1/128")
"""What no setting opens: the metadata of clouds, and machines' own services."""
KUEUE = "kueue.x-k8s.io/v1beta2"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Bounds:
    """The most that a project's runs may have at the same time; None where there is no such limit.

    `devices` maps extended resources to numbers; what is not in it may not be had at all, unless it is None.
    """

    runs: int | None = None
    cpu_millis: int | None = None
    memory_bytes: int | None = None
    devices: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Reach:
    """Whom a project's pods reach, beside DNS and the internet, and who reaches them.

    `platform_addresses` are CIDRs of a platform outside the cluster, `allowed` private ones that pods need, as of a
    mirror of packages; `forbidden` ones beyond the usual that they may not reach. Without `internet` they reach what is
    allowed only, as in a centre without it.
    """

    platform_addresses: tuple[str, ...] = ()
    platform_ports: tuple[int, ...] = PLATFORM_PORTS
    allowed: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    internet: bool = True


EVERYWHERE = Reach()
"""The platform, DNS and the internet."""


@dataclass(frozen=True)
class Offered:
    """A profile that the project may use at this rate, None where it has none, and the seats reserved for it."""

    profile: Profile
    gflops: int | None = None
    seats: int = 0


def bounds(kinds: Iterable[Offered], gflops: int, catalogue: Iterable[Profile]) -> Bounds:
    """Return the most that runs of these kinds can have within `gflops` at once, beside their seats.

    Of each thing as much as the kind takes that has most of it for its rate. Devices of the catalogue that none of the
    kinds has are bounded to none.
    """
    most: dict[str, int] = {name: 0 for profile in catalogue if (name := resource_of(profile)) is not None}
    seats: dict[str, int] = {}
    for kind in kinds:
        runs = gflops // kind.gflops if kind.gflops else 0
        for name, amount in _amounts(kind.profile).items():
            # One more than fit whole: of two kinds together the parts that are left of each can make one.
            most[name] = max(most.get(name, 0), (runs + 1) * amount if runs else 0)
            seats[name] = seats.get(name, 0) + kind.seats * amount
    total = {name: most.get(name, 0) + seats.get(name, 0) for name in (*most, *seats)}
    own = {name: total.pop(name, 0) for name in ("runs", "cpu", "memory")}
    return Bounds(own["runs"], own["cpu"], own["memory"], total)


def _amounts(profile: Profile) -> dict[str, int]:
    device = resource_of(profile)
    devices = {device: profile.device_count} if device is not None else {}
    return {"runs": 1, "cpu": profile.cpu_millis, "memory": profile.memory_bytes, **devices}


def namespace_fields(project: str, site: Site) -> dict[str, Any]:
    """Return the project's namespace, in which only restricted pods are admitted."""
    own = {
        MANAGED_LABEL: "mudeung",
        HOME_LABEL: site.namespace,
        PROJECT_LABEL: project,
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
    }
    return _object("v1", "Namespace", {"name": site.namespace_of(project), "labels": own})


def quota_fields(project: str, site: Site, bounds: Bounds) -> dict[str, Any]:
    """Return the limits of the whole project. Nobody is to have an address or a door of their own."""
    hard: dict[str, str] = {"services": "0", "count/deployments.apps": "0", "count/statefulsets.apps": "0"}
    if bounds.runs is not None:
        hard["pods"] = str(bounds.runs)
    if bounds.cpu_millis is not None:
        hard["requests.cpu"] = f"{bounds.cpu_millis}m"
    if bounds.memory_bytes is not None:
        hard["requests.memory"] = str(bounds.memory_bytes)
    hard |= {f"requests.{name}": str(count) for name, count in sorted(bounds.devices.items())}
    return _object("v1", "ResourceQuota", _within(project, site), spec={"hard": hard})


def limits_fields(project: str, site: Site) -> dict[str, Any]:
    """Return what a container has that does not say how much it needs: next to nothing."""
    least = {"cpu": "10m", "memory": "32Mi"}
    limit = {"type": "Container", "defaultRequest": least, "default": {"cpu": "100m", "memory": "64Mi"}}
    return _object("v1", "LimitRange", _within(project, site), spec={"limits": [limit]})


def network_fields(project: str, site: Site, reach: Reach = EVERYWHERE) -> dict[str, Any]:
    """Return who reaches the project's pods, and whom they reach: the platform both ways, and outwards the internet.

    Neither another pod, of the same project either, nor a machine, nor the metadata of a cloud.
    """
    platform: list[dict[str, Any]] = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": site.namespace}}},
        *({"ipBlock": {"cidr": address}} for address in reach.platform_addresses),
    ]
    dns = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    beyond = _beyond(reach)
    spec = {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": platform, "ports": [{"protocol": "TCP", "port": PORT}]}],
        "egress": [
            {"to": platform, "ports": [{"protocol": "TCP", "port": port} for port in reach.platform_ports]},
            {"to": [dns], "ports": [{"protocol": name, "port": 53} for name in ("UDP", "TCP")]},
            # A rule that names nobody would be one for everybody.
            *([{"to": beyond}] if beyond else []),
        ],
    }
    return _object("networking.k8s.io/v1", "NetworkPolicy", _within(project, site), spec=spec)


def _beyond(reach: Reach) -> list[dict[str, Any]]:
    """Return whom pods reach outside the cluster."""
    found: list[dict[str, Any]] = []
    if reach.internet:
        forbidden = list(dict.fromkeys([*PRIVATE, *PRIVATE_V6, *reach.forbidden]))
        found = [
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": [each for each in forbidden if ":" not in each]}},
            {"ipBlock": {"cidr": "::/0", "except": [each for each in forbidden if ":" in each]}},
        ]
    for each in reach.allowed:
        inner = [other for other in reach.forbidden if _within_network(_network(other), _network(each))]
        found.append({"ipBlock": {"cidr": each, **({"except": inner} if inner else {})}})
    return found


def reach_of(allowed: Iterable[str], forbidden: Iterable[str], internet: bool) -> Reach:
    """Return whom pods reach by an operator's settings, each address once and as the API server writes it.

    Raises InvalidValue for what is no network, for one that would open everything or what nothing may, and for one that
    is both allowed and forbidden.
    """
    opened = _networks("kubernetes_reachable_cidrs", allowed)
    closed = _networks("kubernetes_unreachable_cidrs", forbidden)
    for each in opened:
        if any(each.version == other.version and each.overlaps(other) for other in map(_network, NEVER)):
            raise _no_address(
                "kubernetes_reachable_cidrs", each, f"overlaps one of {', '.join(NEVER)}", "열 수 없는 주소"
            )
        if any(_within_network(each, other) for other in closed):
            raise _no_address(
                "kubernetes_reachable_cidrs", each, "is in kubernetes_unreachable_cidrs", "막힌 주소와 겹침"
            )
    return Reach(allowed=tuple(map(str, opened)), forbidden=tuple(map(str, closed)), internet=internet)


def _networks(field: str, texts: Iterable[str]) -> list[Network]:
    found: dict[Network, None] = {}
    for text in texts:
        try:
            each = _network(text)
        except ValueError as error:
            raise _no_address(field, text, f"is no network: {error}", "네트워크 주소가 아님") from None
        if each.prefixlen == 0:
            raise _no_address(field, text, "is every address", "모든 주소")
        found[each] = None
    return list(found)


def _network(text: str) -> Network:
    return ipaddress.ip_network(text)


def _within_network(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and outer.supernet_of(inner)  # type: ignore[arg-type]


def _no_address(field: str, value: object, message_en: str, message_ko: str) -> InvalidValue:
    return InvalidValue(field, f"{value!s:.60} {message_en}", f"{value!s:.60}: {message_ko}")


def queue_fields(project: str, site: Site) -> dict[str, Any]:
    """Return the local queue of Kueue by which the project's Jobs come to the cluster queue."""
    metadata = {**_within(project, site), "name": site.queue}
    return _object(KUEUE, "LocalQueue", metadata, spec={"clusterQueue": site.cluster_queue})


def project_claim_fields(project: str, site: Site, size_bytes: int, volume: str = "") -> dict[str, Any]:
    """Return the claim of the project's files; of `volume`, when they lie on the platform's own."""
    metadata = {**_within(project, site), "name": PROJECT_CLAIM}
    if volume:
        return _claim(metadata, size_bytes, {"storageClassName": "", "volumeName": volume})
    return _claim(metadata, size_bytes, _class(site))


def home_claim_fields(launch: Launch, site: Site) -> dict[str, Any] | None:
    """Return the claim of the person's own files within the project; None for a run that has none."""
    if launch.kind is not RunKind.NOTEBOOK:
        return None
    metadata = {**_within(launch.project, site), "name": home_claim(launch.person)}
    # A person has one server on a project: any storage will do, as that of a single machine.
    return _claim(metadata, site.home_bytes, _class(site), "ReadWriteOnce")


def volume_name(project: str, site: Site) -> str:
    """Return the name of the volume by which a project sees its part of the platform's own."""
    return f"{site.namespace_of(project)}-files"


def volume_fields(project: str, site: Site, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a volume that is the same storage as `own`, the platform's, for the project's claim and no other.

    It is kept when the claim goes: the storage is not the project's to give back.
    """
    left_out = ("claimRef", "persistentVolumeReclaimPolicy", "storageClassName", "accessModes")
    spec = {
        **{key: value for key, value in own["spec"].items() if key not in left_out},
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": site.namespace_of(project), "name": PROJECT_CLAIM},
    }
    metadata = {"name": volume_name(project, site), "labels": _labels(project, site)}
    return _object("v1", "PersistentVolume", metadata, spec=spec)


def _labels(project: str, site: Site) -> dict[str, str]:
    return {MANAGED_LABEL: "mudeung", HOME_LABEL: site.namespace, PROJECT_LABEL: project}


def _within(project: str, site: Site) -> dict[str, Any]:
    return {"name": NAME, "namespace": site.namespace_of(project), "labels": _labels(project, site)}


def _class(site: Site) -> dict[str, str]:
    return {"storageClassName": site.storage_class} if site.storage_class else {}


def _claim(
    metadata: dict[str, Any], size_bytes: int, more: Mapping[str, str], mode: str = "ReadWriteMany"
) -> dict[str, Any]:
    size = {"requests": {"storage": str(size_bytes)}}
    spec = {"accessModes": [mode], "resources": size, **more}
    return _object("v1", "PersistentVolumeClaim", metadata, spec=spec)


def _object(version: str, kind: str, metadata: Mapping[str, Any], **rest: Any) -> dict[str, Any]:
    """Return the object with its digest, by which one that was made by an older platform is known."""
    digest = hashlib.sha256(json.dumps([metadata, rest], sort_keys=True).encode()).hexdigest()[:16]
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {**metadata, "annotations": {SUM_ANNOTATION: digest}},
        **rest,
    }
