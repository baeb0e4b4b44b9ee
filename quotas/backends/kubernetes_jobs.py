"""What a Job's own status says of its run, where it has no pod: it is told by the pod wherever there is one."""

from __future__ import annotations

from quotas.backends.kubernetes_seen import KILLED, Object, instant, run_of
from quotas.domain.launch import Seen

ENDS = ("Complete", "Failed")


def finished(job: Object) -> bool:
    """Return whether the Job makes no pod any more."""
    return _end(job) is not None or "deletionTimestamp" in job["metadata"]


def seen_of_job(job: Object) -> Seen | None:
    """Read a run out of a Job without a pod: it will have one, or its pod was taken away.

    What it ran then is known to the Job, which counts from when its pod was made.
    """
    run_id = run_of(job)
    if run_id is None:
        return None
    ref = str(job["metadata"]["uid"])
    if not finished(job):
        return Seen(run_id, True, ref)
    status, end = job.get("status") or {}, _end(job)
    succeeded = bool(status.get("succeeded"))
    if end is None or not (succeeded or status.get("failed")):
        return Seen(run_id, False, ref, exit_code=KILLED)
    started_at, ended_at = instant(status.get("startTime")), instant(end.get("lastTransitionTime"))
    return Seen(run_id, False, ref, started_at, ended_at, 0 if succeeded else KILLED)


def _end(job: Object) -> Object | None:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] in ENDS and each["status"] == "True"), None)
