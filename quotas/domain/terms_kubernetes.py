"""A launch in the terms of Kubernetes: the pod of a server and the Job of a batch run, as the API server takes them.

Nothing here asks the cluster. What a person can set reaches a pod as the value of a variable, a word of its command or
an annotation; names, labels, volumes and rights are the platform's own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from quotas.domain.launch import RUN_LABEL, RUN_VARIABLE, Launch, Mount
from quotas.domain.placement import placement
from quotas.domain.priorities import PREEMPTIBLE
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind
from quotas.domain.terms_docker import (
    HOME_FOLDER,
    KIND_LABEL,
    PERSON_LABEL,
    PROFILE_LABEL,
    PROJECT_FOLDER,
    PROJECT_LABEL,
)
from quotas.domain.terms_local import not_attachable, thread_variables
from quotas.domain.units import InvalidValue

HOME_LABEL = "mudeung.home"
"""Names the platform by its namespace: several of them may share a cluster, and none may touch another's."""
CONTAINER = "notebook"
PORT = 8888
FINALIZER = "mudeung.home/settled"
"""Keeps a deleted pod's last words until its run is charged: only the platform takes it away."""
LOST_ANNOTATION = "mudeung.lost"
"""On a pod whose machine is gone: when it was last known to run, or an empty text."""

FILES_VOLUME, HOME_VOLUME, MEMORY_VOLUME = "files", "home", "shm"
PROJECT_CLAIM = "project"
USER, GROUP = 1000, 100
"""The user of the notebook image, as in the Jupyter stacks (jovyan, users)."""
GRACE_SECONDS = 30
STARTING_SECONDS = 600
"""A Job's deadline counts from its creation: so long may pass until its pod has a machine and its image."""
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"

NVIDIA = "nvidia.com/gpu"
RESOURCES: Mapping[str, str] = {
    "atom": "rebellions.ai/ATOM",
    "atom-max": "rebellions.ai/ATOM",
    "rebel-quad": "rebellions.ai/REBEL",
    "rngd": "furiosa.ai/rngd",
    "bow": "graphcore.ai/ipu",
}
"""Device model → the extended resource of its maker's plugin. Those of NVIDIA are told by their names; a profile's own
terms win, as the names change between releases of the plugins."""

_SLICE = re.compile(r".+-mig-([0-9a-z.+]+)")
_RESOURCE = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_POD = re.compile(r"mudeung-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:-[a-z0-9]+)?")
"""A Job adds letters of its own to the name of its pod."""
_VISIBLE = "NVIDIA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Site:
    """What is known of the cluster only.

    `namespace` is the platform's own; a project's is `prefix` and its code. With `files_claim`, the claim by which the
    platform itself has its home folder mounted at `files_root`, runs see folders of that volume; without it each
    project has a volume of its own, which the platform does not see. An empty `storage_class` is the cluster's default.
    `queue` is the local queue of Kueue that Jobs are put in, none where it is empty, and `cluster_queue` the one behind
    it where the platform makes it; `priority_classes` whether pods name their class. The sizes are those of the volumes
    that are asked for.
    """

    namespace: str
    prefix: str = "mudeung-"
    storage_class: str = ""
    home_bytes: int = 10 * 2**30
    project_bytes: int = 100 * 2**30
    files_claim: str = ""
    files_root: str = ""
    queue: str = ""
    cluster_queue: str = ""
    priority_classes: bool = False

    def namespace_of(self, project: str) -> str:
        """Return the namespace of a project. Raises InvalidValue where the two make no name."""
        name = f"{self.prefix}{project}"
        if len(name) > 63 or _NAME.fullmatch(name) is None:
            raise InvalidValue("project", f"{name!r:.80} names no namespace", f"{name!r:.80}: 네임스페이스 이름 오류")
        return name


def pod_name(run_id: str) -> str:
    """Return the name of a run's pod or Job: a run has one of its own, so that nothing old is ever started again."""
    return f"mudeung-{run_id}"


def run_of_pod(name: str) -> str | None:
    """Return the run whose pod has the name, or None. Anyone on the cluster may take it: the namespace tells whose."""
    found = _POD.fullmatch(name)
    return None if found is None else found[1]


def slug(text: str) -> str:
    """Return `text` as a part of an object's name; two texts never share one."""
    return _readable(text.lower(), _NAME, re.compile(r"[^a-z0-9]+"), 40, text)


def label_value(text: str) -> str:
    """Return `text` as the value of a label; two texts never share one."""
    return _readable(text, _LABEL, re.compile(r"[^A-Za-z0-9._-]+"), 63, text)


def _readable(text: str, valid: re.Pattern[str], wrong: re.Pattern[str], limit: int, original: str) -> str:
    if text == original and len(text) <= limit and "--" not in text and valid.fullmatch(text):
        return text
    digest = hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    kept = re.sub(r"-{2,}", "-", wrong.sub("-", text))[: limit - len(digest) - 2].strip("-._")
    return f"{kept or 'x'}--{digest}"


