"""A pool says on which machines of a cluster its runs go.

Revision 0012.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy.schema import Column
from sqlalchemy.sql import text
from sqlalchemy.types import Text

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """No pool says anything of machines."""
    op.add_column("pools", Column("backend_terms", Text, nullable=False, server_default=text("'{}'")))


def downgrade() -> None:
    """Refuse: runs of every pool would go to any machine."""
    raise RuntimeError("a ledger is never taken back to an earlier revision; restore a backup instead")
