"""A real Chromium and a platform with the example centre.

Where there is no Chromium these tests are skipped, unless ``MUDEUNG_REQUIRE`` names ``browser``: then they fail.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from quotas.services import example, people
from quotas.store.database import Database
from quotas.store.migrate import migrate
from tests.platform import PASSWORD, ROOT, Platform, running

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SLOW_START = "import runpy, time; time.sleep(3); runpy.run_path({!r}, run_name='__main__')"


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium on this machine."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    missing = None if found else "no Chromium on PATH (Debian: apt install chromium fonts-noto-cjk)"
    missing = missing or (None if AXE.exists() else "no axe-core in node_modules (make setup)")
    if missing is None:
        return str(found)
    if "browser" in os.environ.get("MUDEUNG_REQUIRE", "").replace(",", " ").split():
        pytest.fail(f"MUDEUNG_REQUIRE names browser: {missing}")
    pytest.skip(missing)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


def example_world(database: Database, now: int) -> None:
    """The example centre, with the tests' password for everyone who may log in."""
    migrate(database)
    for account in example.load(database, now=now):
        people.set_password(database, account.username, PASSWORD, actor="tests", now=now)


@pytest.fixture(scope="module")
def platform(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose servers take three seconds to start, so that the page that waits for them can be seen."""
    del chromium
    server = (sys.executable, "-I", "-S", "-c", SLOW_START.format(str(ROOT / "bench" / "stand_in.py")))
    with running(tmp_path_factory.mktemp("platform"), server=server, world=example_world) as started:
        yield started
