"""Each page in both languages, light and dark, wide and narrow: accessible, whole, and loaded from here only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.browser.conftest import AXE
from tests.platform import PASSWORD, Platform

PERSON, PROJECT = "member", "vision-drive"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WIDE, NARROW = 1280, 320
LONGEST_WAIT = 20_000


@dataclass
class Visit:
    """A browser at the platform, and what it asked for that is not the platform's."""

    page: Page
    url: str
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(LONGEST_WAIT)
        self.page.on("request", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and f"{parts.scheme}://{parts.netloc}" != self.url:
            self.outside.append(request.url)

    def go(self, path: str) -> None:
        self.page.goto(self.url + path)

    def log_in(self, language: str, person: str = PERSON) -> None:
        self.go("/hub/login?next=%2Fhub%2Fhome")
        self.page.fill("#username_input", person)
        self.page.fill("#password_input", PASSWORD)
        self.page.click("#login_submit")
        self.page.wait_for_url("**/hub/home")
        switch = self.page.locator(f"button[name=language][value={language}]")
        if switch.count():
            switch.click()
        expect(self.page.locator("html")).to_have_attribute("lang", language)
        self.page.wait_for_load_state()  # the new page's first line is there before its end

    def start(self, profile: str = "cpu-small") -> None:
        self.go(f"/hub/spawn/{PERSON}/{PROJECT}")
        self.page.check(f"#{PROJECT}--{profile}")
        self.page.locator(f"[data-project={PROJECT}] button[type=submit]").click()

    def stop(self) -> None:
        self.go("/hub/home")
        self.page.locator(f"[data-server={PROJECT}] summary").click()
        self.page.click(f"button[data-stop={PROJECT}]")
        for _ in range(30):
            if not self.page.locator(f"[data-server={PROJECT}]").count():
                return
            self.page.wait_for_timeout(500)
            self.go("/hub/home")
        pytest.fail("the server is still shown")

    def check(self, name: str) -> None:
        """The page breaks no rule of axe-core, fits its width, and loaded nothing from elsewhere."""
        assert broken_rules(self.page) == [], name
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            f"{name} is wider than the window"
        )
        assert (self.outside, self.errors) == ([], []), name


def broken_rules(page: Page) -> list[str]:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)
    return [
        f"{broken['id']}: {broken['help']}: {node['html'][:200]} {node['failureSummary']}"
        for broken in found["violations"]
        for node in broken["nodes"]
    ]


Visiting = Callable[..., Visit]


@pytest.fixture
def visiting(browser: Browser, platform: Platform) -> Iterator[Visiting]:
    contexts: list[BrowserContext] = []

    def visit(language: str = "en", theme: str = "light", width: int = WIDE, *, scripts: bool = True) -> Visit:
        context = browser.new_context(
            locale={"ko": "ko-KR", "en": "en-GB"}[language],
            color_scheme=theme,  # type: ignore[arg-type]
            viewport={"width": width, "height": 800},
            java_script_enabled=scripts,
            timezone_id="America/New_York",
        )
        contexts.append(context)
        return Visit(context.new_page(), platform.url)

    yield visit
    for context in contexts:
        context.close()
    if platform.server(PERSON, PROJECT):
        platform.stop_server(PERSON, PROJECT)
        platform.wait_stopped(PERSON, PROJECT)


@pytest.mark.parametrize("language", ["ko", "en"])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_pages_are_accessible(visiting: Visiting, language: str, theme: str, width: int) -> None:
    visit = visiting(language, theme, width)
    page = visit.page
    visit.go("/hub/login")
    expect(page.locator("html")).to_have_attribute("lang", language)
    expect(page.locator("html")).to_have_attribute("data-bs-theme", theme)
    visit.check("login")
    page.fill("#username_input", "nobody")
    page.fill("#password_input", "wrong")
    page.click("#login_submit")
    expect(page.locator("[role=alert]")).to_be_visible()
    visit.check("login refused")
    visit.log_in(language)
    visit.check("home")
    for name, path in {
        "start": f"/hub/spawn/{PERSON}",
        "start of one project": f"/hub/spawn/{PERSON}/{PROJECT}",
        "start of someone else's project": f"/hub/spawn/{PERSON}/storm-forecast",
        "tokens": "/hub/token",
        "not found": "/hub/nowhere",
        "away": "/hub/error/503",
        "not running": f"/hub/user/{PERSON}/{PROJECT}/",
    }.items():
        visit.go(path)
        for folded in page.locator("details").all():
            folded.evaluate("element => { element.open = true; }")
        visit.check(name)
    # A server that is ready while the page is looked at takes it to JupyterLab: that waits until the look is over.
    arrivals: list[Route] = []

    def keep(arrival: Route) -> None:
        arrivals.append(arrival)

    page.route(f"**/user/{PERSON}/**", keep)
    visit.start()
    expect(page).to_have_url(re.compile("/hub/spawn-pending/"))
    page.wait_for_load_state("domcontentloaded")  # the address is there before the page
    visit.check("starting")
    page.unroute(f"**/user/{PERSON}/**")
    for arrival in arrivals:
        arrival.abort()
    visit.go("/hub/home")
    page.locator(f"[data-server={PROJECT}] summary").click()
    visit.check("home with a server")
    visit.stop()


