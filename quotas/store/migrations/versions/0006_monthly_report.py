"""What the monthly report reads is found by its time, however long the ledger is.

Revision 0006.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy.sql import text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Runs are found by their start, charges by their settlement, refunds by their day."""
    _create("ix_runs_started_at", "runs", "started_at", "started_at IS NOT NULL")
    _create("ix_charges_long", "charges", "settled_at", "seconds > 86400")
    _create("ix_transfers_refunded_at", "transfers", "at", "kind = 'refund'")
    op.create_index("ix_charges_settled_at", "charges", ["settled_at"])


def downgrade() -> None:
    """Refuse, as every revision does."""
    raise RuntimeError("a ledger is never taken back to an earlier revision; restore a backup instead")


def _create(name: str, table: str, column: str, where: str) -> None:
    condition = text(where)
    op.create_index(name, table, [column], sqlite_where=condition, postgresql_where=condition)
