"""One step of the waiting queue: whose turn it is now, whose turn is over, and whose server is to be asked for.

A step reads who waits, and decides about a bounded number of them, each in a transaction of its own: a step that is
cut off anywhere is gone on with by the next, and two at the same time give no turn twice.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from functools import partial

from quotas.domain.admission import Admitted, Request
from quotas.domain.fair_share import decayed
from quotas.domain.policy import Policy
from quotas.domain.priorities import Priority
from quotas.domain.queue import (
    DOOR,
    PASSED_OVER,
    SHORTEST_TURN_SECONDS,
    EntryState,
    Mode,
    Place,
    QueueLimits,
    Room,
    Share,
    Waiting,
    in_order,
    looked_at,
)
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import RunKind
from quotas.domain.units import show_duration, show_instant
from quotas.services import preemption
from quotas.services.admission import Raced, reserve_in
from quotas.services.queue_entries import Entry, alone, end_in, entry_of, tell_end, tell_turn
from quotas.store import preemption as holders_store
from quotas.store import queue as store
from quotas.store import runs as runs_store
from quotas.store.database import Database, DatabaseAway, Row, Transaction

log = logging.getLogger("mudeung.queue")

DECISIONS = 64
"""About how many entries of a device model one step decides."""
OTHERS_LOOKED_AT = 16
"""How many of these are entries for which nothing is free: see :func:`quotas.domain.queue.looked_at`."""
ASKING = 8
"""For how many of those before one step asks others to give way."""
OVER_AT_ONCE = 100
ASK_AGAIN_SECONDS = 10
"""How long the hub has to take a server on before it is asked again."""


def step(database: Database, now: int, policy: Policy, limits: QueueLimits | None = None) -> Counter[str]:
    """Turns that were not taken have ended, and whoever can start now, in order, has their turn; return how many each.

    Of a device model on which a step fails the others know nothing. Raises DatabaseAway.
    """
    with database.read() as transaction:
        models = store.models(transaction)
    done: Counter[str] = Counter()
    for model in models:
        one = _Step(database, model, now, policy, limits or QueueLimits(), done)
        try:
            one.end_what_is_over()
            one.give_turns()
        except DatabaseAway:
            raise
        except Exception:
            log.exception("the queue for %s was not finished; the next step begins anew", model)
    return done


@dataclass(frozen=True)
class _Looked:
    """What a decision about an entry came to: `turn`, `waits`, `blocked`, `ended` or `gone`.

    `pool_id` and `amount` are of the turn's hold; `coming`: devices are on their way to one who waits.
    """

    result: str
    pool_id: int | None = None
    amount: int = 0
    coming: bool = False


@dataclass
class _Step:
    """One step for one device model."""

    database: Database
    model: str
    now: int
    policy: Policy
    limits: QueueLimits
    done: Counter[str]

    def end_what_is_over(self) -> None:
        """No turn goes on that was not taken in time."""
        with self.database.read() as transaction:
            over = store.over(transaction, self.model, self.now, OVER_AT_ONCE)
        for row in over:
            self.done["expired"] += alone(self.database, partial(self._end_turn, run_id=row.run_id))

    def _end_turn(self, transaction: Transaction, run_id: str) -> int:
        entry = store.one(transaction, run_id)
        if entry is None or entry.state != EntryState.TURN.value or entry.turn_until > self.now:
            return 0
        until = show_instant(entry.turn_until)
        reasons = (f"{until}까지 시작하지 않아 차례가 지났습니다.", f"the turn was not taken by {until}.")
        if entry.kind != RunKind.NOTEBOOK.value or entry.mode == Mode.START.value:
            reasons = (f"{until}까지 시작하지 못했습니다.", f"the start did not succeed by {until}.")
        end_in(transaction, entry, EntryState.EXPIRED, self.now, actor="platform", reasons=reasons)
        tell_end(transaction, entry, reasons, self.now)
        return 1

    def give_turns(self) -> None:
        """Whoever can start now, in their order, has their turn; what comes free is kept for those before."""
        with self.database.read() as transaction:
            rows = store.line(transaction, self.model, self.now)
            pools = holders_store.pools_of(transaction, self.model, self.now) if rows else []
        rows = self._without_expired(rows)
        waiting = [waiting_of(row) for row in rows]
        shares = shares_of(rows, self.now)
        room = Room([Place(each.pool_id, usable(each), free(each)) for each in pools])
        others = looked_at(waiting, OTHERS_LOOKED_AT, self.now)
        line, decisions, asking = in_order(waiting, shares)[::-1], DECISIONS, ASKING
        while line and decisions:
            entry = line.pop()
            if entry.blocked_by is not None and entry.run_id not in others:
                continue
            ask = asking > 0 and entry.wish is Priority.GUARANTEED and room.could_hold(entry)
            if not (ask or room.has_room(entry) or entry.run_id in others):
                room.keep(entry, lent=entry.wish is Priority.GUARANTEED)
                continue
            decisions -= 1
            looked = self._look(entry, room, ask=ask)
            self.done[looked.result] += 1
            if looked.result == "turn":
                room.take(looked.pool_id, entry.device_count)
                shares[entry.project] = shares[entry.project].with_held(looked.amount)
                line = in_order(line, shares)[::-1]
            elif looked.result == "waits":
                room.keep(entry, lent=entry.wish is Priority.GUARANTEED and not looked.coming)
                if ask:
                    asking = asking - 1 if looked.coming else 0

    def _without_expired(self, rows: list[Row]) -> list[Row]:
        """Return the entries that may go on waiting; the others have ended, those that came first before."""
        joined_by = self.now - self.limits.wait_seconds
        late = sorted((row.joined_at, row.run_id) for row in rows if row.joined_at <= joined_by)[:OVER_AT_ONCE]
        ended = {run_id for _, run_id in late}
        for run_id in sorted(ended):
            self.done["expired"] += alone(self.database, partial(self._give_up, run_id=run_id))
        return [row for row in rows if row.run_id not in ended]

    def _give_up(self, transaction: Transaction, run_id: str) -> int:
        entry = store.one(transaction, run_id)
        if entry is None or entry.state != EntryState.WAITING.value:
            return 0
        limit = self.limits.wait_seconds
        reasons = (
            f"{show_duration(limit, 'ko')} 안에 차례가 되지 않았습니다.",
            f"its turn did not come within {show_duration(limit)}.",
        )
        end_in(transaction, entry, EntryState.EXPIRED, self.now, actor="platform", reasons=reasons)
        tell_end(transaction, entry, reasons, self.now)
        return 1

    def _look(self, waiting: Waiting, room: Room, *, ask: bool) -> _Looked:
        return alone(self.database, lambda transaction: self._decide(transaction, waiting, room, ask=ask))

    def _decide(self, transaction: Transaction, waiting: Waiting, room: Room, *, ask: bool) -> _Looked:
        entry = store.one(transaction, waiting.run_id)
        if entry is None or entry.state != EntryState.WAITING.value:
            return _Looked("gone")
        if runs_store.one(transaction, entry.run_id) is not None:  # it was admitted before its turn
            end_in(transaction, entry, EntryState.TAKEN, self.now, actor="platform")
            return _Looked("gone")
        decision = reserve_in(transaction, _request(entry), self.now, self.policy, room.closed_to(waiting))
        if isinstance(decision, Admitted):
            self._give_turn(transaction, entry, decision)
            return _Looked("turn", decision.pool_id, decision.amount)
        if decision.code is Code.POOL_FULL and room.could_hold(waiting):
            _block(transaction, entry, None)
            return _Looked("waits", coming=ask and self._make_room(transaction, entry))
        if decision.code in PASSED_OVER:
            _block(transaction, entry, decision.code.value)
            return _Looked("blocked")
        self._refuse(transaction, entry, decision)
        return _Looked("ended")

    def _give_turn(self, transaction: Transaction, entry: Row, admitted: Admitted) -> None:
        """The devices are held, and kept for as long as an offer; a short hold is not used up by waiting for it."""
        until = self.now + self.policy.offer
        if entry.kind == RunKind.NOTEBOOK.value:
            until = min(until, max(admitted.until_at - self.policy.minimum, self.now + SHORTEST_TURN_SECONDS))
        if not store.to_turn(transaction, entry.run_id, self.now, until):
            raise Raced
        preemption.spare(transaction, entry.run_id, self.now)
        tell_turn(transaction, entry, until, self.now)

    def _make_room(self, transaction: Transaction, entry: Row) -> bool:
        return preemption.make_room(
            transaction,
            device_model=entry.device_model,
            device_count=entry.device_count,
            for_run=entry.run_id,
            now=self.now,
            policy=self.policy,
        )

    def _refuse(self, transaction: Transaction, entry: Row, refused: Refused) -> None:
        reasons = refused.sentence("ko"), refused.sentence("en")
        end_in(transaction, entry, EntryState.REFUSED, self.now, actor="platform", reasons=reasons)
        tell_end(transaction, entry, reasons, self.now)


def usable(pool: Row) -> int:
    """Return how many devices of a pool can be used at all: now, or once they are cleaned."""
    return int(pool.healthy - pool.drained + pool.cleaning)


def free(pool: Row) -> int:
    """Return how many devices of a pool can be held now."""
    return int(pool.healthy - pool.drained - pool.in_use - pool.reserved)


def waiting_of(row: Row) -> Waiting:
    """Return a row of :func:`quotas.store.queue.line` as the order reads it."""
    return Waiting(
        row.run_id, row.project, Priority(row.wish), row.joined_at, row.device_count, row.seconds, row.blocked_by
    )


def shares_of(rows: list[Row], now: int) -> dict[str, Share]:
    """Return the projects' shares, what is held for them now included; one without an award has none."""
    return {
        row.project: Share(decayed(row.decayed_use, row.decayed_at, now) + (row.held or 0), row.award_gflops)
        if row.award_gflops is not None
        else Share(0.0, 0)
        for row in rows
    }


def _request(entry: Row) -> Request:
    return Request(
        run_id=entry.run_id,
        kind=RunKind(entry.kind),
        person=entry.person,
        project=entry.project,
        profile=entry.profile,
        seconds=entry.seconds,
        door=DOOR,
        wish=Priority(entry.wish),
        in_turn=True,
    )


def _block(transaction: Transaction, entry: Row, reason: str | None) -> None:
    if entry.blocked_by != reason and not store.block(transaction, entry.run_id, reason):
        raise Raced


def to_start(database: Database, now: int, most: int) -> list[Entry]:
    """Return entries in their turn whose servers the caller is to ask the hub for; nobody else does for a while."""
    before = now - ASK_AGAIN_SECONDS
    with database.read() as transaction:
        rows = store.to_start(transaction, now, before, most)
    if not rows:
        return []
    with database.write() as transaction:
        return [entry_of(row) for row in rows if store.asked(transaction, row.run_id, now, before)]
