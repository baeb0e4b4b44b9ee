"""What devices cost in KRW beside compute, and more facts of devices.

Revision 0004.
"""

from __future__ import annotations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """The tables of this revision exist."""


def downgrade() -> None:
    """Refuse: what was decided is never forgotten."""
    raise RuntimeError("a ledger is never taken back to an earlier revision; restore a backup instead")
