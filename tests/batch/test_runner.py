"""What becomes of an execution: real notebooks, real papermill, real processes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch import snapshots
from quotas import folders
from quotas.domain.runs import Outcome, RunState
from quotas.domain.schedules import ExecutionState
from quotas.services import runs, schedules
from tests.batch.conftest import Platform, build, end, wait_for

TIMEOUT_SECONDS = 11
"""The executor's part of it is five seconds less."""
ENDS = {
    "succeeds": ("import os", "print('the seed is', seed, os.getcwd())"),
    "fails": ("seed", "raise ValueError('no such digit: 오류')", "print('never')"),
    "exits": ("import sys; sys.exit(0)", "print('never')"),
    "loses its kernel": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "print('never')"),
    "takes too long": ("import time\nprint('begun', flush=True)\ntime.sleep(600)", "print('never')"),
}
PARAMETERS = "seed: int = 7\nname: str = 'a'"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, today_file: Path) -> Iterator[tuple[Platform, dict[str, str]]]:
    """A platform on which one execution came to each end, and their run ids."""
    platform = build(tmp_path_factory.mktemp("ends") / "home", today_file, max_batch_runs=3)
    made = {}
    for name, sources in ENDS.items():
        notebook = platform.notebook(f"work/{name}.ipynb", *sources, parameters=PARAMETERS)
        timeout = TIMEOUT_SECONDS if name == "takes too long" else 600
        made[name] = platform.due(notebook, {"seed": 41}, timeout_seconds=timeout, title=f"{name}!").id
    platform.scheduler().run_once()
    yield (
        platform,
        {
            name: next(each.run_id for each in platform.executions() if each.schedule_id == schedule_id)
            for name, schedule_id in made.items()
        },
    )
    end(platform)


def execution(ended: tuple[Platform, dict[str, str]], name: str) -> tuple[Platform, schedules.Execution, runs.Run]:
    platform, ids = ended
    found = schedules.execution(platform.database, ids[name])
    assert found is not None
    return platform, found, platform.run(found)


def statuses(platform: Platform, found: schedules.Execution) -> list[str]:
    cells = platform.output(found).cells
    return [cell.metadata.papermill.status for cell in cells if "papermill" in cell.metadata]


def test_a_success_leaves_output_log_and_charge(ended: tuple[Platform, dict[str, str]]) -> None:
    platform, found, run = execution(ended, "succeeds")
    assert (found.state, found.exit_code, found.failing_cell) == (ExecutionState.SUCCEEDED, 0, None)
    assert found.reason_ko is found.reason_en is None
    said = f"the seed is 41 {platform.folder / 'work'}"
    assert said in str(found.log)
    assert said in json.dumps(platform.output(found), ensure_ascii=False)
    assert found.output == snapshots.output_path(found)
    assert str(found.output).startswith("runs/20")
    kept = sorted(path.name for path in (platform.folder / str(found.output)).parent.iterdir())
    assert kept == ["output.ipynb", "run.log"]
    assert said in (platform.folder / str(found.output)).with_name("run.log").read_text()
    assert (run.state, run.outcome) == (RunState.SETTLED, Outcome.EXITED)
    assert run.started_at is not None
    assert run.finished_at is not None
    assert run.charge == 50 * int(run.seconds or 0)
    assert 0 <= run.finished_at - run.started_at - int(run.seconds or 0) <= 1
    assert found.notebook_sha256 is not None
    assert len(found.notebook_sha256) == 64


def test_a_failing_cell_is_kept_with_its_traceback(ended: tuple[Platform, dict[str, str]]) -> None:
    platform, found, run = execution(ended, "fails")
    assert (found.state, found.exit_code) == (ExecutionState.FAILED, 1)
    cell = found.failing_cell
    assert cell is not None
    assert (cell["index"], cell["ename"], cell["evalue"]) == (2, "ValueError", "no such digit: 오류")
    assert cell["source"] == ENDS["fails"][1]
    assert "ValueError" in cell["traceback"]
    assert found.reason_en == "Cell 3 failed: ValueError: no such digit: 오류"
    assert found.reason_ko == "3번 셀에서 실패했습니다: ValueError: no such digit: 오류"
    assert statuses(platform, found)[-2:] == ["failed", "skipped"]
    assert run.outcome is Outcome.EXITED
    assert run.charge


