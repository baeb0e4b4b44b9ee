"""A demonstration's platform is taken off the cluster: the release, its namespaces, and what lies in none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cli.demo.kubectl import Tools
from cli.demo.story import Differs
from cli.session import Problem
from quotas.domain.terms_kubernetes import HOME_LABEL

OWN_LABEL = "mudeung.demo"
"""On the namespace of a demonstration: no other is ever removed."""
UNINSTALL_SECONDS = 150.0
GONE_SECONDS = 300.0
TELL_SECONDS = 10.0
POLL_SECONDS = 1.0
TOLD = 300
CLUSTER_KINDS = (
    "clusterroles",
    "clusterrolebindings",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "priorityclasses",
)
"""Kinds of the chart's objects that lie in no namespace."""


def require_own(tools: Tools, namespace: str) -> None:
    """The namespace is a demonstration's, or there is none. Raises Problem."""
    found = tools.items("namespaces", "--field-selector", f"metadata.name={namespace}")
    if any(OWN_LABEL not in (each["metadata"].get("labels") or {}) for each in found):
        raise Problem(
            f"namespace: {namespace} is not of a demonstration; nothing was removed",
            f"namespace: {namespace}은(는) 시연이 만든 것이 아니므로 아무것도 지우지 않았습니다",
        )


def namespaces_of(tools: Tools, namespace: str) -> list[str]:
    """Return which of the platform's namespaces there are: its own, and its projects'."""
    own = tools.items("namespaces", "--field-selector", f"metadata.name={namespace}")
    projects = tools.items("namespaces", "--selector", f"{HOME_LABEL}={namespace}")
    return [str(each["metadata"]["name"]) for each in (*own, *projects)]


def remove(tools: Tools, namespace: str, release: str, tell: Callable[[str, str], None]) -> list[str]:
    """Nothing of the release is on the cluster, nor of what it made; return the volumes that stay, in words.

    A volume of a storage class that retains what it held is the cluster's operator's to give back. What the cluster
    does not do, or does not answer, is asked for again. Raises Differs when something does not go in time, with what.
    """
    removal = _Removal(tools, namespace, release)
    began = told = time.monotonic()
    while True:
        try:
            left = removal.go_on()
        except Differs as differs:
            left = [differs.came]
        if not left:
            return removal.retained
        waited = time.monotonic() - began
        if waited > GONE_SECONDS:
            raise Differs(f"nothing left on the cluster within {GONE_SECONDS:.0f} s", f"{', '.join(left)}")
        if time.monotonic() - told >= TELL_SECONDS:
            told, what = time.monotonic(), ", ".join(left)[:TOLD]
            tell(f"  removing {what} … {waited:.0f} s", f"  지우는 중: {what} … {waited:.0f}초")
        time.sleep(POLL_SECONDS)


@dataclass
class _Removal:
    """One removal, and how far it came."""

    tools: Tools
    namespace: str
    release: str
    volumes: list[str] | None = None
    is_uninstalled: bool = False
    retained: list[str] = field(default_factory=list)

    def go_on(self) -> list[str]:
        """Do what is left to do; return what is not gone yet. Raises Differs where the cluster does not answer."""
        tools, namespace = self.tools, self.namespace
        if self.volumes is None:
            self.volumes = _volumes(tools, namespaces_of(tools, namespace))
        if not self.is_uninstalled:
            words = ("--namespace", namespace, "--ignore-not-found", "--wait", f"--timeout={UNINSTALL_SECONDS:.0f}s")
            done = tools.run("helm", "uninstall", self.release, *words, seconds=UNINSTALL_SECONDS + 30)
            self.is_uninstalled = done.returncode == 0
        # What uninstalling left goes with the namespaces.
        names = namespaces_of(tools, namespace)
        if names:
            tools.kubectl("delete", "namespace", *names, "--ignore-not-found", "--wait=false")
        _let_go(tools, namespace)
        tools.kubectl("delete", "persistentvolumes", "--selector", f"{HOME_LABEL}={namespace}", "--wait=false")
        left = found_of(tools, namespace, self.release, self.volumes)
        if not left:
            self.retained = [f"{_name(each)} ({each['status']['phase']})" for each in _retained(tools, self.volumes)]
        return left


def found_of(tools: Tools, namespace: str, release: str, volumes: list[str]) -> list[str]:
    """Return what of the release, and of the `volumes` that its claims had, is still there and is to go."""
    left = [f"namespace {name}" for name in namespaces_of(tools, namespace)]
    selector = f"app.kubernetes.io/name=mudeung,app.kubernetes.io/instance={release}"
    shared = tools.items(",".join(CLUSTER_KINDS), "--selector", selector)
    left += [
        f"{each['kind']} {each['metadata']['name']}"
        for each in shared
        if each["metadata"].get("annotations", {}).get("meta.helm.sh/release-namespace") == namespace
    ]
    for each in tools.items("persistentvolumes"):
        own = (each["metadata"].get("labels") or {}).get(HOME_LABEL) == namespace
        goes = each["metadata"]["name"] in volumes and each["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        if own or goes:
            left.append(f"volume {each['metadata']['name']}")
    return left


def _volumes(tools: Tools, namespaces: list[str]) -> list[str]:
    """Return the volumes that claims of these namespaces have; not those that claims before them had."""
    found = tools.items("persistentvolumes")
    return [
        str(each["metadata"]["name"])
        for each in found
        if (each["spec"].get("claimRef") or {}).get("namespace") in namespaces and each["status"]["phase"] == "Bound"
    ]


def _retained(tools: Tools, volumes: list[str]) -> list[dict[str, Any]]:
    return [each for each in tools.items("persistentvolumes") if each["metadata"]["name"] in volumes]


def _let_go(tools: Tools, namespace: str) -> None:
    """The finalizer of runs' pods, which their platform would have taken away, keeps none of them any more."""
    for pod in tools.items("pods", "--all-namespaces", "--selector", f"{HOME_LABEL}={namespace}"):
        metadata = pod["metadata"]
        if metadata.get("finalizers"):
            words = ("patch", "pod", metadata["name"], "--namespace", metadata["namespace"])
            tools.run("kubectl", *words, "--type=merge", "--patch", '{"metadata":{"finalizers":null}}')


def _name(found: dict[str, Any]) -> str:
    return str(found["metadata"]["name"])
