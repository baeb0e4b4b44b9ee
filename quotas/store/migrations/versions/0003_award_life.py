"""The life of an award: tranches, the reports that they wait for, changes, renewals, and the end of its storage.

Revision 0003.
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy.schema import CheckConstraint, Column, ForeignKey, UniqueConstraint
from sqlalchemy.sql import text
from sqlalchemy.types import BigInteger, Integer, String, Text

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """The tables of this revision exist; awards of before were granted whole and keep their files for 30 days."""
    _create_reports()
    _create_changes()
    _create_renewals()
    _extend_tables()


def downgrade() -> None:
    """Refuse: what was decided is never forgotten."""
    raise RuntimeError("a ledger is never taken back to an earlier revision; restore a backup instead")


def _partial(name: str, table: str, *columns: str, where: str, unique: bool = False) -> None:
    condition = text(where)
    op.create_index(name, table, list(columns), unique=unique, sqlite_where=condition, postgresql_where=condition)


def _create_reports() -> None:
    op.create_table(
        "outcome_reports",
        Column("id", Integer, primary_key=True),
        Column("project_id", Integer, ForeignKey("projects.id"), nullable=False, index=True),
        Column("award_id", Integer, ForeignKey("awards.id"), nullable=False, index=True),
        Column("state", String(10), nullable=False),
        Column("due_at", BigInteger, nullable=False),
        Column("period_starts_at", BigInteger),
        Column("period_ends_at", BigInteger),
        Column("summary", Text),
        Column("required_at", BigInteger, nullable=False),
        Column("required_by", String(80), nullable=False),
        Column("submitted_at", BigInteger),
        Column("submitted_by", String(80)),
        Column("decided_at", BigInteger),
        Column("decided_by", String(80)),
        Column("decision_reason", Text),
        CheckConstraint("period_ends_at > period_starts_at", name="period_ends_after_start"),
    )
    op.create_table(
        "tranches",
        Column("id", Integer, primary_key=True),
        Column("award_id", Integer, ForeignKey("awards.id"), nullable=False),
        Column("number", Integer, nullable=False),
        Column("amount", BigInteger, nullable=False),
        Column("report_id", Integer, ForeignKey("outcome_reports.id"), nullable=False),
        Column("state", String(10), nullable=False),
        Column("released_at", BigInteger),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("number > 1", name="number_after_the_first"),
        UniqueConstraint("award_id", "number"),
    )


def _create_changes() -> None:
    op.create_table(
        "award_changes",
        Column("id", Integer, primary_key=True),
        Column("kind", String(10), nullable=False),
        Column("state", String(10), nullable=False),
        Column("project_id", Integer, ForeignKey("projects.id"), nullable=False, index=True),
        Column("award_id", Integer, ForeignKey("awards.id"), nullable=False, index=True),
        Column("to_project_id", Integer, ForeignKey("projects.id"), index=True),
        Column("to_award_id", Integer, ForeignKey("awards.id")),
        Column("gflops", BigInteger),
        Column("amount", BigInteger),
        Column("ends_at", BigInteger),
        Column("before_ends_at", BigInteger),
        Column("reason", Text, nullable=False),
        Column("requested_at", BigInteger, nullable=False),
        Column("requested_by", String(80), nullable=False),
        Column("decided_at", BigInteger),
        Column("decided_by", String(80)),
        Column("decision_reason", Text),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("gflops > 0", name="gflops_positive"),
    )
    op.create_table(
        "award_suspensions",
        Column("id", Integer, primary_key=True),
        Column("allocation_id", Integer, ForeignKey("allocations.id"), nullable=False, index=True),
        Column("since", BigInteger, nullable=False),
        Column("reason", Text, nullable=False),
        Column("actor", String(80), nullable=False),
        Column("ended_at", BigInteger),
        Column("ended_by", String(80)),
        Column("ended_reason", Text),
        CheckConstraint("ended_at >= since", name="ends_after_start"),
    )


def _create_renewals() -> None:
    op.create_table(
        "renewals",
        Column("id", Integer, primary_key=True),
        Column("project_id", Integer, ForeignKey("projects.id"), nullable=False, index=True),
        Column("award_id", Integer, ForeignKey("awards.id"), nullable=False),
        Column("state", String(10), nullable=False),
        Column("gflops", BigInteger, nullable=False),
        Column("precision", String(20), nullable=False),
        Column("ends_at", BigInteger, nullable=False),
        Column("reason", Text, nullable=False),
        Column("filed_at", BigInteger, nullable=False),
        Column("filed_by", String(80), nullable=False),
        Column("submitted_at", BigInteger),
        Column("review_at", BigInteger),
        Column("reviewer", String(80)),
        Column("decided_at", BigInteger),
        Column("decided_by", String(80)),
        Column("decision_reason", Text),
        Column("new_award_id", Integer, ForeignKey("awards.id")),
        CheckConstraint("gflops > 0", name="gflops_positive"),
    )
    _partial(
        "uq_renewals_open",
        "renewals",
        "project_id",
        where="state IN ('draft', 'submitted', 'in_review')",
        unique=True,
    )


def _extend_tables() -> None:
    added: dict[str, tuple[Column[Any], ...]] = {
        "projects": (Column("closed_at", BigInteger),),
        "awards": (
            Column("extra_gflops", BigInteger, nullable=False, server_default=text("0")),
            Column("storage_grace_days", Integer, nullable=False, server_default=text("30")),
        ),
        "allocations": (Column("standing_reason", Text),),
    }
    for table, columns in added.items():
        for column in columns:
            op.add_column(table, column)
    _partial("ix_allocations_revoked", "allocations", "id", where="revoked_at IS NOT NULL AND expired_at IS NULL")
