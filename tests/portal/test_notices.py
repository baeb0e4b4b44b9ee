"""Notices and recalls in the portal, over a real hub: whose they are, read once, objected to in time."""

from __future__ import annotations

import time
from typing import Any

import pytest

from quotas.domain.months import month_of
from quotas.domain.recalls import Assessment, MonthOfAward, RecallPolicy, RecallState, Standing
from quotas.services import notices as service
from quotas.services import recall_steps, recalls
from quotas.store import audit, keys, notices
from quotas.store import recalls as recalls_store
from quotas.store.tables import allocations
from tests.portal.conftest import BASE, Portal, forms
from tests.portal.test_api import error_of
from tests.portal.test_pages import text

MARKUP = '<script>alert("x")</script>'


def tell(portal: Portal, person: str, about: str, said: str) -> int:
    """The person has a notice; return its id."""
    with portal.platform.database.write() as transaction:
        person_id = keys.keys(transaction, person, "").person_id
        notices.tell(transaction, notices.Notice(person_id, "test", about, f"{said} 한글", said), int(time.time()))
        return int(notices.of_person(transaction, person, 0, 1)[0].id)


def recall_of(portal: Portal, back: int, objection_seconds: int = 86_400) -> int:
    """A recall of vision's award is told; `back` tells them apart by their month. Return its id."""
    now = int(time.time())
    month = month_of(now).plus(-back)
    assessment = Assessment(Standing.PROPOSED, (MonthOfAward(month, 3_600_000, 36_000_000),), 7_200_000)
    with portal.platform.database.write() as transaction:
        (row,) = transaction.rows(allocations.select().where(allocations.c.id == 1))
        recall = recalls_store.add(transaction, row.id, assessment, "operator", now)
    policy = RecallPolicy(objection_seconds=objection_seconds)
    recall_steps.notify(portal.platform.database, recall, policy, actor="operator", now=now)
    return recall


