"""The extension in a real Jupyter server: what pages are told, what the platform is told, and what stays inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from quotas.ports import free_ports
from tests.client.conftest import TOKEN, StandIn
from tests.platform import ROOT, answers, wait_for

SETTINGS = ROOT / "images" / "notebook" / "settings" / "etc" / "jupyter"
PASS = "only-here"
QUICK = """
from mudeung_session import extension
extension.KEPT_SECONDS, extension.AWAY_SECONDS, extension.REPORT_SECONDS, extension.FIRST_REPORT_SECONDS = 2, 1, 1, 0
from jupyter_server.serverapp import main
main()
"""


@dataclass(frozen=True)
class Server:
    """A Jupyter server whose extension asks oftener than usual, so that a test need not wait."""

    url: str
    log: Path

    def ask(self, method: str = "GET", path: str = "", **named: Any) -> httpx.Response:
        named = {"headers": {"Authorization": f"token {PASS}"}, **named}
        return httpx.request(method, f"{self.url}mudeung/session{path}", timeout=30, **named)

    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask().raise_for_status().json()
        return found


@contextmanager
def serving(folder: Path, environment: dict[str, str]) -> Iterator[Server]:
    port = free_ports(1)[0]
    kept = {
        name: str(folder / name) for name in ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    }
    base = {"PATH": os.environ["PATH"], "JUPYTER_CONFIG_PATH": str(SETTINGS), "LANG": "C.UTF-8"}
    words = [f"--ServerApp.port={port}", f"--IdentityProvider.token={PASS}", "--ServerApp.base_url=/user/ada/vision/"]
    words += ["--ServerApp.open_browser=False", "--allow-root", f"--ServerApp.root_dir={folder}"]
    log = folder / "server.log"
    with log.open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, "-c", QUICK, *words],
            env={**base, **kept, **environment},
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}/user/ada/vision/"
        wait_for("the server", lambda: answers(f"{url}api", 200), seconds=60, process=process)
        yield Server(url, log)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)


@pytest.fixture
def server(platform: StandIn, tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path, platform.environment) as started:
        yield started


def test_pages_are_told_the_platforms_word_and_never_the_token(server: Server, platform: StandIn) -> None:
    answer = server.ask()
    told = answer.json()
    assert (told["away"], told["problem"], told["age_seconds"]) == (False, None, 0)
    assert (told["facts"]["seconds_left"], told["facts"]["limit"], told["facts"]["can_extend"]) == (540, "idle", True)
    assert TOKEN not in answer.text
    assert TOKEN not in str(answer.headers)
    assert TOKEN not in server.log.read_text()
    asked = platform.times("GET")
    for _ in range(5):
        server.told()
    assert platform.times("GET") == asked, "an answer is kept for a moment"
    time.sleep(2.1)
    server.told()
    assert platform.times("GET") == asked + 1


def test_a_page_extends_and_the_new_word_is_told_at_once(server: Server, platform: StandIn) -> None:
    server.told()
    extended = server.ask("POST", "/extend").json()
    assert (extended["extended"], extended["message_ko"]) == (True, "연장됨.")
    assert extended["facts"]["limit"] == "session"
    assert "extended" not in extended["facts"]
    assert server.told()["facts"]["limit"] == "session"
    assert server.ask("POST", "/extend").json()["extended"] is False
    assert server.ask("GET", "/extend").status_code == 405
    assert platform.times("POST", "/extend") == 2


def test_strangers_and_forged_forms_are_turned_away(server: Server, platform: StandIn) -> None:
    assert server.ask(headers={}).status_code == 403
    assert server.ask("POST", "/extend", headers={}).status_code == 403
    with httpx.Client(timeout=30) as browser:  # a cookie alone, as another site's form would send it
        browser.get(f"{server.url}api/status", params={"token": PASS}).raise_for_status()
        assert browser.cookies
        assert browser.get(f"{server.url}mudeung/session").status_code == 200
        assert browser.post(f"{server.url}mudeung/session/extend").status_code == 403
    assert platform.times("POST", "/extend") == 0


def test_while_the_platform_is_away_the_last_word_is_told_with_its_age(server: Server, platform: StandIn) -> None:
    server.told()
    platform.stop()
    wait_for("the platform to be missed", lambda: server.told()["away"], seconds=10)
    told = wait_for("the last word to grow old", lambda: (told := server.told())["age_seconds"] >= 1 and told)
    assert (told["facts"]["limit"], told["away"]) == ("idle", True)
    extended = server.ask("POST", "/extend").json()
    assert (extended["extended"], extended["away"]) == (False, True)
    platform.start()
    wait_for("the platform to be back", lambda: not server.told()["away"], seconds=10)
    assert server.ask("POST", "/extend").json()["extended"] is True


def test_an_ended_run_is_told_as_such(server: Server, platform: StandIn) -> None:
    platform.status = 410
    told = server.told()
    assert (told["problem"], told["facts"], told["away"]) == (410, None, False)
    assert server.ask("POST", "/extend").json()["message_en"] == "This run has ended."


def test_what_kernels_and_terminals_do_is_told_and_open_pages_are_not(server: Server, platform: StandIn) -> None:
    headers = {"Authorization": f"token {PASS}"}

    def last() -> dict[str, Any]:
        said: dict[str, Any] = [body for method, path, body in platform.asked if path == "/activity"][-1]
        return said

    wait_for("a first word", lambda: platform.times("POST", "/activity") > 1)
    assert last() == {"busy_kernels": 0, "active_at": None}

    def active_at() -> str:
        status = httpx.get(f"{server.url}api/status", headers=headers, timeout=30).json()
        return str(status["last_activity"])

    before = active_at()
    for _ in range(5):
        server.told()
    assert active_at() == before, "a page that asks is no activity of the server, to the hub neither"
    assert last()["active_at"] is None

    kernel = httpx.post(f"{server.url}api/kernels", json={"name": "python3"}, headers=headers, timeout=60).json()["id"]
    execute(server, kernel, "import time; time.sleep(4)")
    wait_for("a busy kernel", lambda: last()["busy_kernels"] == 1)
    wait_for("an idle kernel", lambda: last()["busy_kernels"] == 0)
    ended = last()["active_at"]
    assert abs(ended - time.time()) < 30
    time.sleep(2)
    assert last()["active_at"] == ended, "an idle kernel is not active, though it is there"
    time.sleep(1)
    assert httpx.post(f"{server.url}api/terminals", headers=headers, timeout=30).status_code == 200
    wait_for("the terminal", lambda: last()["active_at"] > ended)


def execute(server: Server, kernel: str, code: str) -> None:
    """The kernel begins with the code."""
    header = {
        "msg_id": "1",
        "msg_type": "execute_request",
        "session": "s",
        "username": "",
        "version": "5.3",
        "date": "",
    }
    content = {"code": code, "silent": False}
    request = {
        "header": {**header, "date": ""},
        "parent_header": {},
        "metadata": {},
        "channel": "shell",
        "content": content,
    }
    address = f"{server.url}api/kernels/{kernel}/channels".replace("http", "ws", 1)
    with connect(address, additional_headers={"Authorization": f"token {PASS}"}) as socket:
        socket.send(json.dumps(request))
        message: dict[str, Any] = {"header": {"msg_type": ""}}
        while message["header"]["msg_type"] != "execute_input":
            message = json.loads(socket.recv(timeout=30))


@pytest.mark.parametrize("environment", [{}, {"MUDEUNG_SESSION_TOKEN": TOKEN}])
def test_without_a_platform_it_is_off(tmp_path: Path, environment: dict[str, str]) -> None:
    with serving(tmp_path, environment) as server:
        assert server.ask().status_code == 404
        assert "no platform started this server" in server.log.read_text()
        assert "Traceback" not in server.log.read_text()
