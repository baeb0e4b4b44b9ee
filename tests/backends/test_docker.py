"""The Docker backend on a real engine; `test_docker_away.py` has it before engines in trouble."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from quotas.backends import docker as docker_backend
from quotas.backends.docker import DockerBackend, container_user, prepare_project_folder
from quotas.backends.port import Backend
from quotas.domain import terms_docker
from quotas.domain.launch import RUN_LABEL, Launch
from quotas.domain.runs import new_run_id
from quotas.domain.units import InvalidValue
from tests.backends.processes import until


def ended(backend: DockerBackend, launch: Launch) -> Any:
    return until(lambda: (now := backend.inspect(launch.run_id)) and not now.running and now)


@pytest.mark.docker
def test_a_run_from_its_start_to_its_removal(
    backend: DockerBackend, engine: docker.APIClient, launch_of: Callable[..., Launch]
) -> None:
    as_port: Backend = backend
    assert as_port.name == "docker"
    launch = launch_of("echo hello; touch made; sleep 1; exit 7")
    before = time.time()
    seen = backend.launch(launch)
    assert (seen.run_id, seen.running, seen.exit_code, seen.finished_at) == (launch.run_id, True, None, None)
    assert seen.started_at == pytest.approx(before, abs=10)
    assert seen in backend.list_runs()
    with pytest.raises(ValueError, match="running"):
        backend.remove(launch.run_id)
    done = ended(backend, launch)
    assert (done.exit_code, done.started_at, done.out_of_memory) == (7, seen.started_at, False)
    assert done.finished_at - done.started_at == pytest.approx(1.0, abs=0.9)
    assert done in backend.list_runs()
    assert (backend.log(launch.run_id, 100), backend.log(launch.run_id, 3)) == ("hello\n", "lo\n")
    assert Path(launch.project_folder, "made").stat().st_uid == Path(launch.project_folder).stat().st_uid
    labels = engine.inspect_container(seen.ref)["Config"]["Labels"]
    assert labels["mudeung.person"] == "kim {x}"
    backend.remove(launch.run_id)
    backend.remove(launch.run_id)
    assert backend.inspect(launch.run_id) is None
    assert launch.run_id not in [each.run_id for each in backend.list_runs()]
    assert backend.log(launch.run_id, 100) == ""


@pytest.mark.docker
def test_a_container_is_held_to_its_profile(
    backend: DockerBackend, engine: docker.APIClient, launch_of: Callable[..., Launch]
) -> None:
    """What the engine made of the terms, and what the command sees of them."""
    launch = launch_of("grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; cat /proc/1/comm; pwd; echo $MUDEUNG_RUN")
    backend.launch(launch)
    ended(backend, launch)
    lines = backend.log(launch.run_id, 1000).split()
    assert lines[:4] == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1"]
    assert lines[4] in ("docker-init", "tini")
    assert lines[5:] == ["/home/jovyan/project", launch.run_id]
    state = engine.inspect_container(terms_docker.container_name(launch.run_id))
    host = state["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (64 * 2**20, 64 * 2**20)
    assert (host["CpuQuota"], host["CpuPeriod"], host["PidsLimit"]) == (50_000, 100_000, 4096)
    assert (host["AutoRemove"], host["RestartPolicy"]["Name"], host["Init"]) == (False, "no", True)
    assert (host["CapDrop"], host["SecurityOpt"], host["Privileged"]) == (["ALL"], ["no-new-privileges"], False)
    assert host["ShmSize"] == 32 * 2**20
    assert state["Config"]["Healthcheck"] == {"Test": ["NONE"]}


@pytest.mark.docker
def test_out_of_memory_is_told(backend: DockerBackend, launch_of: Callable[..., Launch]) -> None:
    launch = launch_of("exec python3 -c 'x = bytearray(400 * 2**20)'")
    backend.launch(launch)
    done = ended(backend, launch)
    assert (done.exit_code, done.out_of_memory) == (137, True)


@pytest.mark.docker
def test_stop_lets_the_command_end_in_order_and_kills_one_that_does_not(
    backend: DockerBackend, launch_of: Callable[..., Launch]
) -> None:
    tidy = launch_of("trap 'echo saved; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    stubborn = launch_of("trap '' TERM; echo ready; while :; do sleep 0.1; done")
    for launch in (tidy, stubborn):
        backend.launch(launch)
        until(lambda run_id=launch.run_id: "ready" in backend.log(run_id, 100))
    began = time.monotonic()
    backend.stop(tidy.run_id, 20)
    assert time.monotonic() - began < 10
    assert backend.inspect(tidy.run_id).exit_code == 3
    assert "saved" in backend.log(tidy.run_id, 100)
    began = time.monotonic()
    backend.stop(stubborn.run_id, 1)
    assert 1 <= time.monotonic() - began < 10
    assert backend.inspect(stubborn.run_id).exit_code == 137
    before = backend.inspect(tidy.run_id)
    backend.stop(tidy.run_id, 20)
    assert backend.inspect(tidy.run_id) == before
    backend.stop(new_run_id(), 1)


@pytest.mark.docker
def test_a_second_launch_is_the_first(backend: DockerBackend, launch_of: Callable[..., Launch]) -> None:
    """Also when they race, and after the run has ended: nothing runs twice."""
    launch = launch_of("echo began >> began")
    answers = []
    gate = threading.Barrier(6)

    def race() -> None:
        gate.wait(10)
        answers.append(backend.launch(launch))

    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(answers) == 6
    assert {answer.ref for answer in answers} == {answers[0].ref}
    first = ended(backend, launch)
    assert backend.launch(launch) == first
    time.sleep(0.5)
    assert Path(launch.project_folder, "began").read_text() == "began\n"


@pytest.mark.docker
def test_a_container_that_was_created_and_never_started(
    backend: DockerBackend, engine: docker.APIClient, launch_of: Callable[..., Launch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever created it was killed in between. It never ran; a second launch takes it on."""
    monkeypatch.setattr(docker_backend, "START_SECONDS", 0.5)
    launch = launch_of("sleep 60")
    config = engine.create_host_config(**terms_docker.host_config(launch))
    kwargs = backend.create_kwargs(launch)
    engine.create_container(launch.profile.image, list(launch.command), host_config=config, **kwargs)
    seen = backend.inspect(launch.run_id)
    assert (seen.running, seen.started_at, seen.finished_at, seen.exit_code) == (False, None, None, None)
    assert seen in backend.list_runs()
    assert backend.launch(launch).running
    backend.stop(launch.run_id, 1)
    abandoned = launch_of("sleep 60")
    kwargs = backend.create_kwargs(abandoned)
    engine.create_container(abandoned.profile.image, list(abandoned.command), host_config=config, **kwargs)
    backend.stop(abandoned.run_id, 1)
    backend.remove(abandoned.run_id)
    assert backend.inspect(abandoned.run_id) is None


