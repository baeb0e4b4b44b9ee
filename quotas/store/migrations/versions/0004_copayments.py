"""What devices cost in KRW beside compute, drafts of rate cards, and more facts of devices.

Revision 0004.
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy.schema import CheckConstraint, Column, ForeignKey, Index, UniqueConstraint
from sqlalchemy.sql import text
from sqlalchemy.types import BigInteger, Integer, String, Text

from quotas.store.migrations.append_only import keep_append_only

revision = "0004"
down_revision = "0003"

_DENSE = text("'dense'")


def upgrade() -> None:
    """The tables of this revision exist; what was published before has no price."""
    _create_tables()
    _extend_tables()
    keep_append_only("copayment_statements", "copayment_lines")


def downgrade() -> None:
    """Refuse: what was billed is never forgotten."""
    raise RuntimeError("a ledger is never taken back to an earlier revision; restore a backup instead")


def _create_tables() -> None:
    op.create_table(
        "rate_card_drafts",
        Column("id", Integer, primary_key=True),
        Column("content", Text, nullable=False),
        Column("made_at", BigInteger, nullable=False),
        Column("made_by", String(80), nullable=False),
        Column("published_version", Integer, ForeignKey("rate_cards.version")),
        Column("discarded_at", BigInteger),
    )
    op.create_table(
        "copayment_statements",
        Column("id", Integer, primary_key=True),
        Column("project_id", Integer, ForeignKey("projects.id"), nullable=False),
        Column("month", String(7), nullable=False),
        Column("carried_in", BigInteger, nullable=False),
        Column("use_numerator", BigInteger, nullable=False),
        Column("credit_numerator", BigInteger, nullable=False),
        Column("amount", BigInteger, nullable=False),
        Column("carried_out", BigInteger, nullable=False),
        Column("closed_at", BigInteger, nullable=False),
        Column("closed_by", String(80), nullable=False),
        CheckConstraint("carried_in >= 0 AND carried_in < 2592000", name="carried_in_within_a_won"),
        CheckConstraint("carried_out >= 0 AND carried_out < 2592000", name="carried_out_within_a_won"),
        CheckConstraint("use_numerator >= 0 AND credit_numerator >= 0", name="numerators_not_negative"),
        CheckConstraint(
            "carried_in + use_numerator - credit_numerator = amount * 2592000 + carried_out", name="nothing_is_lost"
        ),
        UniqueConstraint("project_id", "month"),
    )
    condition = text("kind = 'use'")
    op.create_table(
        "copayment_lines",
        Column("run_id", String(36), ForeignKey("runs.id"), primary_key=True),
        Column("kind", String(10), primary_key=True),
        Column("month", String(7), primary_key=True),
        Column("statement_id", Integer, ForeignKey("copayment_statements.id"), primary_key=True),
        Column("devices", Integer, nullable=False),
        Column("seconds", BigInteger, nullable=False),
        Column("krw_per_device_month", BigInteger, nullable=False),
        Column("numerator", BigInteger, nullable=False),
        CheckConstraint("devices > 0 AND seconds > 0 AND krw_per_device_month >= 0", name="sizes_positive"),
        CheckConstraint("numerator = krw_per_device_month * devices * seconds", name="numerator_is_price_by_time"),
        Index("ix_copayment_lines_statement_id", "statement_id"),
        Index(
            "uq_copayment_lines_use",
            "run_id",
            "month",
            unique=True,
            sqlite_where=condition,
            postgresql_where=condition,
        ),
        sqlite_with_rowid=False,
    )


def _extend_tables() -> None:
    added: dict[str, tuple[Column[Any], ...]] = {
        "device_models": (
            Column("units_source", String(300)),
            Column("units_status", String(20), nullable=False, server_default=text("'copied'")),
        ),
        "capability_facts": (
            Column("density", String(10), nullable=False, server_default=_DENSE),
            Column("source_date", String(10)),
            Column("superseded", Integer, nullable=False, server_default=text("0")),
        ),
        "rate_cards": (Column("density", String(10), nullable=False, server_default=_DENSE),),
        "rates": (Column("krw_per_device_month", BigInteger),),
    }
    for table, columns in added.items():
        for column in columns:
            op.add_column(table, column)
    # All refunds of a project are found without reading the rest of its journal.
    condition = text("kind = 'refund'")
    op.create_index(
        "ix_transfers_refunds",
        "transfers",
        ["allocation_id", "run_id"],
        sqlite_where=condition,
        postgresql_where=condition,
    )