def test_an_early_exit_is_a_success_and_its_output_says_so(ended: tuple[Platform, dict[str, str]]) -> None:
    platform, found, _ = execution(ended, "exits")
    assert found.state is ExecutionState.SUCCEEDED
    assert statuses(platform, found)[-1] == "skipped"


def test_a_killed_kernel_is_no_success(ended: tuple[Platform, dict[str, str]]) -> None:
    platform, found, run = execution(ended, "loses its kernel")
    assert (found.state, found.exit_code) == (ExecutionState.KERNEL_DIED, 138)
    assert "커널" in str(found.reason_ko)
    assert statuses(platform, found)[-1] == "skipped"
    assert run.charge


def test_the_time_limit_ends_a_run_and_keeps_what_it_said(ended: tuple[Platform, dict[str, str]]) -> None:
    platform, found, run = execution(ended, "takes too long")
    assert (found.state, found.exit_code) == (ExecutionState.TIMED_OUT, 124)
    assert found.reason_en == f"The time limit of {TIMEOUT_SECONDS} s was reached."
    assert "begun" in json.dumps(platform.output(found))
    assert run.outcome is Outcome.LIMIT
    assert 0 < int(run.seconds or 0) <= TIMEOUT_SECONDS


def test_nothing_of_an_ended_run_is_left_behind(ended: tuple[Platform, dict[str, str]]) -> None:
    platform, ids = ended
    assert platform.backend.list_runs() == []
    assert [path.name for path in platform.home.batch.iterdir() if path.is_dir()] == []
    assert platform.charges() == len(ids)
    assert [path for path in platform.folder.rglob("*") if ".part" in path.name or ".tmp" in path.name] == []


@pytest.mark.parametrize(
    ("spoil", "field", "says"),
    [
        ("remove", "notebook", "there is no file"),
        ("garble", "notebook", "is not a notebook"),
        ("link out", "notebook", "outside"),
        ("rename parameter", "seed", "declare"),
        ("retype parameter", "seed", "int"),
    ],
)
def test_what_changed_since_it_was_scheduled_is_not_run(platform: Platform, spoil: str, field: str, says: str) -> None:
    notebook = platform.notebook("train.ipynb", "print(seed)", parameters="seed: int = 7")
    schedule = platform.due(notebook, {"seed": "a" if spoil == "retype parameter" else 41})
    path = platform.folder / notebook
    if spoil == "remove":
        path.unlink()
    elif spoil == "garble":
        path.write_text("{}")
    elif spoil == "link out":
        path.rename(platform.home.path / "elsewhere.ipynb")
        path.symlink_to(platform.home.path / "elsewhere.ipynb")
    elif spoil == "rename parameter":
        platform.notebook("train.ipynb", "print(1)", parameters="sead: int = 7")
    platform.scheduler().run_once()
    found = platform.only(schedule)
    assert found.state is ExecutionState.FAILED
    assert field in str(found.reason_en)
    assert says in str(found.reason_en), found.reason_en
    assert field in str(found.reason_ko)
    assert runs.run(platform.database, found.run_id) is None
    assert platform.backend.list_runs() == []


def test_the_notebook_is_the_one_of_its_start(platform: Platform) -> None:
    notebook = platform.notebook("train.ipynb", "import time; time.sleep(2)", "print('as', 'taken')")
    schedule = platform.due(notebook)
    scheduler = platform.scheduler()
    scheduler.boot()
    scheduler.look()
    wait_for(platform.backend.list_runs, what="the run")
    platform.notebook("train.ipynb", "raise SystemExit(3)")
    wait_for(platform.all_ended, what="the end")
    assert platform.only(schedule).state is ExecutionState.SUCCEEDED
    assert "as taken" in str(platform.only(schedule).log)