def test_the_checker_finds_what_it_should(visiting: Visiting) -> None:
    visit = visiting()
    visit.go("/hub/login")
    visit.page.evaluate("document.querySelector('h1').style.color = '#eee'")
    visit.page.evaluate("document.querySelector('label').removeAttribute('for')")
    visit.page.evaluate("document.querySelector('label').replaceWith(document.querySelector('input[type=text]'))")
    broken = " ".join(broken_rules(visit.page))
    assert "color-contrast" in broken
    assert "label" in broken


def test_a_refused_start_is_announced(visiting: Visiting) -> None:
    visit = visiting("ko")
    visit.log_in("ko")
    visit.go(f"/hub/spawn/{PERSON}/{PROJECT}")
    visit.page.locator(f"#{PROJECT}--cpu-small").evaluate("element => { element.value = 'npu-rngd'; }")
    visit.page.locator(f"[data-project={PROJECT}] button[type=submit]").click()
    expect(visit.page.locator("[role=alert] [data-refusal=profile_not_offered]")).to_contain_text("npu-rngd")
    visit.check("refused")


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_the_main_job_ends_in_the_server(visiting: Visiting, scripts: bool) -> None:
    visit = visiting("en", scripts=scripts)
    visit.log_in("en")
    visit.start("h100-1g")
    expect(visit.page.locator("h1")).to_have_text("The server is starting")
    expect(visit.page.locator("li[data-state=now]")).to_have_count(1)
    expect(visit.page).to_have_url(re.compile(f"/user/{PERSON}/{PROJECT}/"), timeout=LONGEST_WAIT)
    visit.go("/hub/home")
    expect(visit.page.locator(f"[data-server={PROJECT}]")).to_contain_text("Time left")
    visit.stop()
    visit.go("/hub/logout")
    expect(visit.page.locator("#login_submit")).to_be_visible()
    assert (visit.outside, visit.errors) == ([], [])


def test_the_log_of_a_start_is_folded_and_complete(visiting: Visiting) -> None:
    visit = visiting("en")
    visit.log_in("en")
    visit.start()
    log = visit.page.locator("#progress-log li")
    expect(visit.page.locator("#progress-message")).to_contain_text("first answer")
    expect(log.first).to_be_hidden()
    visit.page.locator("details summary", has_text="Event log").click()
    expect(log.first).to_be_visible()
    assert " KST " in log.first.inner_text()
    visit.stop()


def test_the_keyboard_alone_is_enough(visiting: Visiting) -> None:
    visit = visiting("en")
    page = visit.page
    visit.go(f"/hub/login?next=%2Fhub%2Fspawn%2F{PERSON}%2F{PROJECT}")
    expect(page.locator("#username_input")).to_be_focused()
    page.keyboard.type(PERSON)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.locator(f"#{PROJECT}--cpu-small")).to_be_visible()
    reach(page, f"#{PROJECT}--cpu-small")
    page.keyboard.press("ArrowDown")
    expect(page.locator(f"#{PROJECT}--cpu-large")).to_be_checked()
    reach(page, f"[data-project={PROJECT}] button[type=submit]")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/hub/spawn-pending/"))
    reach(page, "details:has(form) summary")
    page.keyboard.press("Enter")
    reach(page, f"button[data-stop={PROJECT}]")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/hub/home"))


def reach(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus, and can be seen to have it."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement?.matches(selector)", selector):
            break
    else:
        pytest.fail(f"{selector} cannot be reached with Tab")
    outline = (
        "element => [element, element.closest('.mu-card')].some(e => e && getComputedStyle(e).outlineStyle != 'none')"
    )
    assert page.locator(selector).first.evaluate(outline), f"the focus on {selector} cannot be seen"


def test_the_chosen_theme_is_kept(visiting: Visiting) -> None:
    visit = visiting("en", "light")
    visit.go("/hub/login")
    visit.page.click("#dark-theme-toggle")
    expect(visit.page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    visit.log_in("en")
    expect(visit.page.locator("html")).to_have_attribute("data-bs-theme", "dark")


def test_a_token_is_made_shown_once_and_revoked(visiting: Visiting) -> None:
    visit = visiting("ko")
    visit.log_in("ko")
    visit.go("/hub/token")
    rows = visit.page.locator("#api-tokens-table .token-row", has_text="시험 <b>")
    visit.page.fill("#token-note", "시험 <b>")
    visit.page.click("#request-token-form button")
    expect(visit.page.locator("#token-result")).to_have_text(re.compile("^[0-9a-f]{32}$"))
    visit.check("token made")
    visit.page.reload()
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("시험 <b>")
    rows.first.locator(".revoke-token-btn").click()
    expect(rows).to_have_count(0)
