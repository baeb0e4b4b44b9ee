"""The executor on a notebook in a folder of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXECUTE = ROOT / "batch" / "execute.py"
EXAMPLE = ROOT / "examples" / "notebooks" / "train_digits.ipynb"


def code(source: str, *tags: str) -> dict[str, Any]:
    metadata = {"tags": list(tags)}
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [], "execution_count": None}


def markdown(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


@dataclass
class Bench:
    """A folder with a notebook, and the program to run on it."""

    folder: Path
    process: subprocess.Popen[str] | None = None

    @property
    def output(self) -> Path:
        return self.folder / "out" / "output.ipynb"

    @property
    def part(self) -> Path:
        return self.folder / "out" / "output.part.ipynb"

    def write(self, *cells: dict[str, Any], name: str = "in.ipynb", kernel: str = "python3") -> None:
        cells = tuple({**cell, "id": f"c{number}"} for number, cell in enumerate(cells))
        metadata = {"kernelspec": {"name": kernel, "language": "python", "display_name": "x"}}
        content = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}
        (self.folder / name).write_text(json.dumps(content))

    def start(self, *options: str, parameters: object = None, name: str = "in.ipynb", **popen: Any) -> None:
        (self.folder / "parameters.json").write_text(json.dumps({} if parameters is None else parameters))
        (self.folder / "out").mkdir(exist_ok=True)
        words = [sys.executable, "-P", str(EXECUTE), "--input", name, "--output", "out/output.ipynb"]
        words += ["--parameters", "parameters.json", "--record", "out/record.json", *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
        self.process = subprocess.Popen(words, cwd=self.folder, **{**pipes, **popen})

    def end(self, seconds: float = 40) -> tuple[int, str]:
        """Return exit code and what was printed."""
        assert self.process is not None
        printed, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, printed

    def run(self, *options: str, **settings: Any) -> tuple[int, dict[str, Any], str]:
        self.start(*options, **settings)
        exit_code, printed = self.end()
        return exit_code, self.record(), printed

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "out" / "record.json").read_text())
        return found

    def cells(self) -> list[dict[str, Any]]:
        """The output's cells without papermill's marks of an error."""
        cells = json.loads(self.output.read_text())["cells"]
        return [each for each in cells if "papermill-error-cell-tag" not in each["metadata"].get("tags", [])]

    def states(self) -> list[str]:
        return [cell["metadata"]["papermill"]["status"] for cell in self.cells()]

    def wait_for(self, text: str, seconds: float = 20) -> None:
        """Return when the run has printed the text."""
        assert self.process is not None
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        for line in self.process.stdout:
            if text in line:
                return
            assert time.monotonic() < deadline
        raise AssertionError(f"it ended without {text!r}")


def text_of(cell: Mapping[str, Any]) -> str:
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


@contextmanager
def bench_in(folder: Path) -> Iterator[Bench]:
    """Give a bench; whatever of it still runs in the end is killed."""
    made = Bench(folder)
    yield made
    process = made.process
    if process is not None:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)
