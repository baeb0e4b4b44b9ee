"""The life of an award: its tranches and the reports that they wait for, changes of it, and renewals."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from quotas.store.tables.columns import identity, instant, metadata

outcome_reports = Table(
    "outcome_reports",
    metadata,
    identity(),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("award_id", ForeignKey("awards.id"), nullable=False, index=True),
    Column("state", String(10), nullable=False),
    instant("due_at"),
    instant("period_starts_at", nullable=True),
    instant("period_ends_at", nullable=True),
    Column("summary", Text),
    instant("required_at"),
    Column("required_by", String(80), nullable=False),
    instant("submitted_at", nullable=True),
    Column("submitted_by", String(80)),
    instant("decided_at", nullable=True),
    Column("decided_by", String(80)),
    Column("decision_reason", Text),
    CheckConstraint("period_ends_at > period_starts_at", name="period_ends_after_start"),
)

tranches = Table(
    "tranches",
    metadata,
    identity(),
    Column("award_id", ForeignKey("awards.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("report_id", ForeignKey("outcome_reports.id"), nullable=False),
    Column("state", String(10), nullable=False),
    instant("released_at", nullable=True),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("number > 1", name="number_after_the_first"),
    UniqueConstraint("award_id", "number"),
)
"""The parts of a budget after the first, which is granted with the award; `report_id` is what each waits for."""

award_changes = Table(
    "award_changes",
    metadata,
    identity(),
    Column("kind", String(10), nullable=False),
    Column("state", String(10), nullable=False),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("award_id", ForeignKey("awards.id"), nullable=False, index=True),
    Column("to_project_id", ForeignKey("projects.id"), index=True),
    Column("to_award_id", ForeignKey("awards.id")),
    Column("gflops", BigInteger),
    Column("amount", BigInteger),
    instant("ends_at", nullable=True),
    instant("before_ends_at", nullable=True),
    Column("reason", Text, nullable=False),
    instant("requested_at"),
    Column("requested_by", String(80), nullable=False),
    instant("decided_at", nullable=True),
    Column("decided_by", String(80)),
    Column("decision_reason", Text),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("gflops > 0", name="gflops_positive"),
)
"""`gflops` and `amount` are what is added or taken away; while a change is only requested, an amount may be open."""

award_suspensions = Table(
    "award_suspensions",
    metadata,
    identity(),
    Column("allocation_id", ForeignKey("allocations.id"), nullable=False, index=True),
    instant("since"),
    Column("reason", Text, nullable=False),
    Column("actor", String(80), nullable=False),
    instant("ended_at", nullable=True),
    Column("ended_by", String(80)),
    Column("ended_reason", Text),
    CheckConstraint("ended_at >= since", name="ends_after_start"),
)
"""When an award was suspended, and why; while it is, `suspended_at` of its allocation says so as well."""

renewals = Table(
    "renewals",
    metadata,
    identity(),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("award_id", ForeignKey("awards.id"), nullable=False),
    Column("state", String(10), nullable=False),
    Column("gflops", BigInteger, nullable=False),
    Column("precision", String(20), nullable=False),
    instant("ends_at"),
    Column("reason", Text, nullable=False),
    instant("filed_at"),
    Column("filed_by", String(80), nullable=False),
    instant("submitted_at", nullable=True),
    instant("review_at", nullable=True),
    Column("reviewer", String(80)),
    instant("decided_at", nullable=True),
    Column("decided_by", String(80)),
    Column("decision_reason", Text),
    Column("new_award_id", ForeignKey("awards.id")),
    CheckConstraint("gflops > 0", name="gflops_positive"),
    Index(
        "uq_renewals_open",
        "project_id",
        unique=True,
        sqlite_where=text("state IN ('draft', 'submitted', 'in_review')"),
        postgresql_where=text("state IN ('draft', 'submitted', 'in_review')"),
    ),
)
"""`award_id` is the award that is to be followed, `new_award_id` the one that does once it is approved."""
