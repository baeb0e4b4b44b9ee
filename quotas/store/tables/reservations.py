"""Reservations: devices kept for a project in dated windows, for those on its roster."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint, text

from quotas.store.tables.columns import identity, instant, metadata

reservations = Table(
    "reservations",
    metadata,
    identity(),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("profile_id", ForeignKey("profiles.id"), nullable=False),
    Column("pool_id", ForeignKey("pools.id"), nullable=False),
    Column("title_ko", String(200), nullable=False),
    Column("title_en", String(200), nullable=False),
    Column("seats", Integer, nullable=False),
    Column("zone", String(60), nullable=False),
    instant("starts_at"),
    Column("seconds", Integer, nullable=False),
    Column("rrule", String(300)),
    Column("charge_idle", Integer, nullable=False),
    Column("state", String(10), nullable=False),
    instant("requested_at"),
    Column("requested_by", ForeignKey("persons.id"), nullable=False),
    instant("decided_at", nullable=True),
    Column("decided_by", String(80)),
    Column("reason", Text),
    Column("roster", String(10), nullable=False),
    CheckConstraint("seats > 0", name="seats_positive"),
    CheckConstraint("seconds > 0", name="seconds_positive"),
    Index(
        "ix_reservations_living",
        "id",
        sqlite_where=text("state IN ('requested', 'approved')"),
        postgresql_where=text("state IN ('requested', 'approved')"),
    ),
)
"""`starts_at` and `seconds` are of the first window; `rrule` (RFC 5545) repeats it in `zone`, None for once. `roster`
says who is on it: the project's members as they are, or those who are listed."""

reservation_roster = Table(
    "reservation_roster",
    metadata,
    Column("reservation_id", ForeignKey("reservations.id"), primary_key=True),
    Column("person_id", ForeignKey("persons.id"), primary_key=True),
    instant("added_at"),
    instant("removed_at", nullable=True),
    Index("ix_reservation_roster_person_id", "person_id"),
    sqlite_with_rowid=False,
)
"""Who was ever on a roster; `removed_at` is None for those who are on it."""

reservation_windows = Table(
    "reservation_windows",
    metadata,
    identity(),
    Column("reservation_id", ForeignKey("reservations.id"), nullable=False),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("profile_id", ForeignKey("profiles.id"), nullable=False),
    Column("pool_id", ForeignKey("pools.id"), nullable=False),
    Column("device_model", ForeignKey("device_models.code"), nullable=False),
    Column("device_count", Integer, nullable=False),
    Column("seats", Integer, nullable=False),
    instant("opens_at"),
    instant("starts_at"),
    instant("release_at"),
    instant("ends_at"),
    Column("state", String(10), nullable=False),
    Column("kept", Integer, nullable=False, server_default=text("0")),
    Column("claimed", Integer, nullable=False, server_default=text("0")),
    CheckConstraint("opens_at <= starts_at AND starts_at < release_at AND release_at <= ends_at", name="in_order"),
    CheckConstraint("0 <= kept AND kept <= seats", name="kept_within"),
    UniqueConstraint("reservation_id", "starts_at"),
    Index(
        "ix_reservation_windows_coming",
        "device_model",
        "opens_at",
        sqlite_where=text("state IN ('scheduled', 'open', 'released')"),
        postgresql_where=text("state IN ('scheduled', 'open', 'released')"),
    ),
    Index(
        "ix_reservation_windows_due",
        "opens_at",
        sqlite_where=text("state IN ('scheduled', 'open', 'released')"),
        postgresql_where=text("state IN ('scheduled', 'open', 'released')"),
    ),
    Index(
        "ix_reservation_windows_project_id",
        "project_id",
        "profile_id",
        sqlite_where=text("state IN ('scheduled', 'open', 'released')"),
        postgresql_where=text("state IN ('scheduled', 'open', 'released')"),
    ),
)
"""`device_count` is of one seat. `kept` seats are free for the roster now, and their devices count as reserved in the
pool; `claimed` counts the seats that were ever claimed in this window."""
