"""The idle culler beside a real hub: who works stays, who lets a device sleep is told and stopped, whoever is away."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from quotas.domain.runs import Outcome, RunState
from quotas.domain.sessions import Activity
from quotas.home import open_home
from quotas.services import check, profiles, sessions
from quotas.services.runs import Run
from quotas.store import notices
from quotas.store import runs as runs_store
from spawners.idleness import Arbiter
from tests.platform import BY, CPU, GPU, ROOT, Platform, running, wait_for

IDLE, NOTICE = 14, 5
QUICK = {"idleness_seconds": 1, "idle_notice_seconds": NOTICE}


def start_culler(platform: Platform, idle_seconds: int = IDLE) -> None:
    now = int(time.time())
    for profile in (CPU, GPU):
        profiles.set_limits(platform.database, profile, idle_seconds, None, actor=BY, now=now)
    platform.start("idleness", [sys.executable, "-m", "spawners.idleness"])


def run_of(platform: Platform, person: str, project: str = "vision") -> Run:
    return next(run for run in platform.runs(project) if run.person == person)


def start(platform: Platform, person: str, project: str = "vision", profile: str = GPU) -> str:
    assert platform.start_server(person, project, profile).status_code in {201, 202}
    platform.wait_ready(person, project)
    return run_of(platform, person, project).id


def say(platform: Platform, run_id: str, busy_kernels: int = 0) -> None:
    """The server tells what its kernels do, as its extension does through the portal."""
    assert sessions.note_activity(platform.database, run_id, Activity(busy_kernels, None), int(time.time()))


def use_page(platform: Platform, person: str, project: str = "vision") -> bool:
    """A page of the server is open, and the hub sees it."""
    seen = {"last_activity": datetime.now(UTC).isoformat()}
    answer = platform.admin("POST", f"/users/{person}/activity", json={**seen, "servers": {project: seen}})
    return answer.is_success


def told(platform: Platform, person: str) -> list[Any]:
    with platform.database.read() as transaction:
        found = notices.of_person(transaction, person, 0)
    return [each for each in found if each.kind == "run ending"]


def stop_at(platform: Platform, run_id: str) -> int | None:
    with platform.database.read() as transaction:
        found: int | None = runs_store.one(transaction, run_id).idle_stop_at
    return found


def test_who_works_stays_and_who_sleeps_is_told_and_stopped_by_the_hub(tmp_path: Path) -> None:
    """No reconciling loop helps here: the culler alone has the hub stop the server, and the ledger knows why."""
    with running(tmp_path, **QUICK) as platform:
        start_culler(platform)
        busy, asleep, silent = start(platform, "ada"), start(platform, "ben"), start(platform, "cho", profile=CPU)
        say(platform, busy, busy_kernels=1)
        say(platform, asleep)

        def somebody_is_told() -> list[Any]:
            assert use_page(platform, "ben")
            assert use_page(platform, "cho")
            return told(platform, "ben")

        (notice,) = wait_for("the notice", somebody_is_told)
        end = stop_at(platform, asleep)
        assert end is not None
        assert end >= notice.at + NOTICE
        assert f"{GPU}) has computed nothing since" in notice.text_en
        assert "1 × h100" in notice.text_ko
        platform.kill("hub")
        platform.start_hub()
        assert stop_at(platform, asleep) == end

        def is_stopped() -> bool:
            use_page(platform, "ben")
            use_page(platform, "cho")
            return run_of(platform, "ben").state is RunState.SETTLED

        wait_for("its end", is_stopped)
        ended = run_of(platform, "ben")
        assert ended.outcome is Outcome.IDLE
        assert ended.finished_at is not None
        assert ended.started_at is not None
        assert ended.finished_at >= end
        assert ended.seconds in {ended.finished_at - ended.started_at, ended.finished_at - ended.started_at - 1}
        platform.wait_stopped("ben", "vision")
        assert len(told(platform, "ben")) == 1
        # The server that says nothing of itself was used in the browser until now; the busy one never was.
        assert told(platform, "ada") == told(platform, "cho") == []
        assert [stop_at(platform, run) for run in (busy, silent)] == [None, None]
        wait_for(
            "the end of the one that nobody uses any more", lambda: run_of(platform, "cho").outcome is Outcome.IDLE
        )
        assert platform.server("ada", "vision")
        assert run_of(platform, "ada").state is RunState.RUNNING
        assert platform.processes["idleness"].poll() is None
        assert check.findings(platform.database, int(time.time())) == []


def test_its_person_keeps_a_server_and_the_loop_ends_another_while_the_hub_is_away(tmp_path: Path) -> None:
    with running(tmp_path, reconciler=True, **QUICK) as platform:
        start_culler(platform)
        kept, left = start(platform, "ada", "robots", CPU), start(platform, "ben")
        for run_id in (kept, left):
            say(platform, run_id)
        wait_for("the notices", lambda: told(platform, "ada") and told(platform, "ben"))
        policy = platform.home.settings.policy()
        assert sessions.extend(platform.database, kept, int(time.time()), policy)
        kept_at = time.time()
        platform.kill("hub")
        wait_for("its end", lambda: run_of(platform, "ben").state is RunState.SETTLED)
        assert run_of(platform, "ben").outcome is Outcome.IDLE
        platform.start_hub()
        platform.wait_stopped("ben", "vision")
        assert platform.server("ada", "robots")
        wait_for("another notice", lambda: len(told(platform, "ada")) == 2)
        assert stop_at(platform, kept) >= kept_at + IDLE - 1
        say(platform, kept, busy_kernels=1)
        wait_for("the end to be taken back", lambda: stop_at(platform, kept) is None)
        assert platform.server("ada", "robots")
        assert "not done in this round: " in platform.printed("idleness")
        assert "Traceback" not in platform.printed("idleness", 10**6)
        assert check.findings(platform.database, int(time.time())) == []


def test_a_ledger_that_is_away_ends_nobody_and_is_asked_again(tmp_path: Path) -> None:
    with running(tmp_path, **QUICK) as platform:
        run_id = start(platform, "ada")
        say(platform, run_id)
        with contextlib.closing(sqlite3.connect(platform.home.path / "ledger.sqlite", isolation_level=None)) as other:
            start_culler(platform, idle_seconds=2)
            other.execute("BEGIN EXCLUSIVE")
            wait_for("its complaint", lambda: "the ledger is away" in platform.printed("idleness"), seconds=60)
            other.execute("ROLLBACK")
        assert run_of(platform, "ada").state is RunState.RUNNING
        wait_for("its end", lambda: run_of(platform, "ada").outcome is Outcome.IDLE, seconds=60)
        assert len(told(platform, "ada")) == 1


def work_in(platform: Platform, person: str, code: str) -> dict[str, Any]:
    """Run the code in a new kernel of the person's server, and close the page at once; return the kernel."""
    browser = platform.browser(person)
    page = f"/user/{person}/vision"
    browser.get(f"{page}/lab").raise_for_status()
    xsrf = browser.cookies.get("_xsrf", path=f"{page}/")
    made = browser.post(f"{page}/api/kernels", json={"name": "python3"}, headers={"X-XSRFToken": xsrf})
    kernel: dict[str, Any] = made.raise_for_status().json()
    cookies = "; ".join(f"{each.name}={each.value}" for each in browser.cookies.jar if page.startswith(each.path[:-1]))
    address = f"{platform.url.replace('http', 'ws', 1)}{page}/api/kernels/{kernel['id']}/channels?_xsrf={xsrf}"
    header = {"msg_id": uuid.uuid4().hex, "session": uuid.uuid4().hex, "username": person, "version": "5.3"}
    header |= {"date": datetime.now(UTC).isoformat(), "msg_type": "execute_request"}
    rest: dict[str, Any] = {"parent_header": {}, "metadata": {}, "channel": "shell", "buffers": []}
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
    with connect(address, additional_headers={"Cookie": cookies, "Origin": platform.url}, proxy=None) as socket:
        socket.send(json.dumps({"header": header, "content": content, **rest}))
        deadline = time.monotonic() + 60
        while json.loads(socket.recv(timeout=60))["header"]["msg_type"] != "execute_input":
            assert time.monotonic() < deadline
    return kernel


