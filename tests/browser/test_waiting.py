"""Waiting for a device in a real browser: refused, joined, told one's place, and started when it is one's turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.test_pages import LONGEST_WAIT, NARROW, WIDE, Visit
from tests.platform import GPU, Platform, answers, running, wait_for
from tests.spawners.test_queue import one_device

Visiting = Callable[..., Visit]


def unfold(visit: Visit) -> None:
    """What can be waited for is in sight; where somebody wants to wait already, it is from the start."""
    waiting = visit.page.locator("details[data-waiting=vision]")
    if waiting.get_attribute("open") is None:
        waiting.locator("> summary").click()


@pytest.fixture(scope="module")
def waiting_platform(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with one device, its queue looked at every second, and its portal."""
    del chromium
    folder = tmp_path_factory.mktemp("platform")
    portal = {"MUDEUNG_TEST_PORTAL": "1"}
    with running(folder, reconciler=True, world=one_device, environment=portal, queue_seconds=1) as started:
        process = started.start("portal", [sys.executable, "-m", "portal"])
        wait_for("the portal", lambda: answers(f"{started.url}/services/portal/health", 200), process=process)
        yield started


@pytest.fixture
def visiting(browser: Browser, waiting_platform: Platform) -> Iterator[Visiting]:
    contexts: list[BrowserContext] = []

    def visit(language: str, theme: str, width: int, *, scripts: bool = True) -> Visit:
        context = browser.new_context(
            locale={"ko": "ko-KR", "en": "en-GB"}[language],
            color_scheme=theme,  # type: ignore[arg-type]
            viewport={"width": width, "height": 800},
            java_script_enabled=scripts,
        )
        contexts.append(context)
        return Visit(context.new_page(), waiting_platform.url)

    yield visit
    for context in contexts:
        context.close()
    for person in ("ada", "ben"):
        if waiting_platform.server(person, "vision"):
            waiting_platform.stop_server(person, "vision")
            waiting_platform.wait_stopped(person, "vision")


@pytest.mark.parametrize(
    ("language", "theme", "width", "waits"),
    [("en", "light", WIDE, "Wait in the queue"), ("ko", "dark", NARROW, "대기열에 등록")],
)
def test_refused_joined_and_started_in_turn(
    visiting: Visiting, waiting_platform: Platform, language: str, theme: str, width: int, waits: str
) -> None:
    waiting_platform.start_server("ada", "vision", GPU)
    waiting_platform.wait_ready("ada", "vision")
    ben = visiting(language, theme, width)
    ben.log_in(language, "ben")
    ben.go("/hub/spawn/ben/vision")
    unfold(ben)
    form = ben.page.locator("form[data-wait=vision]")
    expect(form.locator("input[name=profile]")).to_have_value(GPU)
    form.locator("summary").click()
    expect(form.locator("input[name=wish]")).to_have_count(3)
    form.locator("#vision--mode-start").check()
    ben.check("the start page with a form to wait")
    form.get_by_role("button", name=waits).click()
    ben.page.wait_for_url("**/hub/home")
    expect(ben.page.locator("[data-place=waiting]")).to_be_visible()
    ben.check("the home page of one who waits")
    ben.go("/services/portal/queue")
    expect(ben.page.locator("[data-place=waiting]")).to_be_visible()
    ben.check("the portal's page of the queue")
    waiting_platform.stop_server("ada", "vision")
    wait_for("ben's server", lambda: waiting_platform.server("ben", "vision"))
    waiting_platform.wait_ready("ben", "vision")
    ben.go("/hub/home")
    expect(ben.page.locator("[data-place]")).to_have_count(0)
    expect(ben.page.locator("[data-server=vision]")).to_be_visible()
    ben.check("the home page of one whose turn came")


def test_an_offer_is_taken_without_scripts(visiting: Visiting, waiting_platform: Platform) -> None:
    waiting_platform.start_server("ada", "vision", GPU)
    waiting_platform.wait_ready("ada", "vision")
    ben = visiting("en", "light", WIDE, scripts=False)
    ben.log_in("en", "ben")
    ben.go("/hub/spawn/ben/vision")
    unfold(ben)
    form = ben.page.locator("form[data-wait=vision]")
    form.locator("#vision--mode-offer").check()
    form.locator("button[type=submit]").click()
    ben.page.wait_for_url("**/hub/home")
    waiting_platform.stop_server("ada", "vision")
    for _ in range(LONGEST_WAIT // 500):
        if ben.page.locator("[data-place=turn]").count():
            break
        ben.page.wait_for_timeout(500)
        ben.go("/hub/home")
    ben.page.locator("button[data-take=vision]").click()
    waiting_platform.wait_ready("ben", "vision")
    ben.go("/hub/home")
    expect(ben.page.locator("[data-server=vision]")).to_be_visible()


def test_a_place_is_given_up(visiting: Visiting, waiting_platform: Platform) -> None:
    waiting_platform.start_server("ada", "vision", GPU)
    waiting_platform.wait_ready("ada", "vision")
    ben = visiting("en", "light", WIDE)
    ben.log_in("en", "ben")
    ben.go("/hub/spawn/ben/vision")
    unfold(ben)
    ben.page.locator("form[data-wait=vision] button[type=submit]").click()
    ben.page.wait_for_url("**/hub/home")
    ben.page.get_by_role("button", name="Rather: Keep the devices for me").click()
    expect(ben.page.get_by_text("At your turn: Keep the devices for me")).to_be_visible()
    ben.page.locator("button[data-leave=vision]").click()
    expect(ben.page.locator("[data-place]")).to_have_count(0)
