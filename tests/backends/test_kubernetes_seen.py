"""What a pod's or a Job's status says of its run: a table of cases, as kubelets and controllers write them."""

from __future__ import annotations

from typing import Any

import pytest

from quotas.backends.kubernetes_jobs import seen_of_job
from quotas.backends.kubernetes_seen import instant, is_let_go, is_of_job, seen_of, trouble, vanished
from quotas.domain.launch import Seen

RUN = "019aa0c5-6c00-7000-8000-000000000001"
BEGAN, ENDED, LATER = "2026-03-01T00:00:00Z", "2026-03-01T01:00:00Z", "2026-03-01T02:00:00Z"
AT, END, NOW = 1772323200.0, 1772326800.0, 1772330400.0


def pod(
    state: dict[str, Any] | None = None, node: str = "n", *, status: dict[str, Any] | None = None, **metadata: Any
) -> dict[str, Any]:
    statuses = [{"name": "notebook", "state": state}] if state is not None else []
    named = {"name": f"mudeung-{RUN}", "uid": "u", "labels": {"mudeung.run": RUN}, **metadata}
    return {
        "metadata": named,
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": "Running", "containerStatuses": statuses, **(status or {})},
    }


def done(exit_code: int, reason: str = "Error", began: str | None = BEGAN, ended: str | None = ENDED) -> dict[str, Any]:
    return {"terminated": {"exitCode": exit_code, "reason": reason, "startedAt": began, "finishedAt": ended}}


RUNNING = {"running": {"startedAt": BEGAN}}
NOT_READY = {"type": "Ready", "status": "False", "lastTransitionTime": ENDED}
TAKEN = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pod(status={"phase": "Pending"}, node=""), Seen(RUN, True, "u")),
        (pod({"waiting": {"reason": "ContainerCreating"}}), Seen(RUN, True, "u")),
        (pod(RUNNING), Seen(RUN, True, "u", AT)),
        (pod(done(0)), Seen(RUN, False, "u", AT, END, 0)),
        (pod(done(137, "OOMKilled")), Seen(RUN, False, "u", AT, END, 137, out_of_memory=True)),
        (pod(done(7, began=ENDED, ended=BEGAN)), Seen(RUN, False, "u", END, END, 7)),
        # It could not be started: the kubelet writes the beginning of all time.
        (pod(done(128, "StartError", "1970-01-01T00:00:00Z")), Seen(RUN, False, "u", None, None, 128)),
        # Deleted and still ending.
        (pod(RUNNING, deletionTimestamp=ENDED), Seen(RUN, True, "u", AT)),
        # Deleted before a machine took it.
        (pod(node="", deletionTimestamp=ENDED), Seen(RUN, False, "u", None, None, 137)),
        # Evicted, its container's end never told.
        (pod(RUNNING, status={"phase": "Failed", "conditions": [NOT_READY]}), Seen(RUN, False, "u", AT, END, 137)),
        (pod(RUNNING, status={"phase": "Failed"}), Seen(RUN, False, "u", AT, None, 137)),
        # Its machine is silent: the cluster has taken it away, and nobody says that it has ended.
        (
            pod(RUNNING, deletionTimestamp=ENDED, status={"conditions": [NOT_READY, TAKEN]}),
            Seen(RUN, False, "u", AT, END, 137),
        ),
        (
            pod(RUNNING, deletionTimestamp=LATER, status={"conditions": [NOT_READY, TAKEN]}),
            Seen(RUN, True, "u", AT),
        ),
        # Given up by a stop.
        (pod(RUNNING, annotations={"mudeung.lost": ENDED}), Seen(RUN, False, "u", AT, END, 137)),
        (pod(RUNNING, annotations={"mudeung.lost": ""}), Seen(RUN, False, "u", AT, None, 137)),
        # One that only wears the label.
        (pod(RUNNING, name="mudeung-another"), None),
        (pod(RUNNING, labels={}), None),
    ],
)
def test_a_pod_s_run(found: dict[str, Any], expected: Seen | None) -> None:
    assert seen_of(found, NOW) == expected


def test_a_pod_that_vanished() -> None:
    assert vanished(END, pod(RUNNING)) == Seen(RUN, False, "u", AT, END, 137)
    assert vanished(END, pod(node="")) == Seen(RUN, False, "u", None, None, 137)
    assert vanished(NOW, pod(done(3))) == Seen(RUN, False, "u", AT, END, 3)


def job(conditions: list[dict[str, Any]], **status: Any) -> dict[str, Any]:
    named = {"name": f"mudeung-{RUN}", "uid": "j", "labels": {"mudeung.run": RUN}}
    return {"metadata": named, "spec": {}, "status": {"startTime": BEGAN, "conditions": conditions, **status}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (job([]), Seen(RUN, True, "j")),
        (job([{"type": "Suspended", "status": "True"}]), Seen(RUN, True, "j")),
        (
            job([{"type": "Failed", "status": "True", "lastTransitionTime": ENDED}], failed=1),
            Seen(RUN, False, "j", AT, END, 137),
        ),
        (
            job([{"type": "Complete", "status": "True", "lastTransitionTime": ENDED}], succeeded=1),
            Seen(RUN, False, "j", AT, END, 0),
        ),
        # Its deadline came before its pod.
        (
            job([{"type": "Failed", "status": "True", "lastTransitionTime": ENDED}]),
            Seen(RUN, False, "j", exit_code=137),
        ),
    ],
)
def test_the_run_of_a_job_without_a_pod(found: dict[str, Any], expected: Seen) -> None:
    assert seen_of_job(found) == expected


def test_why_a_pod_does_not_come_to_run() -> None:
    full = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
    assert trouble(pod(node="", status={"conditions": [full]})) == "0/3 nodes are available"
    assert trouble(pod({"waiting": {"reason": "ErrImagePull", "message": "no"}})) == "ErrImagePull: no"
    assert trouble(pod({"waiting": {"reason": "ContainerCreating"}})) == ""
    assert trouble(pod(RUNNING)) == ""


def test_the_beginning_of_all_time_is_never() -> None:
    assert (instant("1970-01-01T00:00:00Z"), instant(None), instant("")) == (None, None, None)
    assert instant("2026-03-01T00:00:00.5Z") == AT + 0.5


def test_a_pod_of_a_job_is_known_by_its_name() -> None:
    assert not is_of_job(pod(RUNNING))
    assert is_of_job(pod(RUNNING, name=f"mudeung-{RUN}-x7k2p"))


@pytest.mark.parametrize(
    ("deleted", "let_go"),
    [
        ({}, False),
        ({"deletionTimestamp": ENDED, "deletionGracePeriodSeconds": 10}, False),
        ({"deletionTimestamp": ENDED, "deletionGracePeriodSeconds": 0}, True),
    ],
)
def test_a_deleted_pod_is_let_go_once_its_machine_has_nothing_of_it(deleted: dict[str, Any], let_go: bool) -> None:
    assert is_let_go(pod(done(0), **deleted)) is let_go
