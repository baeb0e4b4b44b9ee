"""A platform of one home folder for the batch tests: the small centre, moved to today, on real processes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker.errors
import nbformat
import pytest
from sqlalchemy import select, update

from batch.scheduler import Scheduler
from quotas import network
from quotas.backends.docker import DockerBackend
from quotas.backends.local import LocalBackend
from quotas.backends.port import BackendAway
from quotas.domain.schedules import FINAL, Timing
from quotas.home import Home
from quotas.services import runs, schedules
from quotas.services.schedules import Execution, NewSchedule, Schedule
from quotas.settings import Settings
from quotas.store.database import Database
from quotas.store.tables import charges, executions, images, profiles
from quotas.store.tables import schedules as schedules_table
from tests import centre

DAY = 86_400
ZONE = "Asia/Seoul"
IMAGE = "mudeung/notebook:latest"


@dataclass
class Platform:
    """A home with the centre's project `vision`, of `member` and `pi`, and what the tests ask of it."""

    home: Home
    database: Database
    backend: LocalBackend
    schedulers: list[Scheduler] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.home.project_folder("vision")

    def notebook(self, name: str, *sources: str, parameters: str | None = None) -> str:
        """The project has a notebook of these cells; return its path there."""
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        if parameters is not None:
            cells.insert(0, nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        return name

    def schedule(self, notebook: str, parameters: Mapping[str, Any] | None = None, **changes: Any) -> Schedule:
        """`member` has a schedule of the notebook for once, a day ahead, with `changes`."""
        values = {
            "project": "vision",
            "person": "member",
            "profile": "cpu-small",
            "notebook": notebook,
            "timing": Timing(ZONE, once_at=int(time.time()) + DAY),
            "timeout_seconds": 600,
            "parameters": parameters or {},
        }
        new = NewSchedule(**(values | changes))
        return schedules.create(self.database, new, actor=new.person, now=int(time.time()))

    def due(self, notebook: str, parameters: Mapping[str, Any] | None = None, **changes: Any) -> Schedule:
        """`member` has a schedule that is due now, with `changes`; its time limit may be shorter than people's."""
        timeout = changes.pop("timeout_seconds", 600)
        made = self.schedule(notebook, parameters, **changes)
        self.change(made.id, next_at=int(time.time()) - 1, timeout_seconds=timeout)
        return made

    def change(self, schedule_id: int, **values: Any) -> None:
        with self.database.write() as transaction:
            transaction.run(update(schedules_table).where(schedules_table.c.id == schedule_id).values(values))

    def scheduler(self, backend: LocalBackend | None = None) -> Scheduler:
        made = Scheduler(self.home, self.database, backend or self.backend)
        self.schedulers.append(made)
        return made

    def executions(self, schedule: Schedule | None = None) -> list[Execution]:
        """Return all executions, or those of one schedule, oldest first."""
        with self.database.read() as transaction:
            ids = [row.run_id for row in transaction.rows(select(executions.c.run_id))]
        found = [schedules.execution(self.database, run_id) for run_id in sorted(ids)]
        return [each for each in found if each and (schedule is None or each.schedule_id == schedule.id)]

    def only(self, schedule: Schedule) -> Execution:
        (execution,) = self.executions(schedule)
        return execution

    def run(self, execution: Execution) -> runs.Run:
        found = runs.run(self.database, execution.run_id)
        assert found is not None
        return found

    def charges(self) -> int:
        with self.database.read() as transaction:
            return len(transaction.rows(select(charges)))

    def output(self, execution: Execution) -> Any:
        return nbformat.read(self.folder / str(execution.output), as_version=4)

    def all_ended(self) -> bool:
        return all(each.state in FINAL for each in self.executions())


def wait_for(condition: Callable[[], object], seconds: float = 30, what: str = "it") -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"{what} did not come within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def today_file(migrated_file: Path) -> Path:
    """An SQLite file with the small centre of :mod:`tests.centre`, whose award and rates are in force today."""
    path = migrated_file.with_name("today.sqlite")
    shutil.copyfile(migrated_file, path)
    now = int(time.time())
    made = centre.Centre(Database(f"sqlite:///{path}"), now=now, starts_at=now - DAY, ends_at=now + 29 * DAY)
    for part in (centre._add_people, centre._add_supply, centre._add_project):
        part(made)
    with made.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    made.database.close()
    return path


def build(path: Path, today_file: Path, **changes: Any) -> Platform:
    """Return a platform in the empty folder `path`."""
    home = Home(path, Settings(**{"schedule_seconds": 1, **changes}))
    home.make_folders()
    shutil.copyfile(today_file, path / "ledger.sqlite")
    (path / "mudeung.toml").write_text(
        "\n".join(f"{key} = {json.dumps(value)}" for key, value in {"schedule_seconds": 1, **changes}.items())
    )
    database = home.database()
    return Platform(home, database, LocalBackend(home.runs))


def end(platform: Platform) -> None:
    """Nothing of the platform runs any more."""
    for scheduler in platform.schedulers:
        scheduler.leave()
    for seen in platform.backend.list_runs():
        platform.backend.stop(seen.run_id, 0)
    platform.database.close()


@pytest.fixture
def platform(tmp_path: Path, today_file: Path) -> Iterator[Platform]:
    """A platform of its own."""
    made = build(tmp_path / "home", today_file)
    yield made
    end(made)


@pytest.fixture
def contained(tmp_path: Path, today_file: Path) -> Iterator[tuple[Platform, Scheduler]]:
    """A platform whose runs are containers, and its scheduler."""
    backend = DockerBackend()
    try:
        present = backend.image_exists(IMAGE)
    except (BackendAway, docker.errors.DockerException) as away:
        pytest.skip(f"no Docker engine: {away}")
    if not present:
        pytest.skip(f"no image {IMAGE}: make image")
    platform = build(tmp_path / "home", today_file, backend="docker")
    with platform.database.write() as transaction:
        transaction.run(update(images).values(reference=IMAGE))
        transaction.run(update(profiles).values(memory_bytes=400 * 2**20))
    yield platform, Scheduler(platform.home, platform.database, backend)
    for execution in platform.executions():
        backend.stop(execution.run_id, 0)
        backend.remove(execution.run_id)
    network.remove(platform.home)
    backend.close()
    platform.database.close()
