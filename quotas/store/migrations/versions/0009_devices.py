"""Machines and their devices, which run holds which, what was measured, and ends of a server that nobody attends.

Revision 0009.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy.schema import CheckConstraint, Column, ForeignKey
from sqlalchemy.sql import text
from sqlalchemy.types import BigInteger, Integer, String, Text

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """The tables of this revision exist; pools clean their devices by scrubbing, and no profile has an idle limit."""
    _create_devices()
    _create_grants()
    _create_meters()
    op.add_column("pools", Column("cleaning", String(10), nullable=False, server_default=text("'scrub'")))
    for name in ("idle_seconds", "session_seconds"):
        op.add_column("profiles", Column(name, BigInteger))
    for name in ("session_ends_at", "idle_stop_at", "lost_stop_at"):
        op.add_column("runs", Column(name, BigInteger))


def downgrade() -> None:
    """Refuse: which device a run holds would be forgotten."""
    raise RuntimeError("a ledger is never taken back to an earlier revision; restore a backup instead")


def _partial(name: str, table: str, column: str, where: str) -> None:
    condition = text(where)
    op.create_index(name, table, [column], unique=True, sqlite_where=condition, postgresql_where=condition)


def _create_devices() -> None:
    op.create_table(
        "nodes",
        Column("id", Integer, primary_key=True),
        Column("name", String(63), nullable=False, unique=True),
        Column("pool_id", Integer, ForeignKey("pools.id"), nullable=False, index=True),
        Column("token_sha256", String(64), nullable=False, unique=True),
        Column("assigns", Integer, nullable=False, server_default=text("1")),
        Column("stream", String(36)),
        Column("last_sequence", BigInteger, nullable=False, server_default=text("0")),
        Column("agent_version", String(40)),
        Column("interval_seconds", Integer),
        Column("reported_at", BigInteger),
        Column("reports_missed", BigInteger, nullable=False, server_default=text("0")),
        Column("added_at", BigInteger, nullable=False),
        Column("added_by", String(80), nullable=False),
        Column("removed_at", BigInteger),
    )
    op.create_table(
        "devices",
        Column("id", Integer, primary_key=True),
        Column("node_id", Integer, ForeignKey("nodes.id"), nullable=False, index=True),
        Column("uuid", String(96), nullable=False, unique=True),
        Column("kind", String(10), nullable=False),
        Column("name", String(200), nullable=False),
        Column("device_model", String(40), ForeignKey("device_models.code")),
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
        Column("since", BigInteger, nullable=False),
        Column("found_at", BigInteger, nullable=False),
        Column("seen_at", BigInteger, nullable=False),
        Column("read_at", BigInteger),
        Column("busy_ppm", Integer),
        Column("used_bytes", BigInteger),
        Column("power_milliwatts", BigInteger),
        Column("metered_until_milliseconds", BigInteger),
    )
    op.create_index("ix_devices_device_model_state", "devices", ["device_model", "state"])


def _create_grants() -> None:
    op.create_table(
        "device_grants",
        Column("run_id", String(36), ForeignKey("runs.id"), primary_key=True),
        Column("device_id", Integer, ForeignKey("devices.id"), primary_key=True),
        Column("granted_at", BigInteger, nullable=False),
        Column("released_at", BigInteger),
        CheckConstraint("released_at >= granted_at", name="released_after_granted"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_device_grants_device_id_granted_at", "device_grants", ["device_id", "granted_at"])
    op.create_index("ix_device_grants_released_at", "device_grants", ["released_at"])
    _partial("uq_device_grants_held", "device_grants", "device_id", where="released_at IS NULL")
    op.create_table(
        "run_pauses",
        Column("run_id", String(36), ForeignKey("runs.id"), primary_key=True),
        Column("since", BigInteger, primary_key=True),
        Column("until_at", BigInteger),
        Column("device_id", Integer, ForeignKey("devices.id"), nullable=False),
        Column("reason", Text, nullable=False),
        CheckConstraint("until_at >= since", name="until_after_since"),
        sqlite_with_rowid=False,
    )
    _partial("uq_run_pauses_open", "run_pauses", "run_id", where="until_at IS NULL")
    op.create_table(
        "device_events",
        Column("id", Integer, primary_key=True),
        Column("device_id", Integer, ForeignKey("devices.id"), nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("kind", String(12), nullable=False),
        Column("code", Integer),
        Column("text", Text, nullable=False),
        Column("run_id", String(36), ForeignKey("runs.id")),
    )
    op.create_index("ix_device_events_device_id_at", "device_events", ["device_id", "at"])


def _create_meters() -> None:
    op.create_table(
        "meter_hours",
        Column("run_id", String(36), ForeignKey("runs.id"), primary_key=True),
        Column("hour_at", BigInteger, primary_key=True),
        Column("samples", Integer, nullable=False),
        Column("seen_milliseconds", BigInteger, nullable=False),
        Column("measured_milliseconds", BigInteger, nullable=False),
        Column("busy_milliseconds", BigInteger, nullable=False),
        Column("energy_millijoules", BigInteger, nullable=False),
        Column("most_memory_bytes", BigInteger, nullable=False),
        Column("buckets", Text, nullable=False),
        CheckConstraint("measured_milliseconds <= seen_milliseconds", name="measured_within_seen"),
        CheckConstraint("busy_milliseconds <= measured_milliseconds", name="busy_within_measured"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_meter_hours_hour_at", "meter_hours", ["hour_at"])
    op.create_table(
        "project_meters",
        Column("project_id", Integer, ForeignKey("projects.id"), primary_key=True, autoincrement=False),
        Column("samples", BigInteger, nullable=False),
        Column("seen_milliseconds", BigInteger, nullable=False),
        Column("measured_milliseconds", BigInteger, nullable=False),
        Column("busy_milliseconds", BigInteger, nullable=False),
        Column("energy_millijoules", BigInteger, nullable=False),
    )
    op.create_table(
        "run_activity",
        Column("run_id", String(36), ForeignKey("runs.id"), primary_key=True),
        Column("reported_at", BigInteger, nullable=False),
        Column("busy_kernels", Integer, nullable=False),
        Column("active_at", BigInteger),
        Column("kept_at", BigInteger),
        sqlite_with_rowid=False,
    )
