"""Who there is, their projects, awards and allocations."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
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

organisations = Table(
    "organisations",
    metadata,
    identity(),
    Column("code", String(40), nullable=False, unique=True),
    Column("name_ko", String(200), nullable=False),
    Column("name_en", String(200), nullable=False),
    Column("kind", String(20), nullable=False),
)

persons = Table(
    "persons",
    metadata,
    identity(),
    Column("username", String(63), nullable=False, unique=True),
    Column("display_name", String(200), nullable=False),
    Column("organisation_id", ForeignKey("organisations.id")),
    Column("language", String(2), nullable=False),
    instant("added_at"),
    instant("removed_at", nullable=True),
)
"""Someone who is removed has a name that stays taken, and nothing else: neither project nor role nor password."""

platform_roles = Table(
    "platform_roles",
    metadata,
    Column("person_id", ForeignKey("persons.id"), primary_key=True),
    Column("role", String(20), primary_key=True),
)

credentials = Table(
    "credentials",
    metadata,
    Column("person_id", ForeignKey("persons.id"), primary_key=True),
    Column("scrypt", String(300), nullable=False),
    instant("set_at"),
)

identities = Table(
    "identities",
    metadata,
    Column("issuer", String(500), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("person_id", ForeignKey("persons.id"), nullable=False),
    instant("linked_at"),
    UniqueConstraint("person_id", "issuer"),
)

projects = Table(
    "projects",
    metadata,
    identity(),
    Column("code", String(30), nullable=False, unique=True),
    Column("kind", String(10), nullable=False),
    Column("title_ko", String(300), nullable=False),
    Column("title_en", String(300), nullable=False),
    Column("organisation_id", ForeignKey("organisations.id"), nullable=False),
    Column("state", String(10), nullable=False),
    Column("requested_gflops", BigInteger, nullable=False),
    Column("requested_precision", String(20), nullable=False),
    instant("requested_starts_at"),
    instant("requested_ends_at"),
    instant("applied_at"),
    Column("applied_by", ForeignKey("persons.id"), nullable=False),
    instant("decided_at", nullable=True),
    Column("decided_by", String(63)),
    Column("decision_reason", Text),
    instant("ended_at", nullable=True),
    instant("closed_at", nullable=True),
    CheckConstraint("requested_gflops > 0", name="requested_positive"),
    Index(
        "ix_projects_ended",
        "id",
        sqlite_where=text("state = 'ended' AND closed_at IS NULL"),
        postgresql_where=text("state = 'ended' AND closed_at IS NULL"),
    ),
)

memberships = Table(
    "memberships",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("person_id", ForeignKey("persons.id"), primary_key=True),
    Column("role", String(20), nullable=False),
    instant("added_at"),
    Index("ix_memberships_person_id", "person_id"),
    sqlite_with_rowid=False,
)

awards = Table(
    "awards",
    metadata,
    identity(),
    Column("project_id", ForeignKey("projects.id"), nullable=False, index=True),
    Column("gflops", BigInteger, nullable=False),
    Column("precision", String(20), nullable=False),
    instant("starts_at"),
    instant("ends_at"),
    Column("burst_ppm", BigInteger, nullable=False),
    Column("utilisation_ppm", BigInteger, nullable=False),
    instant("awarded_at"),
    Column("awarded_by", String(63), nullable=False),
    Column("extra_gflops", BigInteger, nullable=False, server_default=text("0")),
    Column("storage_grace_days", Integer, nullable=False, server_default=text("30")),
    CheckConstraint("gflops > 0", name="gflops_positive"),
    CheckConstraint("ends_at > starts_at", name="ends_after_start"),
)
"""`extra_gflops` is what budget beyond the rate × time comes to: promised against capacity, not usable at once."""

allocations = Table(
    "allocations",
    metadata,
    identity(),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("award_id", ForeignKey("awards.id"), nullable=False, unique=True),
    Column("asset", String(20), nullable=False),
    instant("starts_at"),
    instant("ends_at"),
    Column("ceiling_gflops", BigInteger, nullable=False),
    Column("in_use_gflops", BigInteger, nullable=False, server_default=text("0")),
    instant("expired_at", nullable=True),
    Column("beyond_gflops", BigInteger, nullable=False, server_default=text("0")),
    instant("suspended_at", nullable=True),
    instant("revoked_at", nullable=True),
    Column("decayed_use", Float, nullable=False, server_default=text("0")),
    Column("decayed_at", BigInteger, nullable=False, server_default=text("0")),
    Column("standing_reason", Text),
    CheckConstraint("in_use_gflops >= 0", name="in_use_not_negative"),
    CheckConstraint("ceiling_gflops > 0", name="ceiling_positive"),
    CheckConstraint("ends_at > starts_at", name="ends_after_start"),
    UniqueConstraint("project_id", "asset", "starts_at"),
    Index(
        "ix_allocations_ends_at",
        "ends_at",
        sqlite_where=text("expired_at IS NULL"),
        postgresql_where=text("expired_at IS NULL"),
    ),
    Index(
        "ix_allocations_revoked",
        "id",
        sqlite_where=text("revoked_at IS NOT NULL AND expired_at IS NULL"),
        postgresql_where=text("revoked_at IS NOT NULL AND expired_at IS NULL"),
    ),
)
