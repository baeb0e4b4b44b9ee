"""Transactions: whole or not at all, alone when they write, and bounded in every wait."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from psycopg import ProgrammingError
from sqlalchemy import bindparam, func, insert, select, update

from quotas.store import database as module
from quotas.store.database import Conflict, Database, DatabaseAway, Prepared, Transaction
from quotas.store.tables import doors, images

_COUNT = Prepared(select(func.count().label("number")).select_from(doors))
_ADD = Prepared(insert(doors).values(name=bindparam("name"), instance="one", booted_at=bindparam("at")))


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


def test_another_process_that_keeps_the_lock_is_waited_for_and_then_away(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    impatient = Database(database.url)
    with closing(sqlite3.connect(tmp_path / "mudeung.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseAway, match="locked"), impatient.write() as transaction:
            transaction.run(_ADD, name="hub", at=1)
        other.execute("ROLLBACK")
    with impatient.write() as transaction:
        transaction.run(_ADD, name="hub", at=1)
    assert number(impatient) == 1
    impatient.close()


def test_another_thread_that_keeps_the_turn_is_waited_for_and_then_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.1)
    entered, finish = threading.Event(), threading.Event()

    def keep() -> None:
        with database.write() as transaction:
            transaction.run(_ADD, name="hub", at=1)
            entered.set()
            finish.wait(10)

    thread = threading.Thread(target=keep)
    thread.start()
    assert entered.wait(10)
    with pytest.raises(DatabaseAway, match="other writers"), database.write():
        pass
    finish.set()
    thread.join(10)
    with database.write() as transaction:
        transaction.run(_ADD, name="batch", at=1)
    assert number(database) == 2


def test_what_is_no_database_is_away(tmp_path: Path) -> None:
    lost = Database(f"sqlite:///{tmp_path / 'no' / 'folder' / 'here.sqlite'}")
    for bounds in (lost.read, lost.write, lost.write):
        with pytest.raises(DatabaseAway), bounds():
            pass
    lost.close()


def test_every_connection_is_durable(database: Database) -> None:
    for bounds in (database.read, database.write):
        with bounds() as transaction:
            found = [
                transaction.cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")
            ]
        assert found == ["wal", 2]
