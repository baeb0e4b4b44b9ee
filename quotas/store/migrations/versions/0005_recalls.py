"""Notices that can be read, notices of awards, recalls, and what the rounds remember.

Revision 0005.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy.schema import CheckConstraint, Column, ForeignKey, Index, UniqueConstraint
from sqlalchemy.sql import text
from sqlalchemy.types import BigInteger, Integer, String, Text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """The tables of this revision exist; every award is looked at in the next rounds."""
    _create_rounds()
    _create_recalls()
    op.add_column("notices", Column("read_at", BigInteger))
    _partial("ix_transfers_awarded", "transfers", "allocation_id", where="run_id IS NULL")
    op.drop_index("ix_charges_allocation_id", table_name="charges")
    op.create_index("ix_charges_allocation_id_settled_at", "charges", ["allocation_id", "settled_at"])
    op.create_index("ix_queue_entries_project_id_joined_at", "queue_entries", ["project_id", "joined_at"])
    op.execute("INSERT INTO award_watches (allocation_id, look_at) SELECT id, 0 FROM allocations")


def downgrade() -> None:
    """Refuse: what was told and what was recalled is never forgotten."""
    raise RuntimeError("a ledger is never taken back to an earlier revision; restore a backup instead")


def _partial(name: str, table: str, *columns: str, where: str) -> None:
    condition = text(where)
    op.create_index(name, table, list(columns), sqlite_where=condition, postgresql_where=condition)


def _create_rounds() -> None:
    op.create_table(
        "periodic_jobs",
        Column("name", String(30), primary_key=True),
        Column("due_at", BigInteger, nullable=False),
        Column("round", String(20), nullable=False),
        Column("position", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "award_watches",
        Column("allocation_id", Integer, ForeignKey("allocations.id"), primary_key=True, autoincrement=False),
        Column("look_at", BigInteger),
        Index("ix_award_watches_look_at", "look_at"),
    )
    op.create_table(
        "award_notices",
        Column("allocation_id", Integer, ForeignKey("allocations.id"), primary_key=True),
        Column("topic", String(20), primary_key=True),
        Column("about", BigInteger, primary_key=True),
        Column("mark", Integer, primary_key=True),
        Column("at", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def _create_recalls() -> None:
    op.create_table(
        "recalls",
        Column("id", Integer, primary_key=True),
        Column("allocation_id", Integer, ForeignKey("allocations.id"), nullable=False),
        Column("month", String(7), nullable=False),
        Column("state", String(10), nullable=False),
        Column("proposed_amount", BigInteger, nullable=False),
        Column("amount", BigInteger, nullable=False),
        Column("proposed_at", BigInteger, nullable=False),
        Column("proposed_by", String(80), nullable=False),
        Column("notified_at", BigInteger),
        Column("object_until", BigInteger),
        Column("objected_at", BigInteger),
        Column("objected_by", Integer, ForeignKey("persons.id")),
        Column("objection", Text),
        Column("decision", String(10)),
        Column("decided_at", BigInteger),
        Column("decided_by", String(80)),
        Column("reason", Text),
        Column("closed_at", BigInteger),
        Column("recalled_amount", BigInteger),
        Column("freed_gflops", BigInteger),
        CheckConstraint("amount > 0 AND amount <= proposed_amount", name="amount_within"),
        CheckConstraint("freed_gflops >= 0", name="freed_not_negative"),
        UniqueConstraint("allocation_id", "month"),
    )
    _partial("ix_recalls_open", "recalls", "state", "object_until", where="closed_at IS NULL")
    op.create_table(
        "recall_months",
        Column("recall_id", Integer, ForeignKey("recalls.id"), primary_key=True),
        Column("month", String(7), primary_key=True),
        Column("used", BigInteger, nullable=False),
        Column("expected", BigInteger, nullable=False),
        Column("counted", Integer, nullable=False),
        CheckConstraint("used >= 0", name="used_not_negative"),
        CheckConstraint("expected > 0", name="expected_positive"),
        sqlite_with_rowid=False,
    )
