"""In which language a page is, and its words: English in the code and templates, Korean in `templates/locale`.

The words themselves are in :mod:`quotas.language`. Which language a logged-in person reads stands in the ledger. The
hub renders its error pages without a chance to wait for a database, so the language is noted in memory when the person
logs in and when the hub refreshes the login (:mod:`spawners.login`), and pages take it from there.
"""

from __future__ import annotations

from collections.abc import Callable

from quotas.language import COOKIE, NAMES, TEMPLATES, Translator, of_stranger, translator

__all__ = [
    "COOKIE",
    "HUB_TEXTS",
    "NAMES",
    "N_",
    "TEMPLATES",
    "Translator",
    "note",
    "of_person",
    "of_stranger",
    "translator",
    "words",
]

N_: Callable[[str], str] = str
"""Marks a text for the catalogue where it stands in a table; it is translated where it is shown."""

HUB_TEXTS = (
    N_("Invalid username or password"),
    N_("Login form invalid or expired. Try again."),
)
"""What the hub itself says in English on pages of ours."""


_noted: dict[str, str] = {}


def note(username: str, language: str) -> None:
    """Pages of the person are in `language` from now on."""
    _noted[username] = language


def of_person(username: str, default: str) -> str:
    """Return the language noted for the person, or `default`."""
    return _noted.get(username, default)


def words(language: str) -> dict[str, object]:
    """Return what each template needs in order to speak `language`."""
    return {"_": translator(language), "language": language, "languages": NAMES}
