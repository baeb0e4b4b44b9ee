"""Databases for tests, each copied from a template: a test may do to its own what it likes."""

from __future__ import annotations

import itertools
import shutil
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Protocol

from quotas.store.database import Database
from quotas.store.migrate import migrate
from tests.centre import build
from tests.postgresql import Server


def without_constraints(database: Database, *statements: str) -> None:
    """The statements are done to the stored data past every check, reference and trigger of the schema."""
    with closing(database.engine.raw_connection()) as connection:
        cursor = connection.cursor()
        if database.is_sqlite:
            triggers = "SELECT 'DROP TRIGGER ' || name FROM sqlite_master WHERE type = 'trigger'"
            before = ["PRAGMA foreign_keys=OFF", "PRAGMA ignore_check_constraints=ON"]
            after = ["PRAGMA foreign_keys=ON", "PRAGMA ignore_check_constraints=OFF"]
        else:
            triggers, before, after = _POSTGRESQL_GUARDS, [], []
        dropped = [statement for (statement,) in cursor.execute(triggers).fetchall()]
        for statement in (*dropped, *before, *statements, *after):
            cursor.execute(statement)


_POSTGRESQL_GUARDS = """
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype IN ('f', 'c')
UNION ALL
SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) FROM pg_trigger WHERE NOT tgisinternal
"""


class Databases(Protocol):
    """Makes databases of one kind."""

    def empty(self) -> Database:
        """Return a database without a schema."""

    def migrated(self) -> Database:
        """Return a database with the newest schema and no rows."""

    def with_centre(self) -> Database:
        """Return a database with the small centre of :mod:`tests.centre`."""

    def drop(self, database: Database) -> None:
        """The database is closed and gone."""


class SQLiteDatabases(Databases):
    """SQLite files in `folder`, copied from two others."""

    def __init__(self, folder: Path, migrated: Path, centre: Path) -> None:
        self._folder = folder
        self._migrated = migrated
        self._centre = centre
        self._numbers = itertools.count(1)

    def empty(self) -> Database:
        return Database(f"sqlite:///{self._next()}")

    def migrated(self) -> Database:
        return self._copy(self._migrated)

    def with_centre(self) -> Database:
        return self._copy(self._centre)

    def drop(self, database: Database) -> None:
        database.close()
        path = Path(database.url.removeprefix("sqlite:///"))
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()

    def _next(self) -> Path:
        return self._folder / f"{next(self._numbers)}.sqlite"

    def _copy(self, template: Path) -> Database:
        path = self._next()
        shutil.copyfile(template, path)
        return Database(f"sqlite:///{path}")


class PostgreSQLDatabases(Databases):
    """Databases of a server, copied from two templates there."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def empty(self) -> Database:
        return Database(self._server.create())

    def migrated(self) -> Database:
        return Database(self._server.create(self._migrated))

    def with_centre(self) -> Database:
        return Database(self._server.create(self._centre))

    def drop(self, database: Database) -> None:
        database.close()
        self._server.drop(database.url)

    def remove(self) -> None:
        """The templates are gone."""
        for name in ("_centre", "_migrated"):
            if name in self.__dict__:
                self._server.drop(self.__dict__[name])

    @cached_property
    def _migrated(self) -> str:
        with closing(self.empty()) as database:
            migrate(database)
        return database.url

    @cached_property
    def _centre(self) -> str:
        with closing(self.migrated()) as database:
            build(database)
        return database.url