def home_claim(person: str) -> str:
    """Return the name of the claim of a person's own files, within the project's namespace."""
    return f"home-{slug(person)}"


def labels(launch: Launch, site: Site) -> dict[str, str]:
    """Return the labels by which the platform knows its pods and Jobs."""
    return {
        RUN_LABEL: launch.run_id,
        HOME_LABEL: site.namespace,
        KIND_LABEL: launch.kind.value,
        PERSON_LABEL: label_value(launch.person),
        PROJECT_LABEL: launch.project,
        PROFILE_LABEL: launch.profile.code,
    }


def resource(launch: Launch) -> str | None:
    """Return the extended resource that the run's devices are, None for a run without. Raises InvalidValue."""
    return None if launch.simulated else resource_of(launch.profile)


def resource_of(profile: Profile) -> str | None:
    """Return the extended resource that a profile's devices are, None for one without. Raises InvalidValue."""
    model = profile.device_model
    if model is None:
        return None
    given = profile.backend_terms.get("kubernetes", {}).get("resource")
    if given is not None and not (isinstance(given, str) and _RESOURCE.fullmatch(given)):
        raise not_attachable(f"{given!r:.60} is no extended resource", f"{given!r:.60}은(는) 확장 자원이 아닙니다")
    part = _SLICE.fullmatch(model)
    named = f"nvidia.com/mig-{part[1].replace('+', '.')}" if part else NVIDIA
    return str(given) if given else RESOURCES.get(model, named)


def pod_fields(launch: Launch, site: Site) -> dict[str, Any]:
    """Return the run's pod. Raises InvalidValue for terms of its profile that no pod can have."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(launch.run_id),
            "namespace": site.namespace_of(launch.project),
            "labels": labels(launch, site),
            "annotations": {PERSON_LABEL: launch.person},
            "finalizers": [FINALIZER],
        },
        "spec": _spec(launch, site),
    }


def with_what_is_added(ours: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pod with what the hub and an operator add to it; where both say something, ours counts.

    What is added may be a command, variables, secrets to pull images with, containers and volumes of other names. It
    changes none of the platform's labels, limits, rights and mounts.
    """
    pod, other = ours["spec"], added.get("spec", {})
    (own,) = pod["containers"]
    theirs, *beside = other.get("containers") or [{}]
    container = {
        **theirs,
        **own,
        "env": _first_by("name", own["env"], theirs.get("env")),
        "volumeMounts": _first_by("mountPath", own["volumeMounts"], theirs.get("volumeMounts")),
    }
    spec = {
        **other,
        **pod,
        "volumes": _first_by("name", pod["volumes"], other.get("volumes")),
        "tolerations": [*pod["tolerations"], *(other.get("tolerations") or ())],
        "nodeSelector": {**(other.get("nodeSelector") or {}), **pod["nodeSelector"]},
        "containers": [container, *beside],
    }
    metadata, extra = ours["metadata"], added.get("metadata", {})
    both = {key: {**(extra.get(key) or {}), **metadata[key]} for key in ("labels", "annotations")}
    return {**ours, "metadata": {**metadata, **both}, "spec": spec}


