"""Runs that the cluster ends by itself: each is charged to its true end, whenever that is found out; orphans go."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from quotas.domain.launch import Launch
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind, RunState, new_run_id
from quotas.domain.schedules import FINAL
from quotas.domain.terms_kubernetes import Site, pod_fields
from tests.helm.load import keep_notebook, schedule
from tests.helm.release import IMAGES
from tests.helm.standing import NAMESPACE, OPEN, SETTINGS, Standing, until
from tests.helm.world import PROJECT, RARE, SMALL

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(600)]

PLANNER, PERSON = "pi", "learner5"
LATE_SECONDS = 8
"""So long, and as long as the loop takes to start, an end goes unseen."""
WITNESSES = ("hub", "scheduler", "reconciler")
STRONGER = f"{NAMESPACE}-stronger"


@pytest.fixture
def taken(standing: Standing) -> Iterator[list[str]]:
    """A server and a batch run, each with one device of a kind."""
    person = standing.person(PERSON)

    def both() -> list[str]:
        found = [run for run, row in standing.runs().items() if row["profile"] == RARE and row["state"] in OPEN]
        return found if len([run for run in found if standing.runs()[run]["state"] == "running"]) == 2 else []

    try:
        person.start(RARE).raise_for_status()
        person.wait_ready()
        schedule(standing.person(PLANNER), keep_notebook(person, 600), 2, RARE)
        yield until("a server and a batch run", both, 120)
    finally:
        person.stop()
        standing.wait_until_whole()


@pytest.fixture
def stronger(standing: Standing, taken: list[str]) -> Iterator[None]:
    """A pod of a higher priority class asks for every device of the kind, once nobody of the platform looks."""
    del taken
    tools = standing.release.tools
    standing.scale(WITNESSES, 0)
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": STRONGER}}
    try:
        tools.kubectl("create", "-f", "-", given=json.dumps({**kind, "value": 1000, "description": "for a test"}))
        tools.kubectl("create", "-f", "-", given=json.dumps(_stronger_pod(standing)))
        yield
    finally:
        words = ("--ignore-not-found", "--grace-period=1")
        tools.kubectl("delete", "pod", "stronger", "--namespace", NAMESPACE, *words)
        tools.kubectl("delete", "priorityclass", STRONGER, "--ignore-not-found")
        standing.scale(WITNESSES, 1)


def _stronger_pod(standing: Standing) -> dict[str, Any]:
    name, count = standing.rare
    few = {"cpu": "10m", "memory": "32Mi", name: str(count)}
    container = {
        "name": "sleep",
        "image": IMAGES[2],
        "imagePullPolicy": "Never",
        "command": ["sleep", "600"],
        "resources": {"requests": few, "limits": few},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"priorityClassName": STRONGER, "containers": [container], "securityContext": security}
    metadata = {"name": "stronger", "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "restartPolicy": "Never"}}


@pytest.mark.usefixtures("stronger")
def test_what_a_stronger_pod_takes_away_is_charged_to_its_end_and_not_to_when_that_was_seen(
    standing: Standing, taken: list[str]
) -> None:
    until("the end of both pods", lambda: all(standing.pod_of(run).finished_at for run in taken), 120)
    words = ("get", "pod", "stronger", "--namespace", NAMESPACE, "-o", "jsonpath={.status.phase}")
    until("the stronger pod", lambda: standing.release.tools.kubectl(*words) == "Running", 60)
    time.sleep(LATE_SECONDS)
    assert {standing.runs()[run]["state"] for run in taken} == {RunState.RUNNING.value}
    standing.scale(("reconciler",), 1)
    until("charges", lambda: all(standing.runs()[run]["seconds"] for run in taken), 120)
    for run in taken:
        row, pod = standing.runs()[run], standing.pod_of(run)
        assert pod.finished_at is not None
        assert row["seconds"] == pod.seconds(row["opened_at"])
        assert row["settled_at"] >= pod.finished_at + LATE_SECONDS
    standing.scale(WITNESSES, 1)
    until("the hub to know it", lambda: standing.person(PERSON).server() is None)
    final = {state.value for state in FINAL}
    (batch,) = (run for run in taken if standing.runs()[run]["kind"] == RunKind.BATCH.value)
    until("the batch run's end", lambda: standing.runs()[batch]["execution"] in final)
    assert standing.runs()[batch]["execution"] != "succeeded"
    standing.wait_until_whole()
    standing.check()


def test_a_pod_of_a_run_that_has_ended_or_never_was_is_found_and_removed(standing: Standing) -> None:
    ended = {kind: _ended(standing, kind) for kind in (RunKind.NOTEBOOK, RunKind.BATCH)}
    before = standing.runs()
    orphans = {run: kind for kind, run in ended.items()} | {new_run_id(): RunKind.NOTEBOOK}
    for run, kind in orphans.items():
        made = standing.release.tools.run("kubectl", "create", "-o", "json", "-f", "-", given=_orphan(run, kind))
        assert made.returncode == 0, made.stderr
        standing.witness.strangers.add(json.loads(made.stdout)["metadata"]["uid"])
    standing.wait_until_whole(120)
    assert not {pod.uid for pod in standing.witness.present()} & standing.witness.strangers
    assert standing.runs() == before
    runs = ", ".join(f"'{run}'" for run in orphans)
    events = "action = 'stopped without a hold' AND subject IN"
    found = standing.release.database(f"SELECT count(*) FROM audit_events WHERE {events} ({runs})")  # noqa: S608
    assert int(found) == len(orphans)


def _ended(standing: Standing, kind: RunKind) -> str:
    """Return a run of the kind that has ended; there is one where nobody had any."""
    found = [run for run, row in standing.runs().items() if row["kind"] == kind and row["state"] not in OPEN]
    if found:
        return found[0]
    person = standing.person(PERSON)
    person.start(SMALL).raise_for_status()
    person.wait_ready()
    if kind is RunKind.BATCH:
        number = schedule(standing.person(PLANNER), keep_notebook(person, 1), 2)
        done = "a batch run that has ended"
        until(
            done, lambda: [row for row in standing.runs().values() if row["schedule_id"] == number and row["seconds"]]
        )
    person.stop()
    person.wait_stopped()
    standing.wait_until_whole()
    return _ended(standing, kind)


def _orphan(run: str, kind: RunKind) -> str:
    """Return a pod as the platform makes it, of a run that it does not hold."""
    profile = replace(Profile(SMALL, "", "", IMAGES[2], 20, 2**26, 2**28), backend_terms={})
    folder = f"/var/lib/mudeung/projects/{PROJECT}"
    launch = Launch(run, kind, PERSON, PROJECT, profile, ("sleep", "600"), folder)
    site = Site(NAMESPACE, SETTINGS["kubernetes_namespace_prefix"], files_claim="home", files_root="/var/lib/mudeung")
    pod = pod_fields(launch, site)
    pod["spec"]["containers"][0]["imagePullPolicy"] = "Never"
    pod["spec"]["volumes"][0] = {"name": pod["spec"]["volumes"][0]["name"], "emptyDir": {}}
    return json.dumps(pod)
