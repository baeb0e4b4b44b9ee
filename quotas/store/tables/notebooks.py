"""Notices, audit events, schedules and their executions."""

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

notices = Table(
    "notices",
    metadata,
    identity(),
    Column("person_id", ForeignKey("persons.id"), nullable=False, index=True),
    Column("kind", String(30), nullable=False),
    Column("about", String(80), nullable=False),
    Column("text_ko", Text, nullable=False),
    Column("text_en", Text, nullable=False),
    instant("at"),
    instant("read_at", nullable=True),
    UniqueConstraint("person_id", "kind", "about"),
)

audit_events = Table(
    "audit_events",
    metadata,
    identity(),
    instant("at"),
    Column("actor", String(80), nullable=False),
    Column("action", String(40), nullable=False),
    Column("subject", String(80), nullable=False),
    Column("detail", Text, nullable=False),
)

schedules = Table(
    "schedules",
    metadata,
    identity(),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("person_id", ForeignKey("persons.id"), nullable=False),
    Column("profile_id", ForeignKey("profiles.id"), nullable=False),
    Column("title", String(200), nullable=False),
    Column("notebook", String(500), nullable=False),
    Column("parameters", Text, nullable=False),
    Column("zone", String(60), nullable=False),
    Column("cron", String(120)),
    instant("once_at", nullable=True),
    Column("timeout_seconds", BigInteger, nullable=False),
    Column("enabled", Integer, nullable=False),
    Column("pause_reason", Text),
    instant("next_at", nullable=True),
    instant("created_at"),
    Column("wish", String(13), nullable=False, server_default=text("'guaranteed'")),
    CheckConstraint("(cron IS NULL) <> (once_at IS NULL)", name="cron_or_once"),
    Index("ix_schedules_next_at", "next_at", sqlite_where=text("enabled = 1"), postgresql_where=text("enabled = 1")),
)

executions = Table(
    "executions",
    metadata,
    Column("run_id", String(36), primary_key=True),
    Column("schedule_id", ForeignKey("schedules.id"), nullable=False),
    instant("scheduled_for"),
    Column("state", String(20), nullable=False),
    Column("reason_ko", Text),
    Column("reason_en", Text),
    Column("notebook_sha256", String(64)),
    Column("parameters", Text, nullable=False),
    Column("output", String(600)),
    Column("exit_code", Integer),
    Column("failing_cell", Text),
    Column("log", Text),
    instant("claimed_at"),
    instant("finished_at", nullable=True),
    UniqueConstraint("schedule_id", "scheduled_for"),
    Index(
        "ix_executions_open",
        "state",
        sqlite_where=text("finished_at IS NULL"),
        postgresql_where=text("finished_at IS NULL"),
    ),
)

doors = Table(
    "doors",
    metadata,
    Column("name", String(20), primary_key=True),
    Column("instance", String(60), nullable=False),
    instant("booted_at"),
)
