"""A notebook of a project as a schedule takes it: found inside the project's folder, read once, its parameters known.

Parameters are declared in the first cell tagged ``parameters``, one assignment to a line: ``seed: int = 7``. The type
comes from the annotation, or else from the value.
"""

from __future__ import annotations

import ast
import errno
import hashlib
import itertools
import json
import keyword
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from quotas import folders
from quotas.domain.units import InvalidValue

LARGEST_NOTEBOOK_BYTES = 20 * 2**20
LONGEST_PATH = 400
LARGEST_INTEGER = 2**63 - 1
LONGEST_TEXT = 2000
LONGEST_JSON = 10_000
MOST_PARAMETERS = 50
DEEPEST_JSON = 8

ANY = "any"
"""The type of a parameter that neither its annotation nor its value tells."""
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "list": (list,),
    "dict": (dict,),
    "None": (type(None),),
    ANY: (int, float, bool, str, list, dict, type(None)),
}
_OTHER_NAMES = {"List": "list", "Sequence": "list", "Dict": "dict", "Mapping": "dict", "Any": ANY, "object": ANY}
_SECRET_WORDS = frozenset(
    {"secret", "secrets", "password", "passwords", "passwd", "passphrase", "pwd"}
    | {"credential", "credentials", "apikey"}
)
_SECRET_KOREAN = ("비밀번호", "암호", "토큰")
_SECRET_KEYS = frozenset({"api", "access", "private", "secret"})
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+|\d+")
_NOT_PYTHON = re.compile(r"^\s*[%!?].*$|^.*\?\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """A declared parameter. `type` is int, float, bool, str, list, dict or any; or several, joined by `` | ``.

    `default` is None where its value is no literal.
    """

    name: str
    type: str
    default: object = None


@dataclass(frozen=True)
class CheckedNotebook:
    """A notebook that was read whole: `sha256` is of exactly the bytes that its parameters were found in."""

    path: Path
    sha256: str
    parameters: tuple[Parameter, ...]


def check_notebook(project_folder: Path, relative: str) -> CheckedNotebook:
    """Return the notebook at `relative` in the project's folder. Raises InvalidValue(field="notebook")."""
    root, path = _inside(project_folder, relative)
    content = _read(root, path, relative)
    notebook = _parsed(content, relative)
    return CheckedNotebook(path, hashlib.sha256(content).hexdigest(), tuple(_declared(notebook, relative)))


def check_parameters(checked: CheckedNotebook, given: Mapping[str, object]) -> dict[str, Any]:
    """Return the given parameters, each declared by the notebook and of its type. Raises InvalidValue, named for it."""
    if len(given) > MOST_PARAMETERS:
        raise _invalid(
            "parameters", f"at most {MOST_PARAMETERS} can be given", f"{MOST_PARAMETERS}개까지 줄 수 있습니다"
        )
    declared = {parameter.name: parameter for parameter in checked.parameters}
    return {name: _value(_parameter(declared, name), value) for name, value in given.items()}


def read_parameters(checked: CheckedNotebook, texts: Mapping[str, str]) -> dict[str, Any]:
    """Return parameters that were written as text, by a person or in a form: by its type, ``0.3`` is a number or text.

    Raises InvalidValue as `check_parameters` does.
    """
    declared = {parameter.name: parameter for parameter in checked.parameters}
    return check_parameters(checked, {name: _read_text(declared.get(name), text) for name, text in texts.items()})


def _inside(project_folder: Path, relative: str) -> tuple[Path, Path]:
    """Return the project's folder and the notebook in it, every link resolved and still inside."""
    shown = f"{relative!r:.200}"
    if not isinstance(relative, str) or not 0 < len(relative) <= LONGEST_PATH or not relative.isprintable():
        raise _invalid(
            "notebook",
            f"{shown} is not a path; write it as seen in the project's folder, as in work/train.ipynb",
            f"{shown}은(는) 경로가 아닙니다. 과제 폴더에서 보이는 대로 쓰세요. 예: work/train.ipynb",
        )
    wanted = PurePosixPath(relative)
    if wanted.is_absolute() or ".." in wanted.parts or "\\" in relative:
        raise _outside(shown)
    if wanted.suffix != ".ipynb":
        raise _invalid("notebook", f"{shown} is not a notebook: .ipynb", f"{shown}은(는) 노트북(.ipynb)이 아닙니다")
    try:
        root = project_folder.resolve(strict=True)
        path = (root / wanted).resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        raise _missing(shown) from None
    if not path.is_relative_to(root):
        raise _outside(shown)
    return root, path


def _read(root: Path, path: Path, relative: str) -> bytes:
    """Return the file's content. Nothing but a plain file is opened, and no link that was put there meanwhile."""
    try:
        return folders.read(root, path.relative_to(root).as_posix(), LARGEST_NOTEBOOK_BYTES)
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise _missing(f"{relative!r}") from None
    most = LARGEST_NOTEBOOK_BYTES // 2**20
    raise _invalid(
        "notebook",
        f"{relative!r} is larger than {most} MB; clear its outputs and save it again",
        f"{relative!r}이(가) {most} MB보다 큽니다. 출력을 지우고 다시 저장하세요",
    )


def _parsed(content: bytes, relative: str) -> dict[str, Any]:
    """Return the notebook as the format's version 4 has it; its outputs are not looked at."""
    try:
        notebook = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _invalid(
            "notebook",
            f"{relative!r} is not a notebook: its JSON is broken ({error!s:.120})",
            f"{relative!r}은(는) 노트북이 아닙니다. JSON이 잘못되었습니다({error!s:.120})",
        ) from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise _invalid("notebook", f"{relative!r} is not a notebook", f"{relative!r}은(는) 노트북이 아닙니다")
    version = notebook.get("nbformat")
    if version != 4 or not isinstance(notebook.get("nbformat_minor"), int):
        raise _invalid(
            "notebook",
            f"{relative!r} is of format {version!r:.20}; open it in JupyterLab and save it as format 4",
            f"{relative!r}은(는) 형식 {version!r:.20}입니다. JupyterLab에서 열어 형식 4로 저장하세요",
        )
    metadata = notebook.get("metadata")
    if not isinstance(metadata, dict) or not all(map(_is_cell, notebook["cells"])):
        raise _invalid(
            "notebook", f"{relative!r} has a cell that is none", f"{relative!r}에 형식이 잘못된 셀이 있습니다"
        )
    return notebook


def _is_cell(cell: object) -> bool:
    if not isinstance(cell, dict) or not isinstance(cell.get("metadata"), dict):
        return False
    source, tags = cell.get("source"), cell["metadata"].get("tags", [])
    is_text = isinstance(source, str) or (isinstance(source, list) and all(isinstance(line, str) for line in source))
    kind_is_known = cell.get("cell_type") in ("code", "markdown", "raw")
    return is_text and kind_is_known and isinstance(tags, list)


def _declared(notebook: Mapping[str, Any], relative: str) -> Iterator[Parameter]:
    """Yield the parameters of a Python notebook; one of another language has none that could be checked."""
    metadata = notebook["metadata"]
    for where, key in (("language_info", "name"), ("kernelspec", "language")):
        found = metadata.get(where)
        if isinstance(found, dict) and str(found.get(key) or "python").lower() != "python":
            return
    tagged = (cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    source = next((cell["source"] for cell in tagged if cell["cell_type"] == "code"), "")
    text = _NOT_PYTHON.sub("", source if isinstance(source, str) else "".join(source))
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        raise _invalid(
            "notebook",
            f"{relative!r}: line {line} of the cell tagged parameters is not Python",
            f"{relative!r}: parameters 태그 셀의 {line}번째 줄이 파이썬이 아닙니다",
        ) from None
    found_last = {parameter.name: parameter for statement in statements for parameter in _assigned(statement)}
    yield from found_last.values()


def _assigned(statement: ast.stmt) -> Iterator[Parameter]:
    """Yield the parameters that one statement assigns a value."""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value is not None:
        value = _literal(statement.value)
        yield Parameter(statement.target.id, _annotated(statement.annotation) or _type_of(value), value)
    elif isinstance(statement, ast.Assign):
        value = _literal(statement.value)
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield Parameter(target.id, _type_of(value), value)


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _type_of(value: object) -> str:
    """Return the type of a default. One that is None, or no literal, tells nothing."""
    return type(value).__name__ if isinstance(value, bool | int | float | str | list | dict) else ANY


def _annotated(node: ast.expr) -> str:
    """Return the type that an annotation names, or "" for one that is not among those that JSON has."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            node = ast.parse(node.value, mode="eval").body
        except (SyntaxError, ValueError):
            return ""
    if isinstance(node, ast.Constant):
        return "None" if node.value is None else ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        both = (_annotated(node.left), _annotated(node.right))
        return " | ".join(both) if all(both) else ""
    if isinstance(node, ast.Subscript) and _annotated_name(node.value) == "Optional":
        inner = _annotated(node.slice)
        return f"{inner} | None" if inner else ""
    name = _annotated_name(node.value if isinstance(node, ast.Subscript) else node)
    return name if name in _TYPES else ""


def _annotated_name(node: ast.expr) -> str:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return _OTHER_NAMES.get(name, name)


def _parameter(declared: Mapping[str, Parameter], name: object) -> Parameter:
    """Return the declared parameter of that name. Names go into code as they are: nothing else may pass."""
    shown = f"{name!r:.60}"
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or len(name) > 100:
        raise _invalid("parameters", f"{shown} is not a parameter's name", f"{shown}은(는) 매개변수 이름이 아닙니다")
    if name not in declared:
        known = ", ".join(declared) or "-"
        raise _invalid(
            name,
            f"the notebook declares no such parameter; it has: {known:.300}",
            f"노트북에 없는 매개변수입니다. 있는 것: {known:.300}",
        )
    if _is_secret(name):
        raise _invalid(
            name,
            "looks like a secret; parameters are kept and shown in clear, so read it from a file instead",
            "비밀 값으로 보입니다. 매개변수는 그대로 저장되고 표시되므로 파일에서 읽으세요",
        )
    return declared[name]


def _is_secret(name: str) -> bool:
    """Return whether the name is one of a secret: ``hf_token`` and ``apiKey``, but not ``max_tokens`` or ``key``."""
    words = [word.lower() for word in _WORDS.findall(unicodedata.normalize("NFKC", name))]
    pairs = itertools.pairwise(words)
    return (
        not _SECRET_WORDS.isdisjoint(words)
        or any(word in name for word in _SECRET_KOREAN)
        or words[-1:] == ["token"]
        or any(first in _SECRET_KEYS and second == "key" for first, second in pairs)
    )


def _value(parameter: Parameter, value: object) -> Any:
    """Return the value if the parameter's type takes it; an int for a float becomes one."""
    kinds = parameter.type.split(" | ")
    fits = any(isinstance(value, _TYPES[kind]) and _same_truth(kind, value) for kind in kinds)
    if not fits:
        given = type(value).__name__
        raise _invalid(
            parameter.name,
            f"must be {parameter.type}, not {given}",
            f"{given}이(가) 아니라 {parameter.type}이어야 합니다",
        )
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > LARGEST_INTEGER:
            raise _invalid(parameter.name, "is too large", "너무 큽니다")
        return float(value) if "float" in kinds and "int" not in kinds else value
    if isinstance(value, float) and not math.isfinite(value):
        raise _invalid(parameter.name, "must be a finite number", "유한한 수여야 합니다")
    if isinstance(value, str) and (len(value) > LONGEST_TEXT or not _is_storable(value)):
        raise _invalid(
            parameter.name,
            f"must be text of at most {LONGEST_TEXT} characters",
            f"{LONGEST_TEXT}자 이하의 글이어야 합니다",
        )
    if isinstance(value, list | dict):
        _check_json(parameter.name, value)
    return value


def _same_truth(kind: str, value: object) -> bool:
    """Python counts True among the integers; nobody who writes a form does."""
    return isinstance(value, bool) is (kind == "bool") or kind == ANY


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _check_json(name: str, value: object) -> None:
    """Raise InvalidValue unless the value is plain JSON of a reasonable size."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        plain = json.loads(text) == value and _depth(value) <= DEEPEST_JSON and _is_storable(text)
    except (TypeError, ValueError, RecursionError):
        plain, text = False, ""
    if not plain or len(text) > LONGEST_JSON:
        raise _invalid(
            name,
            f"must be plain JSON of at most {LONGEST_JSON} characters and {DEEPEST_JSON} levels",
            f"{LONGEST_JSON}자, {DEEPEST_JSON}단계 이하의 JSON이어야 합니다",
        )


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _read_text(parameter: Parameter | None, text: str) -> object:
    """Return what the text stands for. What is no JSON stays text, which the parameter's type then refuses."""
    if parameter is None or "str" in parameter.type.split(" | "):
        return text
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text.strip(), text))
    except (ValueError, RecursionError):
        return text


def _invalid(field: str, english: str, korean: str) -> InvalidValue:
    return InvalidValue(field, english, korean)


def _outside(shown: str) -> InvalidValue:
    return _invalid("notebook", f"{shown} lies outside the project's folder", f"{shown}은(는) 과제 폴더 밖에 있습니다")


def _missing(shown: str) -> InvalidValue:
    return _invalid("notebook", f"there is no file {shown} in the project", f"과제 폴더에 {shown} 파일이 없습니다")
