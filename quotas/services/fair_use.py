"""What a project has used counts in its fair share, once for each charge; what is refunded counts no more."""

from __future__ import annotations

from quotas.domain import fair_share
from quotas.store import fair_use as store
from quotas.store.database import Transaction

ATTEMPTS = 20
"""How often another transaction may be first to count; each of them did."""


def count(transaction: Transaction, allocation_id: int, amount: int, charged_at: int, now: int) -> None:
    """The `amount` (GFLOPS·s) charged at `charged_at` counts from now on; one below zero, refunded, does no more."""
    for _ in range(ATTEMPTS):
        row = transaction.one(store.USE, allocation_id=allocation_id)
        if row is None:
            return
        at = max(now, row.decayed_at)
        changed = transaction.run(
            store.COUNT,
            allocation_id=allocation_id,
            counted_at=row.decayed_at,
            left=fair_share.decayed(1.0, row.decayed_at, at),
            amount=fair_share.decayed(float(amount), charged_at, at),
            at=at,
        )
        if changed == 1:
            return