@pytest.mark.docker
def test_a_missing_program_is_no_success(backend: DockerBackend, launch_of: Callable[..., Launch]) -> None:
    launch = launch_of("", command=("/no/such/program",))
    backend.launch(launch)
    assert ended(backend, launch).exit_code == 127
    assert "/no/such/program" in backend.log(launch.run_id, 2000)


@pytest.mark.docker
def test_what_cannot_be_created_is_refused(
    backend: DockerBackend, launch_of: Callable[..., Launch], tmp_path: Path
) -> None:
    no_image = launch_of("true")
    no_image = replace(no_image, profile=replace(no_image.profile, image="mudeung/none:here"))
    with pytest.raises(InvalidValue, match="mudeung/none:here") as refused:
        backend.launch(no_image)
    assert refused.value.field == "image"
    with pytest.raises(InvalidValue, match="refuses the container") as refused:
        backend.launch(launch_of("true", project_folder=str(tmp_path / "missing")))
    assert refused.value.field == "profile"
    assert not (tmp_path / "missing").exists()
    for launch in (no_image, launch_of("true")):
        assert backend.inspect(launch.run_id) is None


@pytest.mark.docker
def test_a_container_that_only_wears_the_label_is_none_of_ours(
    backend: DockerBackend, engine: docker.APIClient, image: str
) -> None:
    """An image can bring any label; the platform's containers have its names too."""
    run_id = new_run_id()
    made = engine.create_container(
        image, ["true"], labels={RUN_LABEL: run_id, "mudeung.home": backend.home}, name=f"stranger-{run_id}"
    )
    try:
        assert run_id not in [seen.run_id for seen in backend.list_runs()]
        assert backend.inspect(run_id) is None
    finally:
        engine.remove_container(made["Id"])


@pytest.mark.docker
def test_platforms_on_one_engine_keep_apart(
    backend: DockerBackend, launch_of: Callable[..., Launch], tmp_path: Path
) -> None:
    launch = launch_of("sleep 60")
    backend.launch(launch)
    other = DockerBackend(home=str(tmp_path / "other"))
    assert other.list_runs() == []
    assert [seen.run_id for seen in backend.list_runs()] == [launch.run_id]
    other.close()


@pytest.mark.docker
def test_a_long_log_is_read_from_its_end(backend: DockerBackend, launch_of: Callable[..., Launch]) -> None:
    launch = launch_of("seq 1 100000; printf 한글")
    backend.launch(launch)
    ended(backend, launch)
    assert backend.log(launch.run_id, 20) == "98\n99999\n100000\n한글"[-16:]
    assert len(backend.log(launch.run_id, 2**20).encode()) == 588_901
    assert backend.log(launch.run_id, 0) == ""


@pytest.mark.docker
def test_images(backend: DockerBackend, image: str) -> None:
    assert backend.image_exists(image)
    for reference in ("", "mudeung/none:here", "Not A Reference", "../x", image + "@sha256:" + "0" * 64):
        assert not backend.image_exists(reference)


def test_a_project_folder_can_be_written_by_its_containers(tmp_path: Path) -> None:
    folder = tmp_path / "projects" / "vision"
    (folder / "work").mkdir(parents=True)
    (folder / "work" / "a.txt").write_text("x")
    (tmp_path / "outside.txt").write_text("x")
    (folder / "link").symlink_to(tmp_path / "outside.txt")
    (folder / "folder").symlink_to(tmp_path)
    prepare_project_folder(folder)
    prepare_project_folder(folder)
    uid, gid = (1000, 100) if os.getuid() == 0 else (os.getuid(), os.getgid())
    for path in (folder, folder / "work", folder / "work" / "a.txt"):
        assert (path.stat().st_uid, path.stat().st_gid) == (uid, gid)
    for path in (tmp_path, tmp_path / "outside.txt"):
        assert path.stat().st_uid == os.getuid()
    assert container_user() == (None if os.getuid() == 0 else f"{uid}:{gid}")
