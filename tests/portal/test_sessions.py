"""A server's questions about itself: with the token of its run, which opens nothing else, or with its person's."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import select, update
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from portal.errors import Problem
from portal.sessions import BURST, MOST_RUNS, REFILL_SECONDS, Pace, only_sessions
from quotas.domain.admission import Admitted, Request
from quotas.domain.launch import RUN_VARIABLE
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.sessions import API_PATH, TOKEN_VARIABLE, URL_VARIABLE, token_of
from quotas.home import open_home
from quotas.services import admission, check
from quotas.services.admission import Ended
from quotas.session_variables import session_variables
from quotas.store.migrate import migrate
from quotas.store.tables import audit_events, profiles, run_activity, runs
from tests.platform import CPU, ROOT, answers, wait_for
from tests.portal.conftest import BASE, Portal

HOUR = 3_600
VARIABLES = """
from quotas.home import from_environment
from quotas.session_variables import session_variables
print(session_variables(from_environment(), "a run"))
"""


def ended(portal: Portal, run_id: str) -> None:
    now = int(time.time())
    admission.settle(portal.platform.database, run_id, Ended(None, None, Outcome.STOPPED), now)


@pytest.fixture
def run(portal: Portal) -> Iterator[str]:
    """An open run of ben's, whose server is idle and is to be stopped in nine minutes."""
    database, now = portal.platform.database, int(time.time())
    asked = Request(new_run_id(), RunKind.NOTEBOOK, "ben", "vision", CPU)
    assert isinstance(admission.reserve(database, asked, now, portal.platform.home.settings.policy()), Admitted)
    admission.started(database, asked.run_id, now)
    with database.write() as transaction:
        transaction.run(update(profiles).values(session_seconds=4 * HOUR, idle_seconds=HOUR))
        transaction.run(update(runs).where(runs.c.id == asked.run_id).values(idle_stop_at=now + 540))
    yield asked.run_id
    ended(portal, asked.run_id)
    assert check.findings(database, int(time.time())) == []


def ask(portal: Portal, run_id: str, method: str = "GET", path: str = "", **arguments: Any) -> httpx.Response:
    """Ask as a process of the run does, at the address in its environment."""
    given = session_variables(portal.platform.home, run_id)
    headers = {"Authorization": f"Bearer {given[TOKEN_VARIABLE]}"}
    return httpx.request(method, given[URL_VARIABLE] + path, headers=headers, timeout=30, **arguments)


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_run_is_told_how_it_stands(portal: Portal, run: str) -> None:
    answer = ask(portal, run)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["run"], told["person"], told["project"], told["profile"]) == (run, "ben", "vision", CPU)
    assert (told["language"], told["limit"], told["can_extend"]) == ("ko", "idle", True)
    assert 530 <= told["seconds_left"] <= 540
    assert told["stop_at"].endswith("+09:00")
    assert told["device"] is None
    assert told["budget"]["left_seconds"] > 1000 * HOUR
    assert told["activity"]["session_limit_seconds"] == 4 * HOUR
    assert len(answer.content) < 4096


def test_a_run_extends_itself_once_it_is_worth_it(portal: Portal, run: str) -> None:
    told = ask(portal, run, "POST", "/extend").json()
    assert (told["extended"], told["limit"], told["can_extend"]) == (True, "session", False)
    assert told["seconds_left"] > 4 * HOUR - 10
    assert told["message_en"].startswith("Extended: it goes on until ")
    assert told["message_ko"].startswith("연장되었습니다.")
    again = ask(portal, run, "POST", "/extend", json={}).json()
    assert again["extended"] is False
    assert "더 연장할 수 없습니다" in again["message_ko"]
    with portal.platform.database.read() as transaction:
        noted = transaction.rows(select(audit_events.c.actor).where(audit_events.c.action == "session extended"))
    assert [each.actor for each in noted] == ["ben"]


def test_what_its_kernels_do_is_kept(portal: Portal, run: str) -> None:
    now = int(time.time())
    assert ask(portal, run, "POST", "/activity", json={"busy_kernels": 2, "active_at": now}).status_code == 204
    with portal.platform.database.read() as transaction:
        kept = transaction.one(select(run_activity).where(run_activity.c.run_id == run))
    assert (kept.busy_kernels, kept.active_at) == (2, now)
    for wrong in (
        {},
        {"busy_kernels": -1},
        {"busy_kernels": "2"},
        {"busy_kernels": 1, "more": 1},
        {"busy_kernels": 1.5},
    ):
        assert code_of(ask(portal, run, "POST", "/activity", json=wrong)) == (400, "invalid_value"), wrong


def test_a_forged_token_opens_nothing(portal: Portal, run: str) -> None:
    url = f"{portal.platform.url}{API_PATH}"
    right = session_variables(portal.platform.home, run)[TOKEN_VARIABLE]
    other = session_variables(portal.platform.home, new_run_id())[TOKEN_VARIABLE]
    forged = [
        "",
        "Bearer",
        f"Basic {right}",
        f"Bearer {run}",
        f"Bearer {run}.{'0' * 64}",
        f"Bearer {run}.{other.partition('.')[2]}",
        f"Bearer {token_of('guessed', run)}",
        f"Bearer {right[:-1]}",
        f"token {portal.platform.test_token}",
    ]
    for given in forged:
        for method, path in (("GET", ""), ("POST", "/extend"), ("POST", "/activity")):
            answer = httpx.request(method, url + path, headers={"Authorization": given} if given else {}, timeout=30)
            assert code_of(answer) == (401, "unauthenticated"), given
    assert httpx.get(url, headers={"Authorization": f"Bearer {right}"}, timeout=30).status_code == 200


