"""The API over a real hub: rights, every kind of bad input, and a schedule from its making to its charge."""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx
import pytest

from quotas.services import schedules
from quotas.store import audit
from tests.platform import wait_for
from tests.portal.conftest import BASE, Portal

BODY: dict[str, Any] = {
    "notebook": "train.ipynb",
    "profile": "cpu-small",
    "cron": "30 2 * * 1-5",
    "parameters": {"seed": 41},
    "timeout_seconds": 600,
    "title": "야간 학습",
}
SCHEDULES = "projects/vision/schedules"


def made_by(portal: Portal, person: str) -> dict[str, Any]:
    """Return a new schedule of the person's."""
    answer = portal.call(person, "POST", SCHEDULES, json=BODY)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    assert error["message_ko"] != error["message_en"]
    return answer.status_code, error["code"], error["field"]


def test_a_schedule_is_made_paused_resumed_and_run(portal: Portal) -> None:
    made = made_by(portal, "ben")
    assert {key: made[key] for key in BODY} == BODY
    assert (made["person"], made["timezone"], made["enabled"]) == ("ben", "Asia/Seoul", True)
    assert made["next_at"].endswith("T02:30:00+09:00")
    assert made in portal.call("ada", "GET", SCHEDULES).json()
    place = f"{SCHEDULES}/{made['id']}"
    paused = portal.call("ada", "POST", f"{place}/pause", json={"reason": "data is moved"}).json()
    assert (paused["enabled"], paused["pause_reason"], paused["next_at"]) == (False, "data is moved", None)
    assert portal.call("ada", "POST", f"{place}/resume").json() == made
    claimed = portal.call("ada", "POST", f"{place}/run")
    assert claimed.status_code == 202
    scheduler = portal.platform.start("scheduler", [sys.executable, "-m", "batch", "scheduler"])

    def ended() -> dict[str, Any] | None:
        found = portal.call("ben", "GET", f"runs/{claimed.json()['id']}").json()
        return found if found["finished_at"] else None

    run = wait_for("the run", ended, process=scheduler)
    portal.platform.kill("scheduler")
    assert run["state"] == "succeeded", run
    assert (run["person"], run["parameters"], run["schedule_id"]) == ("ben", {"seed": 41}, made["id"])
    assert "seed 41" in run["log"]
    assert run["charge_gflops_seconds"] == 50 * run["seconds"] > 0
    output = portal.platform.home.project_folder("vision") / run["output"]
    assert "seed 41" in output.read_text()
    (listed,) = (each for each in portal.call("ada", "GET", "projects/vision/runs").json() if each["id"] == run["id"])
    assert listed == {key: value for key, value in run.items() if key not in {"log", "failing_cell"}}


