"""Who waits for devices, and which devices are out of use."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, Text, text

from quotas.store.tables.columns import identity, instant, metadata

queue_entries = Table(
    "queue_entries",
    metadata,
    Column("run_id", String(36), primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("person_id", ForeignKey("persons.id"), nullable=False),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("profile_id", ForeignKey("profiles.id"), nullable=False),
    Column("device_model", ForeignKey("device_models.code"), nullable=False),
    Column("device_count", Integer, nullable=False),
    Column("seconds", BigInteger),
    Column("wish", String(13), nullable=False),
    Column("mode", String(10), nullable=False),
    Column("state", String(10), nullable=False),
    Column("blocked_by", String(30)),
    instant("joined_at"),
    instant("turn_at", nullable=True),
    instant("turn_until", nullable=True),
    instant("asked_at", nullable=True),
    instant("ended_at", nullable=True),
    Column("reason_ko", Text),
    Column("reason_en", Text),
    CheckConstraint("device_count > 0", name="device_count_positive"),
    Index(
        "uq_queue_entries_open_notebook",
        "person_id",
        "project_id",
        unique=True,
        sqlite_where=text("kind = 'notebook' AND ended_at IS NULL"),
        postgresql_where=text("kind = 'notebook' AND ended_at IS NULL"),
    ),
    Index(
        "ix_queue_entries_open",
        "device_model",
        "state",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
    Index("ix_queue_entries_project_id_joined_at", "project_id", "joined_at"),
    sqlite_with_rowid=False,
)
"""`run_id` is the run that the entry becomes; while it waits there is no such run."""

drains = Table(
    "drains",
    metadata,
    identity(),
    Column("pool_id", ForeignKey("pools.id"), nullable=False),
    Column("device_model", ForeignKey("device_models.code"), nullable=False),
    Column("count", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    instant("since"),
    instant("ended_at", nullable=True),
    Column("actor", String(80), nullable=False),
    CheckConstraint("count > 0", name="count_positive"),
    Index(
        "ix_drains_open",
        "pool_id",
        "device_model",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)
"""Devices taken out of use; `pool_devices.drained` is the sum of the open ones."""
