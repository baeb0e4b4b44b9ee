"""What a schema consists of, whichever statements made it, in the order of which nothing depends."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy
from sqlalchemy import Inspector

from quotas.store.database import Database

OURS = "alembic_version"


def structure(database: Database) -> dict[str, dict[str, Any]]:
    """Return, for each table: columns, keys, constraints and indexes, each by its name."""
    inspector = sqlalchemy.inspect(database.engine)
    return {name: _table(inspector, database, name) for name in inspector.get_table_names() if name != OURS}


def _table(inspector: Inspector, database: Database, name: str) -> dict[str, Any]:
    primary = inspector.get_pk_constraint(name)
    return {
        "columns": {column["name"]: _column(inspector, dict(column)) for column in inspector.get_columns(name)},
        "primary key": (primary["name"], primary["constrained_columns"]),
        "foreign keys": {
            tuple(key["constrained_columns"]): _reference(dict(key), database)
            for key in inspector.get_foreign_keys(name)
        },
        "unique": {each["name"]: each["column_names"] for each in inspector.get_unique_constraints(name)},
        "checks": {each["name"]: _words(each["sqltext"]) for each in inspector.get_check_constraints(name)},
        "indexes": {each["name"]: _index(dict(each)) for each in inspector.get_indexes(name)},
        "tree": _tree(database, name),
    }


def _reference(key: dict[str, Any], database: Database) -> tuple[Any, ...]:
    # SQLAlchemy does not read the name of a reference that a column was added with on SQLite, where nothing uses it.
    name = "" if database.is_sqlite else key["name"]
    return name, key["referred_table"], key["referred_columns"], key["options"]


def _column(inspector: Inspector, column: dict[str, Any]) -> tuple[Any, ...]:
    default = column["default"]
    return (
        column["type"].compile(inspector.dialect),
        column["nullable"],
        None if default is None else _words(default),
        column.get("autoincrement"),
        column.get("computed"),
    )


def _index(index: dict[str, Any]) -> tuple[Any, ...]:
    given = index.get("dialect_options", {}).items()
    options = {key: _words(str(value)) for key, value in given if str(value) not in {"", "[]"}}
    return index["column_names"], bool(index["unique"]), options, index.get("expressions")


def _tree(database: Database, name: str) -> str:
    """Return how SQLite keeps the table's rows; PostgreSQL has one way."""
    if not database.is_sqlite:
        return ""
    with database.engine.connect() as connection:
        query = sqlalchemy.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
        sql = str(connection.execute(query, {"name": name}).scalar_one())
    return " ".join(re.findall("WITHOUT ROWID|AUTOINCREMENT", sql))


def _words(sql: str) -> str:
    return re.sub(r"\s+", " ", sql).strip()
