"""Reserve, extend and settle: the only writers of holds. Each is one transaction and may be repeated safely."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from quotas.domain.admission import Admitted, Decision, Request, borrow_limit, decide
from quotas.domain.extension import Extension, Standing
from quotas.domain.idleness import outcome_of
from quotas.domain.inventory import choose
from quotas.domain.ledger import Posting, TransferKind
from quotas.domain.policy import Policy
from quotas.domain.priorities import Priority, rates_of
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import HoldState, Limit, Outcome, RunKind, charged_seconds
from quotas.domain.units import LARGEST
from quotas.services import endings, settlement
from quotas.services.endings import tell_of_end, tell_of_memory
from quotas.store import admission as store
from quotas.store import audit, capacity, grants, seats
from quotas.store import ledger as ledger_store
from quotas.store import runs as runs_store
from quotas.store.database import Conflict, Database, DatabaseAway, Row, Transaction

ATTEMPTS = 5
"""How often a decision is taken again when another one took its balance first; then the ledger counts as away."""
BESIDE_OTHERS = 2
"""How many of the attempts run beside others on PostgreSQL; the next is alone, and nobody can overtake it."""
CLOCK_SECONDS = 300
"""How far a backend's clock may be ahead of ours."""


class Raced(Exception):  # noqa: N818 - named for what happened
    """Another transaction changed what the decision had read; nothing of this one is kept."""


RACED = (Conflict, Raced, ledger_store.BalanceShort)
"""What says that a transaction was overtaken; it is rolled back and tried anew."""


def reserve(database: Database, request: Request, now: int, policy: Policy) -> Decision:
    """The request is decided; when admitted, its run and hold are committed and the amount is held.

    The same `request.run_id` again returns the first answer. With `LEDGER_AWAY`, nothing was held; others are audited.
    """
    return answered(database, request.run_id, lambda transaction: reserve_in(transaction, request, now, policy))


def answered(database: Database, run_id: str, decide_in: Callable[[Transaction], Decision]) -> Decision:
    """Return what `decide_in` answers in a transaction of its own, asked again when overtaken, or was answered before.

    `Refused(LEDGER_AWAY)` means that nothing of it is kept.
    """
    for attempt in range(ATTEMPTS):
        try:
            try:
                with database.write(shared=attempt < BESIDE_OTHERS) as transaction:
                    return decide_in(transaction)
            except RACED:
                with database.read() as transaction:
                    stored = stored_answer(transaction, run_id)
                if stored is not None:
                    return stored
        except DatabaseAway:
            break
    return Refused(Code.LEDGER_AWAY)


def reserve_in(
    transaction: Transaction, request: Request, now: int, policy: Policy, closed: frozenset[int] = frozenset()
) -> Decision:
    """Decide and hold within the caller's transaction. Raises one of `RACED`: then it must be rolled back.

    Of the pools in `closed` nothing is taken. One who waits is asked about again and again: no event says so.
    """
    situation, keys = store.read_situation(transaction, request, now, policy)
    if closed:
        situation = replace(situation, pools=tuple(pool for pool in situation.pools if pool.id not in closed))
    if situation.open_run == request.run_id:
        raise Raced
    decision = decide(request, situation, now, policy)
    if isinstance(decision, Refused):
        # A batch run that is asked for again meets its own hold in the balance and in the ceiling.
        if runs_store.one(transaction, request.run_id) is not None:
            raise Raced
        if not request.in_turn:
            detail = {"code": decision.code.value, "profile": request.profile[:80], "kind": request.kind.value}
            audit.record(transaction, now, request.person, "start refused", request.project, detail)
        return decision
    chosen = _devices_for(transaction, decision)
    if chosen is None and decision.pool_id is not None:
        return reserve_in(transaction, request, now, policy, closed | {decision.pool_id})
    run = request.run_id
    transaction.run(
        store.INSERT_RUN,
        id=run,
        kind=request.kind.value,
        person_id=keys.person_id,
        project_id=keys.project_id,
        profile_id=keys.profile_id,
        door=request.door,
        requested_at=now,
        session_ends_at=_session_end(request, situation.session_seconds, now),
    )
    transaction.run(
        store.INSERT_HOLD,
        run_id=run,
        allocation_id=decision.allocation_id,
        pool_id=decision.pool_id,
        device_model=decision.device_model,
        device_count=decision.device_count,
        card_version=decision.card_version,
        gflops=decision.gflops,
        amount=decision.amount,
        opened_at=decision.opened_at,
        until_at=decision.until_at,
        priority=decision.priority.value,
        window_id=decision.window_id,
        ends_by=decision.ends_by,
    )
    ceiling = situation.allocation.ceiling_gflops if situation.allocation else 0
    _take(transaction, decision, borrow_limit(ceiling, policy), now)
    grants.grant(transaction, run, chosen or (), now)
    sides = ledger_store.Sides(decision.allocation_id, keys.available_account or 0, keys.held_account or 0)
    ledger_store.write(transaction, sides, Posting(f"{run}:hold", TransferKind.HOLD, decision.amount), now, run)
    audit.record(transaction, now, request.person, "start admitted", request.project, {"run": run})
    return decision


