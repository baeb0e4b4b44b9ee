"""Each account's rights are those that its program uses: none is missing, and none is too many."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from quotas.backends.kubernetes import KubernetesBackend
from quotas.backends.kubernetes_api import Api
from quotas.domain.launch import Launch
from quotas.domain.runs import RunKind
from quotas.domain.terms_kubernetes import FINALIZER, pod_fields
from quotas.domain.terms_kubernetes_projects import Bounds
from tests.helm.conftest import Tools
from tests.helm.definitions import KUEUE, defined
from tests.helm.schemas import objects
from tests.helm.test_chart import FULL
from tests.kubernetes.cluster import IMAGE, Corner, corner, kubeconfig, until

pytestmark = pytest.mark.kubernetes

Rights = set[tuple[str, str]]
"""A right is a resource, with its group where it has one, and a verb."""
PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)(?:/namespaces/[^/]+(?=/))?/(?P<kind>[^/]+)(?:/(?P<name>[^/]+))?(?P<sub>/.+)?"
)
VERBS = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}
FILES = "files"


class Recorded(Api):
    """The API server as one account asks it, and by which rights."""

    def __init__(self, call_seconds: float) -> None:
        super().__init__(call_seconds)
        self.used: Rights = set()

    def _request(self, method: str, path: str, query: Mapping[str, str], *rest: Any) -> Any:
        found = PATH.fullmatch(path)
        assert found, path
        resource = ".".join(filter(None, (found["kind"] + (found["sub"] or ""), found["group"])))
        verb = VERBS.get(method) or ("get" if found["name"] else "watch" if query.get("watch") else "list")
        self.used.add((resource, verb))
        return super()._request(method, path, query, *rest)


@dataclass
class Account:
    """What a program of the platform does by its account, in a project of its own."""

    name: str
    place: Corner
    backend: KubernetesBackend
    used: Rights

    def follow(self) -> None:
        """Know all that runs, first by asking, then by a watch."""
        self.backend.list_runs()
        until(lambda: all(each.fresh() for each in (self.backend.pods, self.backend.jobs)))
        until(lambda: {("pods", "watch"), ("jobs.batch", "watch")} <= self.used)

    def make(self, project: str) -> None:
        """Make what a project has, and once more when the platform makes it otherwise."""
        self.backend.ensure_project(project, Bounds(runs=3))
        namespace = self.place.site.namespace_of(project)
        for path in (
            f"/api/v1/namespaces/{namespace}",
            f"/api/v1/namespaces/{namespace}/resourcequotas/mudeung",
            f"/api/v1/namespaces/{namespace}/limitranges/mudeung",
            f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/mudeung",
        ):
            self.place.api.patch(path, {"metadata": {"annotations": {"mudeung.sum": "older"}}})
        self.backend.projects.forget(project)
        self.backend.ensure_project(project, Bounds(runs=4))

    def end(self, launch: Launch) -> None:
        """Stop a run, look whether its machine is lost, keep what it printed and forget it."""
        until(lambda: (seen := self.backend.inspect(launch.run_id)) and seen.started_at)
        self.backend._give_up_if_lost(self.place.pod(launch.run_id))
        self.backend.stop(launch.run_id, 1)
        self.backend.log(launch.run_id, 100)
        self.backend.remove(launch.run_id)


@pytest.fixture(scope="module")
def place(cluster: Tools) -> Iterator[Corner]:
    """A corner with the chart's accounts and roles, and a volume with the platform's files."""
    with corner() as made, defined(cluster, KUEUE[-1]):
        made.site = replace(
            made.site, files_claim=FILES, files_root="/srv/home", queue="research", cluster_queue="mudeung-tried"
        )
        folder = f"/api/v1/namespaces/{made.site.namespace}"
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}
        made.api.post(f"{folder}/persistentvolumeclaims", {"metadata": {"name": FILES}, "spec": spec})
        volume = {"name": "files", "persistentVolumeClaim": {"claimName": FILES}}
        container = {"name": "x", "image": IMAGE, "command": ["true"]}
        # The volume is there when something has it mounted.
        user = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
        made.api.post(f"{folder}/pods", {"metadata": {"name": "user"}, "spec": user})
        text = cluster.template(*FULL, "-s", "templates/rbac.yaml", namespace=made.site.namespace)
        cluster.kubectl("apply", "-f", "-", given=text)
        try:
            claim = f"{folder}/persistentvolumeclaims/{FILES}"
            until(lambda: made.api.get(claim)["status"]["phase"] == "Bound")
            yield made
        finally:
            cluster.run("kubectl", "delete", "--ignore-not-found", "-f", "-", given=text)


@pytest.fixture
def account(place: Corner, cluster: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Account]:
    def become(name: str) -> Account:
        token = cluster.kubectl("create", "token", name, "-n", place.site.namespace).strip()
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, token=token)))
        backend = place.backend()
        recorded = Recorded(20)
        recorded._client()  # as this account, and nobody else, from here on
        for each in (backend, backend.projects, backend.pods, backend.jobs):
            each.api = recorded
        return Account(name, place, backend, recorded.used)

    return become


def granted(cluster: Tools, name: str) -> Rights:
    """Return what the chart's role lets the account do."""
    (role,) = (
        each
        for each in objects(cluster.template(*FULL, "-s", "templates/rbac.yaml"))
        if each["kind"] == "ClusterRole" and each["metadata"]["name"].endswith(f"-{name}")
    )
    return {
        (".".join(filter(None, (resource, group))), verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_hub(cluster: Tools, place: Corner, account: Callable[[str], Account]) -> None:
    hub = account("hub")
    hub.follow()
    hub.make("hubs")
    launch = place.launch(project="hubs", project_folder="/srv/home/projects/hubs")
    for _ in range(2):  # the second finds the first one's
        hub.backend.launch_pod(launch, pod_fields(launch, place.site))
    hub.end(launch)
    assert hub.used == granted(cluster, "hub")


def test_the_scheduler(cluster: Tools, place: Corner, account: Callable[[str], Account]) -> None:
    scheduler = account("scheduler")
    scheduler.follow()
    scheduler.make("jobs")
    launch = place.launch(kind=RunKind.BATCH, project="jobs", project_folder="/srv/home/projects/jobs")
    for _ in range(2):
        scheduler.backend.launch(launch)
    name = f"{place.site.namespace_of('jobs')}/jobs/mudeung-{launch.run_id}"
    place.api.patch(f"/apis/batch/v1/namespaces/{name}", {"spec": {"suspend": False}})
    scheduler.end(launch)
    assert scheduler.used == granted(cluster, "scheduler")


def test_the_reconciler(cluster: Tools, place: Corner, account: Callable[[str], Account]) -> None:
    launch = place.launch(kind=RunKind.BATCH, project="ends", project_folder="/srv/home/projects/ends")
    place.backend(queue="", cluster_queue="").launch(launch)
    reconciler = account("reconciler")
    reconciler.follow()
    reconciler.end(launch)
    assert reconciler.used == granted(cluster, "reconciler")
    assert FINALIZER not in str(place.api.get(f"/api/v1/namespaces/{place.site.namespace_of('ends')}/pods"))
