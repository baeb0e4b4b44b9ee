"""What the drivers of the two databases do differently: how connections are made and begun, and what errors mean."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import sqlalchemy
from sqlalchemy import Dialect, Engine, create_engine, event

BUSY_SECONDS = 15
"""How long a writer of SQLite waits for another process's transaction before the database counts as away."""
POOL_WAIT_SECONDS = 15


class DatabaseAway(Exception):  # noqa: N818 - it says where the database is
    """The database did not take the call in time; nothing was changed, unless it was the answer to a commit that was
    lost: repeating the call tells."""


class Conflict(Exception):  # noqa: N818 - named for what happened
    """A constraint of the schema refused the change; the transaction is to be rolled back."""


class Overtaken(Conflict, DatabaseAway):
    """Another transaction wanted the same rows in another order; nothing was changed, and it may be tried at once."""


class Driver:
    """A driver with its pool of connections."""

    begin_alone: str
    begin_shared: str
    begin_read: str
    begin_read_by_index: str
    away: tuple[type[Exception], ...]
    overtaken: tuple[type[Exception], ...] = ()

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dialect: Dialect = engine.dialect
        self.errors: type[Exception] = engine.dialect.loaded_dbapi.Error
        self._broken: type[Exception] = engine.dialect.loaded_dbapi.IntegrityError

    def take(self) -> Any:
        """Return a connection of the pool. Raises DatabaseAway."""
        try:
            return self.engine.raw_connection()
        except (sqlalchemy.exc.DBAPIError, sqlalchemy.exc.TimeoutError) as error:
            raise DatabaseAway(str(error)) from error
        except self.away as error:
            raise DatabaseAway(str(error)) from error

    def tell(self, error: BaseException) -> None:
        """Raise what the driver's error means to us; an error that is nobody's fault but ours stays as it is."""
        if isinstance(error, self._broken):
            raise Conflict(str(error)) from error
        if isinstance(error, self.overtaken):
            raise Overtaken(str(error)) from error
        if isinstance(error, self.away):
            raise DatabaseAway(str(error)) from error

    def renew(self, error: Exception) -> bool:  # noqa: ARG002 - a file's connections do not die
        """Return whether the error is that of an old connection, of which there is none any more."""
        return False

    def cursor(self, connection: Any) -> Any:
        """Return a cursor of a connection of the pool."""
        return connection.cursor()

    def streaming(self, cursor: Any) -> AbstractContextManager[Any]:
        """Return a cursor of the same connection that fetches rows as they are read, for as long as a block lasts."""
        return nullcontext(cursor)

    def storable(self, given: Any, error: Exception) -> Any | None:  # noqa: ARG002 - SQLite takes every text
        """Return the arguments as the database can take them, where they were what is wrong; else None."""
        return None


class SQLite(Driver):
    """SQLite has one writer, which is alone from its first statement, and readers beside it."""

    begin_alone = begin_shared = "BEGIN IMMEDIATE"
    begin_read = begin_read_by_index = "BEGIN"
    away = (sqlite3.OperationalError,)

    def __init__(self, url: str) -> None:
        engine = create_engine(
            url,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False, "cached_statements": 512},
            poolclass=sqlalchemy.pool.QueuePool,
            pool_size=5,
            max_overflow=40,
            pool_timeout=POOL_WAIT_SECONDS,
        )
        event.listen(engine, "connect", _prepare)
        super().__init__(engine)


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    # The size of pages is that of a new file only: a commit writes whole pages, and most of ours change one row each.
    for pragma in ("page_size=2048", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
