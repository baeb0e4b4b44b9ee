"""The executor as a program of its own, with real kernels: how each kind of end is told, and what is left of it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

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


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    process = made.process
    if process is not None:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def text_of(cell: Mapping[str, Any]) -> str:
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def test_the_example_with_other_parameters(bench: Bench) -> None:
    shutil.copy(EXAMPLE, bench.folder / "in.ipynb")
    exit_code, record, printed = bench.run(parameters={"regularisation": 0.001, "seed": 3})
    assert exit_code == 0, printed
    started, finished = record.pop("started_at"), record.pop("finished_at")
    assert 0 < finished - started < 40
    assert record == {
        "state": "succeeded",
        "exit_code": 0,
        "cells": 6,
        "cell": 6,
        "executed": 6,
        "failing_cell": None,
        "ended_early": None,
        "truncated": [],
        "lost_messages": 0,
        "message": None,
    }
    assert set(bench.states()) == {"completed"}
    assert "regularisation = 0.001" in "".join("".join(each["source"]) for each in bench.cells())
    last = text_of(bench.cells()[-1]).strip().splitlines()[-1]
    name, accuracy = last.split(" = ")
    assert name == "accuracy"
    assert 0.85 < float(accuracy) < 0.96  # so weak a fit is worse than the default's 0.97
    assert last in printed
    assert not bench.part.exists()
    assert sorted(path.name for path in bench.output.parent.iterdir()) == ["output.ipynb", "record.json"]


def test_a_cell_that_fails(bench: Bench) -> None:
    bench.write(markdown("# x"), code("a = 1", "parameters"), code("print('yes')"), code("1 / 0"), code("print('no')"))
    exit_code, record, printed = bench.run(parameters={"a": 2})
    assert (exit_code, record["state"], record["exit_code"]) == (1, "failed", 1), printed
    assert (record["cells"], record["executed"], record["cell"]) == (5, 3, 4)
    failing = record["failing_cell"]
    assert (failing["index"], failing["source"], failing["ename"]) == (3, "1 / 0", "ZeroDivisionError")
    assert failing["evalue"] == "division by zero"
    assert "\x1b" not in "".join(failing["traceback"])
    assert "ZeroDivisionError: division by zero" in failing["traceback"][-1]
    assert bench.states() == ["completed", "completed", "completed", "completed", "failed", "skipped"]
    assert json.loads(bench.output.read_text())["metadata"]["papermill"]["exception"] is True


def test_an_error_that_is_meant_is_none(bench: Bench) -> None:
    bench.write(code("1 / 0", "raises-exception"), code("print('on')"))
    exit_code, record, _ = bench.run()
    assert (exit_code, record["failing_cell"], bench.states()) == (0, None, ["completed", "completed"])


@pytest.mark.parametrize(("source", "exit_code"), [("sys.exit()", 0), ("sys.exit(0)", 0), ("sys.exit(3)", 1)])
def test_a_cell_that_exits(bench: Bench, source: str, exit_code: int) -> None:
    """Early success is told as such: the record names the cell, and the rest is skipped, not completed."""
    bench.write(code("import sys"), code(source), code("print('never')"))
    found, record, printed = bench.run()
    assert found == exit_code, printed
    assert bench.states() == ["completed", "failed" if exit_code else "completed", "skipped"]
    assert record["ended_early"] == (None if exit_code else 1)
    if exit_code:
        assert (record["failing_cell"]["ename"], record["failing_cell"]["evalue"]) == ("SystemExit", "3")


def test_a_kernel_that_is_killed(bench: Bench) -> None:
    """papermill itself calls all of these cells completed."""
    bench.write(code("a = 1"), code("import os; print('so far', flush=True); os.kill(os.getpid(), 9)"), code("a"))
    exit_code, record, printed = bench.run()
    assert (exit_code, record["state"]) == (138, "kernel_died"), printed
    assert bench.states() == ["completed", "failed", "skipped"]
    failing = record["failing_cell"]
    assert (failing["index"], failing["ename"]) == (1, "DeadKernelError")
    assert "SIGKILL" in failing["evalue"]


def test_a_kernel_that_ends_itself(bench: Bench) -> None:
    bench.write(code("import os; os._exit(0)"), code("1"))
    exit_code, record, printed = bench.run()
    assert (exit_code, record["state"], record["executed"]) == (138, "kernel_died", 0), printed
    assert bench.states() == ["failed", "skipped"]
    assert "exit code 0" in record["failing_cell"]["evalue"]


def test_a_cell_that_takes_too_long(bench: Bench) -> None:
    bench.write(code("print('on')"), code("import time; time.sleep(30)"), code("1"))
    began = time.monotonic()
    exit_code, record, printed = bench.run("--cell-timeout", "1")
    assert (exit_code, record["state"]) == (124, "timed_out"), printed
    assert time.monotonic() - began < 15
    assert bench.states() == ["completed", "failed", "skipped"]
    assert record["failing_cell"]["ename"] == "CellTimeoutError"


def test_the_deadline_keeps_what_there_is(bench: Bench) -> None:
    bench.write(code("import time\nprint('began', flush=True)\ntime.sleep(30)"), code("1"))
    began = time.monotonic()
    exit_code, record, printed = bench.run("--deadline", "4")
    assert (exit_code, record["state"]) == (124, "timed_out"), printed
    assert 4 <= time.monotonic() - began < 8
    assert bench.states() == ["failed", "skipped"]
    assert text_of(bench.cells()[0]).startswith("began")
    assert record["failing_cell"]["ename"] == "KeyboardInterrupt"


def test_a_deadline_before_the_first_cell(bench: Bench) -> None:
    bench.write(code("1"))
    exit_code, record, _ = bench.run("--deadline", "0.01")
    assert (exit_code, record["state"], record["failing_cell"]) == (124, "timed_out", None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_keeps_what_there_is(bench: Bench, number: signal.Signals) -> None:
    source = "import time\nfor i in range(600):\n    print('line', i, flush=True)\n    time.sleep(0.05)"
    bench.write(code("a = 1"), code(source), code("never"))
    bench.start()
    bench.wait_for("line 12")
    running = bench.record()
    assert (running["state"], running["cell"], running["cells"], running["exit_code"]) == ("running", 2, 3, None)
    bench.process.send_signal(number)
    began = time.monotonic()
    exit_code, _ = bench.end()
    assert time.monotonic() - began < 5
    record = bench.record()
    assert (exit_code, record["state"], record["executed"]) == (143, "cancelled", 1)
    assert bench.states() == ["completed", "failed", "skipped"]
    assert "line 12\n" in text_of(bench.cells()[1])
    assert record["failing_cell"]["ename"] == "KeyboardInterrupt"


def test_a_cell_that_swallows_the_interrupt(bench: Bench) -> None:
    source = """
