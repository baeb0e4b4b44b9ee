"""The catalogue has every text of the pages, and a page finds its language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.extract import extract_python
from babel.messages.pofile import read_po
from jinja2.ext import babel_extract

from spawners import language
from spawners.language import TEMPLATES, of_stranger, translator

ROOT = TEMPLATES.parent
CATALOGUE = TEMPLATES / "locale" / "ko" / "LC_MESSAGES" / "messages.po"
CODE = sorted(path for door in ("spawners", "portal") for path in (ROOT / door).rglob("*.py"))
MARKS = {"_": None, "N_": None, "translate": None}


def texts() -> Iterator[tuple[str, Path]]:
    """Yield each text that the code marks for translation, with its file."""
    for path in sorted(TEMPLATES.rglob("*.html")):
        with path.open("rb") as file:
            yield from ((str(text), path) for _, _, text, _ in babel_extract(file, ["_"], [], {}) if text)
    for path in CODE:
        with path.open("rb") as file:
            found = extract_python(file, MARKS, [], {"encoding": "utf-8"})
            yield from ((str(text), path) for _, _, text, _ in found if text)


def catalogue() -> dict[str, str]:
    with CATALOGUE.open("rb") as file:
        return {str(message.id): str(message.string) for message in read_po(file, locale="ko") if message.id}


def test_every_text_has_its_korean_and_the_catalogue_nothing_else() -> None:
    marked = {text for text, _ in texts()}
    assert len(marked) > 100
    assert {text for text in marked if not catalogue().get(text)} == set()
    assert set(catalogue()) - marked == set()


def test_a_translation_is_korean_and_names_the_same_numbers() -> None:
    def names(text: str) -> list[str]:
        return sorted(re.findall(r"{(\w+)}", text))

    wrong = {
        text: korean
        for text, korean in catalogue().items()
        if names(text) != names(korean) or not re.search("[가-힣]", korean)
    }
    assert wrong == {}


def test_no_particle_is_glued_to_a_value() -> None:
    glued = [
        korean for korean in catalogue().values() if re.search(r"}(은|는|이|가|을|를|과|와|으로|로)(\s|$)", korean)
    ]
    assert glued == []


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_text_is_translated_before_it_is_filled_in(path: Path) -> None:
    assert re.findall(r"\b(?:_|N_|translate)\(f[\"']", path.read_text(encoding="utf-8")) == []


def test_the_templates_say_nothing_outside_the_catalogue() -> None:
    allowed = {"KST", "JavaScript"}
    bare: dict[str, list[str]] = {}
    for path in sorted(TEMPLATES.rglob("*.html")):
        text = re.sub(
            r"{#.*?#}|{%.*?%}|{{.*?}}|<script>.*?</script>|<style>.*?</style>|<!--.*?-->|<[^>]*>",
            " ",
            path.read_text(),
            flags=re.S,
        )
        words = [word for word in re.findall(r"[A-Za-z가-힣]{3,}", text) if word not in allowed]
        if words:
            bare[path.name] = words
    assert bare == {}


def test_english_is_what_stands_in_the_code() -> None:
    assert translator("en")("Start a server") == "Start a server"
    assert translator("ko")("Start a server") == "서버 시작"
    assert translator("ko")("") == ""
    assert translator("ko")("what nobody translated") == "what nobody translated"


def test_another_language_is_refused() -> None:
    with pytest.raises(ValueError, match="no language 'fr'"):
        translator("fr")


@pytest.mark.parametrize(
    ("cookie", "accepts", "expected"),
    [
        ("en", "ko", "en"),
        (None, "ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        (None, "en-GB,en;q=0.9,ko;q=0.8", "en"),
        (None, "fr, en;q=0.5, ko;q=0.7", "ko"),
        (None, "en;q=0", "ko"),
        (None, "en;q=much", "ko"),
        (None, "", "ko"),
        ("tlh", "fr", "ko"),
        (None, "x" * 100_000, "ko"),
    ],
)
def test_the_language_of_a_stranger(cookie: str | None, accepts: str, expected: str) -> None:
    assert of_stranger(cookie, accepts, "ko") == expected


def test_a_persons_language_is_noted() -> None:
    assert language.of_person("someone-new", "ko") == "ko"
    language.note("someone-new", "en")
    assert language.of_person("someone-new", "ko") == "en"
