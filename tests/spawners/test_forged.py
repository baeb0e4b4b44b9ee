"""What a person sends instead of the form's one field: refused with the field's name, in the audit, nothing started."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select

from quotas.services import check
from quotas.store.tables import audit_events
from tests.platform import CPU, GPU, Platform

MEGABYTE = "x" * 2**20
SHOWN = "x" * 60 + "…"
FORGED: tuple[tuple[str, Any, str], ...] = (
    ("extra field", {"profile": CPU, "image": "evil/image"}, "image is unknown"),
    ("limits", {"profile": CPU, "mem_limit": "1T", "cpu_limit": 64}, "mem_limit is unknown"),
    ("another's", {"project": "robots", "profile": CPU}, "project is unknown"),
    ("list", {"profile": [CPU]}, "profile must be text, not list"),
    ("object", {"profile": {"code": CPU}}, "profile must be text, not dict"),
    ("number", {"profile": 1}, "profile must be text, not int"),
    ("boolean", {"profile": True}, "profile must be text, not bool"),
    ("null", {"profile": None}, "profile must be text, not NoneType"),
    ("empty", {"profile": ""}, "profile is not a profile code ('')"),
    ("path", {"profile": "../../etc"}, "profile is not a profile code (../../etc)"),
    ("template", {"profile": "{run}{0.__class__}%s"}, "profile is not a profile code ({run}{0.__class__}%s)"),
    ("markup", {"profile": "<script>alert(1)</script>"}, "profile is not a profile code (<script>alert(1)</script>)"),
    ("control", {"profile": "cpu\x00\u202esmall\n"}, "profile is not a profile code (cpu��small�)"),
    ("1 MB value", {"profile": MEGABYTE}, f"profile is not a profile code ({SHOWN})"),
    ("1 MB name", {MEGABYTE: CPU}, f"{SHOWN} is unknown"),
    ("1 MB beside", {"profile": CPU, "note": MEGABYTE}, "note is unknown"),
)
IDS = [name for name, _, _ in FORGED]
OPTIONS = [(options, problem) for _, options, problem in FORGED]


def events(platform: Platform) -> int:
    with platform.database.read() as transaction:
        row = transaction.one(select(func.count()).where(audit_events.c.action == "start refused"))
    return int(row[0])


@pytest.fixture(autouse=True)
def _one_event_and_nothing_started(platform: Platform) -> Iterator[None]:
    before = events(platform)
    yield
    assert events(platform) >= before + 1
    assert platform.runs() == []
    assert list(platform.home.runs.iterdir()) == []
    assert platform.processes["hub"].poll() is None
    assert platform.api("ada", "GET", "/user").status_code == 200
    assert check.findings(platform.database, int(time.time())) == []


def refused(platform: Platform, answer: Any, problem: str) -> None:
    assert answer.status_code == 400
    assert answer.json()["message"] == f"The field {problem}. Use the start page."
    with platform.database.read() as transaction:
        row = transaction.one(select(audit_events).order_by(audit_events.c.id.desc()).limit(1))
    assert (row.actor, row.action, row.subject) == ("ada", "start refused", "vision")
    assert json.loads(row.detail) == {"code": "form_invalid", "field": problem.partition(" ")[0]}


@pytest.mark.parametrize(("options", "problem"), OPTIONS, ids=IDS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["body", "user_options"])
def test_by_the_api(platform: Platform, options: dict[str, Any], problem: str, wrapped: bool) -> None:
    body = {"user_options": options} if wrapped else options
    answer = platform.api("ada", "POST", "/users/ada/servers/vision", json=body)
    refused(platform, answer, problem)


@pytest.mark.parametrize("body", [None, {}, {"user_options": None}, {"user_options": {}}], ids=str)
def test_without_options_by_the_api(platform: Platform, body: Any) -> None:
    refused(platform, platform.api("ada", "POST", "/users/ada/servers/vision", json=body), "profile is missing")


@pytest.mark.parametrize("body", ["[1, 2]", '"cpu-small"', "7", "{", '{"user_options": [1]}', "\x00"])
def test_a_body_that_is_no_object(platform: Platform, body: str) -> None:
    answer = platform.api("ada", "POST", "/users/ada/servers/vision", content=body)
    assert answer.status_code == 400
    refused(platform, platform.api("ada", "POST", "/users/ada/servers/vision"), "profile is missing")


@pytest.mark.parametrize(("options", "problem"), OPTIONS, ids=IDS)
def test_stored_by_patch(platform: Platform, options: dict[str, Any], problem: str) -> None:
    platform.api("ada", "PUT", "/users/ada/servers/vision", json={"user_options": {"profile": CPU}})
    stored = platform.api("ada", "PATCH", "/users/ada/servers/vision", json={"user_options": options})
    assert stored.status_code == 200
    refused(platform, platform.api("ada", "POST", "/users/ada/servers/vision"), problem)
    kept = platform.api("ada", "GET", "/users/ada/servers/vision").json()
    assert kept["user_options"] == {}


def test_stored_when_the_server_is_made(platform: Platform) -> None:
    platform.api("ada", "DELETE", "/users/ada/servers/vision", json={"remove": True})
    forged = {"user_options": {"profile": GPU, "devices": "all"}}
    assert platform.api("ada", "PUT", "/users/ada/servers/vision", json=forged).status_code == 201
    refused(platform, platform.api("ada", "POST", "/users/ada/servers/vision"), "devices is unknown")


@pytest.mark.parametrize(("options", "problem"), [pair for pair in OPTIONS if "must be text" not in pair[1]])
def test_by_the_form(platform: Platform, options: dict[str, str], problem: str) -> None:
    answer = platform.send_form("ada", "vision", options)
    assert answer.status_code == 400
    page = html.unescape(answer.text)
    assert f"The field {problem.partition(' (')[0]}" in page
    assert 'data-refusal="form_invalid"' in page
    assert "<script>alert(1)</script>" not in answer.text


def test_twice_by_the_form(platform: Platform) -> None:
    answer = platform.send_form("ada", "vision", {"profile": [CPU, CPU]})
    assert answer.status_code == 400
    assert "The field profile is given 2 times." in answer.text


def test_as_a_file_by_the_form(platform: Platform) -> None:
    answer = platform.send_form("ada", "vision", {}, files={"profile": ("a", MEGABYTE.encode())})
    assert answer.status_code == 400
    assert "The field profile_file is unknown." in answer.text


@pytest.mark.parametrize("query", [f"profile={CPU}", f"opt-profile={CPU}", f"opt-profile={MEGABYTE[:4000]}", "a=b&a=c"])
def test_by_a_link(platform: Platform, query: str) -> None:
    answer = platform.browser("ben").get(f"/hub/spawn/ben/vision?{query}")
    assert answer.status_code == 405
    assert "링크로는 시작할 수 없습니다" in answer.text
    assert 'data-refusal="link_may_not_start"' in answer.text


def test_without_the_form_s_token(platform: Platform) -> None:
    answer = platform.browser("ada").post("/hub/spawn/ada/vision", data={"profile": CPU})
    assert answer.status_code == 403
    refused(platform, platform.api("ada", "POST", "/users/ada/servers/vision"), "profile is missing")


def test_for_someone_else(platform: Platform) -> None:
    answer = platform.api("dan", "POST", "/users/ada/servers/vision", json={"profile": CPU})
    assert answer.status_code == 404
    refused(platform, platform.api("ada", "POST", "/users/ada/servers/vision"), "profile is missing")
