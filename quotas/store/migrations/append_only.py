"""Triggers that refuse UPDATE and DELETE on tables whose rows are written once."""

from __future__ import annotations

from alembic import op

_POSTGRESQL_FUNCTION = """
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed or deleted', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$
"""


def keep_append_only(*tables: str) -> None:
    """Rows of `tables` can be inserted and read; an UPDATE, DELETE or TRUNCATE is refused as a broken constraint."""
    for statement in statements(op.get_context().dialect.name, tables):
        op.execute(statement)


def statements(dialect: str, tables: tuple[str, ...]) -> list[str]:
    """Return the DDL for `dialect` (sqlite or postgresql)."""
    if dialect == "sqlite":
        return [
            f"CREATE TRIGGER {table}_refuse_{event.lower()} BEFORE {event} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed or deleted'); END"
            for table in tables
            for event in ("UPDATE", "DELETE")
        ]
    if dialect == "postgresql":
        return [
            _POSTGRESQL_FUNCTION,
            *(
                f"CREATE TRIGGER {table}_refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
                for table in tables
            ),
        ]
    raise ValueError(f"no triggers are written for {dialect}")
