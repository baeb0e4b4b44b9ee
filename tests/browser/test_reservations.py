"""The pages of reservations in both languages, light and dark, wide and narrow; and a class asked for by keyboard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from quotas.domain.admission import Admitted, Request
from quotas.domain.people import PlatformRole
from quotas.domain.policy import Policy
from quotas.domain.reservations import Asked
from quotas.domain.runs import RunKind, new_run_id
from quotas.services import admission, people, reservations
from tests.browser.test_pages import NARROW, WIDE, Visit
from tests.platform import PASSWORD, Platform, running
from tests.portal.conftest import BASE, Portal

SEOUL = ZoneInfo("Asia/Seoul")


@pytest.fixture(scope="module")
def classroom(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Platform, int, int]]:
    """A platform with its portal, a class that runs with one of its seats claimed, and one that cannot fit."""
    del chromium
    with running(tmp_path_factory.mktemp("classroom"), environment={"MUDEUNG_TEST_PORTAL": "1"}) as platform:
        Portal(platform).start()
        database, now, policy = platform.database, int(time.time()), Policy()
        people.add_person(
            database,
            "ola",
            "Ola",
            organisation=None,
            language="en",
            platform_roles=frozenset({PlatformRole.OPERATOR}),
            actor="tests",
            now=now,
        )
        people.set_password(database, "ola", PASSWORD, actor="tests", now=now)
        titles = {"title_ko": "딥러닝 실습 (가을 학기)", "title_en": "Deep learning lab, autumn term"}
        lecture = Asked("vision", "gpu-h100", 2, "Asia/Seoul", now + 300, 7200, rrule="FREQ=DAILY;COUNT=5", **titles)
        runs, _ = reservations.request(database, lecture, by="ada", now=now, policy=policy)
        reservations.approve(database, runs.number, reservations.Approval(), actor="ola", now=now, policy=policy)
        reservations.tick(database, now, policy)
        request = Request(new_run_id(), RunKind.NOTEBOOK, "cho", "vision", "gpu-h100")
        assert isinstance(admission.reserve(database, request, now, policy), Admitted)
        large = Asked("vision", "gpu-h100", 9, "Asia/Seoul", now + 86_400, 7200, rrule="FREQ=DAILY;COUNT=5", **titles)
        waits, _ = reservations.request(database, large, by="ada", now=now, policy=policy)
        yield platform, runs.number, waits.number


@pytest.fixture
def contexts() -> Iterator[list[BrowserContext]]:
    opened: list[BrowserContext] = []
    yield opened
    for context in opened:
        context.close()


def visit(
    browser: Browser,
    contexts: list[BrowserContext],
    platform: Platform,
    person: str,
    language: str,
    theme: str,
    width: int,
) -> Visit:
    context = browser.new_context(
        locale={"ko": "ko-KR", "en": "en-GB"}[language],
        color_scheme=theme,  # type: ignore[arg-type]
        viewport={"width": width, "height": 800},
        timezone_id="America/New_York",
    )
    contexts.append(context)
    found = Visit(context.new_page(), platform.url)
    found.log_in(language, person)
    return found


@pytest.mark.parametrize(
    ("language", "theme", "width"),
    [("ko", "light", WIDE), ("ko", "dark", NARROW), ("en", "dark", WIDE), ("en", "light", NARROW)],
)
def test_every_page_is_accessible_and_whole(
    browser: Browser,
    contexts: list[BrowserContext],
    classroom: tuple[Platform, int, int],
    language: str,
    theme: str,
    width: int,
) -> None:
    platform, runs, waits = classroom
    at = visit(browser, contexts, platform, "ada", language, theme, width)
    for name, path in (
        ("start", ""),
        ("list", "projects/vision/reservations"),
        ("form", "projects/vision/reservations/new"),
        ("a class that runs", f"reservations/{runs}"),
        ("one that waits", f"reservations/{waits}"),
    ):
        at.go(f"{BASE}{path}")
        at.check(name)
    operator = visit(browser, contexts, platform, "ola", language, theme, width)
    for name, path in (("all", "reservations"), ("deciding", f"reservations/{waits}")):
        operator.go(f"{BASE}{path}")
        operator.check(name)


def test_a_class_is_checked_and_asked_for(
    browser: Browser, contexts: list[BrowserContext], classroom: tuple[Platform, int, int]
) -> None:
    at = visit(browser, contexts, classroom[0], "ada", "en", "light", WIDE)
    at.go(f"{BASE}projects/vision/reservations")
    at.page.get_by_role("link", name="Ask for a reservation").click()
    first = (datetime.now(SEOUL) + timedelta(days=9)).replace(hour=14, minute=0)
    at.page.get_by_label("Title in Korean").fill("실습")
    at.page.get_by_label("Title in English").fill("Lab")
    at.page.get_by_label("Seats", exact=False).first.fill("6")
    at.page.get_by_label("Start of the first window").fill(first.strftime("%Y-%m-%dT%H:%M"))
    at.page.get_by_label("Every week").check()
    at.page.get_by_label("Last day").fill((first + timedelta(days=8)).strftime("%Y-%m-%d"))
    at.page.get_by_role("button", name="Check whether it fits").click()
    expect(at.page.locator("[data-fits=no]")).to_contain_text("4 seats in every window")
    at.check("a check that fails")
    expect(at.page.get_by_label("Title in English")).to_have_value("Lab")
    at.page.get_by_label("Seats", exact=False).first.fill("4")
    at.page.get_by_role("button", name="Ask for it").click()
    at.page.wait_for_url("**/reservations/*")
    expect(at.page.locator("[data-fits=yes]")).to_contain_text("All 2 windows fit")
    expect(at.page.locator("[data-state=requested]")).to_be_visible()


def test_the_live_seats(browser: Browser, contexts: list[BrowserContext], classroom: tuple[Platform, int, int]) -> None:
    platform, runs, _ = classroom
    at = visit(browser, contexts, platform, "ada", "en", "light", WIDE)
    at.go(f"{BASE}reservations/{runs}")
    expect(at.page.locator("[data-window=open]")).to_contain_text("1 / 2")
    expect(at.page.locator("[data-window=open] table")).to_contain_text("Cho (cho)")
