"""Pages as a person without JavaScript meets them: their forms, and their text."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

_SILENT = frozenset({"script", "style", "template"})


@dataclass
class Form:
    """A form: where it is posted to, its fields as they stand, and the values that its radio buttons offer."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    choices: dict[str, list[str]] = field(default_factory=dict)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.words: list[str] = []
        self._inside: Form | None = None
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._silent += tag in _SILENT
        if tag == "form":
            self._inside = Form(given.get("action", ""), given.get("method", "get").lower())
            self.forms.append(self._inside)
        elif tag == "input" and self._inside is not None and given.get("name"):
            self._take_input(self._inside, given)

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in _SILENT
        if tag == "form":
            self._inside = None

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)

    @staticmethod
    def _take_input(form: Form, given: dict[str, str]) -> None:
        name, value, kind = given["name"], given.get("value", ""), given.get("type", "text")
        if kind == "radio":
            if "disabled" in given:
                return
            form.choices.setdefault(name, []).append(value)
        if kind not in {"radio", "checkbox"} or "checked" in given:
            form.fields[name] = value


def forms(html: str) -> list[Form]:
    """Return the page's forms in their order; what is disabled cannot be chosen."""
    return _read(html).forms


def text(html: str) -> str:
    """Return what the page says, each run of blanks as one."""
    return re.sub(r"\s+", " ", " ".join(_read(html).words)).strip()


def _read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader
