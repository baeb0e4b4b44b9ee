"""The Kubernetes backend on a real cluster: runs from their start to their removal, and however else they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from quotas.backends.kubernetes import KubernetesBackend
from quotas.backends.port import Backend
from quotas.domain.launch import Launch, Seen
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.terms_kubernetes import FINALIZER
from quotas.domain.units import InvalidValue
from tests.kubernetes.cluster import MIB, TINY, Corner, corner, until

pytestmark = pytest.mark.kubernetes


@pytest.fixture(scope="module")
def place() -> Iterator[Corner]:
    with corner() as made:
        yield made


@pytest.fixture(scope="module")
def backend(place: Corner) -> KubernetesBackend:
    return place.backend()


def ended(backend: KubernetesBackend, launch: Launch, seconds: float = 40) -> Seen:
    found: Seen = until(lambda: (now := backend.inspect(launch.run_id)) and not now.running and now, seconds)
    return found


def begun(backend: KubernetesBackend, launch: Launch, word: str = "") -> Seen:
    def look() -> Seen | None:
        now = backend.inspect(launch.run_id)
        return now if now and now.started_at and word in backend.log(launch.run_id, 1000) else None

    found: Seen = until(look)
    return found


@pytest.mark.parametrize("kind", [RunKind.BATCH, RunKind.NOTEBOOK])
def test_a_run_from_its_start_to_its_removal(place: Corner, backend: KubernetesBackend, kind: RunKind) -> None:
    as_port: Backend = backend
    assert (as_port.name, as_port.chooses_devices, as_port.holders(["GPU-1"])) == ("kubernetes", True, ())
    launch = place.launch("echo hello; echo 0123 > made; sleep 2; exit 7", kind)
    before = time.time()
    seen = backend.launch(launch)
    assert (seen.run_id, seen.running, seen.started_at, seen.exit_code) == (launch.run_id, True, None, None)
    assert launch.run_id in [each.run_id for each in backend.list_runs()]
    running = begun(backend, launch)
    assert running.running
    assert running.started_at == pytest.approx(before, abs=15)
    with pytest.raises(ValueError, match="running"):
        backend.remove(launch.run_id)
    done = ended(backend, launch)
    assert (done.exit_code, done.started_at, done.out_of_memory) == (7, running.started_at, False)
    assert (done.finished_at or 0) - (done.started_at or 0) == pytest.approx(2, abs=1.1)
    assert done in backend.list_runs()
    assert (backend.log(launch.run_id, 100), backend.log(launch.run_id, 3)) == ("hello\n", "lo\n")
    fresh = place.backend()
    assert fresh.inspect(launch.run_id) == done
    for _ in range(2):
        backend.remove(launch.run_id)
    assert backend.inspect(launch.run_id) is None
    assert backend.log(launch.run_id, 100) == ""
    until(lambda: launch.run_id not in [each.run_id for each in (*backend.list_runs(), *fresh.list_runs())])
    backend.stop(launch.run_id, 1)


def test_a_pod_is_held_to_its_profile(place: Corner, backend: KubernetesBackend) -> None:
    line = "grep -E '^(CapEff|NoNewPrivs|Seccomp:)' /proc/self/status; id -u; id -g; pwd; echo $MUDEUNG_RUN; echo $HOME"
    launch = place.launch(
        f"{line}; df -m /dev/shm | tail -1; touch /etc/x 2>&1; ls /var/run/secrets 2>&1; echo '$(HOME)'"
    )
    backend.launch(launch)
    ended(backend, launch)
    lines = backend.log(launch.run_id, 4000).splitlines()
    assert [line.split() for line in lines[:3]] == [["CapEff:", "0" * 16], ["NoNewPrivs:", "1"], ["Seccomp:", "2"]]
    assert lines[3:8] == ["1000", "100", "/home/jovyan/project", launch.run_id, "/home/jovyan"]
    assert lines[8].split()[1] == "32"
    assert "denied" in lines[9]
    assert "No such file" in lines[10]
    assert lines[11] == "$(HOME)"
    backend.remove(launch.run_id)


def test_a_device_is_asked_for_and_one_that_is_not_there_is_waited_for(
    place: Corner, backend: KubernetesBackend
) -> None:
    """The nodes of the cluster advertise at most eight GPUs each."""
    gpu = replace(TINY, device_model="h100", device_count=1)
    launch = place.launch("echo ${NVIDIA_VISIBLE_DEVICES-unset}", profile=gpu)
    backend.launch(launch)
    at = until(lambda: backend.whereabouts(launch.run_id))
    if "Insufficient" in at.trouble:
        pytest.skip("the cluster has no free nvidia.com/gpu")
    ended(backend, launch)
    (container,) = place.pod(launch.run_id)["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert backend.log(launch.run_id, 100) == "unset\n"
    backend.remove(launch.run_id)
    many = place.launch(profile=replace(gpu, device_count=999))
    backend.launch(many)
    until(lambda: "Insufficient nvidia.com/gpu" in backend.whereabouts(many.run_id).trouble)
    assert (backend.inspect(many.run_id).running, backend.inspect(many.run_id).started_at) == (True, None)
    backend.stop(many.run_id, 10)
    seen = backend.inspect(many.run_id)
    assert (seen.running, seen.started_at, seen.finished_at) == (False, None, None)
    assert "Insufficient" in backend.log(many.run_id, 1000)
    backend.remove(many.run_id)
    assert backend.inspect(many.run_id) is None


def test_stop_lets_the_command_end_in_order_and_kills_one_that_does_not(
    place: Corner, backend: KubernetesBackend
) -> None:
    loop = "echo ready; while :; do sleep 0.1; done"
    tidy = place.launch(f"trap 'echo saved; sleep 1; exit 3' TERM; {loop}")
    stubborn = place.launch(f"trap '' TERM; {loop}")
    batch = place.launch(f"trap 'exit 4' TERM; {loop}", RunKind.BATCH)
    for launch in (tidy, stubborn, batch):
        backend.launch(launch)
    for launch in (tidy, stubborn, batch):
        begun(backend, launch, "ready")
    started = time.monotonic()
    backend.stop(tidy.run_id, 20)
    assert time.monotonic() - started < 12
    assert backend.inspect(tidy.run_id).exit_code == 3
    assert "saved" in backend.log(tidy.run_id, 100)
    backend.stop(stubborn.run_id, 1)
    assert backend.inspect(stubborn.run_id).exit_code == 137
    backend.stop(batch.run_id, 10)
    assert backend.inspect(batch.run_id).exit_code == 4
    before = backend.inspect(tidy.run_id)
    backend.stop(tidy.run_id, 20)
    assert backend.inspect(tidy.run_id) == before
    assert backend.launch(batch).exit_code == 4
    for launch in (tidy, stubborn, batch):
        assert not backend.inspect(launch.run_id).running
        backend.remove(launch.run_id)
        assert backend.inspect(launch.run_id) is None
    backend.stop(new_run_id(), 1)


@pytest.mark.parametrize("kind", [RunKind.BATCH, RunKind.NOTEBOOK])
def test_a_second_launch_is_the_first(place: Corner, backend: KubernetesBackend, kind: RunKind) -> None:
    launch = place.launch("echo began >> began; cat began", kind, project="robots")
    answers = []
    gate = threading.Barrier(5)

    def race() -> None:
        gate.wait(10)
        answers.append(backend.launch(launch))

    threads = [threading.Thread(target=race) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 5
    first = ended(backend, launch)
    assert backend.launch(launch) == first
    time.sleep(2)
    place.pod(launch.run_id)
    # The second of the two kinds finds the line of the first.
    assert backend.log(launch.run_id, 1000).count("began") == (1 if kind is RunKind.BATCH else 2)
    backend.remove(launch.run_id)


def test_out_of_memory_is_told(place: Corner, backend: KubernetesBackend) -> None:
    launch = place.launch("exec python3 -c 'x = bytearray(400 * 2**20)'")
    backend.launch(launch)
    done = ended(backend, launch)
    assert (done.exit_code, done.out_of_memory) == (137, True)
    backend.remove(launch.run_id)


def test_a_missing_program_is_no_success(place: Corner, backend: KubernetesBackend) -> None:
    launch = place.launch(command=("/no/such/program",))
    backend.launch(launch)
    done = ended(backend, launch)
    assert (done.started_at, done.finished_at) == (None, None)
    assert done.exit_code not in (0, None)
    assert "/no/such/program" in backend.log(launch.run_id, 2000)
    backend.remove(launch.run_id)


@pytest.mark.parametrize("way", ["deleted", "evicted"])
def test_a_pod_that_somebody_takes_away_tells_its_end(place: Corner, backend: KubernetesBackend, way: str) -> None:
    launch = place.launch("trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done")
    backend.launch(launch)
    started = begun(backend, launch, "ready").started_at
    path = place.path(launch.run_id)
    if way == "deleted":
        place.api.delete(path)
    else:
        name = path.rsplit("/", 1)[1]
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        place.api.post(f"{path}/eviction", body)
    done = ended(backend, launch)
    assert (done.exit_code, done.started_at) == (9, started)
    assert done.finished_at == pytest.approx(time.time(), abs=5)
    assert place.pod(launch.run_id)["metadata"]["finalizers"] == [FINALIZER]
    assert done in place.backend().list_runs()
    backend.remove(launch.run_id)
    assert backend.inspect(launch.run_id) is None


def test_a_pod_that_writes_more_than_its_storage_is_ended_with_its_times(
    place: Corner, backend: KubernetesBackend
) -> None:
    profile = replace(TINY, storage_bytes=8 * MIB, memory_bytes=128 * MIB)
    launch = place.launch("dd if=/dev/zero of=/tmp/much bs=1M count=60 2>&1; sleep 600", RunKind.BATCH, profile=profile)
    backend.launch(launch)
    done = ended(backend, launch, seconds=120)
    assert place.pod(launch.run_id)["status"]["reason"] == "Evicted"
    assert done.started_at
    assert done.finished_at == pytest.approx(time.time(), abs=10)
    assert done.exit_code != 0
    backend.remove(launch.run_id)


def test_a_pod_that_is_gone_without_a_word_ended_when_it_was_last_heard_of(
    place: Corner, backend: KubernetesBackend
) -> None:
    launch = place.launch("trap '' TERM; sleep 600")
    backend.launch(launch)
    started = begun(backend, launch).started_at
    until(lambda: backend.heard_of(launch.run_id))
    path = place.path(launch.run_id)
    place.api.delete(path, gracePeriodSeconds=0)
    place.api.patch(path, {"metadata": {"finalizers": None}})
    done = ended(backend, launch)
    assert (done.started_at, done.finished_at) == (started, pytest.approx(time.time(), abs=5))
    assert place.backend().inspect(launch.run_id) is None
    backend.remove(launch.run_id)
    assert backend.inspect(launch.run_id) is None


def test_a_pod_on_a_machine_that_is_lost_is_given_up(place: Corner, backend: KubernetesBackend) -> None:
    from quotas.domain.terms_kubernetes import pod_fields  # noqa: PLC0415

    launch = place.launch()
    pod: dict[str, Any] = pod_fields(launch, place.site)
    pod["spec"]["nodeName"] = f"gone-{launch.run_id}"
    backend.launch_pod(launch, pod)
    began = {"name": "notebook", "ready": True, "restartCount": 0, "image": "", "imageID": "", "containerID": "x://1"}
    state = {"running": {"startedAt": "2026-03-01T00:00:00Z"}}
    status = {"phase": "Running", "containerStatuses": [{**began, "state": state}]}
    place.api.patch(f"{place.path(launch.run_id)}/status", {"status": status})
    until(lambda: (now := backend.inspect(launch.run_id)) and now.started_at)
    backend.stop(launch.run_id, 1)
    seen = backend.inspect(launch.run_id)
    assert (seen.running, seen.finished_at, seen.started_at) == (False, None, 1772323200.0)
    backend.remove(launch.run_id)
    assert place.backend().inspect(launch.run_id) is None


def test_a_job_ends_at_its_deadline(place: Corner, backend: KubernetesBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the platform does meanwhile."""
    monkeypatch.setattr("quotas.domain.terms_kubernetes.STARTING_SECONDS", 5)
    launch = place.launch("trap 'exit 5' TERM; while :; do sleep 0.1; done", RunKind.BATCH, deadline_seconds=1)
    backend.launch(launch)
    begun(backend, launch)
    done = ended(backend, launch)
    assert done.exit_code == 5
    assert 1 <= (done.finished_at or 0) - (done.started_at or 0) <= 8
    (job,) = backend.jobs.list(launch.run_id)
    until(lambda: backend.jobs.list(launch.run_id)[0]["status"].get("failed") == 1)
    assert (job["spec"]["backoffLimit"], job["spec"]["parallelism"]) == (0, 1)
    backend.remove(launch.run_id)
    until(lambda: not backend.jobs.list(launch.run_id))


def test_a_job_of_kueue_waits_until_it_is_let_begin(place: Corner) -> None:
    queued = place.backend(queue="research")
    launch = place.launch("exit 6", RunKind.BATCH)
    seen = queued.launch(launch)
    assert (seen.running, seen.started_at) == (True, None)
    (job,) = queued.jobs.list(launch.run_id)
    assert (job["spec"]["suspend"], job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]) == (True, "research")
    time.sleep(2)
    assert queued.pods.list(launch.run_id) == []
    path = f"/apis/batch/v1/namespaces/{job['metadata']['namespace']}/jobs/{job['metadata']['name']}"
    place.api.patch(path, {"spec": {"suspend": False}})
    assert ended(queued, launch).exit_code == 6
    queued.remove(launch.run_id)
    never = place.launch("exit 6", RunKind.BATCH)
    queued.launch(never)
    queued.stop(never.run_id, 1)
    until(lambda: queued.inspect(never.run_id) is None)


def test_terms_that_no_pod_can_have_are_refused(place: Corner, backend: KubernetesBackend) -> None:
    bad = replace(TINY, image=f" {TINY.image}")
    with pytest.raises(InvalidValue, match=r"the cluster refuses it: .*whitespace"):
        backend.launch(place.launch(profile=bad))