def _devices_for(transaction: Transaction, admitted: Admitted) -> tuple[int, ...] | None:
    """Return the devices that the run is to hold, none where the platform does not choose them.

    None where the pool counts enough and no single machine has them: some are being cleaned, or lie on several.
    """
    if admitted.pool_id is None or admitted.device_model is None or admitted.simulated:
        return ()
    if not grants.is_assigned(transaction, admitted.pool_id):
        return ()
    return choose(grants.free(transaction, admitted.pool_id, admitted.device_model), admitted.device_count)


def _session_end(request: Request, session_seconds: int | None, now: int) -> int | None:
    """Return when a server's person must have extended it."""
    if request.kind is not RunKind.NOTEBOOK or session_seconds is None:
        return None
    return now + session_seconds


def _take(transaction: Transaction, admitted: Admitted, beyond_limit: int, now: int) -> None:
    within, beyond = rates_of(admitted.priority, admitted.gflops)
    taken = transaction.run(
        store.TAKE_RATE,
        allocation_id=admitted.allocation_id,
        gflops=within,
        beyond=beyond,
        beyond_limit=beyond_limit,
        now=now,
    )
    if taken == 1 and admitted.window_id is not None:
        taken = transaction.run(seats.TAKE_SEAT, window_id=admitted.window_id, run=admitted.run_id, now=now)
    if taken == 1 and admitted.pool_id is not None:
        taken = transaction.run(
            store.TAKE_DEVICES if admitted.window_id is None else store.TAKE_RESERVED_DEVICES,
            model=admitted.device_model,
            pool=admitted.pool_id,
            count=admitted.device_count,
            now=now,
        )
    if taken != 1 or not (transaction.is_alone or store.still_has_room(transaction, admitted, now)):
        raise Raced


def stored_answer(transaction: Transaction, run_id: str) -> Decision | None:
    """Return what was answered to the request of this id; None where it was refused, or not asked yet."""
    row = runs_store.one(transaction, run_id)
    if row is None:
        return None
    if row.hold_state != HoldState.OPEN.value:
        return Refused(Code.RUN_ENDED, {"run": row.id})
    return Admitted(
        run_id=row.id,
        allocation_id=row.allocation_id,
        card_version=row.card_version,
        gflops=row.gflops,
        amount=row.amount,
        opened_at=row.opened_at,
        until_at=row.until_at,
        pool_id=row.pool_id,
        device_model=row.device_model,
        device_count=row.device_count,
        simulated=bool(row.simulated),
        priority=Priority(row.priority),
        window_id=row.window_id,
        ends_by=row.ends_by,
    )


def started(database: Database, run_id: str, started_at: float) -> None:
    """The run is known to be running since `started_at` (seconds UTC, the backend's own). Repeating changes nothing."""
    with database.write(shared=True) as transaction:
        transaction.run(runs_store.MARK_STARTED, run=run_id, at=math.floor(started_at))


def seen(database: Database, run_id: str, now: int) -> None:
    """The run was seen running at `now`: up to here it can be charged if its end stays unknown."""
    with database.write(shared=True) as transaction:
        transaction.run(runs_store.MARK_SEEN, run=run_id, at=now)


def seen_all(database: Database, run_ids: Iterable[str], now: int) -> None:
    """All of the runs were seen running at `now`, in one transaction: a round of the loop sees thousands."""
    ordered = sorted(run_ids)  # the same order in every transaction, so that none waits for another in a circle
    if not ordered:
        return
    with database.write(shared=True) as transaction:
        for run_id in ordered:
            transaction.run(runs_store.MARK_SEEN, run=run_id, at=now)


