"""Machines with their devices, which run holds which device, when a charge was paused, and what was measured."""

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
    text,
)

from quotas.store.tables.columns import identity, instant, metadata

nodes = Table(
    "nodes",
    metadata,
    identity(),
    Column("name", String(63), nullable=False, unique=True),
    Column("pool_id", ForeignKey("pools.id"), nullable=False, index=True),
    Column("token_sha256", String(64), nullable=False, unique=True),
    Column("assigns", Integer, nullable=False, server_default=text("1")),
    Column("stream", String(36)),
    Column("last_sequence", BigInteger, nullable=False, server_default=text("0")),
    Column("agent_version", String(40)),
    Column("interval_seconds", Integer),
    instant("reported_at", nullable=True),
    Column("reports_missed", BigInteger, nullable=False, server_default=text("0")),
    instant("added_at"),
    Column("added_by", String(80), nullable=False),
    instant("removed_at", nullable=True),
)
"""`assigns` is 0 where a cluster chooses the devices and only tells. `stream` and `last_sequence` name the newest
report that was taken: none is taken twice. `reports_missed` counts the numbers between two reports that never came."""

devices = Table(
    "devices",
    metadata,
    identity(),
    Column("node_id", ForeignKey("nodes.id"), nullable=False, index=True),
    Column("uuid", String(96), nullable=False, unique=True),
    Column("kind", String(10), nullable=False),
    Column("name", String(200), nullable=False),
    Column("device_model", ForeignKey("device_models.code")),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("units", Integer),
    Column("mig_profile", String(40)),
    Column("parent_uuid", String(96)),
    Column("paths", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("ecc", Integer),
    Column("state", String(12), nullable=False),
    Column("reason", Text),
    Column("loss", String(8)),
    Column("hold_back", Text),
    Column("listed", Integer, nullable=False, server_default=text("1")),
    instant("since"),
    instant("found_at"),
    instant("seen_at"),
    instant("read_at", nullable=True),
    Column("busy_ppm", Integer),
    Column("used_bytes", BigInteger),
    Column("power_milliwatts", BigInteger),
    Column("metered_until_milliseconds", BigInteger),
    Index("ix_devices_device_model_state", "device_model", "state"),
)
"""`device_model` is NULL for a device that the catalogue does not know. `loss` says what must happen before a lost one
can be held again; `hold_back` why it is quarantined once its run has ended; `listed` is 0 for one that its machine's
last list has not. The four from `read_at` on are its newest reading; until `metered_until_milliseconds` its time has
been taken into the meters, and none before is taken again."""

device_grants = Table(
    "device_grants",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("device_id", ForeignKey("devices.id"), primary_key=True),
    instant("granted_at"),
    instant("released_at", nullable=True),
    CheckConstraint("released_at >= granted_at", name="released_after_granted"),
    Index(
        "uq_device_grants_held",
        "device_id",
        unique=True,
        sqlite_where=text("released_at IS NULL"),
        postgresql_where=text("released_at IS NULL"),
    ),
    Index("ix_device_grants_device_id_granted_at", "device_id", "granted_at"),
    Index("ix_device_grants_released_at", "released_at"),
    sqlite_with_rowid=False,
)
"""Which run holds which device: the unique index is what keeps a device from being held twice."""

run_pauses = Table(
    "run_pauses",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("since", BigInteger, primary_key=True),
    instant("until_at", nullable=True),
    Column("device_id", ForeignKey("devices.id"), nullable=False),
    Column("reason", Text, nullable=False),
    CheckConstraint("until_at >= since", name="until_after_since"),
    Index(
        "uq_run_pauses_open",
        "run_id",
        unique=True,
        sqlite_where=text("until_at IS NULL"),
        postgresql_where=text("until_at IS NULL"),
    ),
    sqlite_with_rowid=False,
)
"""Times for which a run is not charged, as it lacked a device."""

device_events = Table(
    "device_events",
    metadata,
    identity(),
    Column("device_id", ForeignKey("devices.id"), nullable=False),
    instant("at"),
    Column("kind", String(12), nullable=False),
    Column("code", Integer),
    Column("text", Text, nullable=False),
    Column("run_id", ForeignKey("runs.id")),
    Index("ix_device_events_device_id_at", "device_id", "at"),
)

meter_hours = Table(
    "meter_hours",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("hour_at", BigInteger, primary_key=True),
    Column("samples", Integer, nullable=False),
    Column("seen_milliseconds", BigInteger, nullable=False),
    Column("measured_milliseconds", BigInteger, nullable=False),
    Column("busy_milliseconds", BigInteger, nullable=False),
    Column("energy_millijoules", BigInteger, nullable=False),
    Column("most_memory_bytes", BigInteger, nullable=False),
    Column("buckets", Text, nullable=False),
    CheckConstraint("busy_milliseconds <= measured_milliseconds", name="busy_within_measured"),
    CheckConstraint("measured_milliseconds <= seen_milliseconds", name="measured_within_seen"),
    Index("ix_meter_hours_hour_at", "hour_at"),
    sqlite_with_rowid=False,
)
"""What a run used in one hour (UTC), in device time, with its twelve buckets of five minutes as JSON in one row.

`seen` is device time that samples cover, `measured` the part of it for which a utilisation was read, `busy` that
times the utilisation. Device time that was held and not seen is a gap.
"""

project_meters = Table(
    "project_meters",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True, autoincrement=False),
    Column("samples", BigInteger, nullable=False),
    Column("seen_milliseconds", BigInteger, nullable=False),
    Column("measured_milliseconds", BigInteger, nullable=False),
    Column("busy_milliseconds", BigInteger, nullable=False),
    Column("energy_millijoules", BigInteger, nullable=False),
)
"""What a project's runs ever used: the sums of their hours, also of those that are kept no longer."""

run_activity = Table(
    "run_activity",
    metadata,
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    instant("reported_at"),
    Column("busy_kernels", Integer, nullable=False),
    instant("active_at", nullable=True),
    instant("kept_at", nullable=True),
    sqlite_with_rowid=False,
)
"""What a server says of itself: kernels that compute now, and when one of its kernels or terminals last did something.
`kept_at` is when its person last said that they need it."""
