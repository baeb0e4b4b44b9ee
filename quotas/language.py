"""The languages of pages: English in the code and templates, Korean in the catalogue of `templates/locale`.

The catalogue (`.po`) is read once, at the first page; nothing is compiled beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from babel.messages.pofile import read_po

from quotas.domain.people import LANGUAGES

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"
"""The folder of all pages' templates."""

COOKIE = "mudeung-language"
"""Holds the language of someone who has not logged in."""

NAMES = {"ko": "한국어", "en": "English"}


@dataclass(frozen=True)
class Translator:
    """Called with an English text of the catalogue, returns it in `language`."""

    language: str
    words: Mapping[str, str]

    def __call__(self, text: str) -> str:
        return self.words.get(text, text)


@cache
def translator(language: str) -> Translator:
    """Return the translator into one of `LANGUAGES`. Raises ValueError for another language."""
    if language not in LANGUAGES:
        raise ValueError(f"no language {language!r:.20}")
    return Translator(language, {} if language == "en" else _catalogue(language))


def _catalogue(language: str) -> dict[str, str]:
    path = TEMPLATES / "locale" / language / "LC_MESSAGES" / "messages.po"
    with path.open("rb") as file:
        catalogue = read_po(file, locale=language, abort_invalid=True)
    return {str(message.id): str(message.string) for message in catalogue if message.id and message.string}


def of_stranger(cookie: str | None, accept_language: str, default: str) -> str:
    """Return the language for someone not logged in: the cookie's, else the browser's first that there is."""
    if cookie in LANGUAGES:
        return str(cookie)
    wishes: list[tuple[float, str]] = []
    for part in accept_language[:200].split(","):
        tag, _, quality = part.strip().partition(";q=")
        language = tag.lower().split("-")[0]
        if language in LANGUAGES:
            wishes.append((_quality(quality), language))
    best = max(wishes, key=lambda wish: wish[0], default=(0.0, default))
    return best[1] if best[0] > 0 else default


def _quality(text: str) -> float:
    try:
        return float(text) if text else 1.0
    except ValueError:
        return 0.0
