"""Every test that the page of hazards names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "hazards.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)+)`", PAGE)))
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| hazard ", "| what "))]


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the tests of a file as pytest names them, those of classes included."""
    found = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return frozenset(name for name in found if name.rpartition("::")[2].startswith("test_"))


@pytest.mark.parametrize("named", NAMED)
def test_a_named_test_exists(named: str) -> None:
    path, _, name = named.partition("::")
    assert (ROOT / path).is_file()
    assert name in names_in(path)


def test_every_hazard_names_a_test() -> None:
    assert len(ROWS) > 50
    assert [row for row in ROWS if not re.search(r"\| `tests/[^|]+` \|$", row)] == []
    assert len(re.findall(r"tests/[\w/]+\.py", PAGE)) - PAGE.count("`tests/test_hazards.py`") == len(
        re.findall(r"`tests/[\w/]+\.py(?:::\w+)+`", PAGE)
    )
