"""How long a run may go on as the ledger stands, and which limit binds."""

from __future__ import annotations

from quotas.domain.policy import Policy
from quotas.domain.projects import ProjectState
from quotas.domain.runs import Limit, Reach, TimeLeft, time_left
from quotas.store.database import Row


def of_run(row: Row, now: int, policy: Policy) -> TimeLeft:
    """Return the time until the run is stopped, as the ledger stands: a margin before its last hold ends."""
    if row.role is None or row.project_state != ProjectState.APPROVED.value or row.revoked_at is not None:
        return TimeLeft(0, Limit.RIGHTS)
    margin = policy.stop_margin
    known = (
        # A preempted run is stopped when it was told, and not a margin before.
        (None if row.preempt_at is None else row.preempt_at + margin, Limit.PREEMPTED),
        (None if row.lost_stop_at is None else row.lost_stop_at + margin, Limit.DEVICE_LOST),
        (None if row.idle_stop_at is None else row.idle_stop_at + margin, Limit.IDLE),
        (None if row.session_ends_at is None else row.session_ends_at + margin, Limit.SESSION),
        (None if row.window_id is None else row.until_at, Limit.SEAT),
        (None if row.ends_by is None else max(row.ends_by, row.until_at), Limit.CAPACITY),
        (None if row.suspended_at is None else row.until_at, Limit.SUSPENDED),
    )
    ends = tuple((at, limit) for at, limit in known if at is not None)
    left = time_left(Reach(row.until_at, row.award_ends_at, ends), row.available, row.gflops, now)
    return TimeLeft(max(left.seconds - margin, 0), left.limit)
