"""The rounds of recalls: each month proposals for all awards, and every recall's next step when its time has come."""

from __future__ import annotations

import contextlib

from quotas.domain.months import month_of
from quotas.domain.recalls import RecallPolicy, RecallState
from quotas.domain.units import DAY_SECONDS, InvalidValue
from quotas.services import recall_steps, recalls
from quotas.store import recalls as store
from quotas.store.database import Database

ACTOR = "platform"
SETTLE_SECONDS = DAY_SECONDS
"""How long after a month's end its runs are given to be settled before its use is read."""
STEPS_AT_ONCE = 50


def go_round(
    database: Database, policy: RecallPolicy, round_name: str, position: int, now: int
) -> tuple[str, int, bool]:
    """Recalls took the steps that are due, and some awards were assessed for the month that is over.

    `round_name` is the month that the last call was about and `position` the last award of it, -1 after all; return
    both anew, and whether more is due already.
    """
    stepped = advance(database, policy, now)
    if not policy.automatic:
        return round_name, position, stepped
    month = month_of(now).plus(-1)
    if now < month.ends_at + SETTLE_SECONDS or (round_name == str(month) and position < 0):
        return round_name, position, stepped
    after = position if round_name == str(month) else 0
    _, last = recalls.propose_some(database, month, policy, after, actor=ACTOR, now=now)
    return str(month), -1 if last is None else last, True


def advance(database: Database, policy: RecallPolicy, now: int) -> bool:
    """Some of the recalls whose time has come took their next step; return whether there are more."""
    with database.read() as transaction:
        rows = store.to_do(transaction, now, STEPS_AT_ONCE)
    for row in rows:
        # Someone may have decided it, or objected to it, since it was read: then it is not this round's any more.
        with contextlib.suppress(InvalidValue):
            _step(database, row.id, RecallState(row.state), policy, now)
    return bool(rows)


def _step(database: Database, recall: int, state: RecallState, policy: RecallPolicy, now: int) -> None:
    if recall_steps.lapse(database, recall, actor=ACTOR, now=now):
        return
    if state is RecallState.PROPOSED:
        recall_steps.notify(database, recall, policy, actor=ACTOR, now=now)
    elif state is RecallState.NOTIFIED:
        recall_steps.expect(database, recall, now=now)
    elif state is RecallState.DUE:
        recall_steps.execute(database, recall, actor=ACTOR, now=now)
