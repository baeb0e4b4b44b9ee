"""A platform for agents: a real HTTP server that takes reports as the contract says, and keeps them."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from agent.options import REPORT_PATH

TOKEN = "node-token-of-a-test"


@dataclass
class Platform:
    """What was reported, each report of a stream once and in its order; and what is answered."""

    url: str = ""
    reports: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[tuple[str, int, bytes]] = field(default_factory=list)
    scrub: list[str] = field(default_factory=list)
    send_devices: bool = False
    status: int = 200
    refuse_sequences: set[int] = field(default_factory=set)
    calls: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, body: bytes, token: str | None) -> tuple[int, dict[str, Any]]:
        """Take one report; return the status and what is answered."""
        with self.changed:
            self.calls += 1
            self.changed.notify_all()
            if self.status != 200:
                return self.status, {"detail": "as the test wants"}
            if token != f"Bearer {TOKEN}":
                return 401, {"detail": "no such token"}
            report = json.loads(body)
            if report["sequence"] in self.refuse_sequences:
                return 400, {"detail": "this one not"}
            self.bodies.append((report["stream"], report["sequence"], body))
            if report["sequence"] > self.accepted(report["stream"]):
                self.reports.append(report)
            cleaned = {each["uuid"] for each in report["cleaned"]}
            self.scrub = [uuid for uuid in self.scrub if uuid not in cleaned]
            answer = {"accepted": self.accepted(report["stream"]), "scrub": self.scrub}
            return 200, {**answer, "send_devices": self.send_devices}

    def accepted(self, stream: str) -> int:
        return max((each["sequence"] for each in self.reports if each["stream"] == stream), default=0)

    def all(self, what: str) -> list[dict[str, Any]]:
        """Return all samples, events or cleaned devices that were reported, in their order."""
        with self.changed:
            return [item for report in self.reports for item in report[what]]

    def devices(self) -> list[list[dict[str, Any]]]:
        """Return every list of devices that was reported."""
        with self.changed:
            return [report["devices"] for report in self.reports if report["devices"] is not None]

    def wait(self, condition: Any, seconds: float = 20) -> None:
        """`condition` of this platform is true; fail when it does not become so."""
        deadline = time.monotonic() + seconds
        while not condition(self):
            with self.changed:
                self.changed.wait(0.1)
            assert time.monotonic() < deadline, f"it did not come to that: {self.calls} calls, {self.reports[-1:]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == REPORT_PATH:
            status, answer = self.server.platform.take(body, self.headers["Authorization"])
        else:
            status, answer = 404, {}
        said = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its parent's name for it
        """Say nothing: the test tells what was answered."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    platform: Platform
    connections: list[socket.socket]

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection, and remember it: one that is kept alive outlives a server that is closed."""
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: an agent that is killed leaves its connection half open, as the tests mean it to."""


@contextmanager
def serving(platform: Platform, port: int = 0) -> Iterator[int]:
    """The platform answers within, at its `url`; the port is given back at the end, so that it can be away."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.platform, server.connections = platform, []
    platform.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        for connection in server.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join(5)
