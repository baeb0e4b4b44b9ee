"""What a pod's own status says of its run: when it began, when and how it ended. Nothing is asked here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from quotas.domain.launch import RUN_LABEL, Seen
from quotas.domain.terms_kubernetes import CONTAINER, LOST_ANNOTATION, pod_name

Object = Mapping[str, Any]
Known = TypeVar("Known", bound=Object)

ENDED = ("Succeeded", "Failed")
LOST_SECONDS = 30
"""How long after its last moment a pod may still say that it runs before its machine counts as lost."""
KILLED = 137
"""The exit code of what was killed, and of what was never let begin."""


def run_of(found: Object) -> str | None:
    """Return the run of a pod or Job, None for one that only wears the label: a run's has a name of its own."""
    metadata = found["metadata"]
    run_id = (metadata.get("labels") or {}).get(RUN_LABEL)
    name = str(metadata["name"])
    if not run_id or (name != pod_name(run_id) and not name.startswith(f"{pod_name(run_id)}-")):
        return None
    return str(run_id)


def seen_of(pod: Object, now: float) -> Seen | None:
    """Read a run out of its pod.

    One that waits for a machine counts as running that has not begun: it will, unless it is stopped.
    """
    run_id = run_of(pod)
    if run_id is None:
        return None
    status = pod.get("status") or {}
    state = _container_state(status)
    ended = state.get("terminated")
    ref = str(pod["metadata"]["uid"])
    if ended is not None:
        return _terminated(run_id, ref, ended, status)
    started_at = instant((state.get("running") or {}).get("startedAt"))
    over, finished_at = _over(pod, now)
    if not over:
        return Seen(run_id, True, ref, started_at)
    if started_at is not None and finished_at is not None:
        finished_at = max(started_at, finished_at)
    return Seen(run_id, False, ref, started_at, finished_at if started_at is not None else None, KILLED)


def _terminated(run_id: str, ref: str, ended: Object, status: Object) -> Seen:
    """A container that could not be started has neither time; the kubelet then writes the beginning of all time."""
    started_at, finished_at = instant(ended.get("startedAt")), instant(ended.get("finishedAt"))
    if started_at is not None and finished_at is not None:
        finished_at = max(started_at, finished_at)
    return Seen(
        run_id=run_id,
        running=False,
        ref=ref,
        started_at=started_at,
        finished_at=finished_at if started_at is not None else None,
        exit_code=int(ended["exitCode"]),
        out_of_memory=ended.get("reason") == "OOMKilled" or status.get("reason") == "OOMKilled",
    )


def _over(pod: Object, now: float) -> tuple[bool, float | None]:
    """Return whether a pod without a terminated container has ended all the same, and when, if that is known."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    if LOST_ANNOTATION in (metadata.get("annotations") or {}):
        return True, instant(metadata["annotations"][LOST_ANNOTATION])
    if status.get("phase") in ENDED:
        return True, _condition_since(status, "Ready", "False")
    deleted = instant(metadata.get("deletionTimestamp"))
    if deleted is None:
        return False, None
    if not (pod.get("spec") or {}).get("nodeName"):
        return True, None  # no machine will take it any more
    silent_since = _condition_since(status, "Ready", "False")
    taken_away = _reason(status, "DisruptionTarget") in ("DeletionByTaintManager", "DeletionByPodGC")
    if taken_away and silent_since is not None and now > deleted + LOST_SECONDS:
        return True, silent_since
    return False, None


def vanished(at: float, pod: Object) -> Seen | None:
    """Return how a run ended whose pod was taken away by somebody else, and was last heard of `at`."""
    seen = seen_of(pod, at)
    if seen is None or not seen.running:
        return seen
    finished_at = max(seen.started_at, at) if seen.started_at is not None else None
    return replace(seen, running=False, finished_at=finished_at, exit_code=KILLED)


def is_over(pod: Object, now: float) -> bool:
    """Return whether nothing of the pod runs, nor will."""
    seen = seen_of(pod, now)
    return seen is None or not seen.running


def is_of_job(pod: Object) -> bool:
    """Return whether the run's pod was made by a Job, which gives it a name of its own."""
    return bool(pod["metadata"]["name"] != pod_name(str(run_of(pod))))


def is_let_go(pod: Object) -> bool:
    """Return whether the pod is deleted and its machine has nothing of it any more: only a finalizer keeps it."""
    return "deletionTimestamp" in pod["metadata"] and pod["metadata"].get("deletionGracePeriodSeconds") == 0


def own(found: Iterable[Known], now: float) -> Known:
    """Return which of a run's pods, of which there is one at least, tells of it: the first that ended, or the newest.

    A Job that somebody suspends and lets go on has a second pod. What has run does not run again.
    """
    by_age = sorted(found, key=lambda each: (str(each["metadata"]["creationTimestamp"]), _version(each)))
    for each in by_age[:-1]:
        seen = seen_of(each, now)
        if seen is not None and not seen.running and seen.started_at is not None:
            return each
    return by_age[-1]


def _version(found: Object) -> int:
    return int(found["metadata"]["resourceVersion"])


def trouble(pod: Object) -> str:
    """Return why the pod does not come to run, in the cluster's words, or an empty text."""
    status = pod.get("status") or {}
    waiting = _container_state(status).get("waiting") or {}
    if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message") or condition.get("reason") or "")
    ended = _container_state(status).get("terminated") or {}
    return str(ended.get("message") or status.get("message") or "")


def instant(text: object) -> float | None:
    """Read the API's time, of seconds; the beginning of all time, which a kubelet writes for "never", is None."""
    if not isinstance(text, str) or not text:
        return None
    return datetime.fromisoformat(text).timestamp() or None


def _container_state(status: Object) -> Object:
    for each in status.get("containerStatuses") or ():
        if each["name"] == CONTAINER:
            found: Object = each.get("state") or {}
            return found
    return {}


def _condition_since(status: Object, kind: str, value: str) -> float | None:
    for condition in status.get("conditions") or ():
        if condition["type"] == kind and condition["status"] == value:
            return instant(condition.get("lastTransitionTime"))
    return None


def _reason(status: Object, kind: str) -> str:
    for condition in status.get("conditions") or ():
        if condition["type"] == kind and condition["status"] == "True":
            return str(condition.get("reason", ""))
    return ""
