"""Who holds the devices of a pool, how firmly, and until when; and the marks of those that are to give way."""

from __future__ import annotations

from sqlalchemy import BigInteger, BindParameter, and_, bindparam, func, literal, select, update

from quotas.domain.fair_share import decayed, factor
from quotas.domain.ledger import AccountKind
from quotas.domain.priorities import Holder, Priority
from quotas.domain.queue import EntryState
from quotas.domain.runs import HoldState, RunState
from quotas.store.capacity import being_cleaned, healthy_at
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    accounts,
    allocations,
    awards,
    holds,
    pool_devices,
    pools,
    profiles,
    projects,
    queue_entries,
    runs,
)

_now: BindParameter[int] = bindparam("now", type_=BigInteger)
_model: BindParameter[str] = bindparam("model")
_run: BindParameter[str] = bindparam("run")


def _word(text: str) -> BindParameter[str]:
    return literal(text, literal_execute=True)


_POOLS = Prepared(
    select(
        pool_devices.c.pool_id,
        pools.c.code,
        pool_devices.c.in_use,
        pool_devices.c.drained,
        pool_devices.c.reserved,
        being_cleaned.label("cleaning"),
        func.coalesce(healthy_at(_now), 0).label("healthy"),
    )
    .join(pools, pools.c.id == pool_devices.c.pool_id)
    .where(pool_devices.c.device_model == _model)
    .order_by(pool_devices.c.pool_id)
)

_OPEN = (
    select(
        runs.c.id,
        runs.c.kind,
        runs.c.state,
        runs.c.person_id,
        runs.c.warned_at,
        runs.c.preempt_at,
        runs.c.preempted_for,
        runs.c.lost_stop_at,
        projects.c.code.label("project"),
        profiles.c.code.label("profile"),
        holds.c.allocation_id,
        holds.c.pool_id,
        holds.c.device_model,
        holds.c.device_count,
        holds.c.priority,
        holds.c.opened_at,
        holds.c.until_at,
        holds.c.extensions,
        holds.c.ends_by,
        holds.c.window_id,
        holds.c.gflops,
        accounts.c.balance.label("available"),
        allocations.c.suspended_at,
        allocations.c.ends_at.label("award_ends_at"),
        awards.c.gflops.label("award_gflops"),
        allocations.c.decayed_use,
        allocations.c.decayed_at,
    )
    .select_from(holds)
    .join(runs, runs.c.id == holds.c.run_id)
    .join(projects, projects.c.id == runs.c.project_id)
    .join(profiles, profiles.c.id == runs.c.profile_id)
    .join(allocations, allocations.c.id == holds.c.allocation_id)
    .join(awards, awards.c.id == allocations.c.award_id)
    .join(
        accounts,
        and_(
            accounts.c.allocation_id == holds.c.allocation_id,
            accounts.c.kind == _word(AccountKind.AVAILABLE.value),
        ),
    )
    .where(holds.c.state == _word(HoldState.OPEN.value))
)
_OF_MODEL = Prepared(_OPEN.where(holds.c.device_model == _model).order_by(holds.c.run_id))

# The runs come first: there are few that are to give way, and an index of them only.
_TO_GIVE_WAY = _OPEN.where(runs.c.preempted_for.is_not(None), runs.c.state != _word(RunState.SETTLED.value))
_PREEMPTED_FOR = Prepared(_TO_GIVE_WAY.where(runs.c.preempted_for == bindparam("for_run")).order_by(holds.c.run_id))
_waits = (
    select(queue_entries.c.run_id)
    .where(
        queue_entries.c.run_id == runs.c.preempted_for,
        queue_entries.c.state == _word(EntryState.WAITING.value),
        queue_entries.c.ended_at.is_(None),
        queue_entries.c.blocked_by.is_(None),
    )
    .correlate(runs)
)
_IN_VAIN = Prepared(_TO_GIVE_WAY.where(~_waits.exists()).order_by(runs.c.preempted_for, runs.c.id))

_WAITING = Prepared(
    select(queue_entries.c.run_id, queue_entries.c.device_count).where(
        queue_entries.c.device_model == _model,
        queue_entries.c.state == _word(EntryState.WAITING.value),
        queue_entries.c.ended_at.is_(None),
        queue_entries.c.blocked_by.is_(None),
    )
)

_MARK = Prepared(
    update(runs)
    .where(runs.c.id == _run, runs.c.state == _word(RunState.RUNNING.value), runs.c.preempt_at.is_(None))
    .values(preempt_at=bindparam("at"), preempted_for=bindparam("for_run"))
)
_HAND_OVER = Prepared(
    update(runs)
    .where(
        runs.c.id == _run, runs.c.preempted_for == bindparam("old_run"), runs.c.state != _word(RunState.SETTLED.value)
    )
    .values(preempted_for=bindparam("for_run"))
)
_UNMARK = Prepared(
    update(runs)
    .where(runs.c.id == _run, runs.c.preempted_for == bindparam("for_run"))
    .values(preempt_at=None, preempted_for=None)
)


def pools_of(transaction: Transaction, device_model: str, now: int) -> list[Row]:
    """Return the pools that have the model, by id: what of it is healthy, drained, being cleaned, in use, reserved."""
    return transaction.rows(_POOLS, model=device_model, now=now)


def open_holds(transaction: Transaction, device_model: str) -> list[Row]:
    """Return every run that holds devices of the model, with its hold and what its project's fair share follows from.

    There are at the most as many as there are devices.
    """
    return transaction.rows(_OF_MODEL, model=device_model)


def preempted_for(transaction: Transaction, for_run: str) -> list[Row]:
    """Return the open runs that are to be stopped for `for_run`."""
    return transaction.rows(_PREEMPTED_FOR, for_run=for_run)


def preempted_in_vain(transaction: Transaction) -> list[Row]:
    """Return the open runs that are to be stopped for one that does not wait for devices any more."""
    return transaction.rows(_IN_VAIN)


def waiting(transaction: Transaction, device_model: str) -> dict[str, int]:
    """Return the devices that each of those wants who wait for the model, by the run that they would become."""
    return {row.run_id: row.device_count for row in transaction.rows(_WAITING, model=device_model)}


def holder(row: Row, now: int, *, asked: bool = False) -> Holder:
    """Return the run of :func:`open_holds` as the order of giving way reads it."""
    use = decayed(row.decayed_use, row.decayed_at, now)
    share = factor(use, row.award_gflops)
    return Holder(row.id, Priority(row.priority), share, row.opened_at, row.device_count, asked)


def mark(transaction: Transaction, run_id: str, at: int, for_run: str) -> bool:
    """The run is to be stopped at `at` for another one; return False where it ended or was to be stopped already."""
    return transaction.run(_MARK, run=run_id, at=at, for_run=for_run) == 1


def hand_over(transaction: Transaction, run_id: str, old_run: str, for_run: str) -> bool:
    """The run is stopped when it was to be, but for `for_run`; return False where it was not to be for `old_run`."""
    return transaction.run(_HAND_OVER, run=run_id, old_run=old_run, for_run=for_run) == 1


def unmark(transaction: Transaction, run_id: str, for_run: str) -> bool:
    """The run may go on; return False where it was not to be stopped for this one."""
    return transaction.run(_UNMARK, run=run_id, for_run=for_run) == 1