def test_a_real_kernel_that_computes_without_a_browser_keeps_its_server(tmp_path: Path) -> None:
    with running(tmp_path, server=None, **QUICK) as platform:
        run_id = start(platform, "ada")
        done = tmp_path / "done"
        kernel = work_in(platform, "ada", f"import time, pathlib\ntime.sleep(25)\npathlib.Path({str(done)!r}).touch()")
        token = {"Authorization": f"token {platform._tokens['ada']}"}
        address = f"{platform.url}/user/ada/vision/api/kernels/{kernel['id']}"
        platform.browser("ada").close()
        start_culler(platform, idle_seconds=10)
        began = time.time()

        def report() -> bool:
            """What the server's extension does: tell what the kernel manager says."""
            found = httpx.get(address, headers=token, timeout=20).raise_for_status().json()
            active_at = int(datetime.fromisoformat(found["last_activity"]).timestamp())
            said = Activity(int(found["execution_state"] == "busy"), active_at)
            sessions.note_activity(platform.database, run_id, said, int(time.time()))
            return done.exists()

        wait_for("the end of the cell", report, seconds=90)
        assert time.time() - began > 15, "it has computed for longer than the limit"
        assert told(platform, "ada") == []
        wait_for("the notice", lambda: report() and told(platform, "ada"))
        platform.wait_stopped("ada", "vision", seconds=60)
        assert run_of(platform, "ada").outcome is Outcome.IDLE