def test_once_at_an_instant_of_a_zone(portal: Portal) -> None:
    body = {key: value for key, value in BODY.items() if key != "cron"}
    for at, zone, expected in (
        ("2031-03-01T09:00", "Asia/Seoul", "2031-03-01T09:00:00+09:00"),
        ("2031-03-01T09:00", "UTC", "2031-03-01T18:00:00+09:00"),
        ("2031-03-01T09:00:00-05:00", "Asia/Seoul", "2031-03-01T23:00:00+09:00"),
    ):
        made = portal.call("ada", "POST", SCHEDULES, json={**body, "at": at, "timezone": zone}).json()
        assert (made["at"], made["next_at"]) == (expected, expected)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "soon"}, "cron"),
        ({"cron": 5}, "cron"),
        ({"cron": "* " * 100}, "cron"),
        ({"cron": None}, "cron"),
        ({"at": "2031-01-01"}, "cron"),
        ({"cron": None, "at": "yesterday"}, "at"),
        ({"cron": None, "at": "2001-01-01"}, "at"),
        ({"timezone": "Asia/Seul"}, "timezone"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
        ({"timezone": 9}, "timezone"),
        ({"notebook": "none.ipynb"}, "notebook"),
        ({"notebook": "../../ledger.sqlite"}, "notebook"),
        ({"notebook": "/etc/passwd"}, "notebook"),
        ({"notebook": ""}, "notebook"),
        ({"notebook": ["train.ipynb"]}, "notebook"),
        ({"profile": "none"}, "profile"),
        ({"profile": None}, "profile"),
        ({"timeout_seconds": "600"}, "timeout_seconds"),
        ({"timeout_seconds": True}, "timeout_seconds"),
        ({"timeout_seconds": 10.5}, "timeout_seconds"),
        ({"timeout_seconds": 0}, "timeout"),
        ({"timeout_seconds": -1}, "timeout_seconds"),
        ({"timeout_seconds": 10**30}, "timeout_seconds"),
        ({"parameters": {"seed": "41"}}, "seed"),
        ({"parameters": {"sead": 41}}, "sead"),
        ({"parameters": {"x=1;import os#": 1}}, "parameters"),
        ({"parameters": [1]}, "parameters"),
        ({"parameters": {str(number): 1 for number in range(60)}}, "parameters"),
        ({"title": "x" * 201}, "title"),
        ({"title": "\u202e"}, "title"),
        ({"person": "ada"}, "person"),
        ({"project": "robots"}, "project"),
        ({"run_id": "1"}, "run_id"),
        ({"title": "x" * 60_000}, "title"),
    ],
)
def test_bad_input_is_refused_with_its_field_and_leaves_an_event(
    portal: Portal, changes: dict[str, Any], field: str
) -> None:
    database = portal.platform.database
    before = schedules.list_schedules(database)
    answer = portal.call("ben", "POST", SCHEDULES, json={**BODY, **changes})
    assert error_of(answer) == (400, "invalid_value", field)
    assert answer.json()["error"]["message"] == answer.json()["error"]["message_ko"]
    assert schedules.list_schedules(database) == before
    with database.read() as transaction:
        event = audit.latest(transaction, 1)[0]
    assert (event.actor, event.action, event.subject) == ("ben", "schedule refused", "vision")
    assert field in json.loads(event.detail)["field"] or field == "project"


@pytest.mark.parametrize(
    ("content", "status", "field"),
    [
        (b"{", 400, "body"),
        (b"[]", 400, "body"),
        (b'"text"', 400, "body"),
        (b"\xff", 400, "body"),
        (b"", 400, "notebook"),
        (b'{"notebook": "a", "notebook": "b"}', 400, "notebook"),
        (b'{"parameters": {"seed": 1, "seed": 2}}', 400, "seed"),
        (b'{"parameters": {"seed": NaN}}', 400, "body"),
        (b"[" * 50_000, 400, "body"),
        (b'{"title": "' + b"x" * 2**20 + b'"}', 413, "body"),
    ],
)
def test_what_is_no_object_is_refused(portal: Portal, content: bytes, status: int, field: str) -> None:
    answer = portal.call("ben", "POST", SCHEDULES, content=content)
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)


def test_a_body_of_untold_length_is_limited_too(portal: Portal) -> None:
    answer = portal.call("ben", "POST", SCHEDULES, content=(b"x" * 1000 for _ in range(1000)))
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("person", "project", "status", "code"),
    [
        ("cho", "vision", 403, "role_may_not"),
        ("dan", "vision", 403, "not_a_member"),
        ("dan", "none", 403, "not_a_member"),
        ("ben", "x" * 79, 403, "not_a_member"),
        ("ben", "..%2f..", 404, "not_found"),
    ],
)
def test_who_is_not_allowed_learns_nothing(portal: Portal, person: str, project: str, status: int, code: str) -> None:
    made = made_by(portal, "ada")["id"]
    calls = [
        ("GET", f"projects/{project}/schedules"),
        ("POST", f"projects/{project}/schedules"),
        ("GET", f"projects/{project}/runs"),
        *(("POST", f"projects/{project}/schedules/{made}/{act}") for act in ("run", "pause", "resume")),
    ]
    for method, path in calls:
        answer = portal.call(person, method, path, **({"json": BODY} if path.endswith("schedules") else {}))
        if method == "GET" and path.endswith("schedules") and status == 403:
            assert "train.ipynb" not in answer.text
        assert error_of(answer)[:2] == (status, code), (method, path)
    if status == 403:
        with portal.platform.database.read() as transaction:
            events = audit.latest(transaction, 4)
        assert [json.loads(each.detail) for each in events] == [{"field": code}] * 4
        assert {(each.actor, each.action) for each in events} == {(person, "schedule refused")}


