"""Who is extended no further where a pool has, or will have, fewer devices than are held; and who is again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from quotas.domain.policy import Policy
from quotas.domain.pressure import Held, Supply, who_ends
from quotas.domain.runs import RunKind
from quotas.domain.units import show_instant
from quotas.store import audit, capacity, notices
from quotas.store import preemption as holders_store
from quotas.store import pressure as store
from quotas.store import runs as runs_store
from quotas.store.database import Database, Row, Transaction


def relieve(database: Database, now: int, policy: Policy) -> int:
    """Of every pool and model just as many holds are extended as there will be devices; return how many marks changed.

    Looked at are this moment and each within the horizon at which seats are to be kept or a phase begins. Who is
    marked is told once when and why their run ends; who need not end after all is told too. Nobody is stopped inside
    a hold: where devices are missing now, the present hold is the last.
    """
    changed = 0
    with database.read() as transaction:
        models = store.models_to_look_at(transaction, now, now + policy.horizon)
        due = [model for model in models if any(_changes(transaction, model, now, policy))]
    for model in due:
        with database.write() as transaction:
            for change in list(_changes(transaction, model, now, policy)):
                changed += _carry_out(transaction, change, now, policy)
    return changed


@dataclass(frozen=True)
class _Change:
    """A run that is extended no further than `ends_by`, or as far as its rules allow, unlike before."""

    row: Row
    ends_by: int | None


def _changes(transaction: Transaction, device_model: str, now: int, policy: Policy) -> Iterator[_Change]:
    """Yield what is to change in the marks of those who hold devices of the model."""
    rows = holders_store.open_holds(transaction, device_model)
    instants = capacity.instants(transaction, device_model, now, now + policy.horizon)
    for pool_id in sorted({row.pool_id for row in rows}):
        times = {now, *(max(each.at, now) for each in instants if each.pool_id == pool_id)}
        supplies = [Supply(at, capacity.supply(transaction, device_model, pool_id, at).devices) for at in times]
        in_pool = [(row, _held(row, now, policy)) for row in rows if row.pool_id == pool_id]
        ends = who_ends([held for _, held in in_pool], supplies)
        for row, held in in_pool:
            new = ends.get(row.id)
            if row.ends_by == new or _is_over(row.ends_by, new, now):
                continue
            if new is None and not held.goes_on(max(row.ends_by, now)):
                continue  # it ends by itself: that it may go on would not be true
            yield _Change(row, new)


def _is_over(old: int | None, new: int | None, now: int) -> bool:
    """Whether both are of a shortage that is there: since when does not matter any more."""
    return old is not None and new is not None and old <= now and new <= now


def _held(row: Row, now: int, policy: Policy) -> Held:
    """Return the run as a shortage reads it; what is over before anyone who is asked now could be is over now."""
    is_told = row.preempt_at is not None or row.lost_stop_at is not None
    rolls = row.kind == RunKind.NOTEBOOK.value and row.window_id is None and not is_told
    over_at = min(row.until_at, row.award_ends_at)
    if is_told:  # one that lost its device ends as that is counted out: nobody else is to end for it
        over_at = now
    elif rolls and row.suspended_at is None:
        over_at = min(row.award_ends_at, row.until_at + row.available // row.gflops)
    if over_at <= now + policy.extend_below:
        over_at = now
    return Held(holders_store.holder(row, now, asked=row.ends_by is not None), rolls, over_at)


def _carry_out(transaction: Transaction, change: _Change, now: int, policy: Policy) -> bool:
    row, ends_by = change.row, change.ends_by
    if not store.mark(transaction, row.id, row.ends_by, ends_by):
        return False
    if ends_by is None:
        if row.warned_at is not None:
            transaction.run(runs_store.UNMARK_WARNED, run=row.id)
            notices.tell(transaction, _goes_on(row, now), now)
        audit.record(transaction, now, "platform", "extended again", row.id, {"not_after": show_instant(row.ends_by)})
        return True
    stop_at = max(max(ends_by, row.until_at) - policy.stop_margin, now)
    transaction.run(runs_store.MARK_WARNED, run=row.id, at=now)
    notices.tell(transaction, _ends(transaction, row, ends_by, stop_at, now), now)
    detail = {"after": show_instant(ends_by), "stop": show_instant(stop_at), "priority": row.priority}
    audit.record(transaction, now, "platform", "extended no further", row.id, detail)
    return True


def _ends(transaction: Transaction, row: Row, ends_by: int, stop_at: int, now: int) -> notices.Notice:
    why_en, why_ko = _why(transaction, row, ends_by, now)
    stop = show_instant(stop_at)
    return notices.Notice(
        person_id=row.person_id,
        kind="run not extended",
        about=f"{row.id}:{now}",
        text_en=f"Your run on {row.project} ({row.profile}) will be stopped at {stop}: {why_en}. Save your work. You"
        " will be told if it can go on after all.",
        text_ko=f"{row.project} 과제의 실행({row.profile})이 {stop}에 중지됩니다: {why_ko}. 작업을 저장하세요."
        " 계속할 수 있게 되면 알려 드립니다.",
    )


def _goes_on(row: Row, now: int) -> notices.Notice:
    return notices.Notice(
        person_id=row.person_id,
        kind="run extended again",
        about=f"{row.id}:{now}",
        text_en=f"Your run on {row.project} ({row.profile}) can go on: its device is not needed elsewhere any more.",
        text_ko=f"{row.project} 과제의 실행({row.profile})을 계속할 수 있습니다: 장치를 비우지 않아도 됩니다.",
    )


def _why(transaction: Transaction, row: Row, ends_by: int, now: int) -> tuple[str, str]:
    """Return why the devices are short from then on, in English and Korean."""
    at = max(ends_by, now)
    then = capacity.supply(transaction, row.device_model, row.pool_id, at)
    before = capacity.supply(transaction, row.device_model, row.pool_id, min(now, at - 1))
    since = show_instant(at)
    if at <= now and then.drained:
        reasons = ", ".join(store.reasons(transaction, row.device_model, row.pool_id))[:300]
        return f"devices are out of use ({reasons})", f"장치가 중단되었습니다({reasons})"
    if then.seats > (0 if at <= now else before.seats):
        return f"its device is reserved from {since} on", f"{since}부터 장치가 예약되어 있습니다"
    return f"fewer devices are in operation from {since} on", f"{since}부터 가동 장치가 줄어듭니다"
