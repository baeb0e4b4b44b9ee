"""The pages in a browser, over a real hub: login, rights, forms and what they refuse, and what a run shows."""

from __future__ import annotations

import re
import sys
from html import unescape
from typing import Any

import httpx
import pytest

from portal.login import COOKIE, Kept, bearer, inside
from quotas.services import people, schedules
from quotas.services.schedules import Execution
from tests.platform import wait_for
from tests.portal.conftest import BASE, Portal, forms

NEW = "projects/vision/schedules"
FIELDS = {
    "notebook": "train.ipynb",
    "profile": "cpu-small",
    "when": "cron",
    "cron": "15 3 * * 0",
    "timezone": "Asia/Seoul",
    "timeout_minutes": "10",
    "title": "주말 학습",
    "parameter.seed": "41",
}


def text(page: httpx.Response) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page.text)))


def test_a_person_is_logged_in_by_the_hub_and_sees_their_projects(portal: Portal) -> None:
    page = portal.open("ben")
    assert page.status_code == 200
    assert str(page.url) == f"{portal.platform.url}{BASE}"
    assert {"vision 과제", "robots 과제"} <= set(re.findall(r">([^<>]* 과제)</a>", page.text))
    assert 'lang="ko"' in page.text
    assert portal.open("dan").text.count(f'href="{BASE}projects/') == 0
    assert "You have no project" in text(portal.open("dan"))
    learner = portal.open("cho")
    assert f'href="{BASE}projects/vision"' not in learner.text
    assert f'href="{BASE}projects/vision/files.tar.gz"' in learner.text


def test_the_sessions_cookie_is_out_of_scripts_reach_and_holds_no_token(portal: Portal) -> None:
    portal.open("ada")
    client = portal.platform.browser("ada")
    (cookie,) = (each for each in client.cookies.jar if each.name == COOKIE)
    assert cookie.path == BASE
    assert {"HttpOnly", "SameSite"} <= set(cookie._rest)
    assert len(cookie.value or "") == 43
    fresh = httpx.Client(base_url=portal.platform.url, timeout=30)
    for value in ("", "forged", "x" * 5000, "é"):
        fresh.cookies.set(COOKIE, value.encode("latin-1").decode("latin-1") if value.isascii() else "x", path=BASE)
        answer = fresh.get(BASE)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/hub/api/oauth2/authorize?")
        assert "code_challenge_method=S256" in answer.headers["location"]
    fresh.close()


def test_a_login_that_was_not_begun_here_is_refused(portal: Portal) -> None:
    client = httpx.Client(base_url=portal.platform.url, timeout=30)
    begun = client.get(BASE)
    state = dict(httpx.URL(begun.headers["location"]).params)["state"]
    for query in (
        {},
        {"code": "x"},
        {"code": "x", "state": "y"},
        {"code": "forged", "state": state},
        {"state": "x" * 600},
    ):
        answer = client.get(f"{BASE}oauth_callback", params=query)
        assert answer.status_code == 403, query
        assert "mudeung-portal=" not in answer.headers.get("set-cookie", "")
    client.close()
    stranger = httpx.Client(base_url=portal.platform.url, timeout=30)
    other = dict(httpx.URL(stranger.get(BASE).headers["location"]).params)["state"]
    stranger.cookies.clear()
    assert stranger.get(f"{BASE}oauth_callback", params={"code": "x", "state": other}).status_code == 403
    stranger.close()


@pytest.mark.parametrize(
    ("url", "goes"),
    [
        (f"{BASE}projects/vision", f"{BASE}projects/vision"),
        ("https://elsewhere.example/", BASE),
        (f"{BASE}/elsewhere.example", BASE),
        ("//elsewhere.example", BASE),
        (f"{BASE}\\elsewhere", BASE),
        (f"{BASE}a\r\nSet-Cookie: x", BASE),
        ("/hub/logout", BASE),
        ("", BASE),
    ],
)
def test_a_login_leads_only_into_the_portal(url: str, goes: str) -> None:
    assert inside(url) == goes


def test_what_is_kept_is_kept_for_a_time_and_not_without_end() -> None:
    now = [0.0]
    kept: Kept[str] = Kept(10, clock=lambda: now[0])
    first = kept.put("first")
    assert (kept.get(first), kept.get("other")) == ("first", None)
    assert (kept.take(first), kept.get(first)) == ("first", None)
    second = kept.put("second")
    now[0] = 11
    assert kept.get(second) is None
    for _ in range(10_050):
        kept.put("many")
    assert len(kept.items) == 10_000


@pytest.mark.parametrize(
    ("header", "token"), [("token a", "a"), ("Bearer a ", "a"), ("Basic a", ""), ("token", ""), ("", "")]
)
def test_the_token_of_a_header(header: str, token: str) -> None:
    assert bearer(header) == token


def test_headers_keep_pages_to_themselves_and_nothing_comes_from_elsewhere(portal: Portal) -> None:
    for path in ("", "projects/vision", f"{NEW}/new?notebook=train.ipynb", "none"):
        page = portal.open("ben", path)
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["cache-control"] == "no-store"
        addresses = re.findall(r'(?:src|href|action)="([^"]*)"', page.text)
        assert addresses
        assert [each for each in addresses if not each.startswith(("/services/portal/", "/hub/", "#"))] == []
        assert set(re.findall(r"<script[^>]*>", page.text)) <= {'<script src="/hub/static/js/darkmode.js">'}
        assert " on" not in "".join(re.findall(r"<[a-z]+ (on\w+)=", page.text))


def test_a_notebook_is_scheduled_by_its_form(portal: Portal) -> None:
    chosen = portal.open("ben", f"{NEW}/new")
    assert 'value="train.ipynb"' in chosen.text
    page = portal.open("ben", f"{NEW}/new", params={"notebook": "train.ipynb"})
    address = f"{BASE}{NEW}"
    given = forms(page)[address]
    assert (given["parameter.seed"], given["parameter.name"], given["timezone"]) == ("", "", "Asia/Seoul")
    assert "seed int, 노트북의 값: 7" in text(page)
    client = portal.platform.browser("ben")
    answer = client.post(address, data={**given, **FIELDS}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{BASE}projects/vision")
    made = schedules.list_schedules(portal.platform.database, "vision")[-1]
    assert (made.person, made.title, made.timing.cron, made.timeout_seconds) == ("ben", "주말 학습", "15 3 * * 0", 600)
    assert made.parameters == {"seed": 41}
    shown = text(portal.open("ben", "projects/vision"))
    assert "주말 학습" in shown
    assert "15 3 * * 0 Asia/Seoul" in shown
    assert "seed = 41" in shown
    assert "03:15 KST" in shown


def test_a_schedule_for_once_is_in_its_zone(portal: Portal) -> None:
    fields = {**FIELDS, "when": "at", "at": "2031-03-01T09:00", "timezone": "UTC"}
    assert portal.send("ada", NEW, fields).status_code == 200
    made = schedules.list_schedules(portal.platform.database, "vision")[-1]
    assert (made.timing.cron, made.timing.once_at) == (None, 1_930_122_000)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cron": "0 0 31 6 *"}, "cron"),
        ({"cron": ""}, "cron"),
        ({"when": "at"}, "at"),
        ({"when": "at", "at": "2001-01-01T00:00"}, "at"),
        ({"when": "never"}, "when"),
        ({"timezone": "Mars"}, "timezone"),
        ({"timeout_minutes": "-5"}, "timeout_minutes"),
        ({"timeout_minutes": "1.5"}, "timeout_minutes"),
        ({"timeout_minutes": "99999999"}, "timeout"),
        ({"timeout_minutes": "٣"}, "timeout_minutes"),
        ({"profile": "gpu-none"}, "profile"),
        ({"notebook": "../x.ipynb"}, "notebook"),
        ({"parameter.seed": "many"}, "seed"),
        ({"parameter.sead": "1"}, "sead"),
        ({"parameter.x;import os": "1"}, "parameters"),
        ({"person": "ada"}, "person"),
        ({"title": "x" * 300}, "title"),
    ],
)
def test_a_wrong_field_brings_the_form_back_with_its_name(portal: Portal, changes: dict[str, str], field: str) -> None:
    before = schedules.list_schedules(portal.platform.database)
    page = portal.send("ben", NEW, {**FIELDS, **changes})
    assert page.status_code == 400
    assert re.search(rf'role="alert".*?<strong>{re.escape(field)}</strong>', page.text, re.DOTALL), text(page)
    assert schedules.list_schedules(portal.platform.database) == before
    if "notebook" not in changes:
        kept = forms(page)[f"{BASE}{NEW}"]
        assert kept["parameter.seed"] == changes.get("parameter.seed", "41")


