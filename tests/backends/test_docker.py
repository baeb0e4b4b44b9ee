"""The Docker backend: on a real engine, and before sockets that answer as engines in trouble do."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import docker
import pytest

from quotas.backends import docker as docker_backend
from quotas.backends.docker import DockerBackend, container_user, prepare_project_folder
from quotas.backends.port import Backend, BackendAway
from quotas.domain import terms_docker
from quotas.domain.launch import RUN_LABEL, Launch
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import InvalidValue

IMAGES = ("mudeung/notebook:latest", "debian-python:bookworm")


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.APIClient]:
    """The engine of this machine, spoken to without the backend."""
    try:
        client = docker.APIClient(version="auto", timeout=30)
        client.ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker engine answers: {error}")
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(engine: docker.APIClient) -> str:
    for reference in IMAGES:
        if engine.images(name=reference):
            return reference
    pytest.skip(f"none of these images is here: {IMAGES}")


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[DockerBackend]:
    made = DockerBackend(client_timeout=30, home=str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def launch_of(engine: docker.APIClient, image: str, tmp_path: Path) -> Iterator[Callable[..., Launch]]:
    """Makes launches of a shell line in a project folder, and removes their containers in the end."""
    folder = tmp_path / "project: {folder}"
    prepare_project_folder(folder)
    tmp_path.chmod(0o755)
    made: list[Launch] = []

    def make(line: str, **changes: Any) -> Launch:
        profile = Profile("cpu-small", "CPU 소형", "Small CPU", image, 500, 64 * 2**20, 2**30)
        command = ("sh", "-c", line)
        launch = Launch(new_run_id(), RunKind.BATCH, "kim {x}", "vision", profile, command, str(folder))
        made.append(replace(launch, **changes))
        return made[-1]

    yield make
    for launch in made:
        with suppress(docker.errors.NotFound):
            engine.remove_container(terms_docker.container_name(launch.run_id), v=True, force=True)


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not come to be in time")


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
def test_a_missing_device_driver_is_the_engines_trouble(
    backend: DockerBackend, launch_of: Callable[..., Launch]
) -> None:
    """The engine answers 500 where it has no such driver: the container is left, never started."""
    launch = launch_of("true")
    terms = {"docker": {"device_driver": "nosuch", "device_ids": ["0"]}}
    profile = replace(launch.profile, device_model="H100", device_count=1, backend_terms=terms)
    launch = replace(launch, profile=profile, attach_devices=True)
    with pytest.raises(BackendAway, match="device driver"):
        backend.launch(launch)
    seen = backend.inspect(launch.run_id)
    assert (seen.running, seen.started_at) == (False, None)
    assert seen.exit_code not in (None, 0)
    assert "nosuch" in backend.log(launch.run_id, 2000)


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


class Engine(ThreadingMixIn, UnixStreamServer):
    """A socket that answers every request in one way, as an engine in trouble does."""

    daemon_threads = True
    answer: Callable[[BaseHTTPRequestHandler], None]


class Answering(BaseHTTPRequestHandler):
    """Speaks HTTP on a Unix socket."""

    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        if self.path.endswith("/version"):
            body = b'{"ApiVersion": "1.41"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self.server.answer(self)  # type: ignore[attr-defined]

    do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - the names that http.server calls

    def address_string(self) -> str:
        return "local"

    def log_message(self, *_: object) -> None:
        """Tests need no log of requests."""


@contextmanager
def troubled(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[[BaseHTTPRequestHandler], None]
) -> Iterator[None]:
    path = folder / "engine.sock"
    server = Engine(str(path), Answering)
    server.answer = answer
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def status(code: int) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        body = b'{"message": "in trouble"}'
        request.send_response(code)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return answer


def hang(request: BaseHTTPRequestHandler) -> None:
    time.sleep(3)
    request.close_connection = True


def cut(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b'{"State"')
    request.close_connection = True


def drop(request: BaseHTTPRequestHandler) -> None:
    request.connection.shutdown(socket.SHUT_RDWR)
    request.close_connection = True


def everything(backend: DockerBackend, folder: Path) -> list[Callable[[], Any]]:
    profile = Profile("cpu-small", "x", "x", "image", 500, 64 * 2**20, 2**30)
    launch = Launch(new_run_id(), RunKind.BATCH, "kim", "vision", profile, ("true",), str(folder))
    return [
        backend.list_runs,
        lambda: backend.inspect(launch.run_id),
        lambda: backend.launch(launch),
        lambda: backend.stop(launch.run_id, 0),
        lambda: backend.remove(launch.run_id),
        lambda: backend.log(launch.run_id, 100),
        lambda: backend.image_exists("image"),
    ]


@pytest.mark.parametrize("answer", [status(500), status(503), cut, drop])
def test_an_engine_in_trouble_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    """DockerSpawner itself reads a 500 as "gone"."""
    with troubled(tmp_path, monkeypatch, answer):
        backend = DockerBackend(client_timeout=5)
        for call in everything(backend, tmp_path):
            with pytest.raises(BackendAway, match="docker"):
                call()
        backend.close()


def test_an_engine_that_hangs_is_waited_for_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with troubled(tmp_path, monkeypatch, hang):
        backend = DockerBackend(client_timeout=1)
        for call in everything(backend, tmp_path)[:2]:
            began = time.monotonic()
            with pytest.raises(BackendAway):
                call()
            assert 0.9 < time.monotonic() - began < 3
        backend.close()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # docker-py leaves the socket that failed
def test_an_engine_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked before the first call; a port without a listener refuses, a socket file may be missing."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        for host in (f"unix://{tmp_path}/none.sock", address):
            monkeypatch.setenv("DOCKER_HOST", host)
            backend = DockerBackend(client_timeout=2)
            for call in everything(backend, tmp_path):
                with pytest.raises(BackendAway, match="docker"):
                    call()
            backend.close()
    gc.collect()


def test_only_404_means_that_it_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with troubled(tmp_path, monkeypatch, status(404)):
        backend = DockerBackend(client_timeout=5)
        run_id = new_run_id()
        assert backend.inspect(run_id) is None
        assert backend.log(run_id, 100) == ""
        assert not backend.image_exists("image")
        backend.stop(run_id, 0)
        backend.remove(run_id)
        backend.close()
