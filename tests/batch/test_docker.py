"""Executions in containers of the notebook image."""

from __future__ import annotations

import subprocess
import time

import pytest
from sqlalchemy import update

from batch.scheduler import Scheduler
from quotas.backends.docker import prepare_project_folder
from quotas.domain.runs import Outcome
from quotas.domain.schedules import ExecutionState
from quotas.store.tables import images
from tests.batch.conftest import Platform

pytestmark = pytest.mark.docker


def test_a_container_runs_the_notebook_and_leaves_nothing_else(contained: tuple[Platform, Scheduler]) -> None:
    platform, scheduler = contained
    notebook = platform.notebook(
        "work/train.ipynb",
        "import os, pathlib\nprint('seed', seed, os.getcwd())",
        "pathlib.Path('made.txt').write_text('by the run')",
        "try:\n    pathlib.Path('/mnt/run/input.ipynb').write_text('{}')\nexcept OSError as error:\n    print(error)",
        parameters="seed: int = 7",
    )
    prepare_project_folder(platform.folder)  # as if the project's own people had made what is in it
    schedule = platform.due(notebook, {"seed": 41})
    scheduler.run_once()
    found = platform.only(schedule)
    assert found.state is ExecutionState.SUCCEEDED, (found.reason_en, found.log)
    assert "seed 41 /home/jovyan/project/work" in str(found.log)
    assert "Read-only file system" in str(found.log)
    assert (platform.folder / "work" / "made.txt").read_text() == "by the run"
    output = platform.folder / str(found.output)
    assert "seed 41" in output.read_text()
    owner = platform.folder.stat().st_uid
    assert {path.stat().st_uid for path in (output, output.parent, output.parent.parent)} == {owner}
    run = platform.run(found)
    assert (run.outcome, run.exit_code) == (Outcome.EXITED, 0)
    assert run.charge == 50 * int(run.seconds or 0) > 0
    assert scheduler.backend.inspect(found.run_id) is None
    assert [path.name for path in platform.home.batch.iterdir() if path.is_dir()] == []


def test_want_of_memory_is_told_as_such(contained: tuple[Platform, Scheduler]) -> None:
    platform, scheduler = contained
    schedule = platform.due(
        platform.notebook("hungry.ipynb", "print('begun')\nheld = [b'x' * 2**20 * n for n in range(1, 80)]")
    )
    scheduler.run_once()
    found = platform.only(schedule)
    assert found.state is ExecutionState.OUT_OF_MEMORY, (found.exit_code, found.log)
    assert "메모리" in str(found.reason_ko)
    assert platform.run(found).charge


def test_a_missing_image_fails_before_it_runs_and_costs_nothing(contained: tuple[Platform, Scheduler]) -> None:
    platform, scheduler = contained
    with platform.database.write() as transaction:
        transaction.run(update(images).values(reference="mudeung/none:none"))
    schedule = platform.due(platform.notebook("train.ipynb", "1"))
    scheduler.run_once()
    found = platform.only(schedule)
    assert found.state is ExecutionState.FAILED
    assert "image: mudeung/none:none is not on this machine" in str(found.reason_en)
    assert platform.run(found).charge == 0


def test_a_container_that_is_killed_is_no_cancellation(contained: tuple[Platform, Scheduler]) -> None:
    platform, scheduler = contained
    schedule = platform.due(platform.notebook("slow.ipynb", "import time; time.sleep(60)"))
    scheduler.boot()
    scheduler.look()
    name = f"mudeung-{platform.only(schedule).run_id}"
    for _ in range(100):
        if subprocess.run(["docker", "kill", name], capture_output=True, timeout=20, check=False).returncode == 0:
            break
        scheduler.stopping.wait(0.1)
    scheduler.run_once()
    found = platform.only(schedule)
    assert (found.state, found.exit_code) == (ExecutionState.LOST, 137)


def test_a_container_that_is_told_to_stop_keeps_what_it_had_printed(contained: tuple[Platform, Scheduler]) -> None:
    """An init passes the signal on; papermill as the first process would not hear it, or lose the cell's output."""
    platform, scheduler = contained
    schedule = platform.due(
        platform.notebook("slow.ipynb", "import time\nprint('half', 'way', flush=True)\ntime.sleep(600)", "never")
    )
    scheduler.boot()
    scheduler.look()
    run_id = platform.only(schedule).run_id
    for _ in range(300):
        if "half way" in scheduler.backend.log(run_id, 1000):
            break
        scheduler.stopping.wait(0.1)
    began = time.monotonic()
    scheduler.backend.stop(run_id, 30)
    assert time.monotonic() - began < 15
    scheduler.run_once()
    found = platform.only(schedule)
    assert (found.state, found.exit_code) == (ExecutionState.CANCELLED, 143)
    cells = [cell for cell in platform.output(found).cells if cell.cell_type == "code"]
    assert "half way" in str(cells[0].outputs)
    assert [cell.metadata.papermill.status for cell in cells] == ["failed", "skipped"]
    assert platform.run(found).charge
