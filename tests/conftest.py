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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    required = os.environ.get("MUDEUNG_REQUIRE", "").replace(",", " ").split()
    if report.skipped and "docker" in required and item.get_closest_marker("docker"):
        report.outcome = "failed"
        report.longrepr = f"MUDEUNG_REQUIRE names docker, and this test skipped itself during {call.when}"
    return report


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the newest schema and no rows."""
    path = tmp_path_factory.mktemp("schema") / "empty.sqlite"
    database = Database(f"sqlite:///{path}")
    migrate(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path


@pytest.fixture
def database(tmp_path: Path, migrated_file: Path) -> Iterator[Database]:
    """A fresh database with the newest schema."""
    path = tmp_path / "mudeung.sqlite"
    shutil.copyfile(migrated_file, path)
    fresh = Database(f"sqlite:///{path}")
    yield fresh
    fresh.close()
