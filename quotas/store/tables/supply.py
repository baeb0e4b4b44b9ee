"""Device models, images, profiles, rate cards, pools and phases."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from quotas.store.tables.columns import identity, instant, metadata

device_models = Table(
    "device_models",
    metadata,
    Column("code", String(40), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("kind", String(10), nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("parent", ForeignKey("device_models.code")),
    Column("units", Integer, nullable=False),
    Column("units_total", Integer, nullable=False),
    Column("units_source", String(300)),
    Column("units_status", String(20), nullable=False, server_default=text("'copied'")),
    CheckConstraint("units > 0 AND units <= units_total", name="units_in_total"),
)

capability_facts = Table(
    "capability_facts",
    metadata,
    Column("device_model", ForeignKey("device_models.code"), primary_key=True),
    Column("precision", String(20), primary_key=True),
    Column("source", String(300), primary_key=True),
    Column("peak_gflops", BigInteger, nullable=False),
    Column("status", String(20), nullable=False),
    Column("density", String(10), nullable=False, server_default=text("'dense'")),
    Column("source_date", String(10)),
    Column("superseded", Integer, nullable=False, server_default=text("0")),
    CheckConstraint("peak_gflops > 0", name="peak_positive"),
)

images = Table(
    "images",
    metadata,
    Column("code", String(40), primary_key=True),
    Column("reference", String(300), nullable=False),
    Column("title_ko", String(200), nullable=False),
    Column("title_en", String(200), nullable=False),
)

profiles = Table(
    "profiles",
    metadata,
    identity(),
    Column("code", String(40), nullable=False, unique=True),
    Column("name_ko", String(200), nullable=False),
    Column("name_en", String(200), nullable=False),
    Column("image_code", ForeignKey("images.code"), nullable=False),
    Column("device_model", ForeignKey("device_models.code")),
    Column("device_count", Integer, nullable=False),
    Column("cpu_millis", Integer, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("storage_bytes", BigInteger, nullable=False),
    Column("backend_terms", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("idle_seconds", BigInteger),
    Column("session_seconds", BigInteger),
    CheckConstraint("(device_model IS NULL) = (device_count = 0)", name="device_with_count"),
)

project_profiles = Table(
    "project_profiles",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("profile_id", ForeignKey("profiles.id"), primary_key=True),
    sqlite_with_rowid=False,
)

rate_cards = Table(
    "rate_cards",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    instant("effective_from"),
    Column("reference_precision", String(20), nullable=False),
    instant("published_at"),
    Column("published_by", String(63), nullable=False),
    Column("density", String(10), nullable=False, server_default=text("'dense'")),
    UniqueConstraint("effective_from"),
)

rates = Table(
    "rates",
    metadata,
    Column("version", ForeignKey("rate_cards.version"), primary_key=True),
    Column("profile_id", ForeignKey("profiles.id"), primary_key=True),
    Column("gflops", BigInteger, nullable=False),
    Column("rule", String(10), nullable=False),
    Column("reason", Text, nullable=False),
    Column("approver", String(63)),
    Column("krw_per_device_month", BigInteger),
    CheckConstraint("gflops > 0", name="gflops_positive"),
    sqlite_with_rowid=False,
)

pools = Table(
    "pools",
    metadata,
    identity(),
    Column("code", String(40), nullable=False, unique=True),
    Column("name_ko", String(200), nullable=False),
    Column("name_en", String(200), nullable=False),
    Column("simulated", Integer, nullable=False),
    Column("cleaning", String(10), nullable=False, server_default=text("'scrub'")),
    Column("backend_terms", Text, nullable=False, server_default=text("'{}'")),
)

capacity_phases = Table(
    "capacity_phases",
    metadata,
    Column("pool_id", ForeignKey("pools.id"), primary_key=True),
    Column("device_model", ForeignKey("device_models.code"), primary_key=True),
    Column("from_at", BigInteger, primary_key=True),
    Column("installed", Integer, nullable=False),
    Column("powered", Integer, nullable=False),
    Column("healthy", Integer, nullable=False),
    CheckConstraint("0 <= healthy AND healthy <= powered AND powered <= installed", name="sizes_in_order"),
    sqlite_with_rowid=False,
)

pool_devices = Table(
    "pool_devices",
    metadata,
    Column("device_model", ForeignKey("device_models.code"), primary_key=True),
    Column("pool_id", ForeignKey("pools.id"), primary_key=True),
    Column("in_use", Integer, nullable=False, server_default=text("0")),
    Column("drained", Integer, nullable=False, server_default=text("0")),
    Column("reserved", Integer, nullable=False, server_default=text("0")),
    CheckConstraint("in_use >= 0", name="in_use_not_negative"),
    sqlite_with_rowid=False,
)
