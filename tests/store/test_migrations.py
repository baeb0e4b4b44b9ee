"""The migrated schema is the tables' own, and what is written once stays as it was written."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import Script, ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateIndex, CreateTable

from quotas.store import audit, migrate
from quotas.store.database import Conflict, Database, DatabaseAway
from quotas.store.tables import metadata

APPEND_ONLY = ("transfers", "charges", "rates", "rate_cards", "audit_events")


def schema(database: Database) -> dict[tuple[str, str], str]:
    """Return the DDL of every table, index and trigger, by (type, name)."""
    query = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'"
    with database.engine.connect() as connection:
        return {(row.type, row.name): row.sql for row in connection.exec_driver_sql(query)}


def test_an_empty_database_is_brought_to_the_newest_revision(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'new.sqlite'}")
    assert migrate.current(database) is None
    assert migrate.migrate(database)[-1] == migrate.head()
    assert migrate.current(database) == migrate.head()
    database.close()


def test_migrating_again_changes_nothing(database: Database) -> None:
    before = schema(database)
    assert migrate.migrate(database) == []
    assert schema(database) == before


def test_alembic_finds_no_difference_from_the_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_the_migrated_ddl_is_that_of_the_tables_word_for_word(database: Database, tmp_path: Path) -> None:
    created = Database(f"sqlite:///{tmp_path / 'created.sqlite'}")
    metadata.create_all(created.engine)
    expected = schema(created)
    created.close()
    assert {key: sql for key, sql in schema(database).items() if key[0] != "trigger"} == expected


def revisions() -> list[Script]:
    """Return all revisions, oldest first."""
    return list(ScriptDirectory.from_config(migrate._config()).walk_revisions())[::-1]


def postgresql_statements() -> list[str]:
    """Return what all revisions would run on PostgreSQL, in order, without a server."""
    statements: list[str] = []
    dialect = postgresql.dialect()

    def collect(statement: Any, *_: Any, **__: Any) -> None:
        statements.append(str(statement.compile(dialect=dialect)))

    context = MigrationContext.configure(
        sqlalchemy.create_mock_engine("postgresql://", collect),  # type: ignore[arg-type]
        dialect=dialect,
        opts={"target_metadata": metadata},
    )
    with Operations.context(context):
        for script in revisions():
            script.module.upgrade()
    return statements


def words(sql: str) -> str:
    return re.sub(r"\s+", " ", sql).strip()


def test_the_ddl_for_postgresql_is_that_of_the_tables() -> None:
    dialect = postgresql.dialect()
    expected = [words(str(CreateTable(table).compile(dialect=dialect))) for table in metadata.sorted_tables]
    expected += [
        words(str(CreateIndex(index).compile(dialect=dialect)))
        for table in metadata.sorted_tables
        for index in table.indexes
    ]
    written = [words(sql) for sql in postgresql_statements()]
    assert sorted(sql for sql in written if not re.search(r"TRIGGER|FUNCTION", sql)) == sorted(expected)


def test_on_postgresql_every_append_only_table_has_its_trigger() -> None:
    triggers = [words(sql) for sql in postgresql_statements() if "CREATE TRIGGER" in sql]
    assert [sql.split(" ON ")[1].split()[0] for sql in triggers] == list(APPEND_ONLY)
    assert all("BEFORE UPDATE OR DELETE OR TRUNCATE" in sql for sql in triggers)


@pytest.mark.parametrize("name", APPEND_ONLY)
def test_rows_written_once_are_neither_changed_nor_deleted(database: Database, name: str) -> None:
    table = metadata.tables[name]
    row = {column.name: f"text of {column.name}" if column.type.python_type is str else 1 for column in table.c}
    row |= {"debit_account_id": 2} if name == "transfers" else {}
    change = {column.name: row[column.name] for column in table.c if not column.primary_key}
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.execute(table.insert().values(row))
        for statement in (table.update().values(change), table.delete()):
            with pytest.raises(IntegrityError, match=f"rows of {name} are never changed or deleted"):
                connection.execute(statement)
        assert len(connection.execute(table.select()).all()) == 1


def change_the_past(database: Database) -> None:
    with database.write() as transaction:
        audit.record(transaction, 2, "operator", "test", "second")
        transaction.run(metadata.tables["audit_events"].delete())


def test_a_refused_change_is_a_conflict_and_is_rolled_back(database: Database) -> None:
    with database.write() as transaction:
        audit.record(transaction, 1, "operator", "test", "first")
    with pytest.raises(Conflict, match="never changed"):
        change_the_past(database)
    with database.read() as transaction:
        assert [row.subject for row in audit.latest(transaction)] == ["first"]


def test_processes_that_migrate_at_once_apply_each_revision_once(tmp_path: Path) -> None:
    program = (
        "import sys; from quotas.store.database import Database; from quotas.store.migrate import migrate;"
        "print(len(migrate(Database(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", program, f"sqlite:///{tmp_path / 'shared.sqlite'}"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    applied = [int(process.communicate(timeout=60)[0]) for process in started]
    assert sorted(applied) == [0, 0, len(list(revisions()))]


def test_threads_that_migrate_at_once_apply_each_revision_once(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'shared.sqlite'}")
    with ThreadPoolExecutor(4) as threads:
        applied = [len(passed) for passed in threads.map(lambda _: migrate.migrate(database), range(4))]
    assert sorted(applied) == [0, 0, 0, len(list(revisions()))]
    database.close()


def test_a_database_that_cannot_be_opened_is_away(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.sqlite'}")
    with pytest.raises(DatabaseAway):
        migrate.current(database)
    with pytest.raises(DatabaseAway):
        migrate.migrate(database)
