"""What all tests share: a fresh database, a small centre, and the rule about skips.

With ``MUDEUNG_REQUIRE=docker`` in the environment a test marked `docker` that skips itself is a failure: where an
engine and an image are at hand, nothing may be left out in silence.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from quotas.store.database import Database
from quotas.store.migrate import migrate
from tests.centre import Centre, build


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    required = os.environ.get("MUDEUNG_REQUIRE", "").replace(",", " ").split()
    if report.skipped and "docker" in required and item.get_closest_marker("docker"):
        report.outcome = "failed"
        report.longrepr = f"MUDEUNG_REQUIRE names docker, and this test skipped itself during {call.when}"
    return report


def _seal(database: Database) -> None:
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the newest schema and no rows."""
    path = tmp_path_factory.mktemp("schema") / "empty.sqlite"
    database = Database(f"sqlite:///{path}")
    migrate(database)
    _seal(database)
    return path


@pytest.fixture(scope="session")
def centre_file(migrated_file: Path) -> Path:
    """An SQLite file with the small centre of :mod:`tests.centre`."""
    path = migrated_file.with_name("centre.sqlite")
    shutil.copyfile(migrated_file, path)
    database = Database(f"sqlite:///{path}")
    build(database)
    _seal(database)
    return path


@pytest.fixture
def database(tmp_path: Path, migrated_file: Path) -> Iterator[Database]:
    """A fresh database with the newest schema and no rows, at ``tmp_path / "mudeung.sqlite"``."""
    path = tmp_path / "mudeung.sqlite"
    shutil.copyfile(migrated_file, path)
    fresh = Database(f"sqlite:///{path}")
    yield fresh
    fresh.close()


@pytest.fixture
def seeded(tmp_path: Path, centre_file: Path) -> Iterator[Centre]:
    """The small centre of :mod:`tests.centre` in a database of its own, at ``tmp_path / "centre.sqlite"``."""
    path = tmp_path / "centre.sqlite"
    shutil.copyfile(centre_file, path)
    fresh = Database(f"sqlite:///{path}")
    yield Centre(fresh)
    fresh.close()


@pytest.fixture
def centre(seeded: Centre) -> Centre:
    """The same, under the name that a folder may give to a centre of its own."""
    return seeded
