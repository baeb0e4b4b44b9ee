"""The portal's pages and the queue's at the hub, in both languages and themes, wide and narrow, and without scripts."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from quotas.domain.units import CALENDAR
from quotas.services import notices, people, queue_views, recalls, reservation_views
from tests.browser import portal_world as there
from tests.browser.conftest import AXE
from tests.browser.portal_world import (
    MEMBER,
    NOTEBOOK,
    OPERATOR,
    OTHER_PROJECT,
    OVER_PROJECT,
    PI,
    PROJECT,
    SCARCE,
    Shown,
)
from tests.browser.test_pages import NARROW, RULES, WIDE, Visit
from tests.platform import Platform, running

BASE = "/services/portal/"
BY_TAG = {"type": "tag", "values": RULES}
BY_COLOUR = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
"""What of a page differs between the themes; all else is looked at in the light one."""
WIDER = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
  [...document.body.querySelectorAll('*')].filter(each => each.getBoundingClientRect().right > innerWidth)
    .map(each => each.outerHTML.slice(0, 120))"""
"""What makes the page wider than the window, outermost first."""


@dataclass
class Portal:
    """The portal of a platform, and what is on its pages."""

    platform: Platform
    browser: Browser
    shown: Shown
    visitors: dict[tuple[str, bool], Visit]

    def visit(self, person: str, *, scripts: bool = True) -> Visit:
        """Return the person's browser, logged in; the same one each time."""
        key = person, scripts
        if key not in self.visitors:
            context = self.browser.new_context(java_script_enabled=scripts, viewport={"width": WIDE, "height": 800})
            visit = Visit(context.new_page(), self.platform.url)
            visit.page.on("console", lambda said: visit.errors.append(said.text) if is_an_error(said) else None)
            visit.log_in(self.language(person), person)
            self.visitors[key] = visit
        return self.visitors[key]

    def language(self, person: str) -> str:
        found = people.person(self.platform.database, person)
        assert found is not None
        return found.language

    def speak(self, person: str, language: str) -> None:
        people.set_language(self.platform.database, person, language, now=int(time.time()))


