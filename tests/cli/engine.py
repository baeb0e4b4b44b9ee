"""Docker in these tests: whether it is here with the image, and an engine that has nothing at all."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType

import pytest

from quotas.backends.docker import DockerBackend
from quotas.backends.port import BackendAway

IMAGE = "mudeung/notebook:latest"


def skip_without_image() -> None:
    """Skip the test where no engine answers or the notebook image was not made."""
    engine = DockerBackend()
    try:
        if not engine.image_exists(IMAGE):
            pytest.skip(f"the image {IMAGE} is not on this machine")
    except BackendAway as away:
        pytest.skip(f"no Docker engine: {away}")
    finally:
        engine.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self) -> None:
        if self.path.endswith("/version"):
            self._answer(200, {"ApiVersion": "1.44", "Version": "25.0", "MinAPIVersion": "1.24"})
        elif "/containers/json" in self.path:
            self._answer(200, [])
        else:
            self._answer(404, {"message": "no such image"})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_words: object) -> None:
        return


class EmptyEngine(socketserver.ThreadingUnixStreamServer):
    """An engine that answers 404 for every image; it listens on `path` as long as its `with` block lasts."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.url = f"unix://{path}"

    def __enter__(self) -> EmptyEngine:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()