def extend(database: Database, run_id: str, now: int, policy: Policy) -> Extension:
    """The run's hold reaches as far as its rules allow, and rights were read anew; repeating it in time is harmless.

    A notebook's hold is extended when less than `policy.extend_below` is left. When it cannot reach a full window,
    the person gets a notice once, and the answer says when to stop it. Raises DatabaseAway: the hold stays as it is.
    """
    for _ in range(ATTEMPTS):
        try:
            with database.write() as transaction:
                return _extend(transaction, run_id, now, policy)
        except (Raced, Conflict, ledger_store.BalanceShort):
            continue
    raise DatabaseAway("the hold could not be extended: its balance changed at every attempt")


def _extend(  # noqa: PLR0911 - one return for each way a hold can stand
    transaction: Transaction, run_id: str, now: int, policy: Policy
) -> Extension:
    row = runs_store.one(transaction, run_id)
    if row is None or row.hold_state != HoldState.OPEN.value:
        return Extension(Standing.CLOSED, row.until_at if row else now)
    if endings.is_kept(row, now, policy):
        return Extension(Standing.KEPT, row.until_at)
    if not endings.may_still_run(row):
        return tell_of_end(transaction, row, Extension(Standing.ENDING, row.until_at, now, Limit.RIGHTS), now)
    if row.preempt_at is not None:
        stop_at = min(row.preempt_at, row.until_at - policy.stop_margin)
        return Extension(Standing.ENDING, row.until_at, stop_at, Limit.PREEMPTED)
    ending = endings.unattended(row, now, policy)
    if ending is not None:
        return tell_of_end(transaction, row, ending, now)
    full_length = endings.full_length(row)
    if full_length is not None:
        return tell_of_end(transaction, row, Extension(Standing.ENDING, row.until_at, now, full_length), now)
    wanted = now + policy.hold + policy.stop_margin
    reach, limit = _reach(transaction, row, wanted, now, policy)
    until_at = row.until_at
    if reach > until_at:
        _pay_until(transaction, row, reach, now)
        until_at = reach
        # Now the stored hold counts in the room itself, and so does what another transaction has just stored.
        if not transaction.is_alone and _spoken_for(transaction, row, 0, until_at, now) is not None:
            raise Raced
    if until_at >= wanted:
        if row.warned_at is not None and row.ends_by is None:  # the balance came back; a new end is told again
            transaction.run(runs_store.UNMARK_WARNED, run=row.id)
        return Extension(Standing.EXTENDED, until_at)
    stop_at = until_at - policy.stop_margin
    return tell_of_end(transaction, row, Extension(Standing.ENDING, until_at, stop_at, limit), now)


