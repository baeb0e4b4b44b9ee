"""What a cluster calls the devices of a run that the platform does not know by itself.

Revision 0010.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy.schema import Column
from sqlalchemy.types import Text

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Runs have a text for it, which none has yet."""
    op.add_column("runs", Column("cluster_devices", Text))


def downgrade() -> None:
    """Refuse: what was charged for would be forgotten."""
    raise RuntimeError("a ledger is never taken back to an earlier revision; restore a backup instead")
