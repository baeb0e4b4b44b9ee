"""What only PostgreSQL does: writers side by side, waits that the server ends, connections that are lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, select, text, update

from quotas.store import postgresql
from quotas.store.database import Conflict, Database, DatabaseAway, Overtaken, Prepared, Transaction
from quotas.store.tables import doors
from tests.databases import Databases

pytestmark = pytest.mark.postgresql

_ADD = Prepared(insert(doors).values(name=bindparam("door"), instance="one", booted_at=0))
_BOOT = Prepared(
    update(doors).where(doors.c.name == bindparam("door")).values(booted_at=doors.c.booted_at + bindparam("more"))
)
_ALL = Prepared(select(doors.c.name, doors.c.booted_at).order_by(doors.c.name))
_SLEEP = Prepared(text("SELECT pg_sleep(:seconds)"))

_TERMINATE = Prepared(text("SELECT pg_terminate_backend(CAST(:backend AS integer), 5000)"))


@pytest.fixture
def dialect() -> str:
    return "postgresql"


@pytest.fixture
def impatient(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database with two doors, whose waits are a few seconds at the most."""
    for limit, seconds in {"STATEMENT_SECONDS": 2, "LOCK_SECONDS": 1, "IDLE_SECONDS": 3}.items():
        monkeypatch.setattr(postgresql, limit, seconds)
    monkeypatch.setattr(postgresql, "ANSWER_SECONDS", 5.0)
    made = databases.migrated()
    with made.write() as transaction:
        for name in ("batch", "hub"):
            transaction.run(_ADD, door=name)
    yield made
    databases.drop(made)


@contextmanager
def another(database: Database, work: Callable[[Transaction], object], *, shared: bool) -> Iterator[threading.Event]:
    """In the block another thread has done `work` and not committed it; it goes on when the event is set."""
    done, go_on = threading.Event(), threading.Event()

    def run() -> None:
        with database.write(shared=shared) as transaction:
            work(transaction)
            done.set()
            go_on.wait(30)

    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(run)
        try:
            assert done.wait(10)
            yield go_on
        finally:
            go_on.set()
            future.result(30)


def boot(door: str, more: int = 1) -> Callable[[Transaction], object]:
    return lambda transaction: transaction.run(_BOOT, door=door, more=more)


def booted(database: Database) -> dict[str, int]:
    with database.read() as transaction:
        return dict(transaction.rows(_ALL))


class TestWriters:
    def test_that_share_run_side_by_side(self, impatient: Database) -> None:
        with another(impatient, boot("hub"), shared=True), impatient.write(shared=True) as transaction:
            assert not transaction.is_alone
            assert transaction.run(_BOOT, door="batch", more=1) == 1
            assert [row.booted_at for row in transaction.rows(_ALL)] == [1, 0]
        assert booted(impatient) == {"batch": 1, "hub": 1}

    @pytest.mark.parametrize(("first", "second"), [(False, False), (False, True), (True, False)])
    def test_of_which_one_is_alone_wait_for_each_other(self, impatient: Database, first: bool, second: bool) -> None:
        with another(impatient, boot("hub"), shared=first):
            begun = time.monotonic()
            with pytest.raises(DatabaseAway, match="lock timeout"), impatient.write(shared=second):
                pass
            assert 0.9 < time.monotonic() - begun < 4
            assert booted(impatient) == {"batch": 0, "hub": 0}
        with impatient.write() as transaction:
            assert transaction.is_alone
            assert [row.booted_at for row in transaction.rows(_ALL)] == [0, 1]

    def test_that_are_alone_see_all_that_was_committed_before(self, impatient: Database) -> None:
        def add(_: int) -> None:
            with impatient.write() as transaction:
                at = next(row.booted_at for row in transaction.rows(_ALL) if row.name == "hub")
                transaction.run(_BOOT, door="hub", more=1 if at < 20 else -at)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(add, range(30)))
        assert booted(impatient)["hub"] == 9  # 20, then back to 0, then the other nine

    def test_of_one_row_wait_and_then_see_it(self, impatient: Database) -> None:
        with another(impatient, boot("hub", 5), shared=True) as go_on:
            threading.Timer(0.2, go_on.set).start()
            with impatient.write(shared=True) as transaction:
                transaction.run(_BOOT, door="hub", more=7)
        assert booted(impatient)["hub"] == 12

    def test_of_one_row_do_not_wait_for_ever(self, impatient: Database) -> None:
        with (
            another(impatient, boot("hub"), shared=True),
            pytest.raises(DatabaseAway, match="lock timeout"),
            impatient.write(shared=True) as transaction,
        ):
            transaction.run(_BOOT, door="hub", more=1)
        assert booted(impatient)["hub"] == 1

    def test_in_each_others_way_are_told_apart_by_the_server(self, database: Database) -> None:
        """One of two that lock each other out is rolled back, and may try again at once."""
        with database.write() as transaction:
            for name in ("batch", "hub"):
                transaction.run(_ADD, door=name)
        barrier, overtaken = threading.Barrier(2), []

        def cross(names: tuple[str, str]) -> None:
            for is_first in (True, False, False, False, False):
                try:
                    with database.write(shared=True) as transaction:
                        transaction.run(_BOOT, door=names[0], more=1)
                        if is_first:
                            barrier.wait(10)
                        transaction.run(_BOOT, door=names[1], more=1)
                except Overtaken:
                    overtaken.append(names)
                else:
                    return

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(cross, [("batch", "hub"), ("hub", "batch")]))
        assert overtaken
        assert issubclass(Overtaken, Conflict)
        assert issubclass(Overtaken, DatabaseAway)
        assert booted(database) == {"batch": 2, "hub": 2}


