"""A platform with hub, portal and scheduler, and what a person's browser and program do at its portal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import httpx
import nbformat
import pytest

from tests.platform import Platform, answers, running, wait_for

BASE = "/services/portal/"
PARAMETERS = "seed: int = 7\nname: str = 'a'"


@dataclass
class Form(HTMLParser):
    """The fields of the forms on a page, by the form's address."""

    forms: dict[str, dict[str, str]] = field(default_factory=dict)
    here: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.here = values["action"]
            self.forms[self.here] = {}
        elif tag == "input" and self.here and values.get("name"):
            if values.get("type") != "radio" or "checked" in values:
                self.forms[self.here][values["name"]] = values.get("value", "")
        elif tag == "option" and "selected" in values:
            self.forms[self.here].setdefault("profile", values["value"])


def forms(page: httpx.Response) -> dict[str, dict[str, str]]:
    parser = Form()
    parser.feed(page.text)
    return parser.forms


@dataclass
class Portal:
    """The portal of a running platform."""

    platform: Platform

    def start(self) -> None:
        process = self.platform.start("portal", [sys.executable, "-m", "portal"])
        address = f"{self.platform.url}{BASE}health"
        wait_for("the portal", lambda: answers(address, 200), process=process)

    def open(self, person: str, path: str = "", **arguments: Any) -> httpx.Response:
        """Look at a page as the person does in a browser."""
        return self.platform.browser(person).get(f"{BASE}{path}", **arguments)

    def send(self, person: str, path: str, fields: dict[str, str], **arguments: Any) -> httpx.Response:
        """Send a form of the portal, with the token that the person's pages have."""
        known = next(iter(forms(self.open(person)).values()))
        given = {"_csrf": known["_csrf"], **fields}
        return self.platform.browser(person).post(f"{BASE}{path}", data=given, **arguments)

    def call(self, person: str, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Ask the API with a token of the person's."""
        self.platform.api(person, "GET", "/user")
        headers = {"Authorization": f"token {self.platform._tokens[person]}"}
        return httpx.request(method, f"{self.platform.url}{BASE}api/{path}", headers=headers, timeout=60, **arguments)

    def notebook(self, name: str, *sources: str, project: str = "vision") -> str:
        cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
        cells += [nbformat.v4.new_code_cell(source) for source in sources]
        path = self.platform.home.project_folder(project) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        return name


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    folder = tmp_path_factory.mktemp("portal")
    with running(folder, environment={"MUDEUNG_TEST_PORTAL": "1"}, schedule_seconds=1) as platform:
        made = Portal(platform)
        made.start()
        made.notebook("train.ipynb", "print('seed', seed)")
        yield made
