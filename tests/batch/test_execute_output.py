"""What the executor keeps of a notebook's output: whole files on a full disk, limits to a flood, and nothing unsaid."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.batch.execution import Bench, bench_in, code, text_of


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as made:
        yield made


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


def test_a_flood_of_small_pieces_loses_nothing_in_silence(bench: Bench) -> None:
    """Each piece is a message. On a busy machine ZeroMQ may drop some in the kernel; then they are counted."""
    bench.write(code("for i in range(5000): print(i % 10, end='', flush=True)"))
    exit_code, record, printed = bench.run()
    assert exit_code == 0, printed[-1000:]
    outputs = bench.cells()[0]["outputs"]
    assert "".join(outputs[0]["text"]).isdigit()
    assert len("".join(outputs[0]["text"])) + record["lost_messages"] == 5000
    assert len(outputs) == (2 if record["lost_messages"] else 1)


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