import time
while True:
    try:
        print('<began>', flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print('<interrupted>', flush=True)
"""
    bench.write(code(source), code("never"))
    bench.start()
    bench.wait_for("<began>")
    bench.process.terminate()
    began = time.monotonic()
    bench.wait_for("<interrupted>")
    exit_code, _ = bench.end()
    assert 4 < time.monotonic() - began < 9
    assert (exit_code, bench.record()["state"]) == (143, "cancelled")
    assert bench.states() == ["failed", "skipped"]
    assert text_of(bench.cells()[0]).startswith("<began>\n<interrupted>\n")


def test_a_stop_while_the_kernel_starts(bench: Bench) -> None:
    """Nothing is left running, whatever the moment; the record is there from when the program can write one."""
    bench.write(code("import time; time.sleep(60)"))
    for pause in (0.2, 0.5, 0.8, 1.1):
        bench.start()
        time.sleep(pause)
        bench.process.terminate()
        exit_code, printed = bench.end(15)
        assert exit_code in (143, -signal.SIGTERM), printed
        if exit_code == 143:
            assert bench.record()["state"] == "cancelled"
        leftover = subprocess.run(["pgrep", "-s", str(bench.process.pid)], capture_output=True, check=False)
        assert leftover.stdout == b""


def test_kernel_starts_fail(bench: Bench) -> None:
    bench.write(code("1"))
    exit_code, record, _ = bench.run("--kernel", "nosuch")
    assert (exit_code, record["state"], bench.output.exists()) == (70, "failed", False)
    assert "nosuch" in record["message"]


def test_a_kernel_of_another_machine(bench: Bench) -> None:
    """The notebook names a kernel that is not here; for Python another one does."""
    bench.write(code("print('fine')"), kernel="conda-env-mine-py")
    assert bench.run()[0] == 0


@pytest.mark.parametrize(
    "parameters",
    [{"x=1;import os;print('INJECTED')#": 5}, {"import": 1}, {"": 1}, {"a\nprint('INJECTED')": 1}, [1], "text", 5],
)
def test_forged_parameters(bench: Bench, parameters: object) -> None:
    bench.write(code("a = 1", "parameters"), code("print('ran')"))
    exit_code, record, printed = bench.run(parameters=parameters)
    assert (exit_code, record["state"]) == (70, "failed")
    assert "ran" not in printed
    assert "\nINJECTED" not in printed


def test_values_stay_values(bench: Bench) -> None:
    """Quotes, braces, backslashes and code in a value arrive as they were."""
    text = '"""\'; import os #{a} \\n\\ {0.__class__} 한글\n\t\x07'
    given = {"a": text, "b": {"k'\"": [1, None, True, 1.5, text]}}
    bench.write(code("a = ''\nb = {}", "parameters"), code("import json; print(json.dumps([a, b], sort_keys=True))"))
    exit_code, _, printed = bench.run(parameters=given)
    assert exit_code == 0, printed
    assert json.loads(text_of(bench.cells()[-1])) == [given["a"], given["b"]]


def test_paths_are_only_paths(bench: Bench) -> None:
    """papermill formats paths, takes addresses, and takes JSON for a notebook; here they are files, or nothing."""
    bench.write(code("a = 1", "parameters"), code("print('ran')"), name="{a}{pm} %s.ipynb")
    assert bench.run(name="{a}{pm} %s.ipynb", parameters={"a": 2})[0] == 0
    inline = json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []})
    for name in (inline, "s3://bucket/n.ipynb", "http://127.0.0.1:9/n.ipynb", "-", "missing.ipynb"):
        exit_code, record, _ = bench.run(name=name)
        assert (exit_code, record["state"]) == (70, "failed")
        assert "노트북" in record["message"]


