"""What an award's people are told, the recall of what they do not use, and when each of the rounds is due again."""

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

periodic_jobs = Table(
    "periodic_jobs",
    metadata,
    Column("name", String(30), primary_key=True),
    instant("due_at"),
    Column("round", String(20), nullable=False),
    Column("position", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""A job goes through its rows in pieces: `position` is how far it is in `round`, whose name only the job knows."""

award_watches = Table(
    "award_watches",
    metadata,
    Column("allocation_id", ForeignKey("allocations.id"), primary_key=True, autoincrement=False),
    instant("look_at", nullable=True),
    Index("ix_award_watches_look_at", "look_at"),
)
"""When an award is next looked at for what its people are to be told; None: never again, unless it changes."""

award_notices = Table(
    "award_notices",
    metadata,
    Column("allocation_id", ForeignKey("allocations.id"), primary_key=True),
    Column("topic", String(20), primary_key=True),
    Column("about", BigInteger, primary_key=True),
    Column("mark", Integer, primary_key=True),
    instant("at"),
    sqlite_with_rowid=False,
)
"""`mark` was told of the award, `about` being the granted sum or the instant of which it is a mark."""

recalls = Table(
    "recalls",
    metadata,
    identity(),
    Column("allocation_id", ForeignKey("allocations.id"), nullable=False),
    Column("month", String(7), nullable=False),
    Column("state", String(10), nullable=False),
    Column("proposed_amount", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    instant("proposed_at"),
    Column("proposed_by", String(80), nullable=False),
    instant("notified_at", nullable=True),
    instant("object_until", nullable=True),
    instant("objected_at", nullable=True),
    Column("objected_by", ForeignKey("persons.id")),
    Column("objection", Text),
    Column("decision", String(10)),
    instant("decided_at", nullable=True),
    Column("decided_by", String(80)),
    Column("reason", Text),
    instant("closed_at", nullable=True),
    Column("recalled_amount", BigInteger),
    Column("freed_gflops", BigInteger),
    CheckConstraint("amount > 0 AND amount <= proposed_amount", name="amount_within"),
    CheckConstraint("freed_gflops >= 0", name="freed_not_negative"),
    UniqueConstraint("allocation_id", "month"),
    Index(
        "ix_recalls_open",
        "state",
        "object_until",
        sqlite_where=text("closed_at IS NULL"),
        postgresql_where=text("closed_at IS NULL"),
    ),
)
"""`month` is the last of those that a recall is about, as 2026-11. `amount` is what it is to take, `recalled_amount`
what it took; `freed_gflops` is no longer promised, from `closed_at` to the award's end."""

recall_months = Table(
    "recall_months",
    metadata,
    Column("recall_id", ForeignKey("recalls.id"), primary_key=True),
    Column("month", String(7), primary_key=True),
    Column("used", BigInteger, nullable=False),
    Column("expected", BigInteger, nullable=False),
    Column("counted", Integer, nullable=False),
    CheckConstraint("used >= 0", name="used_not_negative"),
    CheckConstraint("expected > 0", name="expected_positive"),
    sqlite_with_rowid=False,
)
"""`counted`: the month's unused share is part of the amount; it is not where an earlier recall counted it."""
