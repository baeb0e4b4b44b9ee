"""The schema is brought to its newest revision; the revisions are in :mod:`quotas.store.migrations`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from quotas.domain.units import InvalidValue
from quotas.store.database import Database, DatabaseAway

_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x6D75_6465
"""The advisory lock that two processes migrating one PostgreSQL database take in turn."""
PATIENCE_SECONDS = 3600
"""How long a step may take on PostgreSQL, and how long one process waits for another's: tables may be large."""

_IN_THIS_PROCESS = threading.Lock()
"""Alembic keeps the context of a running command in a module's global."""


class UnknownRevision(Exception):  # noqa: N818 - it says what is so
    """The database is at a `revision` that this program does not know: a newer program has been here."""

    def __init__(self, revision: str) -> None:
        super().__init__(f"the database is at revision {revision}, which this program does not know")
        self.revision = revision


def migrate(database: Database) -> list[str]:
    """The schema is at `head()`; return the revisions that were applied now, oldest first, in one transaction.

    A second process that migrates at the same time waits and then finds nothing to do. Raises UnknownRevision, with
    nothing changed, and DatabaseAway.
    """
    return upgrade(database, "head")


def upgrade(database: Database, revision: str) -> list[str]:
    """The schema is at least at `revision`; the rest is as :func:`migrate` has it."""
    with _IN_THIS_PROCESS, _alone(database) as connection:
        before = MigrationContext.configure(connection).get_current_revision()
        every = revisions()
        if before is not None and before not in every:
            raise UnknownRevision(before)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        after = MigrationContext.configure(connection).get_current_revision()
    return every[every.index(before) + 1 if before else 0 : every.index(after) + 1 if after else 0]


def revisions() -> list[str]:
    """Return all revisions, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def current(database: Database) -> str | None:
    """Return the revision that the database is at, or None for an empty one. Raises DatabaseAway."""
    try:
        with database.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except sqlalchemy.exc.OperationalError as error:
        raise DatabaseAway(str(error)) from error


def head() -> str:
    """Return the newest revision."""
    return revisions()[-1]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextmanager
def _alone(database: Database) -> Iterator[Connection]:
    """Open a transaction in which nobody else migrates. The drivers are told to begin, as ours leave that to us."""
    try:
        with database.engine.connect() as connection:
            if database.is_sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
            else:
                with _patient(connection):
                    _take_turn(connection)
                    yield connection
                    connection.commit()
    except sqlalchemy.exc.OperationalError as error:
        raise DatabaseAway(str(error)) from error


@contextmanager
def _patient(connection: Connection) -> Iterator[None]:
    driver: Any = connection.connection.driver_connection
    driver.answer_seconds = float(PATIENCE_SECONDS)
    try:
        yield
    finally:
        driver.answer_seconds = None


def _take_turn(connection: Connection) -> None:
    for statement in (
        "BEGIN",
        f"SET LOCAL statement_timeout = '{PATIENCE_SECONDS}s'",
        f"SET LOCAL lock_timeout = '{PATIENCE_SECONDS}s'",
        f"SELECT pg_advisory_xact_lock({_LOCK})",
    ):
        connection.exec_driver_sql(statement)
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        raise InvalidValue(
            "database_url",
            f"the database stores text as {encoding}; it must be made with ENCODING 'UTF8'",
            f"데이터베이스의 문자 인코딩이 {encoding}입니다. ENCODING 'UTF8'로 만들어야 합니다",
        )