def test_the_token_of_a_run_that_was_never_held_or_has_ended_opens_nothing(portal: Portal, run: str) -> None:
    for each in (new_run_id(), run):
        if each == run:
            ended(portal, run)
        assert code_of(ask(portal, each)) == (410, "run_ended")
        assert code_of(ask(portal, each, "POST", "/extend")) == (410, "run_ended")
        assert code_of(ask(portal, each, "POST", "/activity", json={"busy_kernels": 0})) == (410, "run_ended")


def test_the_token_of_a_run_opens_no_other_address(portal: Portal, run: str) -> None:
    token = session_variables(portal.platform.home, run)[TOKEN_VARIABLE]
    headers = {"Authorization": f"Bearer {token}"}
    for path in (f"runs/{run}/session", "projects/vision/runs", "queue"):
        answer = httpx.get(f"{portal.platform.url}{BASE}api/{path}", headers=headers, timeout=30)
        assert answer.status_code == 401, path
    assert httpx.get(f"{portal.platform.url}/hub/api/user", headers=headers, timeout=30).status_code == 403


def test_its_person_sees_and_extends_it_with_a_token_of_the_hub(portal: Portal, run: str) -> None:
    told = portal.call("ben", "GET", f"runs/{run}/session").json()
    assert (told["run"], told["limit"]) == (run, "idle")
    extended = portal.call("ben", "POST", f"runs/{run}/session/extend").json()
    assert (extended["extended"], extended["limit"]) == (True, "session")


def test_a_pi_sees_it_and_nobody_else_does(portal: Portal, run: str) -> None:
    assert portal.call("ada", "GET", f"runs/{run}/session").json()["person"] == "ben"
    assert code_of(portal.call("ada", "POST", f"runs/{run}/session/extend")) == (403, "not_yours")
    for stranger in ("cho", "dan"):
        for method, path in (("GET", "session"), ("POST", "session/extend")):
            assert code_of(portal.call(stranger, method, f"runs/{run}/{path}")) == (404, "not_found")
    for unknown in (new_run_id(), "x", "x" * 400):
        assert code_of(portal.call("ada", "GET", f"runs/{unknown}/session")) == (404, "not_found")


def test_who_asks_all_the_time_is_asked_to_wait(portal: Portal, run: str) -> None:
    answers = [ask(portal, run) for _ in range(BURST + 5)]
    assert [answer.status_code for answer in answers[:BURST]] == [200] * BURST
    assert code_of(answers[-1]) == (429, "too_often")


def test_a_server_has_its_token_and_address_in_its_environment(portal: Portal) -> None:
    platform = portal.platform
    assert platform.start_server("ada", "robots").status_code in (201, 202)
    platform.wait_ready("ada", "robots")
    run_id = platform.runs("robots")[0].id
    wanted = session_variables(platform.home, run_id)
    found = [environ for each in psutil.process_iter() if (environ := _environment(each)).get(RUN_VARIABLE) == run_id]
    assert found
    assert all(wanted.items() <= environment.items() for environment in found)
    assert ask(portal, run_id).json()["person"] == "ada"
    assert platform.stop_server("ada", "robots").status_code in (202, 204)
    platform.wait_stopped("ada", "robots")
    assert code_of(ask(portal, run_id)) == (410, "run_ended")


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):
        return {}


def test_a_pace_lets_a_burst_pass_and_then_as_much_as_it_refills() -> None:
    at = [0.0]
    pace = Pace(lambda: at[0])
    for _ in range(BURST):
        pace.take("a")
    with pytest.raises(Problem, match="asks too often"):
        pace.take("a")
    pace.take("b", BURST)
    at[0] += REFILL_SECONDS
    pace.take("a")
    with pytest.raises(Problem):
        pace.take("a", 0.1)
    for number in range(MOST_RUNS + 10):
        pace.take(f"run {number}")
    assert len(pace.buckets) <= MOST_RUNS


def test_of_the_containers_address_only_the_sessions_are_to_be_reached() -> None:
    async def page(_request: object) -> PlainTextResponse:
        return PlainTextResponse("here")

    paths = [API_PATH, f"{API_PATH}/extend", BASE, f"{BASE}api/queue", f"{API_PATH}s", f"{BASE}api/../{BASE}"]
    app = Starlette(routes=[Route(path, page) for path in paths])

    async def statuses() -> list[int]:
        transport = httpx.ASGITransport(only_sessions(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return [(await client.get(path)).status_code for path in paths]

    assert asyncio.run(statuses()) == [200, 200, 404, 404, 404, 404]


def test_the_portal_comes_up_while_the_engine_is_away_and_ends_in_order(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home", backend="docker")
    migrate(home.database())
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "MUDEUNG_HOME": str(home.path)}
    environment |= {"MUDEUNG_OVERRIDES": '{"backend": "docker"}', "DOCKER_HOST": f"unix://{tmp_path}/nothing.sock"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "portal"], env=environment, cwd=tmp_path, stderr=log)
    try:
        health = f"http://127.0.0.1:{home.ports()['portal']}{BASE}health"
        wait_for("the portal", lambda: answers(health, 200), process=process)
        told = "containers cannot ask for their time left yet"
        wait_for("its word on the engine", lambda: told in (tmp_path / "log").read_text(), process=process)
        words = [sys.executable, "-c", VARIABLES]
        given = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True)
        assert given.stdout.strip() == "{}", "a run is started without, rather than not at all"
    finally:
        process.terminate()
        assert process.wait(15) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()
