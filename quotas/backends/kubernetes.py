"""The Kubernetes backend: a server is a pod of its own, a batch run a Job with one pod, each known by the run's UUID.

Only the API server's 404 means that something is not there. One that is away, answers 5xx, or no longer knows the
platform (401, 403) raises BackendAway, as nothing may be concluded from it. A pod that is deleted, by whomever, keeps
its status until its run is charged: it has a finalizer that only :meth:`KubernetesBackend.remove` takes away.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quotas.backends.kubernetes_api import STRATEGIC, Api, ApiRefused, Gone, Object
from quotas.backends.kubernetes_jobs import finished, seen_of_job
from quotas.backends.kubernetes_projects import Projects
from quotas.backends.kubernetes_seen import (
    instant,
    is_let_go,
    is_of_job,
    is_over,
    own,
    run_of,
    seen_of,
    trouble,
    vanished,
)
from quotas.backends.kubernetes_watch import Followed
from quotas.backends.port import BackendAway
from quotas.domain.launch import RUN_LABEL, Launch, Seen
from quotas.domain.runs import RunKind
from quotas.domain.terms_kubernetes import (
    CONTAINER,
    FINALIZER,
    HOME_LABEL,
    LOST_ANNOTATION,
    Site,
    job_fields,
    pod_fields,
)
from quotas.domain.terms_kubernetes_projects import EVERYWHERE, Bounds, Reach
from quotas.domain.units import InvalidValue

log = logging.getLogger("mudeung.kubernetes")

PODS, JOBS = "/api/v1/pods", "/apis/batch/v1/jobs"
KILL_SECONDS = 20.0
"""How long after its grace a pod may take to end, its machine's word included."""
CONFLICTS = 6
"""How often what another writer overtook is tried: the count of a quota is one object for the whole namespace."""
COUNTS_UNKNOWN = "status unknown for quota"
COUNTINGS = 14
"""How often is tried what the cluster refuses until it has counted a new quota, all together for about 20 seconds: a
cluster in which many projects begin at once takes its time."""
LONGEST_PAUSE_SECONDS = 2.0
LOOK_SECONDS = 1.0
"""How often a run that is being ended is looked at, beside what the watch hears of it."""
CLEARED_AWAY = b"unable to retrieve container logs for "
"""What a machine says in place of a log that it has no more."""
TAIL_BYTES = 64 * 2**10
TAILS = 500


@dataclass(frozen=True)
class Whereabouts:
    """Where a pod answers, once it has an address; `trouble` is why it does not come to run, in the cluster's words."""

    address: str
    trouble: str


