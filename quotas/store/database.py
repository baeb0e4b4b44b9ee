"""One way to the database: statements are SQLAlchemy Core, compiled once, and run on the driver's own cursor.

An admission is some ten small statements. Run through SQLAlchemy's `Connection` they cost ten times as much as the
commit; compiled once and given to the driver they cost about as much as the commit (`python -m bench.decision`).
SQLAlchemy stays the language, the dialect, the pool and the schema.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import defaultdict, namedtuple
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from operator import itemgetter
from typing import Any

import sqlalchemy
from sqlalchemy import Dialect, create_engine, event
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


Arguments = Callable[[dict[str, Any]], Any]
"""What turns a statement's named parameters into those that the driver takes."""
Compiled = tuple[str, Arguments, int]
"""The driver's text, its arguments, and how many parameters are to be given."""

_COMPILED: defaultdict[str, dict[Any, Compiled]] = defaultdict(dict)
"""Dialect → what each prepared statement was compiled to."""


class Prepared:
    """A statement with named parameters, compiled once for each dialect. Every named parameter must be given."""

    __slots__ = ("make", "statement")

    def __init__(self, statement: ClauseElement) -> None:
        self.statement = statement
        self.make: Callable[[Iterable[Any]], Row] | None = None

    def making(self, description: Any) -> Callable[[Iterable[Any]], Row]:
        """Return what makes a named tuple of this statement's columns, once the driver has described them."""
        self.make = _row_class([column[0] for column in description])._make
        return self.make


def _compile(statement: ClauseElement, dialect: Dialect) -> Compiled:
    compiled: Any = statement.compile(dialect=dialect)
    given = {name for name, bind in compiled.binds.items() if bind.required}
    state = compiled.construct_expanded_state(dict.fromkeys(given))
    constants = {name: value for name, value in state.parameters.items() if name not in given}
    names = state.positiontup
    arguments: Arguments
    if names is None:
        arguments = constants.__or__
    elif not names:
        arguments = _no_arguments
    elif len(names) == 1:
        arguments = _one_argument(names[0], constants)
    else:
        pick = itemgetter(*names)
        arguments = (lambda parameters: pick({**constants, **parameters})) if constants else pick
    return state.statement, arguments, len(given)


def _no_arguments(_parameters: dict[str, Any]) -> tuple[()]:
    return ()


def _one_argument(name: str, constants: dict[str, Any]) -> Arguments:
    if name in constants:
        return lambda _parameters: (constants[name],)
    return lambda parameters: (parameters[name],)