def test_a_schedule_is_reached_by_its_own_project_only(portal: Portal) -> None:
    made = made_by(portal, "ada")["id"]
    for number in (made, 999_999):
        answer = portal.call("ada", "POST", f"projects/robots/schedules/{number}/run")
        assert error_of(answer) == (404, "not_found", "schedule")
    for number in (0, -1, 10**30, "one"):
        assert portal.call("ada", "POST", f"{SCHEDULES}/{number}/run").status_code == 400
    assert portal.call("ada", "POST", f"{SCHEDULES}/{made}/erase").status_code == 404
    assert error_of(portal.call("ada", "POST", f"{SCHEDULES}/{made}/run", json={"as": "ben"}))[2] == "as"
    assert portal.call("ada", "DELETE", f"{SCHEDULES}/{made}").status_code in {404, 405}


def test_a_run_is_seen_by_its_project_only(portal: Portal) -> None:
    made = made_by(portal, "ada")["id"]
    run = portal.call("ada", "POST", f"{SCHEDULES}/{made}/run").json()["id"]
    assert portal.call("ben", "GET", f"runs/{run}").json()["state"] == "claimed"
    for person, number in (("dan", run), ("cho", run), ("ada", "01890000-0000-7000-8000-000000000000"), ("ada", "x")):
        assert error_of(portal.call(person, "GET", f"runs/{number}")) == (404, "not_found", "run")


def test_only_a_persons_token_with_the_right_scope_is_taken(portal: Portal) -> None:
    platform = portal.platform
    url = f"{platform.url}{BASE}api/{SCHEDULES}"
    for header in ("", "token", "token forged", "Basic YTpi", f"token {'x' * 600}", "token \u00e9"):
        headers = {"Authorization": header.encode("latin-1")} if header else {}
        answer = httpx.get(url, headers=headers, timeout=30)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated"), header
    assert httpx.get(url, headers={"Authorization": f"token {platform.test_token}"}).status_code == 401
    narrow = platform.admin("POST", "/users/ada/tokens", json={"scopes": ["read:users!user"]}).json()["token"]
    answer = httpx.get(url, headers={"Authorization": f"token {narrow}"}, timeout=30)
    assert error_of(answer) == (403, "forbidden", "")
    assert platform.browser("ada").get(f"{BASE}api/{SCHEDULES}").status_code == 401


def test_a_revoked_token_is_refused_soon(portal: Portal) -> None:
    platform = portal.platform
    made = platform.admin("POST", "/users/ada/tokens", json={"note": "short"}).json()
    headers = {"Authorization": f"bearer {made['token']}"}
    url = f"{platform.url}{BASE}api/{SCHEDULES}"
    assert httpx.get(url, headers=headers, timeout=30).status_code == 200
    platform.admin("DELETE", f"/users/ada/tokens/{made['id']}")
    wait_for("the end", lambda: httpx.get(url, headers=headers, timeout=30).status_code == 401, seconds=15)


def test_errors_speak_the_persons_language(portal: Portal) -> None:
    english = portal.call("ada", "POST", SCHEDULES, json={**BODY, "cron": "soon"}).json()["error"]
    assert english["message"] == english["message_en"]
    stranger = httpx.get(f"{portal.platform.url}{BASE}api/none", headers={"Accept-Language": "en"}, timeout=30)
    assert stranger.json()["error"]["message"] == "There is no such page."
