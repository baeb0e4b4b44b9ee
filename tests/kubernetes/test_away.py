"""The backend before an API server in trouble: nothing is concluded, and nothing is forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quotas.backends import kubernetes_watch
from quotas.backends.kubernetes import KubernetesBackend
from quotas.backends.port import BackendAway
from tests.kubernetes.cluster import Corner, Door, corner, kubeconfig, until

pytestmark = pytest.mark.kubernetes


@pytest.fixture(scope="module")
def place() -> Iterator[Corner]:
    with corner() as made:
        yield made


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    made = Door()
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, server=made.url)))
    yield made
    made.close()


def calls(backend: KubernetesBackend, place: Corner, run_id: str) -> list[Callable[[], object]]:
    return [
        backend.list_runs,
        lambda: backend.inspect("01900000-0000-7000-8000-000000000000"),
        lambda: backend.stop(run_id, 1),
        lambda: backend.remove(run_id),
        lambda: backend.log(run_id, 100),
        lambda: backend.launch(place.launch()),
        lambda: backend.ensure_project("another"),
    ]


def test_while_the_api_server_is_away_nothing_is_said_and_then_all_is_known(place: Corner, door: Door) -> None:
    backend = place.backend()
    launch, other = place.launch("sleep 600"), place.launch("sleep 6; exit 3")
    for each in (launch, other):
        backend.launch(each)
    until(lambda: {seen.running for seen in backend.list_runs() if seen.started_at} == {True})
    until(lambda: len([seen for seen in backend.list_runs() if seen.started_at]) == 2)
    door.become("shut")
    until(lambda: not backend.pods.fresh())
    for call in calls(backend, place, launch.run_id):
        with pytest.raises(BackendAway):
            call()
    assert backend.heard_of(launch.run_id) is None
    time.sleep(7)  # one of them ends meanwhile
    door.become("open")
    seen = until(lambda: (now := backend.inspect(other.run_id)) and not now.running and now)
    assert (seen.exit_code, seen.finished_at - seen.started_at) == (3, pytest.approx(6, abs=1.1))
    assert backend.inspect(launch.run_id).running
    until(backend.pods.fresh)
    for each in (launch, other):
        backend.stop(each.run_id, 1)
        backend.remove(each.run_id)


def test_a_watch_that_goes_quiet_is_not_relied_on(place: Corner, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection stays, and what comes of it is as it was."""
    monkeypatch.setattr(kubernetes_watch, "WATCH_SECONDS", 2)
    monkeypatch.setattr(kubernetes_watch, "FRESH_SECONDS", 4)
    backend = place.backend()
    launch = place.launch("sleep 600")
    backend.launch(launch)
    until(lambda: backend.heard_of(launch.run_id) and backend.heard_of(launch.run_id).started_at)
    backend.api.call_seconds = 1
    door.become("silent")
    until(lambda: not backend.pods.fresh(), seconds=20)
    with pytest.raises(BackendAway):
        backend.inspect(launch.run_id)
    with pytest.raises(BackendAway):
        backend.list_runs()
    backend.api.call_seconds = 5
    door.become("open")
    until(lambda: backend.pods.fresh() and backend.heard_of(launch.run_id), seconds=60)
    backend.stop(launch.run_id, 1)
    backend.remove(launch.run_id)


def test_whom_the_api_server_does_not_know_or_grants_nothing_learns_nothing(
    place: Corner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/api/v1/namespaces/{place.site.namespace}/serviceaccounts"
    place.api.post(path, {"metadata": {"name": "nobody"}})
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = place.api.post(f"{path}/nobody/token", request)["status"]["token"]
    for wrong in ("unknown", token):
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, token=wrong)))
        backend = place.backend()
        for call in calls(backend, place, place.launch().run_id):
            with pytest.raises(BackendAway, match=r"40[13]"):
                call()


def test_without_a_cluster_the_backend_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Corner) -> None:
    for content in (None, "no: kubeconfig"):
        path = tmp_path / "config"
        if content:
            path.write_text(content)
        monkeypatch.setenv("KUBECONFIG", str(path))
        with pytest.raises(BackendAway):
            place.backend().list_runs()
