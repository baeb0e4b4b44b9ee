"""The schema is brought to its newest revision; the revisions are in :mod:`quotas.store.migrations`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from quotas.store.database import Database, DatabaseAway

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x6D75_6465
"""The advisory lock that two processes migrating one PostgreSQL database take in turn."""

_IN_THIS_PROCESS = threading.Lock()
"""Alembic keeps the context of a running command in a module's global."""


def migrate(database: Database) -> list[str]:
    """The schema is at `head()`; return the revisions that were applied now, oldest first, in one transaction.

    A second process that migrates at the same time waits and then finds nothing to do. Raises DatabaseAway.
    """
    scripts = ScriptDirectory.from_config(_config())
    with _IN_THIS_PROCESS, _alone(database) as connection:
        before = MigrationContext.configure(connection).get_current_revision()
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        passed = [script.revision for script in scripts.iterate_revisions("head", before or "base")]
    return passed[::-1]


def current(database: Database) -> str | None:
    """Return the revision that the database is at, or None for an empty one. Raises DatabaseAway."""
    try:
        with database.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except sqlalchemy.exc.OperationalError as error:
        raise DatabaseAway(str(error)) from error


def head() -> str:
    """Return the newest revision."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    if newest is None:
        raise AssertionError("the package has at least one revision")
    return newest


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _alone(database: Database) -> Iterator[Connection]:
    """Open a transaction in which nobody else migrates. SQLite's driver is told to begin, as ours leaves that to us."""
    try:
        with database.engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(sqlalchemy.select(sqlalchemy.func.pg_advisory_xact_lock(_LOCK)))
            yield connection
            connection.commit()
    except sqlalchemy.exc.OperationalError as error:
        raise DatabaseAway(str(error)) from error
