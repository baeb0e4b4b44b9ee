"""Kueue, which holds batch runs back: its objects are right by its own definitions, and a run that it holds waits."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from quotas.backends.kubernetes import KubernetesBackend
from quotas.backends.kubernetes_seen import instant
from quotas.domain.launch import Launch
from quotas.domain.runs import RunKind
from quotas.domain.units import InvalidValue
from tests.helm.conftest import Tools
from tests.helm.definitions import KUEUE, Module, defined
from tests.helm.schemas import objects
from tests.helm.test_chart import FULL, SMALL
from tests.kubernetes.cluster import Corner, corner, until

pytestmark = pytest.mark.kubernetes

GROUP = "kueue.x-k8s.io"
QUEUES = ("research", "mudeung-chart-tried")
JOBS = "/apis/batch/v1/namespaces/{}/jobs/mudeung-{}"


NEWEST = pytest.mark.parametrize("kueue", KUEUE[-1:], ids=lambda module: module.version, indirect=True)


@pytest.fixture(scope="module", params=KUEUE, ids=lambda module: module.version)
def kueue(cluster: Tools, request: pytest.FixtureRequest) -> Iterator[Module]:
    """The cluster knows Kueue's kinds of one version; no Kueue acts on them."""
    if cluster.run("kubectl", "get", "crd", f"clusterqueues.{GROUP}").returncode == 0:
        pytest.skip("the cluster has a Kueue of its own, which would act on what is tried")
    with defined(cluster, request.param):
        yield request.param


@pytest.fixture(scope="module")
def place() -> Iterator[Corner]:
    with corner() as made:
        yield made


@pytest.fixture
def backend(place: Corner) -> KubernetesBackend:
    return place.backend(queue=QUEUES[0], cluster_queue=QUEUES[1])


def of_kueue(helm: Tools) -> list[dict[str, Any]]:
    return [each for each in objects(helm.template(*FULL)) if each["apiVersion"].startswith(GROUP)]


def test_without_kueue_a_batch_run_is_refused_and_a_server_starts(place: Corner, backend: KubernetesBackend) -> None:
    if place.api.find(f"/apis/{GROUP}/v1beta2") is not None:
        pytest.skip("the cluster has a Kueue of its own")
    with pytest.raises(InvalidValue, match="Kueue") as refused:
        backend.launch(place.launch(kind=RunKind.BATCH))
    assert "Kueue" in refused.value.in_language("ko")
    server = place.launch()
    assert backend.launch(server).running
    backend.stop(server.run_id, 1)
    backend.remove(server.run_id)


@pytest.mark.usefixtures("kueue")
def test_kueue_takes_the_objects_of_the_chart(cluster: Tools) -> None:
    given = of_kueue(cluster)
    assert {each["kind"] for each in given} == {"Topology", "ResourceFlavor", "ClusterQueue"}
    text = yaml.safe_dump_all(given)
    try:
        made = cluster.kubectl("apply", "--validate=strict", "-f", "-", given=text)
        assert made.count("created") == len(given)
        spec = cluster.get("clusterqueues.v1beta2.kueue.x-k8s.io", QUEUES[1])["spec"]
        assert spec["preemption"]["withinClusterQueue"] == spec["preemption"]["reclaimWithinCohort"] == "Never"
        assert spec["resourceGroups"][0]["flavors"][0]["resources"][-1] == {"name": "nvidia.com/gpu", "nominalQuota": 8}
    finally:
        cluster.run("kubectl", "delete", "--ignore-not-found", "--timeout=60s", "-f", "-", given=text)


def _unknown_key(queue: dict[str, Any]) -> None:
    queue["spec"]["cohort"] = "centre"


def _uncovered(queue: dict[str, Any]) -> None:
    queue["spec"]["resourceGroups"][0]["coveredResources"].pop()


def _no_quantity(queue: dict[str, Any]) -> None:
    queue["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"] = "many"


@NEWEST
@pytest.mark.usefixtures("kueue")
def test_kueue_refuses_what_is_not_right(cluster: Tools) -> None:
    (queue,) = (each for each in of_kueue(cluster) if each["kind"] == "ClusterQueue")
    words = ("kubectl", "apply", "--dry-run=server", "--validate=strict", "-f", "-")
    assert cluster.run(*words, given=json.dumps(queue)).returncode == 0
    spoils: list[Callable[[dict[str, Any]], None]] = [_unknown_key, _uncovered, _no_quantity]
    for spoil in spoils:
        spoiled = copy.deepcopy(queue)
        spoil(spoiled)
        assert cluster.run(*words, given=json.dumps(spoiled)).returncode != 0, spoil


def job(place: Corner, launch: Launch) -> dict[str, Any]:
    path = JOBS.format(place.site.namespace_of(launch.project), launch.run_id)
    found: dict[str, Any] = place.api.get(path)
    return found


def let(place: Corner, launch: Launch, *, suspend: bool) -> None:
    """Do to the run's Job what Kueue does when it has room, or takes it back."""
    path = JOBS.format(place.site.namespace_of(launch.project), launch.run_id)
    place.api.patch(path, {"spec": {"suspend": suspend}})


