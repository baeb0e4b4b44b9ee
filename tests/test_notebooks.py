"""Notebooks and parameters that are taken, and those that are refused, each with the field named."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas import notebooks
from quotas.domain.units import InvalidValue
from quotas.notebooks import CheckedNotebook, Parameter, check_notebook, check_parameters, read_parameters

EXAMPLE = Path(__file__).parents[1] / "examples" / "notebooks"


def cell(source: str | list[str], *tags: str, kind: str = "code") -> dict[str, Any]:
    content = {"cell_type": kind, "id": "a", "metadata": {"tags": list(tags)}, "source": source}
    return content if kind != "code" else {**content, "outputs": [], "execution_count": None}


def notebook_of(*cells: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells), **changes}


def declared(folder: Path, source: str | list[str], **changes: Any) -> CheckedNotebook:
    (folder / "n.ipynb").write_text(json.dumps(notebook_of(cell(source, "parameters"), **changes)))
    return check_notebook(folder, "n.ipynb")


def refusal_of(folder: Path, relative: Any) -> InvalidValue:
    with pytest.raises(InvalidValue) as refused:
        check_notebook(folder, relative)
    assert refused.value.field == "notebook"
    assert refused.value.message_ko != refused.value.message_en
    return refused.value


def test_the_example() -> None:
    checked = check_notebook(EXAMPLE, "train_digits.ipynb")
    path = EXAMPLE / "train_digits.ipynb"
    assert checked == CheckedNotebook(
        path.resolve(),
        hashlib.sha256(path.read_bytes()).hexdigest(),
        (
            Parameter("test_share", "float", 0.25),
            Parameter("regularisation", "float", 1.0),
            Parameter("seed", "int", 7),
        ),
    )
    assert check_parameters(checked, {"seed": 3, "test_share": 0.3}) == {"seed": 3, "test_share": 0.3}
    assert check_parameters(checked, {}) == {}


def test_a_notebook_in_a_folder_of_any_name(tmp_path: Path) -> None:
    inner = tmp_path / "2026 실험 {a}"
    inner.mkdir()
    (inner / "분석 1.ipynb").write_text(json.dumps(notebook_of()))
    assert check_notebook(tmp_path, "2026 실험 {a}/분석 1.ipynb").parameters == ()
    assert check_notebook(tmp_path, "./2026 실험 {a}//분석 1.ipynb").path == (inner / "분석 1.ipynb").resolve()


def test_a_link_inside_the_project_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.ipynb").write_text(json.dumps(notebook_of()))
    (tmp_path / "link.ipynb").symlink_to("real.ipynb")
    assert check_notebook(tmp_path, "link.ipynb").path == (tmp_path / "real.ipynb").resolve()


@pytest.mark.parametrize(
    "relative",
    [
        "/etc/passwd",
        "../other/n.ipynb",
        "a/../../n.ipynb",
        "s3://bucket/n.ipynb",
        "a\\n.ipynb",
        "/n.ipynb",
        "~/n.ipynb",
    ],
)
def test_a_path_that_leads_outside(tmp_path: Path, relative: str) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (tmp_path / "n.ipynb").write_text(json.dumps(notebook_of()))
    assert repr(relative) in refusal_of(project, relative).message_en


@pytest.mark.parametrize(
    "relative", ["", "n.txt", "n", "x" * 401 + ".ipynb", "a\0.ipynb", "a\n.ipynb", None, 5, b"n.ipynb", '{"cells": []}']
)
def test_what_is_no_path_of_a_notebook(tmp_path: Path, relative: Any) -> None:
    assert len(refusal_of(tmp_path, relative).message_en) < 600


def test_links_that_leave_the_project(tmp_path: Path) -> None:
    project = tmp_path / "project"
    outside = tmp_path / "outside"
    project.mkdir()
    outside.mkdir()
    (outside / "n.ipynb").write_text(json.dumps(notebook_of()))
    (project / "file.ipynb").symlink_to(outside / "n.ipynb")
    (project / "folder").symlink_to(outside)
    (project / "circle.ipynb").symlink_to("circle.ipynb")
    (project / "dangling.ipynb").symlink_to("nowhere.ipynb")
    for relative in ("file.ipynb", "folder/n.ipynb"):
        assert "outside" in refusal_of(project, relative).message_en
    for relative in ("circle.ipynb", "dangling.ipynb", "missing.ipynb", "folder/none.ipynb"):
        assert "no file" in refusal_of(project, relative).message_en


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    """A pipe would keep whoever opens it waiting."""
    (tmp_path / "folder.ipynb").mkdir()
    os.mkfifo(tmp_path / "pipe.ipynb")
    for relative in ("folder.ipynb", "pipe.ipynb"):
        assert "no file" in refusal_of(tmp_path, relative).message_en


def test_a_notebook_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "n.ipynb").open("wb") as file:
        file.truncate(notebooks.LARGEST_NOTEBOOK_BYTES + 1)
    assert "20 MB" in refusal_of(tmp_path, "n.ipynb").message_en


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"[]",
        b"{}",
        b'{"cells": {}}',
        json.dumps(notebook_of(nbformat=3)).encode(),
        json.dumps(notebook_of(nbformat="4")).encode(),
        json.dumps(notebook_of(metadata=[])).encode(),
        json.dumps(notebook_of({"cell_type": "code"})).encode(),
        json.dumps(notebook_of("cell")).encode(),  # type: ignore[arg-type]
        json.dumps(notebook_of(cell(5))).encode(),  # type: ignore[arg-type]
        json.dumps(notebook_of(cell(["a", 5]))).encode(),  # type: ignore[list-item]
        json.dumps(notebook_of(cell("", kind="heading"))).encode(),
        json.dumps(notebook_of(cell("def broken(:", "parameters"))).encode(),
        json.dumps(notebook_of(cell("x = '\0'", "parameters"))).encode(),
    ],
)
def test_what_is_no_notebook(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "n.ipynb").write_bytes(content)
    assert "n.ipynb" in refusal_of(tmp_path, "n.ipynb").message_en


def test_the_types_of_parameters(tmp_path: Path) -> None:
    source = [
        "%matplotlib inline\n",
        "import os\n",
        "rate: float = 0.1  # how fast\n",
        "epochs: 'int' = 3\n",
        "name = 'x'\n",
        "on = True; count = 2\n",
        "layers: list[int] = [\n",
        "  1, 2]\n",
        "options = {'a': 1}\n",
        "limit: int | None = None\n",
        "seed: typing.Optional[int] = 7\n",
        "either: str | int = 'a'\n",
        "home = os.getcwd()\n",
        "scale: numpy.float32 = 1.5\n",
        "nothing = None\n",
        "unset: int\n",
        "a = b = -1\n",
        "name = 'last one counts'\n",
        "x[0] = 1\n",
        "!ls\n",
    ]
    assert {each.name: (each.type, each.default) for each in declared(tmp_path, source).parameters} == {
        "rate": ("float", 0.1),
        "epochs": ("int", 3),
        "name": ("str", "last one counts"),
        "on": ("bool", True),
        "count": ("int", 2),
        "layers": ("list", [1, 2]),
        "options": ("dict", {"a": 1}),
        "limit": ("int | None", None),
        "seed": ("int | None", 7),
        "either": ("str | int", "a"),
        "home": ("any", None),
        "scale": ("float", 1.5),
        "nothing": ("any", None),
        "a": ("int", -1),
        "b": ("int", -1),
    }


def test_only_the_first_tagged_code_cell_declares(tmp_path: Path) -> None:
    cells = (cell("# p", "parameters", kind="markdown"), cell("a = 1", "parameters"), cell("b = 1", "parameters"))
    (tmp_path / "n.ipynb").write_text(json.dumps(notebook_of(*cells)))
    assert check_notebook(tmp_path, "n.ipynb").parameters == (Parameter("a", "int", 1),)


def test_a_notebook_of_another_language_has_no_parameters(tmp_path: Path) -> None:
    checked = declared(tmp_path, "a <- 1", metadata={"kernelspec": {"name": "ir", "language": "R"}})
    assert checked.parameters == ()


ALL = (
    "number: int = 1\nshare: float = 0.5\nname: str = ''\nflag: bool = False\nitems: list = []\nmap: dict = {}\n"
    "some: int | None = None\nfree = None\nhf_token = ''\napiKey = ''\nmax_tokens = 100\ntokenizer = ''\nkey = 1\n"
    "DB_PASSWORD = ''\nprivate_key_file = ''\n비밀번호 = ''\nprint = 1\n"
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", 5),
        ("number", -(2**63) + 1),
        ("share", 0.25),
        ("name", "quotes \" ' \\ {x} and 한글\n"),
        ("flag", True),
        ("items", [1, "a", [2.5, None]]),
        ("map", {"a": {"b": [True]}}),
        ("some", None),
        ("some", 3),
        ("free", "x"),
        ("free", False),
        ("max_tokens", 5),
        ("tokenizer", "bpe"),
        ("key", 2),
    ],
)
def test_values_that_are_taken(tmp_path: Path, name: str, value: object) -> None:
    taken = check_parameters(declared(tmp_path, ALL), {name: value})
    assert taken == {name: value}
    assert type(taken[name]) is type(value)


def test_a_whole_number_for_a_float_becomes_one(tmp_path: Path) -> None:
    taken = check_parameters(declared(tmp_path, ALL), {"share": 1, "some": 1})
    assert (repr(taken["share"]), repr(taken["some"])) == ("1.0", "1")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", "5"),
        ("number", 5.0),
        ("number", True),
        ("number", None),
        ("number", 2**63),
        ("share", "0.5"),
        ("share", float("nan")),
        ("share", float("inf")),
        ("share", False),
        ("name", 5),
        ("name", "x" * 2001),
        ("name", "a\0b"),
        ("name", "\ud800"),
        ("flag", 1),
        ("flag", "true"),
        ("items", (1, 2)),
        ("items", [float("nan")]),
        ("items", [object()]),
        ("items", ["x" * 10_001]),
        ("items", [[[[[[[[[[1]]]]]]]]]]),
        ("map", {1: 2}),
        ("map", []),
        ("some", "3"),
        ("free", object()),
        ("undeclared", 1),
        ("__class__", 1),
        ("hf_token", "x"),
        ("apiKey", "x"),
        ("DB_PASSWORD", "x"),
        ("private_key_file", "x"),
        ("비밀번호", "x"),
    ],
)
def test_values_that_are_refused(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(InvalidValue) as refused:
        check_parameters(declared(tmp_path, ALL), {name: value})
    assert refused.value.field == name
    assert refused.value.message_ko != refused.value.message_en


@pytest.mark.parametrize(
    "name",
    [
        "x=1;import os;print('INJECTED')#",
        "number\nimport os",
        "import",
        "None",
        "",
        " number",
        "number ",
        "a.b",
        "a[0]",
        "1a",
        "x" * 101,
        5,
        None,
    ],
)
def test_names_that_would_become_code(tmp_path: Path, name: Any) -> None:
    with pytest.raises(InvalidValue) as refused:
        check_parameters(declared(tmp_path, ALL), {name: 1})
    assert refused.value.field == "parameters"
    assert len(refused.value.message_en) < 200


def test_a_name_in_other_letters_is_another_name(tmp_path: Path) -> None:
    """Python would read the full-width letters as `number` and `token`."""
    for name in ("ｎｕｍｂｅｒ", "ｔｏｋｅｎ"):
        assert name.isidentifier()
        with pytest.raises(InvalidValue):
            check_parameters(declared(tmp_path, ALL), {name: 1})


def test_too_many(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="parameters: at most 50"):
        check_parameters(declared(tmp_path, ALL), {f"p{number}": number for number in range(51)})


def test_written_parameters_are_read_by_their_type(tmp_path: Path) -> None:
    checked = declared(tmp_path, ALL)
    texts = {
        "number": "5",
        "share": "1",
        "name": "0123",
        "flag": "True",
        "items": '["a"]',
        "some": "None",
        "free": "[1",
    }
    assert read_parameters(checked, texts) == {
        "number": 5,
        "share": 1.0,
        "name": "0123",
        "flag": True,
        "items": ["a"],
        "some": None,
        "free": "[1",
    }
    for name, text in (
        ("number", "five"),
        ("number", "0123"),
        ("share", "NaN"),
        ("flag", "yes"),
        ("map", "[" * 10_000),
    ):
        with pytest.raises(InvalidValue) as refused:
            read_parameters(checked, {name: text})
        assert refused.value.field == name


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(names=st.dictionaries(st.text() | st.sampled_from(["number", "share", "free"]), JSON, max_size=3))
def test_whatever_is_given_is_taken_or_refused(names: dict[str, Any]) -> None:
    kinds = (Parameter("number", "int"), Parameter("share", "float"), Parameter("free", "any"))
    checked = CheckedNotebook(Path("/n.ipynb"), "", kinds)
    with contextlib.suppress(InvalidValue):
        taken = check_parameters(checked, names)
        assert taken == names
        assert taken.keys() <= {"number", "share", "free"}
        assert json.loads(json.dumps(taken)) == taken
