"""Runs that end by no doing of their persons: which do, when, and what is told."""

from __future__ import annotations

from dataclasses import replace

from quotas.domain.extension import WHY, Extension, Standing
from quotas.domain.people import MEMBERSHIP_RIGHTS, MembershipRole
from quotas.domain.policy import Policy
from quotas.domain.projects import ProjectState
from quotas.domain.runs import HoldState, Limit, RunKind
from quotas.domain.units import show_instant
from quotas.store import audit, notices
from quotas.store import runs as runs_store
from quotas.store.database import Row, Transaction


def may_still_run(row: Row) -> bool:
    """Return whether its project, and its person on it, have the right to go on."""
    if row.project_state != ProjectState.APPROVED.value or row.revoked_at is not None:
        return False
    if row.kind == RunKind.SEATS.value:
        return True
    if row.role is None:
        return False
    rights = MEMBERSHIP_RIGHTS[MembershipRole(row.role)]
    return rights.start if row.kind == RunKind.NOTEBOOK.value else rights.schedule


def unattended(row: Row, now: int, policy: Policy) -> Extension | None:
    """Return how a run ends that lost its device, is idle, or was not extended by its person; None: not within now."""
    ends = [
        (row.lost_stop_at, Limit.DEVICE_LOST),
        (row.idle_stop_at, Limit.IDLE),
        (row.session_ends_at, Limit.SESSION),
    ]
    known = [(at, limit) for at, limit in ends if at is not None]
    if not known:
        return None
    at, limit = min(known, key=lambda each: each[0])
    if limit is not Limit.DEVICE_LOST and at > min(row.until_at - policy.stop_margin, now + policy.extend_below):
        return None  # it is extended first, as far as it may go
    return Extension(Standing.ENDING, row.until_at, min(at, row.until_at - policy.stop_margin), limit)


_FULL_LENGTH = {RunKind.BATCH.value: Limit.TIMEOUT, RunKind.SEATS.value: Limit.SEAT}
"""Kinds of run whose hold is not extended."""


def full_length(row: Row) -> Limit | None:
    """Return what ends a hold that was made as long as it will be, None for one that is extended."""
    return _FULL_LENGTH.get(row.kind) or (Limit.SEAT if row.window_id is not None else None)


def is_kept(row: Row, now: int, policy: Policy) -> bool:
    """Return whether the hold stays as it is: the run has its rights, nothing ends it, and it reaches far enough.

    `row` is the run as `runs_store.one` and `runs_store.open_runs` have it.
    """
    if row.hold_state != HoldState.OPEN.value or not may_still_run(row) or row.preempt_at is not None:
        return False
    if unattended(row, now, policy) is not None:
        return False
    if full_length(row) is not None:
        return bool(now < row.until_at - policy.stop_margin)
    return bool(row.until_at - now >= policy.extend_below)


def tell_of_end(transaction: Transaction, row: Row, ending: Extension, now: int) -> Extension:
    """The person has been told once that the run will be stopped, and why; return whether that was now.

    Who was told that devices will be missing is told of another reason too, as it ends the run sooner. Who is idle was
    told when the end was set: see :mod:`quotas.services.idleness`.
    """
    if ending.limit is Limit.IDLE:
        return ending
    first = transaction.run(runs_store.MARK_WARNED, run=row.id, at=now) == 1
    if not first and (row.ends_by is None or ending.limit is Limit.CAPACITY):
        return ending
    why_en, why_ko = WHY[ending.limit or Limit.WINDOW]
    stop = show_instant(max(ending.stop_at or now, now))
    notice = notices.Notice(
        person_id=row.person_id,
        kind="run ending",
        about=row.id if first else f"{row.id}:{ending.limit}",
        text_en=f"Your run on {row.project} ({row.profile}) will be stopped at {stop}: {why_en}. Save your work.",
        text_ko=f"{row.project} 과제의 실행({row.profile})이 {stop}에 중지됩니다: {why_ko}. 작업을 저장하세요.",
    )
    if not notices.tell(transaction, notice, now):
        if not first:
            return ending
        notices.tell(transaction, replace(notice, about=f"{row.id}:{row.extensions}"), now)
    audit.record(transaction, now, "platform", "run ending", row.id, {"limit": str(ending.limit), "stop": stop})
    return replace(ending, warned_now=True)


def tell_of_memory(transaction: Transaction, row: Row, now: int) -> None:
    """The person knows that the run used more memory than its profile has."""
    notice = notices.Notice(
        person_id=row.person_id,
        kind="out of memory",
        about=row.id,
        text_en=f"Your run on {row.project} ended: it used more memory than the profile {row.profile} has."
        " Choose a larger profile, or load less at once.",
        text_ko=f"{row.project} 과제의 실행이 종료되었습니다: {row.profile} 프로필의 메모리를 초과했습니다."
        " 더 큰 프로필을 선택하거나 한 번에 읽는 양을 줄이세요.",
    )
    notices.tell(transaction, notice, now)
