"""A demonstration's platform is taken off the cluster: the release, its namespaces, and what lies in none."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cli.demo.kubectl import Tools
from cli.demo.story import Differs
from cli.session import Problem
from quotas.domain.terms_kubernetes import HOME_LABEL

OWN_LABEL = "mudeung.demo"
"""On the namespace of a demonstration: no other is ever removed."""
UNINSTALL_SECONDS = 150.0
GONE_SECONDS = 180.0
TELL_SECONDS = 10.0
POLL_SECONDS = 1.0
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

    A volume of a storage class that retains what it held is the cluster's operator's to give back. Raises Differs
    when something does not go in time, with what it is.
    """
    volumes = _volumes(tools, namespaces_of(tools, namespace))
    words = ("--namespace", namespace, "--ignore-not-found", "--wait", f"--timeout={UNINSTALL_SECONDS:.0f}s")
    gone = tools.run("helm", "uninstall", release, *words, seconds=UNINSTALL_SECONDS + 30)
    # What uninstalling left, if anything, goes with the namespaces; what is no part of one is looked for below.
    names = namespaces_of(tools, namespace)
    if names:
        tools.kubectl("delete", "namespace", *names, "--ignore-not-found", "--wait=false")
    began = told = time.monotonic()
    while True:
        _let_go(tools, namespace)
        tools.kubectl("delete", "persistentvolumes", "--selector", f"{HOME_LABEL}={namespace}", "--wait=false")
        left = found_of(tools, namespace, release, volumes)
        if not left:
            break
        waited = time.monotonic() - began
        if waited > GONE_SECONDS:
            why = f" (helm uninstall: {gone.stderr.strip()})" if gone.returncode else ""
            raise Differs(f"nothing left on the cluster within {GONE_SECONDS:.0f} s", f"{', '.join(left)}{why}")
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            tell(f"  removing {', '.join(left)} … {waited:.0f} s", f"  {', '.join(left)} 지우는 중 … {waited:.0f}초")
        time.sleep(POLL_SECONDS)
    return [f"{each['metadata']['name']} ({each['status']['phase']})" for each in _retained(tools, volumes)]


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
