"""Each round of the loop finds what it is about by an index, not by going through the ledger.

Revision 0008.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy.sql import text

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Runs that are to give way, and projects that are over and not closed, are found among others of their kind."""
    _create("ix_runs_preempted", "runs", "preempted_for", "preempted_for IS NOT NULL AND state <> 'settled'")
    _create("ix_projects_ended", "projects", "id", "state = 'ended' AND closed_at IS NULL")


def downgrade() -> None:
    """Refuse, as every revision does."""
    raise RuntimeError("a ledger is never taken back to an earlier revision; restore a backup instead")


def _create(name: str, table: str, column: str, where: str) -> None:
    condition = text(where)
    op.create_index(name, table, [column], sqlite_where=condition, postgresql_where=condition)
