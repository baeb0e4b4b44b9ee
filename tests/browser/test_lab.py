"""JupyterLab's status bar counts down, warns, extends and saves, in a real Chromium on a real server."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from sqlalchemy import update

from quotas.domain.runs import RunState
from quotas.store.tables import persons, profiles, runs
from tests.browser.conftest import AXE
from tests.platform import PASSWORD, Platform, answers, running, wait_for

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
TYPED = "answer = 6 * 7  # typed, and not saved by hand"
HOUR = 3_600
NEXT_LOOK_MS = 45_000
"""The page asks every ten seconds by then, and the server keeps an answer for fifteen."""
SETTLED = """() => document.getAnimations().every(each => each.playState === 'finished')"""


@pytest.fixture(scope="module")
def platform(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with its portal and real JupyterLab servers, whose sessions last for four hours."""
    del chromium
    folder, environment = tmp_path_factory.mktemp("lab"), {"MUDEUNG_TEST_PORTAL": "1"}
    with running(folder, server=None, environment=environment) as started:
        process = started.start("portal", [sys.executable, "-m", "portal"])
        health = f"{started.url}/services/portal/health"
        wait_for("the portal", lambda: answers(health, 200), process=process)
        with started.database.write() as transaction:
            transaction.run(update(profiles).values(session_seconds=4 * HOUR, idle_seconds=HOUR))
        yield started


@dataclass
class Lab:
    """One person's JupyterLab, with a notebook open."""

    platform: Platform
    page: Page
    run_id: str
    notebook: Path

    @property
    def item(self) -> Locator:
        return self.page.locator(".mudeung-Item-button")

    @property
    def panel(self) -> Locator:
        return self.page.get_by_role("dialog").and_(self.page.locator(".mudeung-Panel"))

    @property
    def warning(self) -> Locator:
        return self.page.locator(".Toastify__toast--warning")

    def set_run(self, **values: int | None) -> None:
        with self.platform.database.write() as transaction:
            transaction.run(update(runs).where(runs.c.id == self.run_id).values(**values))

    def seconds_shown(self) -> int:
        """Return the time that the item shows, in seconds."""
        return seconds_of(self.item.inner_text())

    def check(self, where: Locator) -> list[str]:
        """Return what axe finds wrong."""
        self.page.wait_for_function(SETTLED)
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        element = where.element_handle()
        found: dict[str, Any] = self.page.evaluate("element => axe.run(element)", element)
        return [f"{each['id']}: {json.dumps(each['nodes'], ensure_ascii=False)[:400]}" for each in found["violations"]]


def seconds_of(text: str) -> int:
    units = {"h": HOUR, "시간": HOUR, "min": 60, "분": 60, "s": 1, "초": 1}
    parts = re.findall(r"(\d+) ?(h|min|s|시간|분|초)\b", text.partition("·")[0])
    assert parts, text
    return sum(int(number) * units[unit] for number, unit in parts)