def listed(portal: Portal, person: str, **query: Any) -> list[dict[str, Any]]:
    answer = portal.call(person, "GET", "notices", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def test_a_person_sees_their_own_notices_escaped_and_marks_one_as_read(portal: Portal) -> None:
    first = tell(portal, "ben", "one", MARKUP)
    second = tell(portal, "ben", "two", "second")
    page = portal.open("ben", "notices")
    assert page.status_code == 200
    assert MARKUP not in page.text
    assert "&lt;script&gt;" in page.text
    assert "second 한글" in page.text
    assert "KST" in page.text
    assert "second" not in portal.open("cho", "notices").text
    done = portal.send("ben", f"notices/{second}/read", {})
    assert (done.status_code, str(done.url)) == (200, f"{portal.platform.url}{BASE}notices")
    assert f'data-notice="{second}" data-read="yes"' in done.text
    assert f'data-notice="{first}" data-read="no"' in done.text
    assert [each["read_at"] is None for each in listed(portal, "ben")] == [False, True]


def test_all_that_was_seen_is_read_and_what_came_since_is_not(portal: Portal) -> None:
    old = tell(portal, "cho", "old", "old")
    fields = forms(portal.open("cho", "notices"))[f"{BASE}notices/read"]
    assert fields["newest"] == str(old)
    new = tell(portal, "cho", "new", "new")
    portal.send("cho", "notices/read", {"newest": fields["newest"]})
    assert {each["id"]: each["read_at"] is None for each in listed(portal, "cho")} == {old: False, new: True}
    assert [each["id"] for each in listed(portal, "cho", unread=True)] == [new]
    portal.send("cho", "notices/read", {"newest": str(new)})
    page = portal.open("cho", "notices")
    assert f"{BASE}notices/read" not in forms(page)
    assert "Mark as read" not in page.text


def test_older_notices_are_on_the_next_page(portal: Portal) -> None:
    ids = [tell(portal, "dan", f"many-{number}", f"number {number};") for number in range(25)]
    first = portal.open("dan", "notices")
    assert "number 24;" in first.text
    assert "number 4;" not in first.text
    assert f'href="{BASE}notices?before={ids[5]}"' in first.text
    second = portal.open("dan", f"notices?before={ids[5]}")
    assert "number 4;" in second.text
    assert "before=" not in second.text
    assert [each["id"] for each in listed(portal, "dan", before=ids[5])] == ids[4::-1]
    for wrong in ("0", "x", "-1", str(2**31), ""):
        assert portal.open("dan", f"notices?before={wrong}").status_code == 400


def test_reading_by_api_counts_once_and_only_for_ones_own(portal: Portal) -> None:
    mine, theirs = tell(portal, "ada", "mine", "mine"), tell(portal, "ben", "theirs", "theirs")
    assert portal.call("ada", "POST", f"notices/{mine}/read").status_code == 204
    (read_at,) = [each["read_at"] for each in listed(portal, "ada") if each["id"] == mine]
    assert portal.call("ada", "POST", f"notices/{mine}/read").status_code == 204
    assert [each["read_at"] for each in listed(portal, "ada") if each["id"] == mine] == [read_at]
    for notice in (theirs, 2**31 - 1):
        assert error_of(portal.call("ada", "POST", f"notices/{notice}/read")) == (404, "not_found", "notice")
        assert portal.send("ada", f"notices/{notice}/read", {}).status_code == 404
    assert error_of(portal.call("ada", "POST", f"notices/{mine}/read", json={"all": 1}))[2] == "all"
    assert [each.read_at for each in service.of_person(portal.platform.database, "ben") if each.id == theirs] == [None]


@pytest.mark.parametrize("path", ["notices/read", "notices/1/read", "recalls/1/objection"])
def test_a_form_of_another_site_is_refused(portal: Portal, path: str) -> None:
    client = portal.platform.browser("ben")
    portal.open("ben")
    assert client.post(f"{BASE}{path}", data={"_csrf": "forged", "newest": "9"}).status_code == 403


@pytest.mark.parametrize("newest", ["", "x", "-1", "9" * 40])
def test_a_field_that_is_no_number_is_refused_by_name(portal: Portal, newest: str) -> None:
    answer = portal.send("ben", "notices/read", {"newest": newest})
    assert answer.status_code == 400
    assert "<strong>newest</strong>" in answer.text


def test_a_pi_objects_on_the_page_and_then_no_more(portal: Portal) -> None:
    recall = recall_of(portal, 1)
    (notice,) = [each for each in listed(portal, "ada") if each["about"] == f"recall:{recall}"]
    assert "7,200" not in notice["text_en"]
    assert "2.000 TF·h" in notice["text_en"]
    assert f'href="{BASE}recalls/{recall}"' in portal.open("ada", "notices").text
    page = portal.open("ada", f"recalls/{recall}")
    assert "2.000 TF·h" in text(page)
    assert "10.0 %" in text(page)
    assert page.text.count("<tr>") == 2
    refused = portal.send("ada", f"recalls/{recall}/objection", {"objection": "  "})
    assert refused.status_code == 400
    assert "<strong>objection</strong>" in refused.text
    done = portal.send("ada", f"recalls/{recall}/objection", {"objection": f"Data comes in May {MARKUP}"})
    assert done.status_code == 200
    assert 'data-state="objected"' in done.text
    assert MARKUP not in done.text
    assert f"{BASE}recalls/{recall}/objection" not in forms(done)
    again = portal.send("ada", f"recalls/{recall}/objection", {"objection": "more"})
    assert again.status_code == 400
    found = recalls.show(portal.platform.database, recall)
    assert (found.state, found.objected_by) == (RecallState.OBJECTED, "ada")
    with portal.platform.database.read() as transaction:
        (event,) = [row for row in audit.latest(transaction) if row.action == "recall objected to"]
    assert (event.actor, event.subject) == ("ada", "vision")


def test_a_recall_is_a_secret_of_those_who_lead_the_project(portal: Portal) -> None:
    recall = recall_of(portal, 2)
    for person in ("ben", "cho", "dan"):
        assert portal.open(person, f"recalls/{recall}").status_code == 404
        assert portal.send(person, f"recalls/{recall}/objection", {"objection": "no"}).status_code == 404
        assert error_of(portal.call(person, "GET", f"recalls/{recall}")) == (404, "not_found", "recall")
        answer = portal.call(person, "POST", f"recalls/{recall}/objection", json={"objection": "no"})
        assert error_of(answer) == (404, "not_found", "recall")
    assert error_of(portal.call("ada", "GET", f"recalls/{2**31 - 1}")) == (404, "not_found", "recall")


def test_an_objection_by_api_and_what_is_wrong_with_one(portal: Portal) -> None:
    recall = recall_of(portal, 3)
    place = f"recalls/{recall}/objection"
    for body, field in (({}, "objection"), ({"objection": 5}, "objection"), ({"objection": "x" * 2001}, "objection")):
        assert error_of(portal.call("ada", "POST", place, json=body)) == (400, "invalid_value", field)
    extra = portal.call("ada", "POST", place, json={"objection": "why", "amount": 5})
    assert error_of(extra) == (400, "invalid_value", "amount")
    answer = portal.call("ada", "POST", place, json={"objection": "why"})
    assert answer.status_code == 201
    assert (answer.json()["state"], answer.json()["objection"]) == ("objected", "why")
    assert answer.json()["months"][0]["used_gflops_seconds"] == "3600000"
    assert error_of(portal.call("ada", "POST", place, json={"objection": "why"})) == (400, "invalid_value", "recall")


def test_after_its_time_there_is_no_form(portal: Portal) -> None:
    recall = recall_of(portal, 4, objection_seconds=0)
    page = portal.open("ada", f"recalls/{recall}")
    assert page.status_code == 200
    assert f"{BASE}recalls/{recall}/objection" not in forms(page)
    late = portal.send("ada", f"recalls/{recall}/objection", {"objection": "too late"})
    assert late.status_code == 400
    assert "KST" in text(late)


def test_the_home_page_shows_what_was_not_read_and_leads_to_the_rest(portal: Portal) -> None:
    unread = tell(portal, "ben", "home", "look at me")
    client = portal.platform.browser("ben")
    home = client.get("/hub/home")
    assert "look at me 한글" in home.text
    assert f'href="{BASE}notices"' in home.text
    portal.send("ben", f"notices/{unread}/read", {})
    assert "look at me" not in client.get("/hub/home").text
