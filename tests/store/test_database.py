"""Transactions: whole or not at all, alone when they write, and bounded in every wait."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from psycopg import ProgrammingError
from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.exc import ArgumentError

from quotas.domain.units import LARGEST
from quotas.store import drivers
from quotas.store.database import Conflict, Database, DatabaseAway, Prepared, Transaction
from quotas.store.tables import doors, images, notices

_COUNT = Prepared(select(func.count().label("number")).select_from(doors))
_ADD = Prepared(insert(doors).values(name=bindparam("name"), instance="one", booted_at=bindparam("at")))

_NAMED = Prepared(select(doors.c.name).where(doors.c.name == bindparam("name")))
_SUM = Prepared(select(func.sum(doors.c.booted_at).label("total")))


def number(database: Database) -> int:
    with database.read() as transaction:
        return int(transaction.one(_COUNT).number)


def test_a_block_that_ends_is_committed(database: Database) -> None:
    with database.write() as transaction:
        assert transaction.run(_ADD, name="hub", at=1) == 1
    assert number(database) == 1


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, DatabaseAway])
def test_a_block_that_raises_leaves_nothing(database: Database, error: type[BaseException]) -> None:
    with pytest.raises(error), database.write() as transaction:  # noqa: PT012 - the block is the transaction
        transaction.run(_ADD, name="hub", at=1)
        raise error
    assert number(database) == 0
    with database.write() as transaction:
        transaction.run(_ADD, name="hub", at=1)
    assert number(database) == 1


def test_a_broken_constraint_is_a_conflict(database: Database) -> None:
    with pytest.raises(Conflict, match="doors"), database.write() as transaction:  # noqa: PT012 - as above
        transaction.run(_ADD, name="hub", at=1)
        transaction.run(_ADD, name="hub", at=2)
    assert number(database) == 0


def test_every_parameter_must_be_given_and_no_other(database: Database) -> None:
    with database.write() as transaction:
        with pytest.raises(TypeError, match="2 parameters"):
            transaction.run(_ADD, name="hub")
        with pytest.raises(TypeError, match="2 parameters"):
            transaction.run(_ADD, name="hub", at=1, more=1)
    with pytest.raises((KeyError, ProgrammingError), match="at"), database.write() as transaction:
        transaction.run(_ADD, name="hub", when=1)
    assert number(database) == 0


def test_a_constant_is_no_parameter(database: Database) -> None:
    with database.write() as transaction:
        transaction.run(_ADD, name="hub", at=1)
        changed = transaction.run(
            Prepared(update(doors).where(doors.c.name.in_(["hub", "batch"])).values(instance="two")),
        )
        assert changed == 1
        row = transaction.one(Prepared(select(doors).where(doors.c.name == bindparam("name"))), name="hub")
    assert (row.name, row.instance, row.booted_at) == ("hub", "two", 1)


def test_a_new_row_gives_its_id(database: Database) -> None:
    with database.write() as transaction:
        values = {"reference": "a", "title_ko": "가", "title_en": "A"}
        assert transaction.insert(images, {"code": "a", **values}) == 0


def test_a_failure_within_a_result_does_not_keep_its_moment(database: Database) -> None:
    """An error that somebody still holds refers to the cursor; its statement must not keep the snapshot open."""
    with database.write() as transaction:
        for name in ("hub", "batch"):
            transaction.run(_ADD, name=name, at=1)
    kept = ValueError("somebody holds it")

    def fail(transaction: Transaction) -> None:
        transaction.run(select(doors))
        raise kept

    with pytest.raises(ValueError, match="holds"), database.read() as transaction:
        fail(transaction)
    with database.write() as transaction:
        transaction.run(_ADD, name="other", at=1)
    assert [number(database) for _ in range(8)] == [3] * 8


def test_a_reader_sees_one_moment(database: Database) -> None:
    with database.read() as transaction:
        before = transaction.one(_COUNT).number
        with database.write() as other:
            other.run(_ADD, name="hub", at=1)
        assert transaction.one(_COUNT).number == before == 0
    assert number(database) == 1


@pytest.mark.parametrize("dialect", ["sqlite"])
class TestTheOneWriterOfAFile:
    def test_another_process_that_keeps_the_lock_is_waited_for_and_then_away(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(drivers, "BUSY_SECONDS", 0.1)
        impatient = Database(database.url)
        path = database.url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseAway, match="locked"), impatient.write() as transaction:
                transaction.run(_ADD, name="hub", at=1)
            other.execute("ROLLBACK")
        with impatient.write() as transaction:
            transaction.run(_ADD, name="hub", at=1)
        assert number(impatient) == 1
        impatient.close()

    def test_another_thread_that_keeps_the_turn_is_waited_for_and_then_away(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(drivers, "BUSY_SECONDS", 0.1)
        with held(database), pytest.raises(DatabaseAway, match="other writers"), database.write():
            pass
        with database.write() as transaction:
            transaction.run(_ADD, name="batch", at=1)
        assert number(database) == 2

    def test_every_connection_is_durable(self, database: Database) -> None:
        for bounds in (database.read, database.write):
            with bounds() as transaction:
                found = [
                    transaction.cursor.execute(f"PRAGMA {name}").fetchone()[0]
                    for name in ("journal_mode", "synchronous")
                ]
            assert found == ["wal", 2]


@contextmanager
def held(database: Database, *, shared: bool = False) -> Iterator[None]:
    """In the block, another thread has an open transaction with a row of its own, which is committed at the end."""
    entered, finish = threading.Event(), threading.Event()

    def keep() -> None:
        with database.write(shared=shared) as transaction:
            transaction.run(_ADD, name="held", at=1)
            entered.set()
            finish.wait(30)

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        assert entered.wait(10)
        yield
    finally:
        finish.set()
        thread.join(10)


def test_what_is_no_database_is_away(tmp_path: Path) -> None:
    for url in (
        f"sqlite:///{tmp_path / 'no' / 'folder' / 'here.sqlite'}",
        f"postgresql://nobody@/none?host={tmp_path}",
    ):
        lost = Database(url)
        for bounds in (lost.read, lost.write, lost.write):
            with pytest.raises(DatabaseAway), bounds():
                pass
        lost.close()


def test_another_kind_of_database_is_no_database_of_ours() -> None:
    with pytest.raises(ArgumentError, match="expected sqlite or postgresql"):
        Database("mysql://localhost/mudeung")


def test_a_failure_that_was_passed_over_is_not_committed(database: Database) -> None:
    """PostgreSQL would answer a COMMIT with a ROLLBACK, and say nothing."""

    def pass_over(transaction: Transaction) -> None:
        with suppress(Conflict):
            transaction.run(_ADD, name="hub", at=2)

    with pytest.raises(RuntimeError, match="failed"), database.write() as transaction:  # noqa: PT012 - as above
        transaction.run(_ADD, name="hub", at=1)
        pass_over(transaction)
    assert number(database) == 0


@pytest.mark.parametrize("text", ["\0", "hub\0", "h\0u\0b"])
def test_a_text_with_nul_finds_nothing_and_breaks_nothing(database: Database, text: str) -> None:
    with database.write() as transaction:
        transaction.run(_ADD, name="hub", at=1)
        assert transaction.one(_NAMED, name=text) is None
        transaction.run(_ADD, name=text, at=1)
    assert number(database) == 2


def test_sums_are_whole_numbers(database: Database) -> None:
    with database.write() as transaction:
        for name in ("hub", "batch"):
            transaction.run(_ADD, name=name, at=LARGEST // 2)
        row = transaction.one(_SUM)
    assert (row.total, type(row.total)) == (LARGEST // 2 * 2, int)


def test_a_number_too_large_for_a_column_finds_nothing(database: Database) -> None:
    with database.read() as transaction:
        assert transaction.one(Prepared(select(notices).where(notices.c.id == bindparam("id"))), id=LARGEST) is None


def test_many_rows_are_read_one_after_the_other(database: Database) -> None:
    with database.write() as transaction:
        for number in range(20_000):
            transaction.run(_ADD, name=str(number), at=number)
        assert transaction.run(Prepared(update(doors).values(instance="two"))) == 20_000
    with database.read() as transaction:
        every = transaction.each(Prepared(select(doors.c.booted_at).order_by(doors.c.booted_at)))
        assert [next(every) for _ in range(3)] == [(0,), (1,), (2,)]
        assert sum(1 for _ in every) == 19_997
        assert transaction.one(_COUNT).number == 20_000
