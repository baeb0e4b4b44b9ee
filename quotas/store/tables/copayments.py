"""Drafts of rate cards, and monthly statements of the co-payment in KRW with their lines.

A numerator is KRW per device-month × devices × seconds: divided by the seconds of a device-month it is KRW.
"""

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

rate_card_drafts = Table(
    "rate_card_drafts",
    metadata,
    identity(),
    Column("content", Text, nullable=False),
    instant("made_at"),
    Column("made_by", String(80), nullable=False),
    Column("published_version", ForeignKey("rate_cards.version")),
    instant("discarded_at", nullable=True),
)

copayment_statements = Table(
    "copayment_statements",
    metadata,
    identity(),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("month", String(7), nullable=False),
    Column("carried_in", BigInteger, nullable=False),
    Column("use_numerator", BigInteger, nullable=False),
    Column("credit_numerator", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("carried_out", BigInteger, nullable=False),
    instant("closed_at"),
    Column("closed_by", String(80), nullable=False),
    CheckConstraint("carried_in >= 0 AND carried_in < 2592000", name="carried_in_within_a_won"),
    CheckConstraint("carried_out >= 0 AND carried_out < 2592000", name="carried_out_within_a_won"),
    CheckConstraint("use_numerator >= 0 AND credit_numerator >= 0", name="numerators_not_negative"),
    CheckConstraint(
        "carried_in + use_numerator - credit_numerator = amount * 2592000 + carried_out", name="nothing_is_lost"
    ),
    UniqueConstraint("project_id", "month"),
)

copayment_lines = Table(
    "copayment_lines",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("kind", String(10), primary_key=True),
    Column("month", String(7), primary_key=True),
    Column("statement_id", ForeignKey("copayment_statements.id"), primary_key=True),
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
        sqlite_where=text("kind = 'use'"),
        postgresql_where=text("kind = 'use'"),
    ),
    sqlite_with_rowid=False,
)