class Transaction:
    """An open transaction. Committed when its `with` block ends, rolled back when that raises."""

    __slots__ = ("_compiled", "_dialect", "_execute", "cursor", "is_alone")

    def __init__(self, dialect: Dialect, cursor: Any) -> None:
        self._dialect = dialect
        self.is_alone = dialect.name == "sqlite"
        """Whether nobody else writes while this transaction does, so that what it has read stays so."""
        self._compiled = _COMPILED[dialect.name]
        self._execute = cursor.execute
        self.cursor = cursor

    def run(self, statement: Prepared | ClauseElement, /, **parameters: Any) -> int:
        """Run a statement; return how many rows it changed. Raises Conflict for a broken constraint."""
        text, arguments, count = self._compiled.get(statement) or self._newly_compiled(statement)
        if len(parameters) != count:
            raise TypeError(f"the statement takes {count} parameters, not {sorted(parameters)}: {text}")
        try:
            self._execute(text, arguments(parameters))
        except self._dialect.loaded_dbapi.IntegrityError as error:
            raise Conflict(str(error)) from error
        except self._dialect.loaded_dbapi.OperationalError as error:
            raise DatabaseAway(str(error)) from error
        changed: int = self.cursor.rowcount
        return changed

    def _newly_compiled(self, statement: Prepared | ClauseElement) -> Compiled:
        if not isinstance(statement, Prepared):
            return _compile(statement, self._dialect)
        compiled = self._compiled[statement] = _compile(statement.statement, self._dialect)
        return compiled

    def one(self, statement: Prepared | ClauseElement, /, **parameters: Any) -> Row | None:
        """Return the first row, or None."""
        prepared = statement if isinstance(statement, Prepared) else Prepared(statement)
        self.run(statement, **parameters)
        values = self.cursor.fetchone()
        return None if values is None else (prepared.make or prepared.making(self.cursor.description))(values)

    def rows(self, statement: Prepared | ClauseElement, /, **parameters: Any) -> list[Row]:
        """Return all rows."""
        prepared = statement if isinstance(statement, Prepared) else Prepared(statement)
        self.run(statement, **parameters)
        make = prepared.make or prepared.making(self.cursor.description)
        return [make(values) for values in self.cursor.fetchall()]

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
        self.is_sqlite = make_url(url).get_backend_name() == "sqlite"
        options: dict[str, Any] = {"pool_size": POOL_CONNECTIONS, "max_overflow": POOL_OVERFLOW}
        if self.is_sqlite:
            options["connect_args"] = {"timeout": BUSY_SECONDS, "check_same_thread": False, "cached_statements": 512}
            options["poolclass"] = sqlalchemy.pool.QueuePool
        self.engine = create_engine(url, pool_timeout=POOL_WAIT_SECONDS, **options)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
        self._turn = threading.Lock()
        self._writer: Any = None

    def write(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that may write. On SQLite it is alone from its first statement (`BEGIN IMMEDIATE`)."""
        if self.is_sqlite:
            return _Bounds(self.engine.dialect, "BEGIN IMMEDIATE", self._take_writer, self._give_writer)
        return _Bounds(self.engine.dialect, "", self._take, _give)

    def read(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that sees one moment and changes nothing."""
        return _Bounds(self.engine.dialect, "BEGIN" if self.is_sqlite else "", self._take, _give)

    def close(self) -> None:
        """Close all connections."""
        with self._turn:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        self.engine.dispose()

    def _take(self) -> Any:
        try:
            return self.engine.raw_connection()
        except (self.engine.dialect.loaded_dbapi.OperationalError, *_NO_CONNECTION) as error:
            raise DatabaseAway(str(error)) from error

    def _take_writer(self) -> Any:
        # SQLite has one writer; queueing here is fair, where its own busy handler sleeps and guesses. The writer's
        # connection stays out of the pool: taking it from there costs as much as several statements.
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise DatabaseAway(f"other writers of this process took {BUSY_SECONDS} s")
        try:
            if self._writer is None:
                self._writer = self._take()
        except BaseException:
            self._turn.release()
            raise
        return self._writer

    def _give_writer(self, connection: Any) -> None:
        if not connection.is_valid:
            self._writer = None
        self._turn.release()


_NO_CONNECTION = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.TimeoutError)


def _give(connection: Any) -> None:
    connection.close()


class _Bounds(AbstractContextManager[Transaction]):
    """Where a transaction begins and ends, on a connection that is taken and given back."""

    __slots__ = ("_begin", "_connection", "_cursor", "_dialect", "_give", "_take")

    def __init__(self, dialect: Dialect, begin: str, take: Callable[[], Any], give: Callable[[Any], None]) -> None:
        self._dialect = dialect
        self._begin = begin
        self._take = take
        self._give = give

    def __enter__(self) -> Transaction:
        self._connection = connection = self._take()
        self._cursor: Any = None
        try:
            self._cursor = connection.cursor()
            if self._begin:
                self._cursor.execute(self._begin)
        except BaseException as error:
            self._roll_back()
            self._tell(error)
            raise
        return Transaction(self._dialect, self._cursor)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            self._roll_back()
            self._tell(error)
            return
        try:
            if self._begin:
                self._cursor.execute("COMMIT")
            else:
                self._connection.commit()
        except BaseException as failed:
            self._roll_back()
            self._tell(failed)
            raise
        self._give(self._connection)

    def _roll_back(self) -> None:
        try:
            # A statement that was not read to its end keeps its snapshot open past the rollback; closing ends it.
            if self._cursor is not None:
                self._cursor.close()
            self._connection.rollback()
        except Exception:  # noqa: BLE001 - the connection is broken; the first error is the one to tell
            self._connection.invalidate()
        self._give(self._connection)

    def _tell(self, error: BaseException) -> None:
        if isinstance(error, self._dialect.loaded_dbapi.OperationalError):
            raise DatabaseAway(str(error)) from error


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    # The size of pages is that of a new file only: a commit writes whole pages, and most of ours change one row each.
    for pragma in ("page_size=2048", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
