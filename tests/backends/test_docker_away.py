"""The Docker backend before sockets that answer as engines in trouble do, or do not answer."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from quotas.backends.docker import DockerBackend
from quotas.backends.port import BackendAway
from quotas.domain.launch import Launch
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind, new_run_id


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


@pytest.fixture
def collected() -> Iterator[None]:
    """What the test leaves is collected at once, and not while another test runs."""
    yield
    gc.collect()


# docker-py does not close a socket that failed to connect.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("collected")
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
