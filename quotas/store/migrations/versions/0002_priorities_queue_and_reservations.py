"""Priority classes, preemption, fair share, drained devices, the waiting queue and reservations.

Revision 0002.
"""

from __future__ import annotations

from typing import Any

from alembic import op
from sqlalchemy.schema import CheckConstraint, Column, ForeignKey, Index, UniqueConstraint
from sqlalchemy.sql import text
from sqlalchemy.types import BigInteger, Float, Integer, String, Text

revision = "0002"
down_revision = "0001"

_NONE = text("0")


def upgrade() -> None:
    """The tables of this revision exist; what ran before counts as guaranteed."""
    _create_reservations()
    _create_queue()
    _extend_tables()


def downgrade() -> None:
    """Refuse: holds of other priorities would be taken for guaranteed ones."""
    raise RuntimeError("a ledger is never taken back to an earlier revision; restore a backup instead")


def _partial(name: str, table: str, *columns: str, where: str, unique: bool = False) -> None:
    condition = text(where)
    op.create_index(name, table, list(columns), unique=unique, sqlite_where=condition, postgresql_where=condition)


def _create_reservations() -> None:
    op.create_table(
        "reservations",
        Column("id", Integer, primary_key=True),
        Column("project_id", Integer, ForeignKey("projects.id"), nullable=False, index=True),
        Column("profile_id", Integer, ForeignKey("profiles.id"), nullable=False),
        Column("pool_id", Integer, ForeignKey("pools.id"), nullable=False),
        Column("title_ko", String(200), nullable=False),
        Column("title_en", String(200), nullable=False),
        Column("seats", Integer, nullable=False),
        Column("zone", String(60), nullable=False),
        Column("starts_at", BigInteger, nullable=False),
        Column("seconds", Integer, nullable=False),
        Column("rrule", String(300)),
        Column("charge_idle", Integer, nullable=False),
        Column("state", String(10), nullable=False),
        Column("requested_at", BigInteger, nullable=False),
        Column("requested_by", Integer, ForeignKey("persons.id"), nullable=False),
        Column("decided_at", BigInteger),
        Column("decided_by", String(80)),
        Column("reason", Text),
        Column("roster", String(10), nullable=False),
        CheckConstraint("seats > 0", name="seats_positive"),
        CheckConstraint("seconds > 0", name="seconds_positive"),
    )
    op.create_table(
        "reservation_roster",
        Column("reservation_id", Integer, ForeignKey("reservations.id"), primary_key=True),
        Column("person_id", Integer, ForeignKey("persons.id"), primary_key=True),
        Column("added_at", BigInteger, nullable=False),
        Column("removed_at", BigInteger),
        Index("ix_reservation_roster_person_id", "person_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reservation_windows",
        Column("id", Integer, primary_key=True),
        Column("reservation_id", Integer, ForeignKey("reservations.id"), nullable=False),
        Column("project_id", Integer, ForeignKey("projects.id"), nullable=False),
        Column("profile_id", Integer, ForeignKey("profiles.id"), nullable=False),
        Column("pool_id", Integer, ForeignKey("pools.id"), nullable=False),
        Column("device_model", String(40), ForeignKey("device_models.code"), nullable=False),
        Column("device_count", Integer, nullable=False),
        Column("seats", Integer, nullable=False),
        Column("opens_at", BigInteger, nullable=False),
        Column("starts_at", BigInteger, nullable=False),
        Column("release_at", BigInteger, nullable=False),
        Column("ends_at", BigInteger, nullable=False),
        Column("state", String(10), nullable=False),
        Column("kept", Integer, nullable=False, server_default=_NONE),
        Column("claimed", Integer, nullable=False, server_default=_NONE),
        CheckConstraint("opens_at <= starts_at AND starts_at < release_at AND release_at <= ends_at", name="in_order"),
        CheckConstraint("0 <= kept AND kept <= seats", name="kept_within"),
        UniqueConstraint("reservation_id", "starts_at"),
    )
    _partial("ix_reservations_living", "reservations", "id", where="state IN ('requested', 'approved')")
    for name, *columns in (
        ("coming", "device_model", "opens_at"),
        ("due", "opens_at"),
        ("project_id", "project_id", "profile_id"),
    ):
        coming = "state IN ('scheduled', 'open', 'released')"
        _partial(f"ix_reservation_windows_{name}", "reservation_windows", *columns, where=coming)


def _create_queue() -> None:
    op.create_table(
        "queue_entries",
        Column("run_id", String(36), primary_key=True),
        Column("kind", String(10), nullable=False),
        Column("person_id", Integer, ForeignKey("persons.id"), nullable=False),
        Column("project_id", Integer, ForeignKey("projects.id"), nullable=False),
        Column("profile_id", Integer, ForeignKey("profiles.id"), nullable=False),
        Column("device_model", String(40), ForeignKey("device_models.code"), nullable=False),
        Column("device_count", Integer, nullable=False),
        Column("seconds", BigInteger),
        Column("wish", String(13), nullable=False),
        Column("mode", String(10), nullable=False),
        Column("state", String(10), nullable=False),
        Column("blocked_by", String(30)),
        Column("joined_at", BigInteger, nullable=False),
        Column("turn_at", BigInteger),
        Column("turn_until", BigInteger),
        Column("asked_at", BigInteger),
        Column("ended_at", BigInteger),
        Column("reason_ko", Text),
        Column("reason_en", Text),
        CheckConstraint("device_count > 0", name="device_count_positive"),
        sqlite_with_rowid=False,
    )
    _partial(
        "uq_queue_entries_open_notebook",
        "queue_entries",
        "person_id",
        "project_id",
        where="kind = 'notebook' AND ended_at IS NULL",
        unique=True,
    )
    _partial("ix_queue_entries_open", "queue_entries", "device_model", "state", where="ended_at IS NULL")
    op.create_table(
        "drains",
        Column("id", Integer, primary_key=True),
        Column("pool_id", Integer, ForeignKey("pools.id"), nullable=False),
        Column("device_model", String(40), ForeignKey("device_models.code"), nullable=False),
        Column("count", Integer, nullable=False),
        Column("reason", Text, nullable=False),
        Column("since", BigInteger, nullable=False),
        Column("ended_at", BigInteger),
        Column("actor", String(80), nullable=False),
        CheckConstraint("count > 0", name="count_positive"),
    )
    _partial("ix_drains_open", "drains", "pool_id", "device_model", where="ended_at IS NULL")


def _extend_tables() -> None:
    added: dict[str, tuple[Column[Any], ...]] = {
        "runs": (Column("preempt_at", BigInteger), Column("preempted_for", String(36))),
        "holds": (
            Column("priority", String(13), nullable=False, server_default=text("'guaranteed'")),
            Column("ends_by", BigInteger),
        ),
        "allocations": (
            Column("beyond_gflops", BigInteger, nullable=False, server_default=_NONE),
            Column("suspended_at", BigInteger),
            Column("revoked_at", BigInteger),
            Column("decayed_use", Float, nullable=False, server_default=_NONE),
            Column("decayed_at", BigInteger, nullable=False, server_default=_NONE),
        ),
        "pool_devices": (
            Column("drained", Integer, nullable=False, server_default=_NONE),
            Column("reserved", Integer, nullable=False, server_default=_NONE),
        ),
    }
    for table, columns in added.items():
        for column in columns:
            op.add_column(table, column)
    # Alembic adds no column with a reference on SQLite; both databases take this.
    op.execute(
        "ALTER TABLE holds ADD COLUMN window_id INTEGER"
        " CONSTRAINT fk_holds_window_id REFERENCES reservation_windows (id)"
    )
    _partial("ix_holds_window_id", "holds", "window_id", where="window_id IS NOT NULL")
    _partial("ix_holds_open_devices", "holds", "device_model", "pool_id", "until_at", where="state = 'open'")
