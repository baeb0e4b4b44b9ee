"""A browser without JavaScript: it keeps cookies, follows redirects, and sends the forms that stand on its page."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx

from tests.platform import PASSWORD


@dataclass
class Form:
    """One form of a page: where it is sent, and what it sends if nobody changes anything."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class Forms(HTMLParser):
    """The forms of a page, with their hidden and preselected fields."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[Form] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(Form(values["action"]))
        if tag == "input" and (values.get("type") != "radio" or "checked" in values) and "name" in values:
            self.found[-1].fields[values["name"]] = values.get("value", "")


class Visitor:
    """A person at the platform's pages; `answer` is the page they see."""

    def __init__(self, url: str, language: str = "en") -> None:
        headers = {"User-Agent": "tests", "Accept-Language": language, "Sec-Fetch-Mode": "navigate"}
        self.client = httpx.Client(base_url=url, headers=headers, follow_redirects=True, timeout=60)
        self.answer = self.client.get("/hub/login")

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.close()

    @property
    def text(self) -> str:
        return self.answer.text

    @property
    def path(self) -> str:
        return self.answer.url.path

    def visit(self, path: str) -> httpx.Response:
        self.answer = self.client.get(path)
        return self.answer

    def form(self, action: str) -> Form:
        """Return the page's form whose address ends with `action`."""
        found = [form for form in Forms(self.text).found if form.action.split("?")[0].endswith(action)]
        assert len(found) == 1, f"{len(found)} forms for {action} on {self.answer.url}"
        return found[0]

    def send(self, action: str, **fields: str) -> httpx.Response:
        """Send the page's form for `action` with `fields` filled in."""
        form = self.form(action)
        address = urljoin(str(self.answer.url), form.action)
        headers = {"Referer": str(self.answer.url)}
        self.answer = self.client.post(address, data={**form.fields, **fields}, headers=headers)
        return self.answer

    def log_in(self, username: str, password: str = PASSWORD) -> httpx.Response:
        self.visit("/hub/login?next=%2Fhub%2Fhome")
        return self.send("/hub/login", username=username, password=password)