def _first_by(key: str, first: list[dict[str, Any]], more: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    taken = {each[key] for each in first}
    return [*first, *(each for each in more or () if each[key] not in taken)]


def job_fields(launch: Launch, site: Site) -> dict[str, Any]:
    """Return the Job of a batch run: one pod, tried once. It is made suspended for Kueue, which lets it begin.

    Whether it is tried again is the batch runner's to say, and how long it may take as well; the deadline is for a
    platform that is away.
    """
    pod = pod_fields(launch, site)
    name, own = pod["metadata"]["name"], pod["metadata"]["labels"]
    spec: dict[str, Any] = {
        "parallelism": 1,
        "completions": 1,
        "backoffLimit": 0,
        "suspend": bool(site.queue),
        "podReplacementPolicy": "Failed",
        "template": {
            "metadata": {key: pod["metadata"][key] for key in ("labels", "annotations", "finalizers")},
            "spec": pod["spec"],
        },
    }
    if launch.deadline_seconds is not None:
        spec["activeDeadlineSeconds"] = launch.deadline_seconds + STARTING_SECONDS
    queue = {QUEUE_LABEL: site.queue} if site.queue else {}
    metadata = {"name": name, "namespace": pod["metadata"]["namespace"], "labels": {**own, **queue}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def priority_class(launch: Launch) -> str:
    """Return the class of the pod: what was borrowed gives way, and nothing preempts without the platform's notice."""
    return "mudeung-borrowed" if launch.priority in PREEMPTIBLE else "mudeung-guaranteed"


def _terms(launch: Launch) -> Mapping[str, Any]:
    return launch.profile.backend_terms.get("kubernetes", {})


def _spec(launch: Launch, site: Site) -> dict[str, Any]:
    device = resource(launch)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # The first process then is not the run's own: it takes signals as anywhere, and its orphans are waited for.
        "shareProcessNamespace": True,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": GROUP,
            "fsGroup": GROUP,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **_placed(launch, device),
        "volumes": _volumes(launch),
        "containers": [_container(launch, site, device)],
    }
    if site.priority_classes:
        spec["priorityClassName"] = priority_class(launch)
    return spec


def _container(launch: Launch, site: Site, device: str | None) -> dict[str, Any]:
    profile = launch.profile
    own = {"cpu": f"{profile.cpu_millis}m", "memory": str(profile.memory_bytes)}
    devices = {device: str(profile.device_count)} if device else {}
    words = {"command": [_plain(word) for word in launch.command]} if launch.command else {}
    return {
        "name": CONTAINER,
        "image": profile.image,
        "imagePullPolicy": "IfNotPresent",
        **words,
        "workingDir": HOME_FOLDER if launch.reads_only else PROJECT_FOLDER,
        "env": [{"name": name, "value": _plain(value)} for name, value in environment(launch).items()],
        "resources": {
            "requests": {**own, **devices},
            "limits": {**own, "ephemeral-storage": str(profile.storage_bytes), **devices},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": _mounts(launch, site),
    }


def environment(launch: Launch) -> dict[str, str]:
    """Return the container's environment; the platform's own names win over the launch's.

    The device plugin says which devices are seen. Where NVIDIA's runtime is the machine's default, an image that asks
    for all of them would get them: hence a pod without one says that it has none.
    """
    given = {name: value for name, value in launch.environment.items() if name != _VISIBLE}
    none = {} if (resource(launch) or "").startswith("nvidia.com/") else {_VISIBLE: "void"}
    own = {RUN_VARIABLE: launch.run_id, "HOME": HOME_FOLDER}
    return {**given, **thread_variables(launch.profile.cpu_millis), **own, **none}


def _plain(text: str) -> str:
    """Return a text in which Kubernetes finds no variable to put in."""
    return text.replace("$(", "$$(")


def _placed(launch: Launch, device: str | None) -> dict[str, Any]:
    """Return which machines take the pod. Those with accelerators are kept for who asks for them, by a taint of theirs.

    What the pool says counts before what the profile says.
    """
    profile, pool = placement(_terms(launch)), placement(launch.pool_terms.get("kubernetes", {}))
    own = [{"key": device, "operator": "Exists", "effect": "NoSchedule"}] if device else []
    return {
        "nodeSelector": {**profile.node_selector, **pool.node_selector},
        "tolerations": [*own, *(dict(each) for each in (*profile.tolerations, *pool.tolerations))],
    }


def _shm_bytes(launch: Launch) -> int:
    """The default of 64 MB ends data loaders; half of the memory, of which it is a part, is what a plain Linux has."""
    given = _terms(launch).get("shm_bytes", launch.profile.memory_bytes // 2)
    if isinstance(given, bool) or not isinstance(given, int) or given <= 0:
        raise InvalidValue("shm_bytes", "must be a whole number of bytes above zero", "0보다 큰 바이트 수여야 합니다")
    return given


def _volumes(launch: Launch) -> list[dict[str, Any]]:
    # A batch run begins with an empty home: nothing that a person has set up for themselves changes its outcome.
    notebook = launch.kind is RunKind.NOTEBOOK
    home: dict[str, Any] = {"emptyDir": {}}
    if notebook:
        home = {"persistentVolumeClaim": {"claimName": home_claim(launch.person)}}
    return [
        {"name": HOME_VOLUME, **home},
        {"name": FILES_VOLUME, "persistentVolumeClaim": {"claimName": PROJECT_CLAIM}},
        {"name": MEMORY_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": str(_shm_bytes(launch))}},
    ]


def _mounts(launch: Launch, site: Site) -> list[dict[str, Any]]:
    project = Mount(launch.project_folder, PROJECT_FOLDER, read_only=launch.reads_only)
    return [
        {"name": HOME_VOLUME, "mountPath": HOME_FOLDER},
        *(_mount(each, site, own=each is project) for each in (project, *launch.mounts)),
        {"name": MEMORY_VOLUME, "mountPath": "/dev/shm"},  # noqa: S108 - where every library looks for it
    ]


def _mount(mount: Mount, site: Site, *, own: bool) -> dict[str, Any]:
    terms: dict[str, Any] = {"name": FILES_VOLUME, "mountPath": mount.target, "readOnly": mount.read_only}
    if site.files_claim:
        terms["subPath"] = _below(mount.source, site.files_root)
    elif not own:
        raise InvalidValue(
            "project_folder",
            "each project has a volume of its own, so that a run sees no other files",
            "과제마다 볼륨이 따로 있어 다른 파일을 연결할 수 없습니다",
        )
    return terms


def _below(path: str, root: str) -> str:
    """Return the path below the root. Raises InvalidValue for one elsewhere: a run would see another's files."""
    source, top = PurePosixPath(path), PurePosixPath(root)
    if not root or ".." in source.parts or source == top or not source.is_relative_to(top):
        raise InvalidValue("project_folder", f"{path!r:.200} is not below {root}", f"{path!r:.200}: {root} 밖의 경로")
    return str(source.relative_to(top))
