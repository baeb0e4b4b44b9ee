"""One way to the database: statements are SQLAlchemy Core, compiled once, and run on the driver's own cursor.

An admission is some ten small statements. Run through SQLAlchemy's `Connection` they cost ten times as much as the
commit; compiled once and given to the driver they cost about as much as the commit (`python -m bench.decision`).
SQLAlchemy stays the language, the dialect, the pool and the schema.
"""

from __future__ import annotations

import threading
from collections import defaultdict, namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from operator import itemgetter
from typing import Any

import sqlalchemy
from sqlalchemy import Dialect
from sqlalchemy.engine import make_url
from sqlalchemy.sql.elements import ClauseElement

from quotas.store import drivers
from quotas.store.drivers import Conflict, DatabaseAway, Driver, Overtaken

__all__ = ["Conflict", "Database", "DatabaseAway", "Overtaken", "Prepared", "Row", "Transaction"]

Row = Any
"""A named tuple of a statement's columns."""


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

    __slots__ = ("_compiled", "_driver", "_execute", "cursor", "failed", "is_alone")

    def __init__(self, driver: Driver, cursor: Any, *, is_alone: bool) -> None:
        self._driver = driver
        self.is_alone = is_alone
        """Whether nobody else writes while this transaction does, so that what it has read stays so."""
        self._compiled = _COMPILED[driver.dialect.name]
        self._execute = cursor.execute
        self.cursor = cursor
        self.failed = False
        """Whether a statement failed: nothing of the transaction can be committed then."""

    def run(self, statement: Prepared | ClauseElement, /, **parameters: Any) -> int:
        """Run a statement; return how many rows it changed.

        Raises Conflict for a broken constraint, Overtaken, and DatabaseAway; then the block must be left.
        """
        text, arguments, count = self._compiled.get(statement) or self._newly_compiled(statement)
        if len(parameters) != count:
            raise TypeError(f"the statement takes {count} parameters, not {sorted(parameters)}: {text}")
        given = arguments(parameters)
        try:
            self._execute(text, given)
        except self._driver.errors as error:
            self._execute_anew(text, given, error)
        changed: int = self.cursor.rowcount
        return changed

    def _execute_anew(self, text: str, given: Any, error: Exception) -> None:
        """What the driver would not send is sent as it can be; every other error is told."""
        storable = self._driver.storable(given, error)
        if storable is None:
            self.failed = True
            self._driver.tell(error)
            raise error
        try:
            self._execute(text, storable)
        except self._driver.errors as second:
            self.failed = True
            self._driver.tell(second)
            raise

    def _newly_compiled(self, statement: Prepared | ClauseElement) -> Compiled:
        if not isinstance(statement, Prepared):
            return _compile(statement, self._driver.dialect)
        compiled = self._compiled[statement] = _compile(statement.statement, self._driver.dialect)
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

    def each(self, statement: Prepared | ClauseElement, /, **parameters: Any) -> Iterator[tuple[Any, ...]]:
        """Yield the rows, as bare tuples, without keeping all of them; run nothing else until the end."""
        text, arguments, _ = self._compiled.get(statement) or self._newly_compiled(statement)
        try:
            with self._driver.streaming(self.cursor) as cursor:
                cursor.execute(text, arguments(parameters))
                yield from cursor
        except self._driver.errors as error:
            self.failed = True
            self._driver.tell(error)
            raise

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
        backend = make_url(url).get_backend_name()
        if backend not in {"sqlite", "postgresql"}:
            raise sqlalchemy.exc.ArgumentError(f"{backend} is no database of ours; expected sqlite or postgresql")
        self.is_sqlite = backend == "sqlite"
        self._driver: Driver = drivers.SQLite(url) if self.is_sqlite else _postgresql(url)
        self.engine = self._driver.engine
        self._turn = threading.Lock()
        self._writer: Any = None

    def write(self, *, shared: bool = False) -> AbstractContextManager[Transaction]:
        """Open a transaction that may write, alone from its first statement.

        On PostgreSQL those that are `shared` run beside one another: each of their changes is conditional on all that
        was read for it. On SQLite there is one writer at a time, shared or not.
        """
        if self.is_sqlite:
            return _Bounds(self._driver, self._driver.begin_alone, self._take_writer, self._give_writer, is_alone=True)
        begin = self._driver.begin_shared if shared else self._driver.begin_alone
        return _Bounds(self._driver, begin, self._driver.take, _give, is_alone=not shared)

    def read(self, *, by_index: bool = False) -> AbstractContextManager[Transaction]:
        """Open a transaction that sees one moment and changes nothing.

        With `by_index` no table is read from end to end where an index serves: a small part of a long one is wanted,
        and the statistics, which round, may take it for a large one.
        """
        begin = self._driver.begin_read_by_index if by_index else self._driver.begin_read
        return _Bounds(self._driver, begin, self._driver.take, _give, is_alone=False)

    def close(self) -> None:
        """Close all connections."""
        with self._turn:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        self.engine.dispose()

    def _take_writer(self) -> Any:
        # SQLite has one writer; queueing here is fair, where its own busy handler sleeps and guesses. The writer's
        # connection stays out of the pool: taking it from there costs as much as several statements.
        if not self._turn.acquire(timeout=drivers.BUSY_SECONDS):
            raise DatabaseAway(f"other writers of this process took {drivers.BUSY_SECONDS} s")
        try:
            if self._writer is None:
                self._writer = self._driver.take()
        except BaseException:
            self._turn.release()
            raise
        return self._writer

    def _give_writer(self, connection: Any) -> None:
        if not connection.is_valid:
            self._writer = None
        self._turn.release()


def _postgresql(url: str) -> Driver:
    from quotas.store.postgresql import PostgreSQL  # noqa: PLC0415 - its driver is not needed beside SQLite

    return PostgreSQL(url)


def _give(connection: Any) -> None:
    connection.close()


class _Bounds(AbstractContextManager[Transaction]):
    """Where a transaction begins and ends, on a connection that is taken and given back."""

    __slots__ = ("_begin", "_connection", "_cursor", "_driver", "_give", "_is_alone", "_take", "_transaction")

    def __init__(
        self,
        driver: Driver,
        begin: str,
        take: Callable[[], Any],
        give: Callable[[Any], None],
        *,
        is_alone: bool,
    ) -> None:
        self._driver = driver
        self._begin = begin
        self._take = take
        self._give = give
        self._is_alone = is_alone

    def __enter__(self) -> Transaction:
        try:
            self._start()
        except self._driver.errors as error:
            # Nothing has been done yet, so that it may begin again on a new connection.
            if not self._driver.renew(error):
                self._driver.tell(error)
                raise
            try:
                self._start()
            except self._driver.errors as second:
                self._driver.tell(second)
                raise
        self._transaction = Transaction(self._driver, self._cursor, is_alone=self._is_alone)
        return self._transaction

    def _start(self) -> None:
        self._connection = connection = self._take()
        self._cursor: Any = None
        try:
            self._cursor = self._driver.cursor(connection)
            self._cursor.execute(self._begin)
        except BaseException:
            self._roll_back()
            raise

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            self._roll_back()
            self._driver.tell(error)
            return
        if self._transaction.failed:
            self._roll_back()
            raise RuntimeError("a statement of this transaction failed; its block must be left with the error")
        try:
            self._cursor.execute("COMMIT")
        except BaseException as failed:
            self._roll_back()
            self._driver.tell(failed)
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