class KubernetesBackend:
    """Runs as pods and Jobs of the cluster that ``KUBECONFIG`` or the own service account names.

    They are those of the platform in `site`'s namespace. Nothing is asked of the cluster before the first call.
    """

    name = "kubernetes"
    chooses_devices = True

    def __init__(self, site: Site, reach: Reach = EVERYWHERE, call_seconds: float = 15) -> None:
        self.site = site
        self.api = Api(call_seconds)
        self.projects = Projects(self.api, site, reach)
        selector = f"{HOME_LABEL}={site.namespace},{RUN_LABEL}"
        self.pods = Followed(self.api, PODS, selector)
        self.jobs = Followed(self.api, JOBS, selector)
        self._tails: dict[str, bytes] = {}
        self._tails_lock = threading.Lock()

    # The port.

    def list_runs(self) -> list[Seen]:
        """Return every run of this platform with a pod or Job here, as the watch knows them while it is fresh."""
        now = time.time()
        # Both are asked, as each is followed from then on.
        fresh = [each.fresh() for each in (self.jobs, self.pods)]
        # Jobs first: a pod that a Job makes in between is then seen, and not a Job without one.
        jobs = self.jobs.all() if all(fresh) else self.jobs.list()
        pods = self.pods.all() if all(fresh) else self.pods.list()
        found = {seen.run_id: seen for job in jobs if (seen := seen_of_job(job))}
        of_run: dict[str | None, list[Object]] = {}
        for pod in pods:
            of_run.setdefault(run_of(pod), []).append(pod)
        found |= {seen.run_id: seen for each in of_run.values() if (seen := seen_of(own(each, now), now))}
        return list(found.values())

    def inspect(self, run_id: str) -> Seen | None:
        """Return what is known of the run, None when the API server says that there is nothing of it."""
        now = time.time()
        fresh = self.pods.fresh()
        known = self.pods.of(run_id)
        if fresh and known is not None:
            return seen_of(known, now)
        pods = self.pods.list(run_id)
        if pods:
            return seen_of(own(pods, now), now)
        job = _newest(self.jobs.list(run_id))
        gone = self.pods.gone(run_id)
        if gone is not None:
            return vanished(*gone)
        return seen_of_job(job) if job is not None else None

    def launch(self, launch: Launch) -> Seen:
        """Create the run's pod or Job; it begins when the cluster has room. A second call finds the first one's.

        Raises InvalidValue for what the cluster refuses: a limit of the project's namespace, or terms of the profile.
        """
        if launch.kind is RunKind.NOTEBOOK:
            return self.launch_pod(launch, pod_fields(launch, self.site))
        fields = job_fields(launch, self.site)
        if self.pods.list(launch.run_id):  # its Job may be gone already: what has run does not run again
            seen = self.inspect(launch.run_id)
        else:
            seen = seen_of_job(self._create(launch, "/apis/batch/v1", "jobs", fields, self.jobs))
            seen = self.inspect(launch.run_id) or seen
        if seen is None:
            raise BackendAway(f"kubernetes: the Job of {launch.run_id} vanished")
        return seen

    def launch_pod(self, launch: Launch, pod: Mapping[str, Any]) -> Seen:
        """Create the run's pod as `pod` says, for whoever adds to its terms. Raises InvalidValue as `launch` does."""
        made = self._create(launch, "/api/v1", "pods", pod, self.pods)
        seen = seen_of(made, time.time())
        if seen is None:
            raise BackendAway(f"kubernetes: another pod has the name {pod['metadata']['name']}")
        return seen

    def stop(self, run_id: str, grace_seconds: int) -> None:
        """End the run: SIGTERM, after the grace SIGKILL. Raises BackendAway while a machine does not say it has ended.

        A pod whose machine is lost counts as ended, and is deleted without its word.
        """
        # Without its Job nothing makes another pod; the one that there is stays, as it is to be asked how it ended.
        for job in self._jobs_of(run_id):
            if not finished(job) and "deletionTimestamp" not in job["metadata"]:
                self.api.delete(_path(job, "/apis/batch/v1", "jobs"), propagationPolicy="Orphan")
        changed = threading.Event()
        with self.pods.telling(run_id, changed.set):
            for pod in self._ended(run_id, grace_seconds, changed):
                self._keep_tail(run_id, pod)

    def _ended(self, run_id: str, grace_seconds: int, changed: threading.Event) -> list[Object]:
        """Return the run's pods once all of them have ended, as they are told to."""
        deadline = time.monotonic() + grace_seconds + KILL_SECONDS
        asked: set[str] = set()
        pause = 0.1
        while True:
            changed.clear()
            pods = self.pods.list(run_id)
            left = [pod for pod in pods if not is_over(pod, time.time())]
            if not left:
                return pods
            for pod in left:
                uid = pod["metadata"]["uid"]
                self._keep_tail(run_id, pod)
                if uid not in asked:
                    grace = {"gracePeriodSeconds": max(grace_seconds, 1)}
                    self.api.delete(_path(pod, "/api/v1", "pods"), preconditions={"uid": uid}, **grace)
                    asked.add(uid)
                elif time.monotonic() > deadline - KILL_SECONDS / 2:
                    self._give_up_if_lost(pod)
            if time.monotonic() > deadline:
                raise BackendAway(f"kubernetes: the pod of {run_id} does not end")
            self._until_heard_of_the_end(run_id, changed, LOOK_SECONDS if self.pods.fresh() else pause)
            pause = min(pause * 1.5, LOOK_SECONDS)

    def _until_heard_of_the_end(self, run_id: str, changed: threading.Event, seconds: float) -> None:
        """The watch has heard that the run's pod has ended, or the time is over; what else it hears asks nothing."""
        until = time.monotonic() + seconds
        while changed.wait(max(until - time.monotonic(), 0)):
            changed.clear()
            known = self.pods.of(run_id)
            if known is None or is_over(known, time.time()):
                return

    def _jobs_of(self, run_id: str) -> list[Object]:
        """Return the run's Job, where it can have one: the pod of a server is nobody's."""
        known = self.pods.of(run_id)
        return self.jobs.list(run_id) if known is None or is_of_job(known) else []

    def remove(self, run_id: str) -> None:
        """Forget an ended run: its pod and its Job are gone. Raises ValueError for a running one."""
        pods, jobs = self.pods.list(run_id), self._jobs_of(run_id)
        now = time.time()
        if not is_over(own(pods, now), now) if pods else any(not finished(job) for job in jobs):
            raise ValueError(f"run {run_id} is running")
        for job in jobs:
            self.api.delete(_path(job, "/apis/batch/v1", "jobs"), propagationPolicy="Background")
        for pod in pods:
            path = _path(pod, "/api/v1", "pods")
            if not is_let_go(pod):
                self.api.delete(path, gracePeriodSeconds=0, preconditions={"uid": pod["metadata"]["uid"]})
            with contextlib.suppress(Gone):
                self.api.patch(path, {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}, STRATEGIC)
        self.pods.forget(run_id)
        self.jobs.forget(run_id)
        with self._tails_lock:
            self._tails.pop(run_id, None)

    def log(self, run_id: str, limit_bytes: int) -> str:
        """Return the last `limit_bytes` that the run printed; for one that never began, the cluster's reason."""
        if limit_bytes <= 0:
            return ""
        pods = self.pods.list(run_id)
        pod = own(pods, time.time()) if pods else None
        with self._tails_lock:
            kept = self._tails.get(run_id, b"")
        printed = self._printed(pod, limit_bytes) if pod is not None else b""
        found = (printed or kept)[-limit_bytes:].decode("utf-8", "replace")
        return found or (trouble(pod)[-limit_bytes:] if pod is not None else "")

    def holders(self, uuids: Sequence[str]) -> tuple[str, ...]:
        """Return nothing: the cluster's plugins choose the devices of a pod, and give none of them twice."""
        del uuids
        return ()

    def lacks(self, run_id: str, paths: Sequence[str]) -> tuple[str, ...]:
        """Return nothing: a device that fails is its plugin's to find, and the pod's status to tell."""
        del run_id, paths
        return ()

    # What servers need beside it.

    def whereabouts(self, run_id: str) -> Whereabouts | None:
        """Return where the run's pod answers, None when there is none. The watch is asked while it is fresh."""
        known = self.pods.of(run_id) if self.pods.fresh() else None
        pod = known or _newest(self.pods.list(run_id))
        if pod is None:
            return None
        return _whereabouts(pod)

    def heard_of(self, run_id: str) -> Seen | None:
        """Return what the watch last heard of the run; None while it is not fresh. Nothing is asked for it."""
        known = self.pods.of(run_id) if self.pods.fresh() else None
        return seen_of(known, time.time()) if known is not None else None

    def heard_at(self, run_id: str) -> Whereabouts | None:
        """Return where the watch last heard that the run's pod is. Nothing is asked for it."""
        known = self.pods.of(run_id)
        return _whereabouts(known) if known is not None else None

    def telling(self, run_id: str, call: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
        """Within, `call` is called, by another thread, when what the watch knows of the run's pod has changed."""
        return self.pods.telling(run_id, call)

    def ensure_project(self, project: str, bounds: Bounds | None = None) -> None:
        """The project has its namespace, with its limits, rules and files. Raises InvalidValue, BackendAway."""
        with _told():
            self.projects.ensure(project, bounds)

    def close(self) -> None:
        """Nothing is followed any more, and the connections are given back."""
        self.pods.close()
        self.jobs.close()
        self.api.close()

    # Steps.

    def _create(self, launch: Launch, version: str, kind: str, fields: Mapping[str, Any], followed: Followed) -> Object:
        """Return what was created, or was there under its name."""
        namespace = self.site.namespace_of(launch.project)
        folder = f"{version}/namespaces/{namespace}/{kind}"
        for attempt in range(COUNTINGS):
            try:
                self.projects.ensure(launch.project)
                self.projects.ensure_home(launch)
                if followed is self.jobs:
                    self.projects.ensure_queue(launch.project)
                made = self.api.post(folder, fields)
            except ApiRefused as refused:
                if refused.reason == "AlreadyExists":
                    made = self.api.get(f"{folder}/{fields['metadata']['name']}")
                elif attempt + 1 < _tries(refused):
                    if refused.status == 404:  # the namespace went behind our back
                        self.projects.forget(launch.project)
                    time.sleep(min(0.05 * 2**attempt, LONGEST_PAUSE_SECONDS))
                    continue
                else:
                    raise _cannot(refused) from refused
            followed.note(made)
            return made
        raise BackendAway(f"kubernetes: {fields['metadata']['name']} could not be created")

    def _printed(self, pod: Object, limit_bytes: int) -> bytes:
        path = f"{_path(pod, '/api/v1', 'pods')}/log"
        try:
            # A line has a byte at least, so that so many lines hold the last bytes; the kubelet limits the log itself.
            printed = self.api.text(path, container=CONTAINER, tailLines=str(limit_bytes))
            return b"" if printed.startswith(CLEARED_AWAY) else printed[-limit_bytes:]
        except ApiRefused:  # it has not begun, or its machine has cleared it away
            return b""

    def _keep_tail(self, run_id: str, pod: Object) -> None:
        """What the pod printed stays known: its machine forgets it soon after the pod was deleted."""
        try:
            printed = self._printed(pod, TAIL_BYTES)
        except BackendAway as away:
            log.warning("what run %s printed is not known: %s", run_id, away)
            return
        with self._tails_lock:
            if printed:
                self._tails[run_id] = printed
            while len(self._tails) > TAILS:
                del self._tails[next(iter(self._tails))]

    def _give_up_if_lost(self, pod: Object) -> None:
        """A pod whose machine is gone, or has been silent for long, is marked as ended when it was last heard of."""
        node = pod["spec"].get("nodeName")
        found = self.api.find(f"/api/v1/nodes/{node}") if node else None
        ready: dict[str, Any] = {}
        for condition in (found or {}).get("status", {}).get("conditions", ()):
            if condition["type"] == "Ready":
                ready = condition
        if found is not None and ready.get("status") != "Unknown":
            return
        log.warning("the machine %s is lost, and pod %s with it", node, pod["metadata"]["name"])
        at = str(ready.get("lastTransitionTime") or "") if instant(ready.get("lastTransitionTime")) else ""
        path = _path(pod, "/api/v1", "pods")
        self.api.patch(path, {"metadata": {"annotations": {LOST_ANNOTATION: at}}})
        self.api.delete(path, gracePeriodSeconds=0, preconditions={"uid": pod["metadata"]["uid"]})


class _told:  # noqa: N801 - reads as a word where it is used
    """Raises InvalidValue for what the API server refuses."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ApiRefused):
            raise _cannot(error) from error


def _tries(refused: ApiRefused) -> int:
    """Return how often in all to try what was refused so: once what a second time would be refused alike."""
    if COUNTS_UNKNOWN in refused.message:
        return COUNTINGS
    return CONFLICTS if refused.status in (404, 409) else 1


def _cannot(refused: ApiRefused) -> InvalidValue:
    """Return what to say of an object that the cluster refuses; a quota's word names what is used and allowed."""
    text = refused.message[:400]
    return InvalidValue("profile", f"the cluster refuses it: {text}", f"클러스터가 거부했습니다: {text}")


def _whereabouts(pod: Object) -> Whereabouts:
    return Whereabouts(str((pod.get("status") or {}).get("podIP") or ""), trouble(pod))


def _newest(found: Sequence[Object]) -> Object | None:
    created: Callable[[Object], str] = lambda each: str(each["metadata"]["creationTimestamp"])  # noqa: E731
    return max(found, key=created, default=None)


def _path(found: Object, version: str, kind: str) -> str:
    return f"{version}/namespaces/{found['metadata']['namespace']}/{kind}/{found['metadata']['name']}"
