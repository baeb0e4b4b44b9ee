"""A platform that answers a server's questions about itself, in the portal's own words, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from portal.sessions import session_json
from quotas.domain.runs import Limit, RunKind, new_run_id
from quotas.domain.sessions import (
    API_PATH,
    TOKEN_VARIABLE,
    URL_VARIABLE,
    Device,
    Extending,
    Facts,
    Notice,
    Remaining,
    token_of,
)

NOW = 1_800_000_000
HOUR = 3_600
RUN = new_run_id()
TOKEN = token_of("a key", RUN)
IDLE, SESSION = Remaining(NOW + 540, Limit.IDLE), Remaining(NOW + 4 * HOUR, Limit.SESSION)
FACTS = Facts(
    run=RUN,
    kind=RunKind.NOTEBOOK,
    person="ada",
    language="ko",
    project="vision",
    profile="h100",
    profile_ko="H100 프로필",
    profile_en="H100 profile",
    device_model="h100",
    device_count=1,
    simulated=False,
    devices=(Device("NVIDIA H100", "available", 830_000, NOW - 10),),
    now=NOW,
    started_at=NOW - HOUR,
    remaining=IDLE,
    extending=Extending(True, SESSION),
    gflops=66_900,
    budget_left=66_900 * 10 * HOUR,
    charged=66_900 * HOUR,
    paused_since=None,
    paused_why="",
    busy_kernels=0,
    active_at=NOW - 1200,
    kept_at=None,
    idle_seconds=1800,
    session_seconds=4 * HOUR,
    notices=(Notice(7, NOW, "It will be stopped.", "중지됩니다."),),
)


@dataclass
class StandIn:
    """The platform: what it says, how slowly, and what it was asked, as (method, path, body)."""

    facts: Facts = FACTS
    status: int = 200
    pause_seconds: float = 0
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None
    port: int = 0

    def start(self) -> None:
        """It answers, at the same port each time."""
        made = type("Handler", (_Handler,), {"stand_in": self})
        self.server = _Server(("127.0.0.1", self.port), made)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def times(self, method: str, path: str = "") -> int:
        return sum(each[:2] == (method, path) for each in self.asked)

    @property
    def environment(self) -> dict[str, str]:
        return {TOKEN_VARIABLE: TOKEN, URL_VARIABLE: f"http://127.0.0.1:{self.port}{API_PATH}"}

    def answer(self, method: str, path: str) -> tuple[int, Any]:
        if self.status != 200:
            error = {"code": "x", "message_en": "This run has ended.", "message_ko": "이 실행은 종료되었습니다."}
            return self.status, {"error": error}
        if (method, path) == ("POST", "/extend"):
            can = self.facts.extending.possible
            if can:
                self.facts = replace(self.facts, remaining=SESSION, extending=Extending(False, SESSION), notices=())
            said = {
                "extended": can,
                "message_en": "Extended." if can else "No.",
                "message_ko": "연장됨." if can else "불가.",
            }
            return 200, {**session_json(self.facts), "extended": can, **said}
        return (204, None) if path == "/activity" else (200, session_json(self.facts))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    stand_in: ClassVar[StandIn]

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null")
        path = self.path.removeprefix(API_PATH)
        self.stand_in.asked.append((self.command, path, body))
        time.sleep(self.stand_in.pause_seconds)
        status, answer = self.stand_in.answer(self.command, path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            status, answer = 401, {"error": {}}
        text = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_POST = do_GET  # noqa: N815 - as above


@pytest.fixture
def platform() -> Iterator[StandIn]:
    made = StandIn()
    made.start()
    yield made
    made.stop()