def asked(platform: Platform, method: str, path: str) -> httpx.Response:
    headers = {"Authorization": f"token {platform.home.secret('idleness_token')}"}
    return httpx.request(method, f"{platform.url}/hub/api{path}", headers=headers, timeout=60)


def test_its_token_lists_and_stops_servers_and_does_nothing_else(platform: Platform) -> None:
    start(platform, "ada")
    (user,) = asked(platform, "GET", "/users?state=ready").raise_for_status().json()
    assert set(user) <= {"kind", "name", "admin", "servers", "user_info"}
    server = user["servers"]["vision"]
    assert server["full_name"] == "ada/vision"
    assert "state" not in server
    for method, path in (
        ("POST", "/users/ada/servers/robots"),
        ("POST", "/users/ada/tokens"),
        ("DELETE", "/users/ada"),
        ("GET", "/groups"),
        ("GET", "/proxy"),
    ):
        assert asked(platform, method, path).status_code in {403, 404}, (method, path)
    assert asked(platform, "DELETE", "/users/ada/servers/vision").status_code in {202, 204}
    platform.wait_stopped("ada", "vision")
    assert run_of(platform, "ada").outcome is Outcome.STOPPED


@pytest.mark.parametrize(
    "server",
    [
        {"full_name": "ada/vision"},
        {"full_name": "nobody/nothing"},
        {"full_name": "nothing"},
        {},
        {"full_name": "/"},
        {"full_name": "a'; DROP TABLE runs; --/'"},
    ],
)
@pytest.mark.parametrize("inactive", [None, timedelta(days=3), timedelta(seconds=-5)])
def test_a_server_that_is_not_known_is_not_stopped(
    platform: Platform, server: dict[str, str], inactive: timedelta | None
) -> None:
    assert Arbiter(platform.home, platform.database).decide(inactive, server) is False


def test_a_ledger_that_is_not_there_is_asked_once_in_a_while(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    arbiter = Arbiter(home, home.database())
    assert arbiter.decide(None, {"full_name": "ada/vision"}) is False
    assert arbiter.asks_again_at > time.monotonic()
    asks_again_at = arbiter.asks_again_at
    assert arbiter.decide(None, {"full_name": "ben/vision"}) is False
    assert arbiter.asks_again_at == asks_again_at


def culler(tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spawners.idleness", *words],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_its_help_and_its_errors(tmp_path: Path) -> None:
    assert "The idle culler as a process of its own" in culler(tmp_path, "--help").stdout
    homeless = culler(tmp_path)
    assert homeless.returncode == 2
    assert "MUDEUNG_HOME must name the home folder" in homeless.stderr
    (tmp_path / "mudeung.toml").write_text("idleness_seconds = 0\n")
    wrong = culler(tmp_path, MUDEUNG_HOME=str(tmp_path))
    assert wrong.returncode == 2
    assert "mudeung.toml: idleness_seconds = 0" in wrong.stderr
