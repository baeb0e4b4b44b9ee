"""The executor as a program of its own, with real kernels: how each kind of end is told, and what is left of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.batch.execution import EXAMPLE, EXECUTE, Bench, bench_in, code, markdown, text_of


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as made:
        yield made


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


def test_a_kernel_that_does_not_come_up_is_started_once_more(bench: Bench) -> None:
    """As when the ports that were chosen for it are taken; one that never comes up is a kernel that died."""
    spec = bench.folder / "kernels" / "shaky"
    spec.mkdir(parents=True)
    line = 'echo >> "$TRIED"; [ $(wc -l < "$TRIED") -gt "$FAILURES" ] && exec "$@"; exit 1'
    argv = ["sh", "-c", line, "sh", sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "x", "language": "python"}))
    bench.write(code("print('fine')"))
    for failures, expected in ((1, (0, "succeeded")), (2, (138, "kernel_died"))):
        tried = bench.folder / f"tried{failures}"
        own = {"JUPYTER_PATH": str(bench.folder), "TRIED": str(tried), "FAILURES": str(failures)}
        exit_code, record, printed = bench.run("--kernel", "shaky", env={**os.environ, **own})
        assert (exit_code, record["state"]) == expected, printed
        assert len(tried.read_text().splitlines()) == 2


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