@pytest.fixture(scope="module")
def portal(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    folder = tmp_path_factory.mktemp("portal")
    with running(folder, world=there.world, environment={"MUDEUNG_TEST_PORTAL": "1"}) as platform:
        process = platform.start("portal", [sys.executable, "-m", "portal"])
        shown = there.fill(platform.database, platform.home.project_folder(PROJECT), int(time.time()))
        platform.wait_for_answer("portal", f"{platform.url}{BASE}health", process)
        made = Portal(platform, browser, shown, {})
        yield made
        for visit in made.visitors.values():
            visit.page.context.close()


def is_an_error(said: ConsoleMessage) -> bool:
    """Return whether something went wrong on a page; a browser notes there also that the page was a refusal."""
    refused = "with a status of 4" in said.text and "/static/" not in said.location["url"]
    return said.type == "error" and not refused


def check(visit: Visit, name: str) -> None:
    """The page breaks no rule of axe-core, light and dark, wide and narrow, and is whole; nothing went wrong on it."""
    page = visit.page
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for theme, rules in (("light", BY_TAG), ("dark", BY_COLOUR)):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        expect(page.locator("html")).to_have_attribute("data-bs-theme", theme)
        for width in (WIDE, NARROW):
            look = f"{name}, {theme}, {width}"
            page.set_viewport_size({"width": width, "height": 800})
            assert broken_rules(page, rules) == [], look
            assert page.evaluate(WIDER) == [], look
    assert (visit.outside, visit.errors) == ([], []), name


def broken_rules(page: Page, rules: dict[str, Any]) -> list[str]:
    """Return what axe-core, which the page has loaded, finds on it."""
    found = page.evaluate("runOnly => axe.run({runOnly, resultTypes: ['violations'], preload: false})", rules)
    return [f"{broken['id']}: {node['html'][:200]}" for broken in found["violations"] for node in broken["nodes"]]


def pages_of_a_pi(shown: Shown) -> dict[str, str]:
    project = f"{BASE}projects/{PROJECT}"
    return {
        "projects": BASE,
        "runs and schedules": project,
        "choice of a notebook": f"{project}/schedules/new",
        "a notebook that is none": f"{project}/schedules/new?notebook=nowhere.ipynb",
        "form of a schedule": f"{project}/schedules/new?notebook={NOTEBOOK}",
        "a failed run": f"{BASE}runs/{shown.failed}",
        "a run": f"{BASE}runs/{shown.succeeded}",
        "usage": f"{project}/usage",
        "usage of a run": f"{BASE}runs/{shown.measured}/usage",
        "usage of a short run": f"{BASE}runs/{shown.failed}/usage",
        "usage in no period": f"{project}/usage?since=soon",
        "queue": f"{BASE}queue",
        "notices": f"{BASE}notices",
        "a recall": f"{BASE}recalls/{shown.recall}",
        "reservations": f"{project}/reservations",
        "form of a reservation": f"{project}/reservations/new",
        "an open window": f"{BASE}reservations/{shown.open_reservation}",
        "a reservation that waits": f"{BASE}reservations/{shown.waiting_reservation}",
        "no run": f"{BASE}runs/nowhere",
    }


@pytest.mark.parametrize("language", ["ko", "en"])
def test_pages_of_a_pi_are_accessible(portal: Portal, language: str) -> None:
    portal.speak(PI, language)
    visit = portal.visit(PI)
    for name, path in pages_of_a_pi(portal.shown).items():
        visit.go(path)
        expect(visit.page.locator("html")).to_have_attribute("lang", language)
        check(visit, name)


@pytest.mark.parametrize("language", ["ko", "en"])
def test_forms_that_come_back_are_accessible(portal: Portal, language: str) -> None:
    portal.speak(PI, language)
    visit = portal.visit(PI)
    page = visit.page
    visit.go(f"{BASE}projects/{PROJECT}/schedules/new?notebook={NOTEBOOK}")
    page.fill("#cron", "every day")
    page.click("form.mu-panel button[type=submit]")
    expect(page.locator("[role=alert]")).to_contain_text("every day")
    check(visit, "a refused schedule")
    for seats, fits in (("2", "yes"), ("3", "no")):
        fill_in_a_reservation(visit, seats, SCARCE)
        page.click("button[value=check]")
        expect(page.locator(f"[data-fits={fits}]")).to_be_visible()
        check(visit, f"{seats} seats")
    fill_in_a_reservation(visit, "many", SCARCE)
    page.click("button[value=request]")
    expect(page.locator("[role=alert]")).to_contain_text("seats")
    check(visit, "a refused reservation")
    visit.go(f"{BASE}reservations/{portal.shown.open_reservation}")
    page.fill("#names", f"{MEMBER}\nnobody\n{MEMBER}")
    page.click("button[value=preview]")
    expect(page.locator("[data-preview]")).to_contain_text("nobody")
    check(visit, "a changed roster")


@pytest.mark.parametrize("language", ["ko", "en"])
def test_pages_of_an_operator_are_accessible(portal: Portal, language: str) -> None:
    portal.speak(OPERATOR, language)
    visit = portal.visit(OPERATOR)
    for name, path in {
        "no project": BASE,
        "an empty queue": f"{BASE}queue",
        "no notices": f"{BASE}notices",
        "all reservations": f"{BASE}reservations",
        "fleet": f"{BASE}fleet?refresh=off",
        "usage of a project": f"{BASE}projects/{PROJECT}/usage",
        "a reservation to decide": f"{BASE}reservations/{portal.shown.waiting_reservation}",
        "no recall": f"{BASE}recalls/{portal.shown.recall}",
        "no reservation": f"{BASE}reservations/9999",
    }.items():
        visit.go(path)
        expect(visit.page.locator("html")).to_have_attribute("lang", language)
        check(visit, name)


@pytest.mark.parametrize("language", ["ko", "en"])
def test_pages_of_a_member_and_the_queue_at_the_hub_are_accessible(portal: Portal, language: str) -> None:
    portal.speak(MEMBER, language)
    visit = portal.visit(MEMBER)
    visit.go(f"{BASE}queue")
    expect(visit.page.locator("[data-place=turn]")).to_have_count(1)
    check(visit, "a turn")
    visit.go(f"{BASE}projects/{OVER_PROJECT}")
    check(visit, "an award that is over")
    visit.go(f"{BASE}projects/{PROJECT}/usage")
    check(visit, "one's own usage")
    visit = portal.visit(PI)
    for name, path, there_is in (
        ("a place at the hub", "/hub/home", "[data-place=waiting]"),
        ("the form to wait", f"/hub/spawn/{PI}/{OTHER_PROJECT}", f"[data-wait={OTHER_PROJECT}]"),
    ):
        visit.go(path)
        switch = visit.page.locator(f"button[name=language][value={language}]")
        if switch.count():  # the hub keeps a person's language for a while
            switch.click()
        expect(visit.page.locator("html")).to_have_attribute("lang", language)
        expect(visit.page.locator(there_is)).to_have_count(1)
        for folded in visit.page.locator("details").all():
            folded.evaluate("element => { element.open = true; }")
        check(visit, name)


def test_the_fleet_looks_again_without_scripts_until_told_to_stop(portal: Portal) -> None:
    portal.speak(OPERATOR, "en")
    visit = portal.visit(OPERATOR, scripts=False)
    page = visit.page
    visit.go(f"{BASE}fleet")
    expect(page.locator(".mu-device")).to_have_count(5)
    expect(page.locator("[data-state=held]")).to_contain_text("in use")
    page.get_by_role("link", name="Stop looking again").click()
    expect(page.get_by_role("link", name="Look again every 30 s")).to_be_visible()
    assert page.url.endswith("fleet?refresh=off")
    page.locator("[data-state=held] a").click()
    expect(page.locator("[data-finding]")).to_contain_text("Devices were held for")
    assert (visit.outside, visit.errors) == ([], [])


def test_the_checker_finds_what_it_should(portal: Portal) -> None:
    visit = portal.visit(PI)
    visit.go(f"{BASE}notices")
    visit.page.evaluate("document.querySelector('h1').style.color = '#eee'")
    with pytest.raises(AssertionError, match=r"light(.|\n)*color-contrast"):
        check(visit, "a pale heading")
    visit.go(f"{BASE}notices")
    visit.page.evaluate("document.querySelector('h1').style.color = '#222'")
    with pytest.raises(AssertionError, match=r"dark(.|\n)*color-contrast"):
        check(visit, "a dark heading")
    visit.go(f"{BASE}notices")
    visit.page.evaluate("document.querySelector('main').style.width = '40rem'")
    with pytest.raises(AssertionError, match="narrow"):
        check(visit, "narrow")
    visit.page.evaluate("console.error('that was no good')")
    assert visit.errors == ["that was no good"]
    visit.errors.clear()


def test_every_form_works_without_scripts(portal: Portal) -> None:
    portal.speak(PI, "en")
    visit = portal.visit(PI, scripts=False)
    page = visit.page
    database, now = portal.platform.database, int(time.time())
    visit.go(f"{BASE}notices")
    unread = page.locator("[data-read=no]").count()
    assert unread > 1
    page.locator("[data-read=no] button").first.click()
    expect(page.locator("[data-read=no]")).to_have_count(unread - 1)
    page.get_by_role("button", name="Mark all as read").click()
    expect(page.locator("[data-read=no]")).to_have_count(0)
    assert notices.of_person(database, PI, unread=True) == []

    visit.go(f"{BASE}recalls/{portal.shown.recall}")
    page.fill("#objection", "The simulators come in spring.")
    page.click("section:has(#objection) button[type=submit]")
    expect(page.locator("[data-state=objected]")).to_be_visible()
    assert recalls.show(database, portal.shown.recall).objected_by == PI

    fill_in_a_reservation(visit, "2", SCARCE)
    page.click("button[value=request]")
    expect(page.locator("[data-state=requested]")).to_be_visible()
    made = reservation_views.latest(database, PROJECT, 1)[0]
    assert (made.title_en, made.seats, made.requester) == ("A test", 2, PI)
    page.locator("section:has(#cancel-reason) button[type=submit]").click()
    expect(page.locator("[data-state=cancelled]")).to_be_visible()

    visit.go(f"{BASE}queue")
    waiting = page.locator("[data-place=waiting]")
    expect(waiting).to_have_count(2)
    waiting.filter(has_not_text="scheduled run").get_by_role("button", name="Wait no more").click()
    expect(waiting).to_have_count(1)
    visit.go(f"/hub/spawn/{PI}/{OTHER_PROJECT}")
    page.click(f"details[data-waiting={OTHER_PROJECT}] > summary")
    page.check(f"#{OTHER_PROJECT}--wait-{SCARCE}")
    page.locator(f"[data-wait={OTHER_PROJECT}] button[type=submit]").click()
    expect(page.locator(f"[data-leave={OTHER_PROJECT}]")).to_be_visible()
    assert {each.entry.project for each in queue_views.of_person(database, PI, now)} == {PROJECT, OTHER_PROJECT}
    page.click(f"[data-leave={OTHER_PROJECT}]")
    expect(page.locator(f"[data-leave={OTHER_PROJECT}]")).to_have_count(0)
    assert (visit.outside, visit.errors) == ([], [])


def fill_in_a_reservation(visit: Visit, seats: str, profile: str) -> None:
    """The form asks for seats of the profile, tomorrow afternoon."""
    visit.go(f"{BASE}projects/{PROJECT}/reservations/new")
    tomorrow = datetime.now(CALENDAR) + timedelta(days=2)
    visit.page.fill("#title_ko", "시험")
    visit.page.fill("#title_en", "A test")
    visit.page.select_option("#profile", profile)
    visit.page.fill("#seats", seats)
    visit.page.fill("#starts", tomorrow.strftime("%Y-%m-%dT14:00"))