@contextmanager
def opened(platform: Platform, browser: Browser, person: str, language: str) -> Iterator[Lab]:
    """`person`, who speaks `language`, is in JupyterLab with a notebook open; the server is gone afterwards."""
    with platform.database.write() as transaction:
        transaction.run(update(persons).where(persons.c.username == person).values(language=language))
    path = platform.home.project_folder("vision") / f"{person}.ipynb"
    cells = [nbformat.v4.new_code_cell("")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    settings = platform.home.path / "people" / person / ".jupyter" / "lab" / "user-settings"
    settings = settings / "@jupyterlab" / "docmanager-extension" / "plugin.jupyterlab-settings"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text('{"autosave": false}')
    assert platform.start_server(person, "vision").status_code in (201, 202)
    platform.wait_ready(person, "vision", 90)
    run_id = next(run.id for run in platform.runs("vision") if run.person == person and run.state is RunState.RUNNING)
    context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(60_000)
    try:
        page.goto(f"{platform.url}/hub/login?next=%2Fuser%2F{person}%2Fvision%2Flab%2Ftree%2F{path.name}")
        page.fill("#username_input", person)
        page.fill("#password_input", PASSWORD)
        page.click("#login_submit")
        page.locator(".mudeung-Item-button").wait_for()
        yield Lab(platform, page, run_id, path)
    finally:
        context.close()
        assert platform.stop_server(person, "vision").status_code in (202, 204)
        platform.wait_stopped(person, "vision")


def test_it_counts_down_warns_extends_and_saves(platform: Platform, browser: Browser) -> None:
    with opened(platform, browser, "ada", "en") as lab:
        # It counts down by itself, and says what limits it.
        first = lab.seconds_shown()
        assert 3 * HOUR < first <= 4 * HOUR
        lab.item.click()
        expect(lab.panel).to_be_visible()
        expect(lab.panel).to_contain_text("the length of a session")
        expect(lab.panel).to_contain_text("none")
        assert lab.panel.get_by_role("link", name="Portal").get_attribute("href").endswith("/services/portal/")
        assert lab.panel.get_by_role("button", name="Extend").get_attribute("aria-disabled") == "true"
        assert lab.check(lab.panel) == []
        lab.page.keyboard.press("Escape")
        expect(lab.panel).to_have_count(0)
        expect(lab.item).to_be_focused()
        expect(lab.warning).to_have_count(0)

        # Found idle, it is to be stopped in nine minutes: the person is warned, and that stays.
        lab.set_run(idle_stop_at=int(time.time()) + 540)
        time.sleep(15)  # as long as the server keeps an answer
        lab.item.press("Enter")
        expect(lab.warning).to_have_count(1, timeout=NEXT_LOOK_MS)
        expect(lab.warning).to_contain_text(re.compile(r"8 min left; this server stops at \d\d:\d\d .*: it computes"))
        assert 460 < lab.seconds_shown() < 540
        seen = lab.seconds_shown()
        wait_for("the countdown", lambda: lab.seconds_shown() < seen, seconds=5)
        lab.panel.press("Escape")
        time.sleep(6)  # longer than any toast that goes by itself
        expect(lab.warning).to_have_count(1)

        # One click extends it: the warning is gone, and the countdown has changed.
        lab.warning.get_by_role("button", name="Extend").click()
        expect(lab.warning).to_have_count(0)
        wait_for("the longer countdown", lambda: lab.seconds_shown() > 3 * HOUR)

        # At the last minute what was typed and never saved is on the disk; here nothing else saves it.
        lab.page.locator(".jp-Notebook .jp-Cell .cm-content").first.click()
        lab.page.keyboard.type(TYPED)
        lab.set_run(idle_stop_at=int(time.time()) + 105)
        expect(lab.warning.filter(has_text="1 min left; this server stops at")).to_have_count(1, timeout=NEXT_LOOK_MS)
        assert lab.seconds_shown() > 60
        assert TYPED not in lab.notebook.read_text(encoding="utf-8")
        expect(lab.warning.filter(has_text="what kernels have in memory")).to_have_count(1, timeout=60_000)
        wait_for("the saved notebook", lambda: TYPED in lab.notebook.read_text(encoding="utf-8"), seconds=8)
        expect(lab.warning.filter(has_text="9 s left; this server stops at")).to_have_count(1)
        assert 40 < lab.seconds_shown() <= 60


def test_in_korean_for_someone_who_speaks_it(platform: Platform, browser: Browser) -> None:
    with opened(platform, browser, "ben", "ko") as lab:
        assert "시간" in lab.item.inner_text()
        assert str(lab.item.get_attribute("aria-label")).startswith("이 서버의 남은 시간: 3시간")
        lab.set_run(idle_stop_at=int(time.time()) + 540)
        time.sleep(15)
        lab.item.press("Enter")
        expect(lab.panel).to_contain_text("유휴 상태", timeout=NEXT_LOOK_MS)
        expect(lab.warning).to_contain_text("8분 남음. 이 서버는")
        assert lab.check(lab.panel) == []
        lab.panel.get_by_role("button", name="연장").press("Enter")
        expect(lab.panel).to_contain_text("더 연장할 수 없습니다")
        expect(lab.warning).to_have_count(0)
        wait_for("the longer countdown", lambda: lab.seconds_shown() > 3 * HOUR)


def test_while_the_platform_is_away_the_countdown_goes_on(platform: Platform, browser: Browser) -> None:
    with opened(platform, browser, "ada", "en") as lab:
        lab.set_run(idle_stop_at=int(time.time()) + 280)  # near the end it is asked often
        time.sleep(15)
        lab.item.click()
        expect(lab.warning).to_have_count(1)
        platform.kill("portal")
        try:
            expect(lab.item).to_contain_text("platform not reached", timeout=NEXT_LOOK_MS)
            seen = lab.seconds_shown()
            wait_for("the countdown", lambda: lab.seconds_shown() < seen, seconds=5)
            expect(lab.panel).to_contain_text("The platform does not answer.")
            lab.panel.get_by_role("button", name="Extend").click()
            expect(lab.warning.filter(has_text="nothing was extended")).to_have_count(1)
        finally:
            process = platform.start("portal", [sys.executable, "-m", "portal"])
            health = f"{platform.url}/services/portal/health"
            wait_for("the portal", lambda: answers(health, 200), process=process)
        expect(lab.item).not_to_contain_text("platform not reached", timeout=NEXT_LOOK_MS)
        lab.panel.get_by_role("button", name="Extend").click()
        wait_for("the longer countdown", lambda: lab.seconds_shown() > 3 * HOUR)
