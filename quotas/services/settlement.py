"""A hold is closed once: devices, rate and seat are given back, and what was used is charged."""

from __future__ import annotations

from quotas.domain import ledger
from quotas.domain.priorities import Priority, rates_of
from quotas.domain.runs import HoldState, RunKind
from quotas.services import fair_use
from quotas.store import admission as store
from quotas.store import grants, seats
from quotas.store import ledger as ledger_store
from quotas.store import runs as runs_store
from quotas.store.database import Row, Transaction


def close(transaction: Transaction, row: Row, seconds: int, now: int) -> tuple[int, int] | None:
    """The run's hold is closed and `seconds` at its rate are charged, nothing for 0; return (amount, overrun).

    `row` is the run as it was read; None, and nothing is changed, where its hold is not so any more.
    """
    amount = seconds * row.gflops
    state = HoldState.POSTED if amount else HoldState.VOIDED
    if transaction.run(runs_store.CLOSE_HOLD, run=row.id, amount=row.amount, new_state=state.value, at=now) != 1:
        return None
    _give_back(transaction, row, now)
    overrun = max(amount - row.amount, 0)
    for posting in ledger.settle(row.id, row.amount, amount):
        ledger_store.post(transaction, row.allocation_id, posting, now, row.id)
    if amount:
        transaction.run(
            runs_store.INSERT_CHARGE,
            run=row.id,
            allocation_id=row.allocation_id,
            card_version=row.card_version,
            gflops=row.gflops,
            seconds=seconds,
            amount=amount,
            overrun_amount=overrun,
            settled_at=now,
        )
        fair_use.count(transaction, row.allocation_id, amount, now, now)
    return amount, overrun


def _give_back(transaction: Transaction, row: Row, now: int) -> None:
    within, beyond = rates_of(Priority(row.priority), row.gflops)
    transaction.run(store.GIVE_RATE, allocation_id=row.allocation_id, gflops=within, beyond=beyond)
    kept = 0
    if row.window_id is not None and row.kind == RunKind.NOTEBOOK.value:
        kept = row.device_count * transaction.run(seats.GIVE_SEAT, window_id=row.window_id, now=now)
    if row.pool_id is not None:
        grants.release(transaction, row.id, now)
        transaction.run(store.GIVE_DEVICES, model=row.device_model, pool=row.pool_id, count=row.device_count, kept=kept)