def test_a_batch_run_waits_in_its_project_s_queue_until_it_is_let_go(
    place: Corner, backend: KubernetesBackend, kueue: Module
) -> None:
    launch = place.launch("echo ran", RunKind.BATCH, project=f"queued-{KUEUE.index(kueue)}")
    waiting = backend.launch(launch)
    assert (waiting.running, waiting.started_at) == (True, None)
    namespace = place.site.namespace_of(launch.project)
    queue = place.api.get(f"/apis/{GROUP}/v1beta2/namespaces/{namespace}/localqueues/{QUEUES[0]}")
    assert queue["spec"]["clusterQueue"] == QUEUES[1]
    assert queue["metadata"]["labels"]["mudeung.home"] == place.site.namespace
    assert job(place, launch)["metadata"]["labels"][f"{GROUP}/queue-name"] == QUEUES[0]
    assert job(place, launch)["spec"]["suspend"] is True
    # What it waits for is not charged: it began when it was let go, by the machine's own word.
    let(place, launch, suspend=False)
    ended = until(lambda: (seen := backend.inspect(launch.run_id)) and not seen.running and seen)
    assert ended.exit_code == 0
    pod = place.pod(launch.run_id)
    assert ended.started_at >= instant(pod["metadata"]["creationTimestamp"])
    assert backend.log(launch.run_id, 100) == "ran\n"
    backend.remove(launch.run_id)


@NEWEST
@pytest.mark.usefixtures("kueue")
def test_a_run_that_kueue_takes_back_has_ended_and_does_not_begin_again(
    place: Corner, backend: KubernetesBackend
) -> None:
    launch = place.launch("sleep 600", RunKind.BATCH, project="evicted")
    backend.launch(launch)
    let(place, launch, suspend=False)
    first = until(lambda: (seen := backend.inspect(launch.run_id)) and seen.started_at and seen)
    let(place, launch, suspend=True)
    ended = until(lambda: (seen := backend.inspect(launch.run_id)) and not seen.running and seen)
    assert (ended.started_at, ended.exit_code) == (first.started_at, 143)
    let(place, launch, suspend=False)
    until(lambda: len(backend.pods.list(launch.run_id)) == 2)
    for other in (backend, place.backend(queue=QUEUES[0])):
        assert other.inspect(launch.run_id) == ended
        assert [each for each in other.list_runs() if each.run_id == launch.run_id] == [ended]
    backend.remove(launch.run_id)
    until(lambda: backend.pods.list(launch.run_id) == [])
    assert backend.inspect(launch.run_id) is None


@NEWEST
@pytest.mark.usefixtures("kueue")
def test_a_queue_that_belongs_to_another_cluster_queue_takes_no_run(place: Corner, backend: KubernetesBackend) -> None:
    backend.ensure_project("elsewhere")
    backend.projects.ensure_queue("elsewhere")
    other = place.backend(queue=QUEUES[0], cluster_queue="another")
    with pytest.raises(InvalidValue, match="belongs to the cluster queue mudeung-chart-tried, not to another"):
        other.launch(place.launch(kind=RunKind.BATCH, project="elsewhere"))


def test_queues_are_the_scheduler_s_and_only_where_they_are_wanted(helm: Tools) -> None:
    def having(*values: str) -> list[str]:
        return [
            each["metadata"]["name"]
            for each in objects(helm.template(*values))
            for rule in each.get("rules", ())
            if each["kind"] == "ClusterRole" and GROUP in rule["apiGroups"]
        ]

    assert having(*SMALL) == []
    assert having(*FULL) == ["mudeung-mudeung-scheduler"]


@NEWEST
@pytest.mark.usefixtures("kueue")
def test_the_scheduler_makes_queues_in_projects_and_nowhere_else(
    cluster: Tools, place: Corner, backend: KubernetesBackend
) -> None:
    namespace = place.site.namespace
    values = [*FULL, "--set", f"settings.kubernetes_namespace_prefix={place.site.prefix}"]
    shown = ("-s", "templates/rbac.yaml", "-s", "templates/confinement.yaml")
    text = cluster.template(*values, *shown, namespace=namespace)
    account = f"--as=system:serviceaccount:{namespace}:scheduler"
    queue = {
        "apiVersion": f"{GROUP}/v1beta2",
        "kind": "LocalQueue",
        "metadata": {"name": QUEUES[0]},
        "spec": {"clusterQueue": QUEUES[1]},
    }
    backend.ensure_project("mine")
    words = ("kubectl", account, "create", "--dry-run=server", "-f", "-", "-n")
    cluster.kubectl("apply", "-f", "-", given=text)
    try:
        until(lambda: "changes nothing outside" in cluster.run(*words, namespace, given=json.dumps(queue)).stderr)
        done = cluster.run(*words, place.site.namespace_of("mine"), given=json.dumps(queue))
        assert done.returncode == 0, done.stderr
    finally:
        cluster.run("kubectl", "delete", "--ignore-not-found", "-f", "-", given=text)
