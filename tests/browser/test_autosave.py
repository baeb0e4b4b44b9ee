"""An open notebook is on disk long before a notice is over: what is typed and never saved by hand is not lost."""

from __future__ import annotations

import time
from pathlib import Path

import nbformat
from playwright.sync_api import Browser

from quotas.domain.policy import Policy
from tests.platform import PASSWORD, running, wait_for

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
TYPED = "answer = 6 * 7  # typed, and not saved by hand"


def test_what_is_typed_is_saved_within_the_notice(browser: Browser, tmp_path: Path) -> None:
    with running(tmp_path, server=None) as platform:
        path = platform.home.project_folder("vision") / "train.ipynb"
        cells = [nbformat.v4.new_code_cell("")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
        assert platform.start_server("ada", "vision").status_code == 201
        platform.wait_ready("ada", "vision")
        context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 800})
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{platform.url}/hub/login?next=%2Fuser%2Fada%2Fvision%2Flab%2Ftree%2Ftrain.ipynb")
        page.fill("#username_input", "ada")
        page.fill("#password_input", PASSWORD)
        page.click("#login_submit")
        cell = page.locator(".jp-Notebook .jp-Cell .cm-content").first
        cell.click()
        page.keyboard.type(TYPED)
        began = time.monotonic()
        wait_for("the autosave", lambda: TYPED in path.read_text(encoding="utf-8"), seconds=60)
        assert time.monotonic() - began < Policy().preempt_notice / 5
        context.close()
        assert platform.stop_server("ada", "vision").status_code in (202, 204)
        platform.wait_stopped("ada", "vision")
        (saved,) = nbformat.read(path, as_version=4).cells
        assert saved.source == TYPED
