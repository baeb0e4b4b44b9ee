"""Threads that stop after each statement of the store until they are told to go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from quotas.store.database import Database, Transaction

LIMIT_SECONDS = 30.0
QUIET_SECONDS = 0.02
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


class Stepped:
    """A call in a thread of its own, which does one statement at each `step()`."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._go = threading.Semaphore(0)
        self._still = threading.Event()
        self._is_free = False
        self.statements = 0
        self.answer: Any = None
        self.error: BaseException | None = None
        self.is_done = False
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        _here.stepped = self
        try:
            self._wait()
            self.answer = self._call()
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is joined
            self.error = error
        finally:
            self.is_done = True
            self._still.set()

    def _wait(self) -> None:
        if not self._is_free:
            self._still.set()
            if not self._go.acquire(timeout=LIMIT_SECONDS):
                raise TimeoutError("nobody told the thread to go on")

    def after_statement(self) -> None:
        self.statements += 1
        self._wait()

    def step(self, is_waiting: Callable[[], bool]) -> bool:
        """One more statement is done, or the call; return False when another's lock stands against it."""
        self._begin()
        assert self._still.wait(LIMIT_SECONDS)
        self._still.clear()
        self._go.release()
        return self.settled(is_waiting)

    def _begin(self) -> None:
        if self._thread.ident is None:
            self._thread.start()

    def settled(self, is_waiting: Callable[[], bool]) -> bool:
        """Return whether the call has come to its next stop or its end; False when it waits for another's lock."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not self._still.wait(0.002):
            if is_waiting():
                return self.is_done
            assert time.monotonic() < deadline
        return True

    def let_go(self) -> None:
        """The call goes on to its end without a stop."""
        self._is_free = True
        self._begin()
        if not self.is_done:
            self._still.clear()
        self._go.release()

    def join(self) -> Any:
        """Return the call's answer, or raise what it raised."""
        self._thread.join(LIMIT_SECONDS)
        assert self.is_done
        if self.error is not None:
            raise self.error
        return self.answer


_here = threading.local()


@contextmanager
def stepping(database: Database) -> Iterator[Callable[[], bool]]:
    """In the block, a `Stepped` call stops after each of its statements; give what tells that a lock is waited for."""
    run = Transaction.run

    def stopping(self: Transaction, statement: Any, /, **parameters: Any) -> int:
        changed = run(self, statement, **parameters)
        stepped = getattr(_here, "stepped", None)
        if stepped is not None:
            stepped.after_statement()
        return changed

    Transaction.run = stopping  # type: ignore[method-assign]
    try:
        with watching(database) as is_waiting:
            yield is_waiting
    finally:
        Transaction.run = run  # type: ignore[method-assign]


@contextmanager
def watching(database: Database) -> Iterator[Callable[[], bool]]:
    """Give what tells whether somebody waits for a lock. PostgreSQL says so; on SQLite it is a while without a step."""
    if database.is_sqlite:
        yield lambda: time.sleep(QUIET_SECONDS) is None
        return
    with closing(database.engine.raw_connection()) as connection:
        cursor = connection.cursor()
        yield lambda: cursor.execute(_WAITING).fetchone()[0] > 0


def interleave(
    database: Database, first: Callable[[], Any], second: Callable[[], Any], stops: tuple[int, int]
) -> tuple[Stepped, Stepped]:
    """Both calls were made: so many statements of the first, so many of the second, then the rest of both.

    One that waits for the other's lock has its statement later.
    """
    calls = Stepped(first), Stepped(second)
    with stepping(database) as is_waiting:
        for call, statements in zip(calls, stops, strict=True):
            for _ in range(statements):
                if call.is_done or not call.step(is_waiting):
                    break
        for call in calls:
            call.let_go()
            call.settled(is_waiting)
        for call in calls:
            call.join()
    return calls
