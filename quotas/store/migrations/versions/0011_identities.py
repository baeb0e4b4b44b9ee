"""Persons are removed and restored, and an account at an identity provider is one person's.

Revision 0011.
"""

from __future__ import annotations

from alembic import op
from sqlalchemy.schema import Column, ForeignKey, UniqueConstraint
from sqlalchemy.types import BigInteger, Integer, String

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Nobody is removed, and no account is anyone's yet."""
    op.add_column("persons", Column("removed_at", BigInteger))
    op.create_table(
        "identities",
        Column("issuer", String(500), primary_key=True),
        Column("subject", String(255), primary_key=True),
        Column("person_id", Integer, ForeignKey("persons.id"), nullable=False),
        Column("linked_at", BigInteger, nullable=False),
        UniqueConstraint("person_id", "issuer"),
    )


def downgrade() -> None:
    """Refuse: accounts would be anyone's of that name again."""
    raise RuntimeError("a ledger is never taken back to an earlier revision; restore a backup instead")