class TestLimits:
    def test_a_statement_that_takes_too_long_is_ended(self, impatient: Database) -> None:
        begun = time.monotonic()
        with pytest.raises(DatabaseAway, match="statement timeout"), impatient.write() as transaction:  # noqa: PT012
            transaction.run(_BOOT, door="hub", more=1)
            transaction.run(_SLEEP, seconds=20)
        assert time.monotonic() - begun < 4
        assert booted(impatient)["hub"] == 0

    def test_a_transaction_that_does_nothing_is_ended(self, impatient: Database) -> None:
        with pytest.raises(DatabaseAway), impatient.write() as transaction:  # noqa: PT012 - as above
            transaction.run(_BOOT, door="hub", more=1)
            time.sleep(3.5)
            transaction.run(_BOOT, door="hub", more=1)
        assert booted(impatient)["hub"] == 0

    def test_a_process_that_takes_all_connections_waits_for_one_and_not_for_ever(
        self, databases: Databases, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postgresql, "POOL_WAIT_SECONDS", 0.2)
        made = databases.migrated()
        taken: list[Any] = []
        try:
            for _ in range(postgresql.POOL_CONNECTIONS + postgresql.POOL_OVERFLOW):
                taken.append(made.read())
                taken[-1].__enter__()
            with pytest.raises(DatabaseAway, match="QueuePool"), made.read():
                pass
        finally:
            for bounds in taken:
                bounds.__exit__(None, None, None)
        assert booted(made) == {}
        databases.drop(made)

    def test_a_reader_writes_nothing(self, impatient: Database) -> None:
        with pytest.raises(DatabaseAway, match="read-only"), impatient.read() as transaction:
            transaction.run(_BOOT, door="hub", more=1)


class TestTheUrl:
    @pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
    def test_means_psycopg_3_with_our_limits(self, scheme: str) -> None:
        url = postgresql.driver_url(f"{scheme}://me:secret@host:5433/ledger")
        assert url.drivername == "postgresql+psycopg"
        assert (url.username, url.password, url.host, url.port, url.database) == (
            "me",
            "secret",
            "host",
            5433,
            "ledger",
        )
        assert url.query["connect_timeout"] == "5"
        assert "-c statement_timeout=15s" in url.query["options"]

    def test_has_the_last_word(self, databases: Databases) -> None:
        made = databases.empty()
        chosen = Database(f"{made.url}&application_name=mine&options=-c%20statement_timeout%3D7s")
        with chosen.read() as transaction:
            found = [
                transaction.one(Prepared(text(f"SHOW {name}")))[0]
                for name in ("statement_timeout", "lock_timeout", "application_name", "client_encoding")
            ]
        assert found == ["7s", "10s", "mine", "UTF8"]
        chosen.close()
        databases.drop(made)


def test_lost_connections_are_replaced_unnoticed(database: Database) -> None:
    with database.read() as one, database.read() as two:
        backends = {each.cursor.connection.info.backend_pid for each in (one, two)}
    with database.write() as transaction:
        for backend in backends - {transaction.cursor.connection.info.backend_pid}:
            transaction.run(_TERMINATE, backend=backend)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: booted(database), range(16))) == [{}] * 16


def test_an_error_that_is_ours_stays_what_it_is(database: Database) -> None:
    with pytest.raises(database._driver.errors, match="no_such_table"), database.read() as transaction:
        transaction.run(Prepared(text("SELECT * FROM no_such_table")))
    assert booted(database) == {}
