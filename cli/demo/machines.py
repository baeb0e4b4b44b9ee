"""The machines of a cluster on which a demonstration can run: their devices, and whether they have its images."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli.demo.kubectl import Tools
from cli.session import Problem
from quotas.domain.terms_kubernetes import GROUP, USER

MOST_ASKED = 20
"""Machines on which the images are looked for; of a larger cluster, the first of them."""
IMAGE_SECONDS = 600.0
"""How long an image may take to come from a registry."""
TELL_SECONDS = 10.0
POLL_SECONDS = 1.0
MISSING = frozenset({"ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName", "ImageInspectError"})
COMING = frozenset({"ContainerCreating", "PodInitializing", "ErrImagePull"})
PROBE = "images"


@dataclass(frozen=True)
class Machine:
    """A machine that takes pods, with how many of the device in question it has to give."""

    name: str
    devices: int


def machines(nodes: Iterable[Mapping[str, Any]], resource: str | None) -> list[Machine]:
    """Return those of the nodes that are ready and take any pod, or any that asks for the device. Raises Problem."""
    found = [
        Machine(each["metadata"]["name"], int(each["status"].get("allocatable", {}).get(resource or "", 0)))
        for each in nodes
        if _takes_pods(each, resource)
    ]
    if not found:
        raise Problem(
            "cluster: none of its machines is ready and takes pods; see `kubectl get nodes`",
            "cluster: 준비되어 파드를 받는 장비가 없습니다. `kubectl get nodes`를 확인하세요",
        )
    if resource is not None and not any(each.devices for each in found):
        raise Problem(
            f"device: no machine of the cluster offers {resource}; is its device plugin there?"
            " --model names another device, --no-device shows the rest without one",
            f"device: {resource} 자원을 제공하는 장비가 없습니다. 장치 플러그인을 확인하세요."
            " --model로 다른 장치를 지정하거나 --no-device로 장치 없이 시연할 수 있습니다",
        )
    return found


def _takes_pods(node: Mapping[str, Any], resource: str | None) -> bool:
    conditions = {each["type"]: each["status"] for each in node["status"].get("conditions", ())}
    taints = [each for each in node["spec"].get("taints", ()) if each["effect"] != "PreferNoSchedule"]
    return (
        conditions.get("Ready") == "True"
        and not node["spec"].get("unschedulable")
        and all(each["key"] == resource for each in taints)
    )


def require_images(
    tools: Tools,
    namespace: str,
    where: Sequence[Machine],
    images: Iterable[str],
    tell: Callable[[str, str], None],
) -> None:
    """Each of the machines has the images, or could get them, as a pod finds it out. Raises Problem."""
    asked, wanted = where[:MOST_ASKED], sorted(set(images))
    for number, machine in enumerate(asked):
        pod = _probe(f"{PROBE}-{number}", machine.name, wanted)
        tools.kubectl("create", "--namespace", namespace, "--filename", "-", given=json.dumps(pod))
    began = told = time.monotonic()
    while True:
        waits, missing = _look(tools, namespace)
        if missing:
            raise _problem(missing)
        if not waits:
            break
        waited = time.monotonic() - began
        if waited > IMAGE_SECONDS:
            raise Problem(
                f"image: not there after {waited:.0f} s: {', '.join(waits)}",
                f"image: {waited:.0f}초 동안 준비되지 않음: {', '.join(waits)}",
            )
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            tell(
                f"  waiting for images: {', '.join(waits)} … {waited:.0f} s",
                f"  이미지를 기다리는 중: {', '.join(waits)} … {waited:.0f}초",
            )
        time.sleep(POLL_SECONDS)
    names = [f"{PROBE}-{number}" for number in range(len(asked))]
    tools.kubectl("delete", "pod", *names, "--namespace", namespace, "--grace-period=0", "--force")


def _look(tools: Tools, namespace: str) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """Return what is still waited for, and by missing image the machine and the reason."""
    waits: list[str] = []
    missing: dict[str, tuple[str, str]] = {}
    for pod in tools.items("pods", "--namespace", namespace):
        if not pod["metadata"]["name"].startswith(f"{PROBE}-"):
            continue
        machine = pod["spec"]["nodeName"]
        found = {each["name"]: each["state"] for each in pod["status"].get("containerStatuses") or ()}
        for container in pod["spec"]["containers"]:
            state = found.get(container["name"], {"waiting": {"reason": "ContainerCreating"}})
            waiting = state.get("waiting", {})
            reason = waiting.get("reason", "")
            if reason in MISSING:
                missing[container["image"]] = machine, f"{reason}: {waiting.get('message', '')}"
            elif reason in COMING:
                waits.append(f"{container['image']} ({machine})")
    return waits, missing


def _problem(missing: Mapping[str, tuple[str, str]]) -> Problem:
    names = ", ".join(missing)
    machine, reason = next(iter(missing.values()))
    command = 'make demo-kubernetes LOAD="kind load docker-image"'
    return Problem(
        f"image: {names} is not on {machine}, and could not be had ({reason[:300]}). Build and load it first, as in"
        f" `{command}`; for a registry and for k3s see docs/kubernetes/install.md",
        f"image: {machine}에 {names} 이미지가 없고 가져올 수도 없습니다 ({reason[:300]})."
        f" `{command}`처럼 먼저 만들어 올리세요. 레지스트리와 k3s는 docs/kubernetes/install.md 참조",
    )


def _probe(name: str, machine: str, images: Sequence[str]) -> dict[str, Any]:
    """Return a pod that has each of the images begin and end on the machine."""
    rights = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    containers = [
        {
            "name": f"image-{at}",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["true"],
            "securityContext": rights,
        }
        for at, image in enumerate(images)
    ]
    spec = {
        "nodeName": machine,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": GROUP,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
        "containers": containers,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
