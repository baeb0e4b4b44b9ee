"""What all tests share: a fresh database, a small centre, and the rule about skips.

With ``MUDEUNG_REQUIRE=docker`` in the environment a test marked `docker` that skips itself is a failure: where an
engine and an image are at hand, nothing may be left out in silence. So it is with `postgresql`.

``make test JOBS=3`` runs two folders side by side, each folder's tests in order.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from quotas.store.database import Database
from quotas.store.migrate import migrate
from tests import postgresql
from tests.centre import Centre, build
from tests.databases import Databases, PostgreSQLDatabases, SQLiteDatabases

REQUIRABLE = ("docker", "postgresql", "kubernetes", "keycloak")


def pytest_configure() -> None:
    # What a worker of pytest-xdist ignores, the programs that it starts would ignore too.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Lanes(LoadScopeScheduling):
    """Gives a worker a whole lane, whose tests run in order: the product, the cluster, the engine's walks, the rest.

    Tests of the product start programs with time limits, those of the cluster wait for it, those of the engine compute:
    one of each kind go side by side on two cores, two of the product's do not.
    """

    CLUSTER = ("helm", "kubernetes")
    WALKS = ("services",)
    REST = ("domain", "nvml", "portal", "store")

    def _split_scope(self, nodeid: str) -> str:
        _, *folders, name = nodeid.split("::", maxsplit=1)[0].split("/")
        folder = folders[0] if folders else ""
        if folder in self.CLUSTER or name.startswith(("test_kubernetes", "test_demo_kubernetes")):
            return "cluster"
        if folder in self.WALKS:
            return "walks"
        return "rest" if folder in self.REST or not folder else "product"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    return Lanes(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    required = os.environ.get("MUDEUNG_REQUIRE", "").replace(",", " ").split()
    for name in REQUIRABLE:
        if report.skipped and name in required and item.get_closest_marker(name):
            report.outcome = "failed"
            report.longrepr = f"MUDEUNG_REQUIRE names {name}, and this test skipped itself during {call.when}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What a test that was run once more failed with is shown, as that of one that failed for good."""
    for report in terminalreporter.stats.get("rerun", ()):
        terminalreporter.section(f"first run of {report.nodeid}", "_")
        terminalreporter.write_line(report.longreprtext)


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


@pytest.fixture(scope="session")
def sqlite_databases(migrated_file: Path, centre_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Databases:
    return SQLiteDatabases(tmp_path_factory.mktemp("databases"), migrated_file, centre_file)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.Server]:
    """A PostgreSQL server that forgets everything when its power is cut, as no test of it may do."""
    reason = postgresql.missing()
    if reason:
        pytest.skip(reason)
    with postgresql.server(*postgresql.FAST) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_databases(postgresql_server: postgresql.Server) -> Iterator[Databases]:
    made = PostgreSQLDatabases(postgresql_server)
    yield made
    made.remove()


@pytest.fixture
def dialect() -> str:
    """Which database a test's databases are: a folder whose tests run on both gives this fixture parameters."""
    return "sqlite"


@pytest.fixture
def databases(dialect: str, request: pytest.FixtureRequest) -> Databases:
    """Where a test gets databases of its own: empty ones, migrated ones, and ones with a small centre."""
    made: Databases = request.getfixturevalue(f"{dialect}_databases")
    return made


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """A fresh database with the newest schema and no rows."""
    fresh = databases.migrated()
    yield fresh
    databases.drop(fresh)


@pytest.fixture
def seeded(databases: Databases) -> Iterator[Centre]:
    """The small centre of :mod:`tests.centre` in a database of its own."""
    fresh = databases.with_centre()
    yield Centre(fresh)
    databases.drop(fresh)


@pytest.fixture
def centre(seeded: Centre) -> Centre:
    """The same, under the name that a folder may give to a centre of its own."""
    return seeded
