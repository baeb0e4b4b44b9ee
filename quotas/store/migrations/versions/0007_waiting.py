"""How long runs on a device model took is found without the rest of the ledger; a schedule says how firmly it asks.

Revision 0007.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy.schema import Column
from sqlalchemy.sql import text
from sqlalchemy.types import String

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Schedules that were made before ask within the ceiling, as they did."""
    posted = text("state = 'posted' AND device_model IS NOT NULL")
    op.create_index(
        "ix_holds_posted_devices",
        "holds",
        ["device_model", "closed_at"],
        sqlite_where=posted,
        postgresql_where=posted,
    )
    op.add_column("schedules", Column("wish", String(13), nullable=False, server_default=text("'guaranteed'")))


def downgrade() -> None:
    """Refuse, as every revision does."""
    raise RuntimeError("a ledger is never taken back to an earlier revision; restore a backup instead")
