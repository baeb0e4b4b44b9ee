"""Every refusal of a start is read by the person in their language: in the form, the API and the progress page."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from sqlalchemy import select, update

from quotas.domain.pools import CapacityPhase
from quotas.domain.refusals import Code
from quotas.domain.units import DAY_SECONDS
from quotas.services import check, pools, projects
from quotas.store.tables import allocations, audit_events, awards
from quotas.store.tables import projects as projects_table
from tests.platform import BY, CPU, GPU, LARGE, Platform, add_project


@dataclass(frozen=True)
class Case:
    """Who asks for what, and what they are told."""

    code: Code
    status: int
    person: str
    project: str
    profile: str
    words: str


CASES = (
    Case(Code.PROJECT_UNKNOWN, 404, "ada", "nothing", CPU, "There is no project nothing. Choose one of your projects"),
    Case(Code.NOT_A_MEMBER, 403, "dan", "vision", CPU, "dan is not a member of vision. Ask the project's PI"),
    Case(Code.PROJECT_ENDED, 403, "ada", "over", CPU, "The project over has ended. Apply for a new project"),
    Case(Code.PROJECT_NOT_APPROVED, 403, "ada", "asked", CPU, "The project asked is not approved (state: applied)."),
    Case(Code.AWARD_ENDED, 403, "ada", "past", CPU, "The award of past ended at "),
    Case(Code.AWARD_NOT_STARTED, 403, "ada", "later", CPU, "The award of later starts at "),
    Case(Code.PROFILE_UNKNOWN, 404, "ada", "vision", "cpu-none", "There is no profile cpu-none."),
    Case(Code.PROFILE_NOT_OFFERED, 403, "ada", "robots", GPU, f"robots may not use the profile {GPU}. Ask the"),
    Case(Code.CEILING, 409, "ada", "narrow", LARGE, f"{LARGE} needs 400 GF; the award of narrow allows 100 GF at once"),
    Case(
        Code.POOL_FULL,
        409,
        "ada",
        "vision",
        GPU,
        "No h100 is free: 0 of 0 are in use and 0 reserved; gpu-h100 needs 1.",
    ),
    Case(Code.BUDGET_SHORT, 402, "ada", "poor", LARGE, "poor has 0.009 TF·h left; cpu-large for at least 10 min needs"),
    Case(Code.NOT_A_MEMBER, 403, "ben", "narrow", CPU, "ben: narrow 과제의 구성원이 아닙니다. 과제의 연구책임자에게"),
)


@pytest.fixture(scope="module", autouse=True)
def _projects(platform: Platform) -> None:
    """One project for each reason, and no healthy device."""
    database, now = platform.database, int(time.time())
    for code in ("over", "past", "later"):
        add_project(database, code, now, gflops=1000, profiles=(CPU, LARGE))
    add_project(database, "narrow", now, gflops=100, profiles=(CPU, LARGE))
    add_project(database, "poor", now, gflops=1000, profiles=(CPU, LARGE), budget=36_000)
    projects.end(database, "over", actor=BY, now=now)
    asked = projects.Application(
        "asked", "신청", "Asked", projects.ProjectKind.RESEARCH, "lab", 1000, "fp32", now, now + DAY_SECONDS
    )
    projects.apply(database, asked, actor="ada", now=now)
    with database.write() as transaction:
        of = {
            name: select(projects_table.c.id).where(projects_table.c.code == name).scalar_subquery()
            for name in ("past", "later")
        }
        for table in (allocations, awards):
            transaction.run(update(table).where(table.c.project_id == of["past"]).values(ends_at=now - 60))
            transaction.run(update(table).where(table.c.project_id == of["later"]).values(starts_at=now + DAY_SECONDS))
    pools.add_phase(database, "main", CapacityPhase("h100", now - 1, 4, 4, 0), actor=BY, now=now)


@pytest.fixture(autouse=True)
def _nothing_has_happened(platform: Platform) -> Iterator[None]:
    yield
    assert platform.runs() == []
    assert list(platform.home.runs.iterdir()) == []
    assert platform.processes["hub"].poll() is None
    assert check.findings(platform.database, int(time.time())) == []


def audited(platform: Platform) -> tuple[str, str, dict[str, str]]:
    """The newest event of the audit: who, on what, and its detail."""
    with platform.database.read() as transaction:
        row = transaction.one(select(audit_events).order_by(audit_events.c.id.desc()).limit(1))
    assert row is not None
    assert row.action == "start refused"
    return row.actor, row.subject, json.loads(row.detail)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.project}")
def test_the_api_says_why(platform: Platform, case: Case) -> None:
    answer = platform.start_server(case.person, case.project, case.profile)
    assert answer.status_code == case.status
    assert case.words in answer.json()["message"]
    actor, subject, detail = audited(platform)
    assert (actor, subject, detail["code"]) == (case.person, case.project, case.code.value)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.project}")
def test_the_form_says_why(platform: Platform, case: Case) -> None:
    answer = platform.send_form(case.person, case.project, {"profile": case.profile})
    assert answer.status_code == case.status
    page = html.unescape(answer.text)
    what = case.words.split(". ")[0]
    assert what in page
    assert f'data-refusal="{case.code.value}"' in page
    assert "PolicyRefused" not in page


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code}-{case.project}")
def test_the_progress_of_a_refused_start_says_why(platform: Platform, case: Case) -> None:
    platform.start_server(case.person, case.project, case.profile)
    last = platform.progress(case.person, case.project)[-1]
    assert last["failed"]
    assert case.words in last["message"]
    assert f'data-refusal="{case.code.value}"' in last["html_message"]


def test_a_refusal_names_the_profile_that_fits(platform: Platform) -> None:
    answer = platform.start_server("ada", "narrow", LARGE)
    assert answer.json()["message"].endswith(f"Fits now: {CPU}.")


def test_there_is_no_server_without_a_project(platform: Platform) -> None:
    answer = platform.api("ada", "POST", "/users/ada/server", json={"profile": CPU})
    assert answer.status_code == 400, answer.text
    assert answer.json()["message"].startswith("A server belongs to a project; there is no server without one.")
    assert audited(platform)[2] == {"code": "default_server_off"}
    page = platform.send_form("ben", "", {"profile": CPU})
    assert page.status_code == 400
    assert "서버는 과제에 속합니다" in page.text


def test_many_refusals_do_not_stop_the_hub(platform: Platform) -> None:
    for _ in range(12):
        assert platform.start_server("dan", "vision").status_code == 403
    assert platform.api("dan", "GET", "/user").status_code == 200


def test_a_person_who_is_not_in_the_ledger_is_refused(platform: Platform) -> None:
    platform.admin("POST", "/users/eve")
    answer = platform.admin("POST", "/users/eve/servers/vision", json={"profile": CPU})
    assert answer.status_code in {400, 403}
    assert platform.runs() == []


def test_the_form_is_never_empty_and_starts_nothing(platform: Platform) -> None:
    for person in ("ada", "dan"):
        client = platform.browser(person)
        for path in (f"/hub/spawn/{person}/vision", "/hub/spawn", f"/hub/spawn/{person}"):
            page = client.get(path)
            assert page.status_code == 200
            assert "mu-" in page.text
        assert client.get(f"/hub/user/{person}/vision/").status_code == 424