def test_what_is_no_notebook(bench: Bench) -> None:
    for content in ("", "[]", "{}", '{"nbformat": 4}', "\0"):
        (bench.folder / "in.ipynb").write_text(content)
        exit_code, record, _ = bench.run()
        assert (exit_code, record["state"]) == (70, "failed")


def test_wrong_words(bench: Bench) -> None:
    bench.start("--nonsense")
    assert bench.end()[0] == 70


@pytest.mark.parametrize("earlier", [True, False])
def test_a_full_disk_keeps_the_earlier_output(bench: Bench, earlier: bool) -> None:
    """Files of this run can grow to 200 kB only; its output needs 400."""
    bench.write(code("print('x' * 400_000)"))
    (bench.folder / "out").mkdir()
    if earlier:
        bench.output.write_text("an earlier result")

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    exit_code, record, printed = bench.run(preexec_fn=small_files)
    assert (exit_code, record["state"]) == (70, "failed"), printed
    assert "OSError" in record["message"]
    assert record["executed"] == 1
    assert bench.output.exists() is earlier
    if earlier:
        assert bench.output.read_text() == "an earlier result"
    assert {path.name for path in bench.output.parent.iterdir()} <= {"output.ipynb", "record.json"}


def test_room_is_made_by_the_side_file(bench: Bench) -> None:
    """On a disk that holds the output once, and not beside its side file."""
    if os.getuid() != 0:
        pytest.skip("needs root to mount a small disk")
    (bench.folder / "out").mkdir()
    disk = ["mount", "-t", "tmpfs", "-o", "size=700k", "none", str(bench.folder / "out")]
    if subprocess.run(disk, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount here")
    try:
        (bench.part).write_text("x" * 400_000)
        bench.write(code("print('x' * 400_000)"))
        assert bench.run()[0] == 0
        assert len(text_of(bench.cells()[0])) == 400_001
        (bench.output.parent / "filler").write_text("x" * 200_000)
        before = bench.output.read_text()
        exit_code, _ = bench.run()[:2]
        assert exit_code == 70
        assert bench.output.read_text() == before
    finally:
        subprocess.run(["umount", str(bench.folder / "out")], check=True)


def test_output_has_limits(bench: Bench) -> None:
    """A cell's flood is cut with a note, the run goes on, and the notebook's limit holds for all cells together."""
    bench.write(
        code("print('x' * 5_000_000)"),
        code("print('after')"),
        code("for i in range(3000): print('한글', i)"),
        code(
            "from IPython.display import clear_output\nfor i in range(60): print('y' * 1000); clear_output(wait=i % 2)"
        ),
        code("from IPython.display import HTML, display; display(HTML('z' * 200_000)); print('gone')"),
        code("print('w' * 60_000)"),
        code("print('v' * 60_000)"),
        code("1 / 0"),
    )
    limits = ("--cell-output-bytes", "100000", "--notebook-output-bytes", "250000")
    exit_code, record, printed = bench.run(*limits)
    assert (exit_code, record["failing_cell"]["ename"]) == (1, "ZeroDivisionError"), printed[-2000:]
    assert record["truncated"] == [0, 4, 6]
    cells = bench.cells()
    assert text_of(cells[0]).startswith("x" * 90_000)
    assert "0.0953674 MB" in text_of(cells[0])
    assert len(text_of(cells[0])) < 101_000
    assert text_of(cells[1]) == "after\n"
    assert text_of(cells[2]).splitlines() == [f"한글 {number}" for number in range(3000)]
    assert len(cells[2]["outputs"]) == 1
    assert len(text_of(cells[3])) <= 1001
    assert "zzz" not in json.dumps(cells[4])
    assert "gone" not in text_of(cells[4])
    assert len(text_of(cells[6])) < 60_000
    assert cells[7]["outputs"][0]["ename"] == "ZeroDivisionError"
    assert bench.output.stat().st_size < 400_000


def test_a_flood_of_small_pieces_arrives_whole(bench: Bench) -> None:
    bench.write(code("for i in range(5000): print(i % 10, end='', flush=True)"))
    exit_code, _, printed = bench.run()
    assert exit_code == 0, printed[-1000:]
    assert text_of(bench.cells()[0]) == "0123456789" * 500
    assert len(bench.cells()[0]["outputs"]) == 1


def test_output_that_was_lost_on_the_way_is_told(bench: Bench) -> None:
    """The kernel's numbering of its messages shows it; a thread of an earlier cell that prints on loses nothing."""
    thread = """
import threading, time
def talk():
    for i in range(40): print('thread', i, flush=True); time.sleep(0.02)
threading.Thread(target=talk).start()
"""
    bench.write(
        code(thread),
        code("import time; time.sleep(0.5); print('quiet')"),
        code("time.sleep(0.6); print('done')"),
        code("for _ in range(3): get_ipython().kernel.session.msg('made and never sent')"),
    )
    exit_code, record, printed = bench.run()
    assert (exit_code, record["lost_messages"]) == (0, 3), printed
    assert "3 messages" in text_of(bench.cells()[3])
    assert text_of(bench.cells()[2]).endswith("done\n")


def test_displays_are_updated_in_their_place(bench: Bench) -> None:
    """Also after the pieces of what was printed before them became one."""
    bench.write(
        code("from IPython.display import display\nprint('a', flush=True)\nprint('b', flush=True)"),
        code(
            "import time\nfor i in range(5): print(i, flush=True); time.sleep(0.02)\n"
            "h = display('old', display_id=True)\nprint('end')"
        ),
        code("h.update('new')"),
        code("h.update('x' * 200_000)"),
    )
    exit_code, _, printed = bench.run("--cell-output-bytes", "50000")
    assert exit_code == 0, printed
    cells = bench.cells()
    assert [each["output_type"] for each in cells[1]["outputs"]] == ["stream", "display_data", "stream"]
    assert cells[1]["outputs"][1]["data"]["text/plain"] == ["'new'"]


def test_a_killed_runner_leaves_a_side_file_and_the_earlier_output(bench: Bench) -> None:
    bench.write(code("print('first', flush=True)"), code("import time; print('second', flush=True); time.sleep(60)"))
    (bench.folder / "out").mkdir()
    bench.output.write_text("an earlier result")
    bench.start("--autosave", "0", env={**os.environ, "TMPDIR": str(bench.folder)})
    bench.wait_for("second")
    kernels = subprocess.run(["pgrep", "-P", str(bench.process.pid)], capture_output=True, text=True, check=True)
    time.sleep(0.3)
    bench.process.kill()
    bench.end()
    assert bench.record()["state"] == "running"
    assert bench.output.read_text() == "an earlier result"
    saved = json.loads(bench.part.read_text())
    assert "first" in json.dumps(saved["cells"][0])
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in kernels.stdout.split()):
        assert time.monotonic() < deadline  # the kernel sees that its parent is gone
        time.sleep(0.1)


def test_it_stands_alone(bench: Bench, tmp_path: Path) -> None:
    """With only its two files in a folder, and among files that would shadow packages."""
    copied = tmp_path / "copied"
    copied.mkdir()
    for name in ("execute.py", "cells.py"):
        shutil.copy(EXECUTE.with_name(name), copied)
    for name in ("json.py", "zmq.py", "nbformat.py", "papermill.py", "notebooks.py"):
        (copied / name).write_text("raise RuntimeError('shadowed')")
    bench.write(code("print('fine')"))
    (bench.folder / "parameters.json").write_text("{}")
    words = ["--input", "in.ipynb", "--output", "o.ipynb", "--parameters", "parameters.json", "--record", "r.json"]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    result = subprocess.run(
        [sys.executable, "-P", copied / "execute.py", *words, "--cwd", "/"],
        cwd=bench.folder,
        env=environment,
        check=False,
        timeout=40,
    )
    assert result.returncode == 0
    assert (bench.folder / "o.ipynb").exists()
