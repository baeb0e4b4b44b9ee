"""How the engine speaks to a PostgreSQL server: through psycopg 3, with a limit on every wait, and in its own errors.

The server bounds a statement and a wait for a lock; the driver bounds the wait for the server, as one that is frozen,
or behind a broken network, keeps its connections open and says nothing.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import sqlalchemy
from psycopg import errors
from psycopg.types.numeric import Int8Dumper
from sqlalchemy import URL, create_engine, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import make_url

from quotas.store.drivers import POOL_WAIT_SECONDS, Driver

CONNECT_SECONDS = 5
"""How long a new connection may take."""
STATEMENT_SECONDS = 15
LOCK_SECONDS = 10
"""How long a statement may wait for rows that another transaction has changed, or for its turn to write."""
IDLE_SECONDS = 30
"""How long an open transaction may do nothing before the server ends it: its process is frozen, or out of reach."""
ANSWER_SECONDS = 20.0
"""How long the server may be silent before it counts as away; longer than it gives a statement itself."""
POOL_CONNECTIONS = 5
POOL_OVERFLOW = 10
"""Few for each process: a server has a hundred connections unless it is told otherwise."""

STREAM_ROWS = 5_000
"""How many rows of a long answer are fetched at once."""


class NoAnswer(psycopg.OperationalError):
    """The server was silent for too long; what the statement came to is not known."""


class Connection(psycopg.Connection[Any]):
    """A connection that is closed when the server does not answer in time."""

    answer_seconds: float | None = None
    """The limit on each wait of this connection, `ANSWER_SECONDS` where it is None."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, timeout or self.answer_seconds or ANSWER_SECONDS)
        except errors.OperationalError as error:
            # Under way still: what the statement comes to cannot be known through this connection any more.
            if self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                self.pgconn.finish()
                raise NoAnswer(f"the server does not answer: {error}") from error
            raise


def driver_url(url: str) -> URL:
    """Return the URL with psycopg 3 as its driver, and with the limits that it does not set itself."""
    parsed = make_url(url).set(drivername="postgresql+psycopg")
    limits = {
        "statement_timeout": STATEMENT_SECONDS,
        "lock_timeout": LOCK_SECONDS,
        "idle_in_transaction_session_timeout": IDLE_SECONDS,
    }
    own = parsed.query.get("options", "")
    options = [f"-c {name}={seconds}s" for name, seconds in limits.items()]
    defaults = {
        "connect_timeout": str(CONNECT_SECONDS),
        "application_name": "mudeung",
        "client_encoding": "utf8",
        "keepalives_idle": "10",
        "keepalives_interval": "5",
        "keepalives_count": "3",
        "tcp_user_timeout": f"{ANSWER_SECONDS * 1000:.0f}",
    }
    options.append(own if isinstance(own, str) else " ".join(own))  # later ones win
    return parsed.set(query={**defaults, **parsed.query, "options": " ".join(options).strip()})


# One lock for all writers of a database. Alone, a transaction has it exclusively, as the one writer has an SQLite file;
# those that only make conditional updates share it. It is taken in the message that begins, and goes with the end.
_WRITERS = 0x6D75_6465_6E67
_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"


class PostgreSQL(Driver):
    """PostgreSQL has many writers at once: see :meth:`quotas.store.database.Database.write`."""

    begin_alone = f"{_BEGIN}; SELECT pg_advisory_xact_lock({_WRITERS})"
    begin_shared = f"{_BEGIN}; SELECT pg_advisory_xact_lock_shared({_WRITERS})"
    begin_read = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    # Helpers of a small read take longer to start than it takes.
    begin_read_by_index = f"{begin_read}; SET LOCAL enable_seqscan = off; SET LOCAL max_parallel_workers_per_gather = 0"
    away = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError)
    overtaken = (errors.SerializationFailure, errors.DeadlockDetected)

    def __init__(self, url: str) -> None:
        engine = create_engine(
            driver_url(url),
            use_native_hstore=False,
            pool_size=POOL_CONNECTIONS,
            max_overflow=POOL_OVERFLOW,
            pool_timeout=POOL_WAIT_SECONDS,
        )
        event.listen(engine, "do_connect", _connect)
        event.listen(engine, "connect", _note_age)
        self._stale_before = 0.0
        super().__init__(engine)
        # That of our statements; the engine's own reads the server's catalogue.
        self.dialect = PGDialect_psycopg(dbapi=psycopg, paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
        self.dialect.colspecs = {**self.dialect.colspecs, sqlalchemy.Integer: _Whole}

    def take(self) -> Any:
        while True:
            connection = super().take()
            if connection.info.get("made_at", 0.0) >= self._stale_before:
                return connection
            connection.invalidate()
            connection.close()

    def tell(self, error: BaseException) -> None:
        self._note_loss(error)
        super().tell(error)

    def renew(self, error: Exception) -> bool:
        self._note_loss(error)
        return self._is_dead(error)

    def _note_loss(self, error: BaseException) -> None:
        """Where one connection was lost the others are as old, and nobody should have to wait for them too."""
        if isinstance(error, NoAnswer) or self._is_dead(error):
            self._stale_before = time.monotonic()

    def _is_dead(self, error: BaseException) -> bool:
        """Return whether the error is a connection's that the server had closed before it was used again."""
        if isinstance(error, NoAnswer):
            return False
        state = error.sqlstate if isinstance(error, psycopg.Error) else None
        return state.startswith(("57P", "08")) if state else isinstance(error, self.away)

    def cursor(self, connection: Any) -> Any:
        # The driver's usual cursor looks for its own kind of placeholders in a statement that is as the server has it.
        return psycopg.RawCursor(connection.driver_connection)

    def streaming(self, cursor: Any) -> AbstractContextManager[Any]:
        stream: psycopg.RawServerCursor[Any] = psycopg.RawServerCursor(cursor.connection, "each")
        stream.itersize = STREAM_ROWS
        return stream

    def storable(self, given: Any, error: Exception) -> Any | None:
        # PostgreSQL stores no NUL character. No name has one, so that a visible sign for it finds as little.
        if not isinstance(error, psycopg.DataError):
            return None
        clean = tuple(each.replace("\0", "␀") if isinstance(each, str) else each for each in given)
        return clean if clean != given else None


class _Whole(sqlalchemy.Integer):
    """The type of what is bound beside an integer column: a number too large for it is in no row, and no error."""

    __visit_name__ = "big_integer"
    render_bind_cast = True


def _connect(_dialect: object, _record: object, words: Any, options: dict[str, Any]) -> Connection:
    connection = Connection.connect(*words, autocommit=True, **options)
    connection.adapters.register_dumper(int, Int8Dumper)  # one type for all of them: a statement is prepared once
    connection.adapters.register_loader("numeric", _WholeLoader)
    return connection


def _note_age(_connection: object, record: Any) -> None:
    record.info["made_at"] = time.monotonic()


class _WholeLoader(psycopg.adapt.Loader):
    """Loads what PostgreSQL widened, as it does a sum of integers, as what it is."""

    def load(self, data: Any) -> int | float:
        digits = bytes(data)
        return float(digits) if b"." in digits else int(digits)
