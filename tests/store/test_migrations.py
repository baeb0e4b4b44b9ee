"""The migrated schema is the tables' own, reached from every revision, and what is written once stays so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError

from quotas.domain.units import InvalidValue
from quotas.store import audit, migrate
from quotas.store.database import Conflict, Database, DatabaseAway
from quotas.store.migrate import UnknownRevision
from quotas.store.tables import metadata
from tests.databases import Databases, without_constraints
from tests.postgresql import Server
from tests.store.structure import structure

APPEND_ONLY = (
    "audit_events",
    "charges",
    "copayment_lines",
    "copayment_statements",
    "rate_cards",
    "rates",
    "transfers",
)


@pytest.fixture
def empty(databases: Databases) -> Iterator[Database]:
    """A database without a schema."""
    made = databases.empty()
    yield made
    databases.drop(made)


def test_an_empty_database_is_brought_to_the_newest_revision(empty: Database) -> None:
    assert migrate.current(empty) is None
    assert migrate.migrate(empty) == migrate.revisions()
    assert migrate.current(empty) == migrate.head() == migrate.revisions()[-1]


def test_migrating_again_changes_nothing(database: Database) -> None:
    before = structure(database)
    assert migrate.migrate(database) == []
    assert structure(database) == before


def test_alembic_finds_no_difference_from_the_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_the_migrated_schema_is_that_of_the_tables(database: Database, empty: Database) -> None:
    metadata.create_all(empty.engine)
    expected, migrated = structure(empty), structure(database)
    assert set(migrated) == set(expected) == set(metadata.tables)
    for name, table in expected.items():
        assert (name, migrated[name]) == (name, table)


def test_the_comparison_sees_every_part_of_a_table(database: Database) -> None:
    """What is compared is there to be compared."""
    found = structure(database)
    for part in ("columns", "primary key", "foreign keys", "unique", "checks", "indexes"):
        assert any(table[part] for table in found.values()), part
    partial = [options for table in found.values() for _, _, options, _ in table["indexes"].values() if options]
    assert all("where" in "".join(options) for options in partial)
    assert partial
    defaults = [column[2] for table in found.values() for column in table["columns"].values() if column[2]]
    assert "0" in {str(each).strip("'") for each in defaults}


def triggers(database: Database) -> set[str]:
    """Return the tables that have a trigger."""
    query = (
        "SELECT tbl_name FROM sqlite_master WHERE type = 'trigger' GROUP BY tbl_name HAVING count(*) = 2"
        if database.is_sqlite
        else "SELECT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal AND tgtype = 58"
    )
    with database.engine.connect() as connection:
        return {name for (name,) in connection.exec_driver_sql(query)}


def test_every_table_that_is_written_once_has_its_triggers(database: Database) -> None:
    """On PostgreSQL type 58: before an UPDATE, a DELETE or a TRUNCATE, once for a statement."""
    assert triggers(database) == set(APPEND_ONLY)


def some_value(column: sqlalchemy.Column[Any]) -> object:
    return f"{column.name} text"[: getattr(column.type, "length", None)] if column.type.python_type is str else 1


@pytest.mark.parametrize("name", APPEND_ONLY)
def test_rows_written_once_are_neither_changed_nor_deleted(databases: Databases, name: str) -> None:
    database = databases.migrated()
    table = metadata.tables[name]
    row = {column.name: some_value(column) for column in table.c}
    row |= {"debit_account_id": 2} if name == "transfers" else {}
    change = {column.name: row[column.name] for column in table.c if not column.primary_key}
    with database.engine.connect() as connection:
        if database.is_sqlite:
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            connection.exec_driver_sql("PRAGMA ignore_check_constraints=ON")
        else:
            inspector = sqlalchemy.inspect(connection)
            for key in [*inspector.get_foreign_keys(name), *inspector.get_check_constraints(name)]:
                connection.exec_driver_sql(f"ALTER TABLE {name} DROP CONSTRAINT {key['name']}")
        connection.execute(table.insert().values(row))
        for statement in (table.update().values(change), table.delete()):
            with pytest.raises(IntegrityError, match=f"rows of {name} are never changed or deleted"):
                connection.execute(statement)
        assert len(connection.execute(table.select()).all()) == 1
    databases.drop(database)


@pytest.mark.parametrize("dialect", [pytest.param("postgresql", marks=pytest.mark.postgresql)])  # SQLite has none
def test_rows_written_once_are_not_truncated(database: Database) -> None:
    with database.engine.connect() as connection, pytest.raises(IntegrityError, match="never changed"):
        connection.exec_driver_sql("TRUNCATE audit_events")


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


def test_processes_that_migrate_at_once_apply_each_revision_once(empty: Database) -> None:
    program = (
        "import sys; from quotas.store.database import Database; from quotas.store.migrate import migrate;"
        "database = Database(sys.argv[1]); print(len(migrate(database))); database.close()"
    )
    command = [sys.executable, "-c", program, empty.url]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    applied = [int(process.communicate(timeout=60)[0]) for process in started]
    assert sorted(applied) == [0, 0, len(migrate.revisions())]


def test_threads_that_migrate_at_once_apply_each_revision_once(empty: Database) -> None:
    with ThreadPoolExecutor(4) as threads:
        applied = [len(passed) for passed in threads.map(lambda _: migrate.migrate(empty), range(4))]
    assert sorted(applied) == [0, 0, 0, len(migrate.revisions())]


@pytest.mark.parametrize("bring", [migrate.migrate, lambda database: migrate.upgrade(database, "0001")])
def test_a_revision_of_a_newer_program_is_refused(database: Database, bring: Callable[[Database], object]) -> None:
    before = structure(database)
    without_constraints(database, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UnknownRevision, match="9999"):
        bring(database)
    assert migrate.current(database) == "9999"
    assert set(structure(database)) == set(before)


def test_a_file_that_cannot_be_opened_is_away(tmp_path: Path) -> None:
    assert_away(Database(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.sqlite'}"))


@pytest.mark.postgresql
def test_a_server_that_is_not_there_is_away(tmp_path: Path) -> None:
    assert_away(Database(f"postgresql://nobody@/nothing?host={tmp_path}"))


def assert_away(database: Database) -> None:
    with pytest.raises(DatabaseAway):
        migrate.current(database)
    with pytest.raises(DatabaseAway):
        migrate.migrate(database)
    database.close()


@pytest.mark.postgresql
def test_a_database_that_cannot_store_every_text_is_refused(postgresql_server: Server) -> None:
    postgresql_server.execute("CREATE DATABASE narrow TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    narrow = make_url(postgresql_server.url).set(database="narrow")
    database = Database(narrow.render_as_string(hide_password=False))
    with pytest.raises(InvalidValue, match="LATIN1"):
        migrate.migrate(database)
    assert migrate.current(database) is None
    database.close()
    postgresql_server.execute("DROP DATABASE narrow")