def test_a_form_is_one_of_the_sessions_own(portal: Portal) -> None:
    before = schedules.list_schedules(portal.platform.database)
    csrf = next(iter(forms(portal.open("ada")).values()))["_csrf"]
    client = portal.platform.browser("ben")
    address = f"{BASE}{NEW}"
    portal.open("ben")
    for given in ({}, {"_csrf": ""}, {"_csrf": csrf}, {"_csrf": "é"}):
        assert client.post(address, data={**FIELDS, **given}).status_code == 403, given
    foreign = {"Origin": "https://elsewhere.example"}
    assert portal.send("ben", NEW, FIELDS, headers=foreign).status_code == 403
    assert schedules.list_schedules(portal.platform.database) == before


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"notebook=a&notebook=b&_csrf=x", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a%d=1" % number for number in range(300)), "application/x-www-form-urlencoded", 400),
        (b"notebook=%ff%fe", "application/x-www-form-urlencoded", 400),
        (b"title=" + b"x" * 2**20, "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 415),
        (b"--b\r\n\r\n--b--", "multipart/form-data; boundary=b", 415),
        (b"", "", 415),
    ],
)
def test_what_is_no_form_is_refused(portal: Portal, content: bytes, kind: str, status: int) -> None:
    portal.open("ben")
    headers = {"Content-Type": kind} if kind else {}
    answer = portal.platform.browser("ben").post(f"{BASE}{NEW}", content=content, headers=headers)
    assert answer.status_code == status


def test_a_link_changes_nothing(portal: Portal) -> None:
    made = schedules.list_schedules(portal.platform.database, "vision")[0]
    for act in ("run", "pause", "resume"):
        page = portal.open("ben", f"{NEW}/{made.id}/{act}")
        assert page.status_code == 405
    assert portal.open("ben", NEW).status_code == 405
    assert schedules.list_schedules(portal.platform.database, "vision")[0] == made


@pytest.mark.parametrize(
    ("person", "why"), [("cho", "The role learner may not do this"), ("dan", "dan is not a member")]
)
def test_who_is_not_allowed_is_told_why(portal: Portal, person: str, why: str) -> None:
    for path in ("projects/vision", f"{NEW}/new"):
        page = portal.open(person, path)
        assert page.status_code == 403
        assert why in text(page)
        assert "train.ipynb" not in page.text
    assert portal.send(person, NEW, FIELDS).status_code == 403


def test_pausing_resuming_and_running_are_buttons(portal: Portal) -> None:
    portal.send("ben", NEW, FIELDS)
    database = portal.platform.database
    made = schedules.list_schedules(database, "vision")[-1]
    page = portal.send("ada", f"{NEW}/{made.id}/pause", {})
    assert "paused by ada" in text(page)
    assert not schedules.list_schedules(database, "vision")[-1].enabled
    assert f"{BASE}{NEW}/{made.id}/resume" in forms(page)
    assert portal.send("ben", f"{NEW}/{made.id}/resume", {}).status_code == 200
    assert schedules.list_schedules(database, "vision")[-1].enabled
    page = portal.send("ben", f"{NEW}/{made.id}/run", {})
    assert "대기 중" in text(page)
    assert portal.send("ben", f"{NEW}/{made.id}/run", {"extra": "1"}).status_code == 400
    assert portal.send("ben", f"{NEW}/{made.id}/erase", {}).status_code == 404


HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def failed(portal: Portal) -> Execution:
    """A run of a notebook that prints markup, is given markup and fails with it."""
    portal.notebook("hostile.ipynb", f"print({HOSTILE!r}, name)", f"raise ValueError({HOSTILE!r})")
    fields = {**FIELDS, "notebook": "hostile.ipynb", "parameter.name": HOSTILE, "title": HOSTILE}
    assert portal.send("ben", NEW, fields).status_code == 200
    database = portal.platform.database
    made = schedules.list_schedules(database, "vision")[-1]
    portal.send("ben", f"{NEW}/{made.id}/run", {})
    scheduler = portal.platform.start("scheduler", [sys.executable, "-m", "batch", "scheduler"])

    def ended() -> Any:
        found = [each for each in schedules.executions(database, "vision", 50) if each.schedule_id == made.id]
        return found[0] if found and found[0].finished_at else None

    found: Execution = wait_for("the run", ended, process=scheduler, seconds=60)
    portal.platform.kill("scheduler")
    return found


def test_a_runs_page_shows_what_happened_and_no_markup_of_a_notebook(portal: Portal, failed: Execution) -> None:
    page = portal.open("ben", f"runs/{failed.run_id}")
    shown = text(page)
    assert HOSTILE not in page.text
    assert shown.count(HOSTILE) >= 4
    assert "실패" in shown
    assert "실행이 끝난 셀: 3번" in shown
    assert "ValueError" in shown
    assert "차감 < 0.001 TF·h" in shown
    assert f"/user/ben/vision/lab/tree/{failed.output}".replace("<", "%3C") in unescape(page.text)
    listed = portal.open("ada", "projects/vision")
    assert HOSTILE not in listed.text
    assert f"{BASE}runs/{failed.run_id}" in listed.text
    assert "Failed" in text(listed)
    assert "Cell 3 failed" in text(listed)


def test_a_run_of_another_project_is_not_there(portal: Portal, failed: Execution) -> None:
    for person, run in (("dan", failed.run_id), ("cho", failed.run_id), ("ben", "01890000"), ("ben", HOSTILE)):
        page = portal.open(person, f"runs/{run}")
        assert page.status_code == 404
        assert "ValueError" not in page.text


def test_the_language_is_the_persons_own(portal: Portal) -> None:
    database = portal.platform.database
    page = portal.send("ada", "language", {"language": "ko", "back": f"{BASE}projects/vision"})
    assert str(page.url).endswith(f"{BASE}projects/vision")
    assert "최근 실행" in text(page)
    person = people.person(database, "ada")
    assert person is not None
    assert person.language == "ko"
    away = portal.send("ada", "language", {"language": "en", "back": "https://elsewhere.example/"})
    assert str(away.url) == f"{portal.platform.url}{BASE}"
    assert "Runs and schedules" in text(away)
    assert portal.send("ada", "language", {"language": "fr", "back": BASE}).status_code == 400
    assert portal.send("ada", "language", {"language": "ko", "back": BASE, "x": "1"}).status_code == 400


def test_a_restart_of_the_portal_is_not_noticed(portal: Portal) -> None:
    assert portal.open("ben").status_code == 200
    portal.platform.kill("portal")
    portal.start()
    page = portal.open("ben", "projects/vision")
    assert page.status_code == 200
    assert str(page.url).endswith(f"{BASE}projects/vision")


def test_a_logout_at_the_hub_counts_here(portal: Portal) -> None:
    client = portal.platform.browser("cho")
    assert portal.open("cho").status_code == 200
    client.get("/hub/logout")

    def is_asked_to_log_in() -> bool:
        return client.get(BASE, follow_redirects=False).status_code == 303

    wait_for("the end of the session", is_asked_to_log_in, seconds=15)


def test_without_the_hub_nobody_is_let_in_and_the_portal_says_so(portal: Portal) -> None:
    assert portal.open("ben").status_code == 200
    portal.platform.kill("hub")

    def away() -> httpx.Response | None:
        answer = portal.open("ben", "projects/vision", follow_redirects=False)
        return answer if answer.status_code == 503 else None

    page = wait_for("the portal's word", away, seconds=20)
    assert "허브가 응답하지 않습니다" in text(page) or "The hub does not answer" in text(page)
    headers = {"Authorization": "token never-seen-before"}
    answer = httpx.get(f"{portal.platform.url}{BASE}api/{NEW}", headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "hub_away")
    portal.platform.start_hub()
    assert portal.open("ben", "projects/vision").status_code == 200