@pytest.mark.parametrize("trick", ["link", "file", "link beside"])
def test_an_output_that_cannot_be_kept_is_told_and_stays_in_the_home(platform: Platform, trick: str) -> None:
    outside = platform.home.path / "outside"
    outside.mkdir()
    (outside / "output.ipynb").write_text("precious")
    schedule = platform.due(platform.notebook("train.ipynb", "1 + 1"))
    claimed = schedules.claim_due(platform.database, int(time.time()))[0]
    place = platform.folder / snapshots.output_path(claimed)
    if trick == "link":
        (platform.folder / "runs").symlink_to(outside)
    elif trick == "file":
        (platform.folder / "runs").write_text("mine")
    else:
        place.parent.mkdir(parents=True)
        place.symlink_to(outside / "output.ipynb")
    platform.scheduler().run_once()
    found = platform.only(schedule)
    assert (outside / "output.ipynb").read_text() == "precious"
    assert list(outside.iterdir()) == [outside / "output.ipynb"]
    if trick == "link beside":
        assert found.state is ExecutionState.SUCCEEDED
        assert not place.is_symlink()
        return
    assert found.state is ExecutionState.FAILED
    assert "could not be kept" in str(found.reason_en)
    assert (platform.home.batch / found.run_id / "out" / "output.ipynb").exists()
    platform.scheduler().boot()
    assert (platform.home.batch / found.run_id / "out" / "output.ipynb").exists()


def test_a_record_that_the_notebook_forges_changes_no_state(platform: Platform) -> None:
    forged = {"state": "succeeded", "failing_cell": {"index": True, "ename": "x" * 10**6}}
    source = (
        "import json, pathlib, os, signal\n"
        f"home = pathlib.Path({str(platform.home.batch)!r})\n"
        "record = next(home.glob('*/out')) / 'record.json'\n"
        f"record.write_text({json.dumps(forged)!r})\n"
        "os.kill(os.getppid(), signal.SIGKILL)\n"
        "import time; time.sleep(60)"
    )
    schedule = platform.due(platform.notebook("forge.ipynb", source))
    platform.scheduler().run_once()
    found = platform.only(schedule)
    assert (found.state, found.exit_code, found.failing_cell) == (ExecutionState.LOST, 137, None)
    assert platform.run(found).charge


def test_files_are_read_and_written_without_following_links(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    folders.write(root, "a/b/c.txt", b"kept")
    assert folders.read(root, "a/b/c.txt", 10) == b"kept"
    for path in ("link/secret", "file", "../outside/secret", "a/b", "a/none"):
        with pytest.raises(OSError, match=r"\[Errno"):
            folders.read(root, path, 10)
    with pytest.raises(OSError, match="larger"):
        folders.read(root, "a/b/c.txt", 3)
    for path in ("link/new", "../new"):
        with pytest.raises(OSError, match=r"\[Errno"):
            folders.write(root, path, b"x")
    with pytest.raises(TypeError), folders.writing(root, "a/b/c.txt") as file:
        file.writelines([b"ha", None])  # type: ignore[list-item]
    assert folders.read(root, "a/b/c.txt", 10) == b"kept"
    assert sorted(path.name for path in (root / "a/b").iterdir()) == ["c.txt"]
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("work/Train digits.ipynb", "work-train-digits"),
        ("야간 학습: 2호기", "야간-학습-2호기"),
        ("../../etc/passwd", "etc-passwd"),
        ("\u0000///...", "run"),
        ("a" * 100, "a" * 40),
    ],
)
def test_a_title_becomes_a_part_of_a_name(title: str, slug: str) -> None:
    assert snapshots.slug(title) == slug
