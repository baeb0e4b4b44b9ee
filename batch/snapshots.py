"""The files of one batch run: what it executes, taken once and out of everyone's reach, and what it leaves behind.

They lie in a folder of their own, outside the project: a run sees its notebook and parameters read-only, and writes its
output notebook and its record. What it writes is carried into the project's folder once it has ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from quotas import folders
from quotas.domain.units import CALENDAR, InvalidValue
from quotas.notebooks import LARGEST_NOTEBOOK_BYTES, check_notebook, check_parameters
from quotas.services.schedules import Execution

LARGEST_OUTPUT_BYTES = 2 * 2**30
"""An output notebook beyond this is left where it is: no browser opens it, and it would fill the project's storage."""
LARGEST_RECORD_BYTES = 2**20
_SLUG_CHARACTERS = 40


@dataclass(frozen=True)
class RunFiles:
    """The folder of one run, and the files in it. `output` and `record` are the run's: nothing of them is sure."""

    folder: Path

    @property
    def notebook(self) -> Path:
        return self.folder / "input.ipynb"

    @property
    def parameters(self) -> Path:
        return self.folder / "parameters.json"

    @property
    def written(self) -> Path:
        """The only folder that the run may write."""
        return self.folder / "out"

    @property
    def output(self) -> Path:
        return self.written / "output.ipynb"

    @property
    def record(self) -> Path:
        return self.written / "record.json"

    def sha256(self) -> str:
        """Return the SHA-256 of the notebook that was taken."""
        return hashlib.sha256(self.notebook.read_bytes()).hexdigest()

    def remove(self) -> None:
        """Nothing of the run is left here."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def read_record(self) -> Mapping[str, Any]:
        """Return what the executor recorded at its end, or nothing where there is no such record."""
        try:
            found = json.loads(folders.read(self.written, self.record.name, LARGEST_RECORD_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def take(files: RunFiles, project_folder: Path, execution: Execution) -> None:
    """The notebook and its parameters lie in the run's folder, checked.

    A second call finds what the first one took. Raises InvalidValue for a notebook that is gone, outside, changed
    into something else, or no longer declares a parameter that is given.
    """
    if files.notebook.exists():
        return
    checked = check_notebook(project_folder, execution.notebook)
    parameters = check_parameters(checked, execution.parameters)
    content = _content(project_folder, checked.path, execution.notebook)
    if hashlib.sha256(content).hexdigest() != checked.sha256:
        raise InvalidValue("notebook", "was changed while it was read", "읽는 동안 내용이 바뀌었습니다")
    files.written.mkdir(parents=True, exist_ok=True)
    _let_run_write(files.written, project_folder)
    folders.write(files.folder, files.parameters.name, json.dumps(parameters, ensure_ascii=False).encode())
    folders.write(files.folder, files.notebook.name, content)


def _content(project_folder: Path, checked: Path, given: str) -> bytes:
    """Read the checked file again without following links: it may have been swapped since."""
    root = project_folder.resolve()
    try:
        return folders.read(root, checked.relative_to(root).as_posix(), LARGEST_NOTEBOOK_BYTES)
    except (OSError, ValueError) as error:
        raise InvalidValue(
            "notebook", f"{given!r:.200} cannot be read: {error}", f"{given!r:.200}을(를) 읽을 수 없습니다: {error}"
        ) from None


def _let_run_write(folder: Path, project_folder: Path) -> None:
    """The run, which is of whoever owns the project's folder, may write here and read beside it.

    The folder above, the home's, keeps everyone else of the host out.
    """
    folder.parent.chmod(0o755)
    if os.geteuid() == 0:
        owner = project_folder.stat()
        os.chown(folder, owner.st_uid, owner.st_gid)


def output_path(execution: Execution) -> str:
    """Return where the output notebook goes, relative to the project's folder; the same at every call."""
    day = datetime.fromtimestamp(execution.scheduled_for, CALENDAR).strftime("%Y-%m-%d")
    return f"runs/{day}-{slug(execution.title)}-{execution.run_id[-8:]}/output.ipynb"


def slug(title: str) -> str:
    """Return the title as a part of a folder's name: letters of any script and digits, joined by hyphens."""
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFC", title.removesuffix(".ipynb")).lower())
    return "-".join(words)[:_SLUG_CHARACTERS].strip("-") or "run"


def keep(files: RunFiles, project_folder: Path, relative: str, log: str) -> str:
    """The output notebook is in the project's folder, whole, and the log beside it.

    Return its path there. For a run that was killed it is what the executor had saved by then, under a name that says
    so, or "" where there is none. Raises OSError when it cannot be kept; an earlier file of that name is as it was.
    """
    place = PurePosixPath(relative)
    folders.write(project_folder, str(place.with_name("run.log")), log.encode("utf-8", "replace"))
    for source_name in (files.output.name, f"{files.output.stem}.part.ipynb"):
        if os.path.lexists(files.written / source_name):
            kept = str(place.with_name(source_name))
            with (
                folders.reading(files.written, source_name, LARGEST_OUTPUT_BYTES) as source,
                folders.writing(project_folder, kept) as target,
            ):
                shutil.copyfileobj(source, target, 2**20)
            return kept
    return ""