def _reach(transaction: Transaction, row: Row, wanted: int, now: int, policy: Policy) -> tuple[int, Limit]:
    """Return how far the hold may reach, never less than it does, and the limit that stands nearest."""
    limits = [
        (row.award_ends_at, Limit.AWARD_END),
        (row.until_at + row.available // row.gflops, Limit.BUDGET),
    ]
    if row.session_ends_at is not None:
        limits.append((row.session_ends_at + policy.stop_margin, Limit.SESSION))
    if row.suspended_at is not None:
        limits.append((row.until_at, Limit.SUSPENDED))
    if row.ends_by is not None:
        limits.append((row.ends_by, Limit.CAPACITY))
    spoken_for = _spoken_for(transaction, row, row.device_count, wanted, now)
    if spoken_for is not None:
        limits.append((spoken_for, Limit.CAPACITY))
    nearest, limit = min(limits, key=lambda each: each[0])
    return max(min(wanted, nearest), row.until_at), limit


def _spoken_for(transaction: Transaction, row: Row, needed: int, until_at: int, now: int) -> int | None:
    """Return the first instant from the end of the known hold on, before `until_at`, with less than `needed` free."""
    if row.pool_id is None:
        return None
    coming = capacity.events(transaction, row.device_model, now, until_at, extending=True).get(row.pool_id, ())
    return next((event.at for event in coming if event.at >= row.until_at and event.room < needed), None)


def _pay_until(transaction: Transaction, row: Row, until_at: int, now: int) -> None:
    more = (until_at - row.until_at) * row.gflops
    changed = transaction.run(
        runs_store.EXTEND_HOLD, run=row.id, old_until_at=row.until_at, new_until_at=until_at, more=more
    )
    if changed != 1:
        raise Raced
    posting = Posting(f"{row.id}:extend:{row.extensions + 1}", TransferKind.EXTEND, more)
    ledger_store.post(transaction, row.allocation_id, posting, now, row.id)


@dataclass(frozen=True)
class Ended:
    """How a run ended, by its backend. Instants in seconds UTC; `started_at` None: it never ran, nothing is charged.

    `finished_at` None: nobody recorded its end; it is charged until it was last seen.
    """

    started_at: float | None
    finished_at: float | None
    outcome: Outcome
    exit_code: int | None = None


@dataclass(frozen=True)
class Charge:
    """What a run cost: `amount` GFLOPS·s for `seconds`, of which `overrun` was beyond its hold. 0 for a voided hold."""

    run_id: str
    seconds: int
    amount: int
    overrun: int
    settled_now: bool


def settle(database: Database, run_id: str, ended: Ended, now: int) -> Charge | None:
    """The run's hold is closed and its charge written, exactly once; repeating returns the stored charge.

    Returns None for a run that was never admitted. Raises DatabaseAway when nothing could be written.
    """
    for attempt in range(ATTEMPTS):
        try:
            with database.write(shared=attempt < BESIDE_OTHERS) as transaction:
                return settle_in(transaction, run_id, ended, now)
        except RACED:
            continue
    raise DatabaseAway("the run could not be settled: its hold changed at every attempt")


def settle_in(transaction: Transaction, run_id: str, ended: Ended, now: int) -> Charge | None:
    """Settle within the caller's transaction. Raises one of `RACED`: then it must be rolled back."""
    row = runs_store.one(transaction, run_id)
    if row is None:
        return None
    if row.hold_state != HoldState.OPEN.value:
        return Charge(run_id, row.seconds or 0, row.charge or 0, row.overrun_amount or 0, settled_now=False)
    return _settle(transaction, row, ended, now)


def _ran(row: Row, ended: Ended, now: int) -> tuple[float | None, float | None, Outcome]:
    """Return (started at, finished at, outcome): never before its hold, and a known end that is no later than now.

    An end in the future is a broken clock, not use: it counts as unknown.
    """
    started_at = ended.started_at if ended.started_at is not None else row.started_at
    if started_at is None:
        return None, None, ended.outcome
    started_at = max(started_at, row.opened_at)
    finished_at, outcome = ended.finished_at, ended.outcome
    if finished_at is None or finished_at > now + CLOCK_SECONDS:
        finished_at, outcome = row.seen_at or started_at, Outcome.LOST
    return started_at, max(finished_at, started_at), outcome_of(outcome, row.idle_stop_at, finished_at)


def _settle(transaction: Transaction, row: Row, ended: Ended, now: int) -> Charge:
    started_at, finished_at, outcome = _ran(row, ended, now)
    seconds = 0
    if started_at is not None and finished_at is not None:
        seconds = min(charged_seconds(started_at, finished_at), LARGEST // row.gflops)
        if row.pool_id is not None:
            seconds = max(seconds - grants.paused_seconds(transaction, row.id, started_at, finished_at), 0)
    if row.pool_id is not None:  # only what holds devices can have lost one
        grants.end_pauses(transaction, row.id, now if finished_at is None else math.ceil(finished_at))
    closed = settlement.close(transaction, row, seconds, now)
    if closed is None:
        raise Raced
    amount, overrun = closed
    transaction.run(
        runs_store.MARK_SETTLED,
        run=row.id,
        started_at=None if started_at is None else math.floor(started_at),
        finished_at=None if finished_at is None else math.ceil(finished_at),
        outcome=outcome.value,
        exit_code=ended.exit_code,
    )
    if outcome is Outcome.OUT_OF_MEMORY:
        tell_of_memory(transaction, row, now)
    detail = {"outcome": outcome.value, "seconds": seconds, "amount": amount, "overrun": overrun}
    audit.record(transaction, now, "platform", "run settled", row.id, detail)
    return Charge(row.id, seconds, amount, overrun, settled_now=True)
