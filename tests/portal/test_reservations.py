"""Reservations over a real hub, in a browser and by the API: rights, forms, decisions, rosters, and live seats."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime, timedelta
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from quotas.domain.admission import Admitted, Request
from quotas.domain.people import PlatformRole
from quotas.domain.policy import Policy
from quotas.domain.runs import RunKind, new_run_id
from quotas.services import admission, people, reservations
from quotas.store import audit
from tests.platform import PASSWORD
from tests.portal.conftest import BASE, Portal, forms

SEOUL = ZoneInfo("Asia/Seoul")
FIRST = (datetime.now(SEOUL) + timedelta(days=4)).replace(hour=9, minute=0, second=0, microsecond=0)
BODY: dict[str, Any] = {
    "profile": "gpu-h100",
    "seats": 2,
    "starts_at": FIRST.strftime("%Y-%m-%dT%H:%M"),
    "seconds": 7200,
    "rrule": "FREQ=WEEKLY;COUNT=2",
    "title_ko": "딥러닝 실습",
    "title_en": "Deep learning lab",
}
FORM = {
    "profile": "gpu-h100",
    "seats": "2",
    "starts": FIRST.strftime("%Y-%m-%dT%H:%M"),
    "length": "2h",
    "timezone": "Asia/Seoul",
    "when": "weekly",
    "until": (FIRST + timedelta(days=8)).strftime("%Y-%m-%d"),
    "title_ko": "<b>실습</b>",
    "title_en": "<b>Lab</b>",
    "charge_idle": "no",
    "roster": "ben\r\ncho\r\n",
}
ASK = "projects/vision/reservations"


@pytest.fixture(scope="module", autouse=True)
def operator(portal: Portal) -> None:
    """There is `ola`, who decides."""
    by = {"actor": "tests", "now": int(time.time())}
    roles = frozenset({PlatformRole.OPERATOR})
    people.add_person(
        portal.platform.database, "ola", "Ola", organisation=None, language="en", platform_roles=roles, **by
    )
    people.set_password(portal.platform.database, "ola", PASSWORD, **by)


def text(page: httpx.Response) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page.text)))


def asked(portal: Portal, **changes: Any) -> dict[str, Any]:
    answer = portal.call("ada", "POST", ASK, json=BODY | changes)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    assert error["message_ko"] != error["message_en"]
    return answer.status_code, error["code"], error["field"]


class TestTheApi:
    def test_from_the_check_to_the_cancellation(self, portal: Portal) -> None:
        checked = portal.call("ada", "POST", f"{ASK}/check", json=BODY).json()
        assert (checked["fits"], checked["pool"], checked["instead"]) == (True, "main", None)
        made = asked(portal)
        place = f"reservations/{made['number']}"
        assert (made["state"], made["requested_by"], made["timezone"], made["fit"]["fits"]) == (
            "requested",
            "ada",
            "Asia/Seoul",
            True,
        )
        assert made["starts_at"] == FIRST.isoformat()
        approved = portal.call("ola", "POST", f"{place}/approve", json={"reason": "room 3"}).json()
        assert (approved["state"], len(approved["windows"]), approved["claims"]) == ("approved", 2, [])
        assert portal.call("cho", "GET", ASK).json()[0]["number"] == made["number"]
        window = approved["windows"][0]
        gone = portal.call("ada", "POST", f"{place}/cancel", json={"window": window["id"], "reason": "a holiday"})
        assert [each["state"] for each in gone.json()["windows"]] == ["cancelled", "scheduled"]
        assert portal.call("ola", "POST", f"{place}/cancel").json()["state"] == "cancelled"

    def test_what_does_not_fit_is_refused_with_what_would(self, portal: Portal) -> None:
        made = asked(portal, seats=9)
        assert (made["fit"]["fits"], made["fit"]["instead"]["seats"]) == (False, 4)
        place = f"reservations/{made['number']}"
        refused = portal.call("ola", "POST", f"{place}/approve")
        assert error_of(refused) == (400, "invalid_value", "windows")
        assert "What would fit instead: 4 seats in every window" in refused.json()["error"]["message_en"]
        assert portal.call("ola", "POST", f"{place}/approve", json={"seats": 4}).json()["state"] == "approved"
        portal.call("ola", "POST", f"{place}/cancel")

    def test_a_roster_is_previewed_and_replaced(self, portal: Portal) -> None:
        place = f"reservations/{asked(portal)['number']}/roster"
        assert [each["username"] for each in portal.call("ada", "GET", place).json()] == ["ada", "ben", "cho"]
        body = {"names": ["ben", "ben", "dan"], "dry_run": True}
        preview = portal.call("ada", "PUT", place, json=body).json()
        assert (preview["strangers"], preview["twice"], preview["on_roster"]) == (["dan"], ["ben"], 1)
        refused = portal.call("ada", "PUT", place, json={"names": ["ben", "dan"]})
        assert error_of(refused) == (400, "invalid_value", "roster")
        assert refused.json()["error"]["message_en"].endswith("these are none: dan")
        assert portal.call("ada", "PUT", place, json={"names": ["ben"]}).json()["removed"] == ["ada", "cho"]
        assert portal.call("ada", "PUT", place, json={"names": None}).json() == {"on_roster": 3}

    @pytest.mark.parametrize(
        ("person", "method", "path", "status"),
        [
            ("ben", "POST", ASK, 403),
            ("cho", "POST", f"{ASK}/check", 403),
            ("dan", "GET", ASK, 403),
            ("dan", "POST", "projects/no-such/reservations", 403),
            ("dan", "GET", "reservations/{n}", 404),
            ("dan", "POST", "reservations/{n}/cancel", 404),
            ("cho", "POST", "reservations/{n}/cancel", 403),
            ("ben", "GET", "reservations/{n}/roster", 403),
            ("ben", "PUT", "reservations/{n}/roster", 403),
            ("ada", "POST", "reservations/{n}/approve", 403),
            ("ada", "POST", "reservations/{n}/reject", 403),
            ("dan", "POST", "reservations/{n}/approve", 404),
            ("ada", "GET", "reservations", 404),
            ("ola", "GET", "reservations/999999", 404),
            ("ola", "GET", "reservations/0", 400),
        ],
    )
    def test_who_may_not_is_refused(self, portal: Portal, person: str, method: str, path: str, status: int) -> None:
        number = asked(portal)["number"]
        sent = {"json": BODY} if method != "GET" else {}
        answer = portal.call(person, method, path.format(n=number), **sent)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]["message_ko"]
        assert portal.call("ola", "GET", f"reservations/{number}").json()["state"] == "requested"

    def test_members_see_no_names(self, portal: Portal) -> None:
        number = asked(portal)["number"]
        assert "claims" not in portal.call("cho", "GET", f"reservations/{number}").json()
        assert "claims" in portal.call("ada", "GET", f"reservations/{number}").json()
        assert portal.call("ola", "GET", "reservations").json()[0]["number"] == number

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"seats": 0}, "seats"),
            ({"seats": "2"}, "seats"),
            ({"seconds": 60}, "length"),
            ({"starts_at": "2020-01-01T09:00"}, "starts"),
            ({"starts_at": "soon"}, "starts"),
            ({"rrule": "FREQ=WEEKLY"}, "rrule"),
            ({"rrule": "x" * 401}, "rrule"),
            ({"timezone": "Mars"}, "timezone"),
            ({"profile": "cpu-small"}, "profile"),
            ({"pool": "annex"}, "pool"),
            ({"roster": ["ben", "zoe"]}, "roster"),
            ({"roster": []}, "roster"),
            ({"title_en": "a\nb"}, "title_en"),
            ({"by": "ada"}, "by"),
        ],
    )
    def test_bad_input_names_its_field_and_leaves_an_event(
        self, portal: Portal, changes: dict[str, Any], field: str
    ) -> None:
        answer = portal.call("ada", "POST", ASK, json=BODY | changes)
        assert error_of(answer) == (400, "invalid_value", field)
        with portal.platform.database.read() as transaction:
            event = audit.latest(transaction, 1)[0]
        assert (event.action, event.subject, json.loads(event.detail)) == (
            "reservation refused",
            "vision",
            {"field": field},
        )


class TestThePages:
    def test_it_is_checked_asked_for_and_approved(self, portal: Portal) -> None:
        page = portal.open("ada", f"{ASK}/new")
        assert page.status_code == 200
        assert "gpu-h100 profile (gpu-h100)" in text(page)
        assert "cpu-small" not in text(page)
        checked = portal.send("ada", ASK, {**FORM, "seats": "7", "act": "check"})
        assert 'data-fits="no"' in checked.text
        assert "4 seats in every window" in text(checked)
        assert 'value="7"' in checked.text  # what was typed stays
        made = portal.send("ada", ASK, {**FORM, "act": "request"}, follow_redirects=True)
        number = int(str(made.url).rpartition("/")[2])
        assert "<b>Lab</b>" in unescape(made.text)
        assert "<b>Lab" not in made.text
        assert 'data-fits="yes"' in made.text
        assert "RRULE" not in made.text
        assert f"FREQ=WEEKLY;UNTIL={FIRST + timedelta(days=8):%Y%m%d}" in made.text
        assert "Deciding" not in made.text
        assert f"{BASE}reservations/{number}/approve" not in forms(made)
        decided = portal.open("ola", f"reservations/{number}")
        assert f"{BASE}reservations/{number}/approve" in forms(decided)
        approved = portal.send("ola", f"reservations/{number}/approve", {"reason": "room 3"}, follow_redirects=True)
        assert "Approved : room 3" in text(approved) or "Approved: room 3" in text(approved)
        assert approved.text.count("Cancel this window") == 2
        listed = portal.open("ola", "reservations")
        assert f'data-reservation="{number}"' in listed.text
        assert "All reservations" in text(portal.open("ola"))
        portal.send("ada", f"reservations/{number}/cancel", {"reason": "done"})

    def test_korean_pages_are_korean(self, portal: Portal) -> None:
        number = asked(portal)["number"]
        page = portal.open("ben", f"reservations/{number}")
        assert "딥러닝 실습" in text(page)
        assert "결정 대기" in text(page)
        assert 'aria-labelledby="roster"' not in page.text  # a member sees no names
        assert "자원 예약" in text(portal.open("ben", ASK))

    def test_the_live_seats_and_who_claimed_one(self, portal: Portal) -> None:
        soon = datetime.fromtimestamp(time.time() + 300, SEOUL)
        number = asked(portal, starts_at=soon.isoformat(timespec="seconds"), rrule=None)["number"]
        database, now, policy = portal.platform.database, int(time.time()), Policy()
        reservations.approve(database, number, reservations.Approval(), actor="ola", now=now, policy=policy)
        reservations.tick(database, now, policy)
        request = Request(new_run_id(), RunKind.NOTEBOOK, "cho", "vision", "gpu-h100")
        assert isinstance(admission.reserve(database, request, now, policy), Admitted)
        page = portal.open("ada", f"reservations/{number}")
        assert 'data-window="open"' in page.text
        assert "In use 1 / 2 Free for the roster 1 Claimed so far 1 Released 0" in text(page)
        assert "Cho (cho)" in text(page)
        other = portal.open("cho", f"reservations/{number}")
        assert "In use 1 / 2" in text(other)
        assert "Cho (cho)" not in text(other)
        assert "Reservations" in text(portal.open("cho"))
        notices = text(portal.open("cho", "notices"))
        assert "Deep learning lab: 2 seats are kept for you and the others" in notices
        ended = admission.Ended(None, None, admission.Outcome.STOPPED)
        admission.settle(database, request.run_id, ended, now)
        portal.send("ada", f"reservations/{number}/cancel", {})

    def test_a_roster_is_changed_on_the_page(self, portal: Portal) -> None:
        number = asked(portal)["number"]
        place = f"reservations/{number}/roster"
        preview = portal.send("ada", place, {"act": "preview", "names": "ben\ndan\nben"})
        assert 'data-preview="yes"' in preview.text
        assert "No member of the project dan" in text(preview)
        refused = portal.send("ada", place, {"act": "replace", "names": "ben\ndan"})
        assert refused.status_code == 400
        assert "these are none: dan" in text(refused)
        for fields, count in (
            ({"act": "replace", "names": "ben"}, 1),
            ({"act": "add", "username": "cho"}, 2),
            ({"act": "remove", "username": "ben"}, 1),
            ({"act": "members"}, 3),
        ):
            page = portal.send("ada", place, fields, follow_redirects=True)
            assert page.status_code == 200
            assert f"Roster : {count}" in text(page) or f"Roster: {count}" in text(page)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"seats": "many"}, "seats : must be a whole number"),
            ({"length": "long"}, "length : 'long' is no length"),
            ({"when": "weekly", "until": ""}, "until : must be the last day"),
            ({"when": "rule", "rrule": ""}, "rrule : must be 1 to 300 characters"),
            ({"when": "rule", "rrule": "FREQ=DAILY"}, "rrule : never ends"),
            ({"starts": "2020-01-01T09:00"}, "starts : must not be in the past"),
            ({"roster": "zoe"}, "roster : only members of the project can be on it"),
            ({"title_ko": ""}, "title_ko : must not be empty"),
            ({"act": "do"}, "act : "),
            ({"colour": "red"}, "colour : is not known here"),
        ],
    )
    def test_bad_input_comes_back_with_what_was_typed(self, portal: Portal, changes: dict[str, str], says: str) -> None:
        answer = portal.send("ada", ASK, {**FORM, "act": "request"} | changes)
        assert answer.status_code == 400
        assert says in text(answer)
        assert f'value="{FORM["timezone"]}"' in answer.text

    @pytest.mark.parametrize(
        ("person", "path", "status"),
        [("ben", f"{ASK}/new", 403), ("dan", ASK, 403), ("ada", "reservations", 404), ("dan", "reservations/1", 404)],
    )
    def test_who_may_not_sees_no_page(self, portal: Portal, person: str, path: str, status: int) -> None:
        assert portal.open(person, path).status_code == status

    def test_a_forged_form_changes_nothing(self, portal: Portal) -> None:
        number = asked(portal)["number"]
        answer = portal.platform.browser("ada").post(f"{BASE}reservations/{number}/cancel", data={"_csrf": "x"})
        assert answer.status_code == 403
        assert portal.call("ada", "GET", f"reservations/{number}").json()["state"] == "requested"
