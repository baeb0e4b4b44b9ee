"""One way to the database: statements are SQLAlchemy Core, compiled once, and run on the driver's own cursor.

An admission is some ten small statements. Run through SQLAlchemy's `Connection` they cost ten times as much as the
commit; compiled once and given to the driver they cost about as much as the commit (`python -m bench.decision`).
SQLAlchemy stays the language, the dialect, the pool and the schema.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import namedtuple
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import sqlalchemy
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.sql.elements import ClauseElement

BUSY_SECONDS = 15
"""How long a writer waits for another process's transaction before the database counts as away."""
POOL_CONNECTIONS = 5
POOL_OVERFLOW = 40
POOL_WAIT_SECONDS = 15

Row = Any
"""A named tuple of a statement's columns."""


class DatabaseAway(Exception):  # noqa: N818 - it says where the database is
    """The database did not take the call in time; nothing was changed."""


class Conflict(Exception):  # noqa: N818 - named for what happened
    """A constraint of the schema refused the change; the transaction is to be rolled back."""


def _row_class(names: list[str]) -> Any:
    return namedtuple("Row", names)


class Prepared:
    """A statement with named parameters, compiled once for each dialect."""

    def __init__(self, statement: ClauseElement) -> None:
        self.statement = statement
        self._compiled: dict[str, tuple[str, tuple[tuple[str, Any], ...], bool]] = {}
        self._row: Any = None

    def compile(self, engine: Engine) -> tuple[str, tuple[tuple[str, Any], ...], bool]:
        """Return the driver's text, (parameter, default) pairs, and whether parameters go by position."""
        found = self._compiled.get(engine.dialect.name)
        if found is None:
            compiled = self.statement.compile(engine, compile_kwargs={"render_postcompile": True})
            positions = getattr(compiled, "positiontup", None)
            defaults = dict(compiled.params)
            names = positions if positions is not None else list(defaults)
            found = str(compiled), tuple((name, defaults.get(name)) for name in names), positions is not None
            self._compiled[engine.dialect.name] = found
        return found

    def row(self, description: Any) -> Any:
        """Return the named tuple class of this statement's columns."""
        if self._row is None:
            self._row = _row_class([column[0] for column in description])
        return self._row


class Transaction:
    """An open transaction. Committed when its `with` block ends, rolled back when that raises."""

    def __init__(self, engine: Engine, connection: Any) -> None:
        self._engine = engine
        self.cursor = connection.cursor()
        self._errors = engine.dialect.loaded_dbapi

    def run(self, statement: Prepared | ClauseElement, /, **parameters: Any) -> int:
        """Run a statement; return how many rows it changed. Raises Conflict for a broken constraint."""
        prepared = statement if isinstance(statement, Prepared) else Prepared(statement)
        text, pairs, by_position = prepared.compile(self._engine)
        values: Any
        if by_position:
            values = [parameters.get(name, default) for name, default in pairs]
        else:
            values = {name: parameters.get(name, default) for name, default in pairs}
        try:
            self.cursor.execute(text, values)
        except self._errors.IntegrityError as error:
            raise Conflict(str(error)) from error
        except self._errors.OperationalError as error:
            raise DatabaseAway(str(error)) from error
        return int(self.cursor.rowcount)

    def one(self, statement: Prepared | ClauseElement, /, **parameters: Any) -> Row | None:
        """Return the first row, or None."""
        prepared = statement if isinstance(statement, Prepared) else Prepared(statement)
        self.run(prepared, **parameters)
        values = self.cursor.fetchone()
        return None if values is None else prepared.row(self.cursor.description)._make(values)

    def rows(self, statement: Prepared | ClauseElement, /, **parameters: Any) -> list[Row]:
        """Return all rows."""
        prepared = statement if isinstance(statement, Prepared) else Prepared(statement)
        self.run(prepared, **parameters)
        row = prepared.row(self.cursor.description)
        return [row._make(values) for values in self.cursor.fetchall()]

    def insert(self, table: sqlalchemy.Table, values: Mapping[str, Any]) -> int:
        """Insert one row; return its new integer id, where the table gives one."""
        statement = sqlalchemy.insert(table).values(dict(values))
        if "id" in table.c and isinstance(table.c.id.type, sqlalchemy.Integer):
            row = self.one(statement.returning(table.c.id))
            return int(row.id) if row is not None else 0
        self.run(statement)
        return 0


class Database:
    """The engine's database at `url` (SQLite or PostgreSQL); connections are made when first needed."""

    def __init__(self, url: str) -> None:
        self.url = url
        kind = make_url(url).get_backend_name()
        options: dict[str, Any] = {"pool_size": POOL_CONNECTIONS, "max_overflow": POOL_OVERFLOW}
        if kind == "sqlite":
            options["connect_args"] = {"timeout": BUSY_SECONDS, "check_same_thread": False}
            options["poolclass"] = sqlalchemy.pool.QueuePool
        self.engine = create_engine(url, pool_timeout=POOL_WAIT_SECONDS, **options)
        self._sqlite = kind == "sqlite"
        # SQLite has one writer; queueing here is fair, where its own busy handler sleeps and guesses.
        self._writer: Any = threading.Lock() if self._sqlite else nullcontext()
        if self._sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Open a transaction that may write. On SQLite it is alone from its first statement (`BEGIN IMMEDIATE`)."""
        with self._writer, self._transaction("BEGIN IMMEDIATE") as transaction:
            yield transaction

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Open a transaction that sees one moment and changes nothing."""
        with self._transaction("BEGIN") as transaction:
            yield transaction

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Transaction]:
        errors = self.engine.dialect.loaded_dbapi
        try:
            connection = self.engine.raw_connection()
        except (errors.OperationalError, sqlalchemy.exc.OperationalError, sqlalchemy.exc.TimeoutError) as error:
            raise DatabaseAway(str(error)) from error
        try:
            transaction = Transaction(self.engine, connection)
            if self._sqlite:
                transaction.cursor.execute(begin)
            yield transaction
            if self._sqlite:
                transaction.cursor.execute("COMMIT")
            else:
                connection.commit()
        except BaseException as error:
            _roll_back(connection)
            if isinstance(error, errors.OperationalError):
                raise DatabaseAway(str(error)) from error
            raise
        finally:
            connection.close()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _roll_back(connection: Any) -> None:
    try:
        connection.rollback()
    except Exception:  # noqa: BLE001 - the connection is broken; the first error is the one to tell
        connection.invalidate()


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
