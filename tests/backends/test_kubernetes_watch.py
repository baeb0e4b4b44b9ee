"""What is heard of a run, and who is told of it. No cluster is asked."""

from __future__ import annotations

from typing import Any

from quotas.backends.kubernetes import PODS
from quotas.backends.kubernetes_api import Api
from quotas.backends.kubernetes_watch import Followed
from quotas.domain.launch import RUN_LABEL
from quotas.domain.runs import new_run_id
from quotas.domain.terms_kubernetes import pod_name


def pod(run_id: str, version: int) -> dict[str, Any]:
    metadata = {"name": pod_name(run_id), "namespace": "p", "uid": run_id, "labels": {RUN_LABEL: run_id}}
    metadata |= {"resourceVersion": str(version), "creationTimestamp": "2027-01-01T00:00:00Z"}
    return {"metadata": metadata, "spec": {"nodeName": "n"}, "status": {"phase": "Pending"}}


def test_whoever_waits_is_told_of_each_change_of_their_run_and_of_no_other() -> None:
    followed = Followed(Api(1), PODS, "")
    run, other = new_run_id(), new_run_id()
    told: list[str] = []
    with followed.telling(run, lambda: told.append("one")):
        followed.note(pod(run, 1))
        assert told == ["one"]
        with followed.telling(run, lambda: told.append("two")):
            followed.note(pod(run, 2))
            followed.note(pod(other, 3))
            assert told == ["one", "one", "two"]
        followed.note(pod(run, 2))  # read again
        followed.note(pod(run, 1))  # read earlier, and heard later
        assert told == ["one", "one", "two"]
        followed.note(pod(run, 4))
        assert told == ["one", "one", "two", "one"]
    followed.note(pod(run, 5))
    assert len(told) == 4
    known = followed.of(run)
    assert known is not None
    assert known["metadata"]["resourceVersion"] == "5"
