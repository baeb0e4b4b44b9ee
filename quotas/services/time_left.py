"""How long a run may go on as the ledger stands, and which limit binds."""

from __future__ import annotations

from quotas.domain.policy import Policy
from quotas.domain.projects import ProjectState
from quotas.domain.runs import Limit, Reach, RunKind, TimeLeft, time_left
from quotas.store import capacity
from quotas.store.database import Row, Transaction


def of_run(row: Row, now: int, policy: Policy, spoken_for_at: int | None = None) -> TimeLeft:
    """Return the time until the run is stopped, as the ledger stands: a margin before its last hold ends.

    `spoken_for_at`: from then on others have its devices (see :func:`of_open_run`).
    """
    if row.role is None or row.project_state != ProjectState.APPROVED.value or row.revoked_at is not None:
        return TimeLeft(0, Limit.RIGHTS)
    margin = policy.stop_margin
    known = (
        (_unextended(row, row.preempt_at, margin), Limit.PREEMPTED),
        (_unextended(row, row.lost_stop_at, margin), Limit.DEVICE_LOST),
        (None if row.idle_stop_at is None else row.idle_stop_at + margin, Limit.IDLE),
        (None if row.session_ends_at is None else row.session_ends_at + margin, Limit.SESSION),
        (row.until_at if row.kind == RunKind.BATCH.value else None, Limit.TIMEOUT),
        (None if row.window_id is None else row.until_at, Limit.SEAT),
        (None if row.ends_by is None else max(row.ends_by, row.until_at), Limit.CAPACITY),
        (None if spoken_for_at is None else max(spoken_for_at, row.until_at), Limit.CAPACITY),
        (None if row.suspended_at is None else row.until_at, Limit.SUSPENDED),
    )
    ends = tuple((at, limit) for at, limit in known if at is not None)
    left = time_left(Reach(row.until_at, row.award_ends_at, ends), row.available, row.gflops, now)
    return TimeLeft(max(left.seconds - margin, 0), left.limit)


def of_open_run(transaction: Transaction, row: Row, now: int, policy: Policy) -> TimeLeft:
    """Return the same, and know of devices that others have within the time that the next extension would reach."""
    spoken_for_at = None
    if row.pool_id is not None and row.kind == RunKind.NOTEBOOK.value:
        reach = now + policy.hold + policy.stop_margin
        coming = capacity.events(transaction, row.device_model, now, reach, extending=True).get(row.pool_id, ())
        later = (event.at for event in coming if event.at >= row.until_at and event.room < row.device_count)
        spoken_for_at = next(later, None)
    return of_run(row, now, policy, spoken_for_at)


def _unextended(row: Row, stop_at: int | None, margin: int) -> int | None:
    """Return the end of the hold of a run that is to be stopped at `stop_at`, when it was told, and no margin before.

    Such a run is extended no more, so that its hold may end first, where that is not the budget's doing.
    """
    if stop_at is None:
        return None
    end = int(stop_at) + margin
    return min(end, int(row.until_at)) if row.available >= row.gflops else end
