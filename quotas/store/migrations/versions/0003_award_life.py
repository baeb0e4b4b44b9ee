"""The life of an award: tranches, changes, renewals, reports and recalls.

Revision 0003.
"""

from __future__ import annotations

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """The tables of this revision exist."""


def downgrade() -> None:
    """Refuse: what was decided is never forgotten."""
    raise RuntimeError("a ledger is never taken back to an earlier revision; restore a backup instead")
