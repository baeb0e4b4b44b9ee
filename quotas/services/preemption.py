"""Borrowed devices are given back: who is asked to, how long before, and how they are told."""

from __future__ import annotations

from collections.abc import Iterable

from quotas.domain.policy import Policy
from quotas.domain.priorities import PREEMPTIBLE, Place, Priority, where_fewest_give_way
from quotas.domain.runs import RunKind, RunState
from quotas.domain.units import show_duration, show_instant
from quotas.services.admission import Raced
from quotas.store import audit, capacity, notices
from quotas.store import preemption as store
from quotas.store.database import Row, Transaction


def make_room(
    transaction: Transaction, *, device_model: str, device_count: int, for_run: str, now: int, policy: Policy
) -> bool:
    """In one pool enough devices are free, or come free within the notice; False where nobody can be asked for them.

    Those who hold borrowed devices, or took idle ones, are told that they are stopped at the end of the notice. What
    comes free by itself until then is not asked for, nor is what others who wait have been promised. It may be
    asked for again and again for the same `for_run`: nobody is asked in vain. Raises one of
    :data:`quotas.services.admission.RACED`: then the transaction must be rolled back.
    """
    holds = store.open_holds(transaction, device_model)
    by_id = {row.id: row for row in holds}
    leaving = [row for row in holds if _leaves_within_notice(row, now, policy)]
    asked = store.waiting(transaction, device_model)
    events = capacity.events(
        transaction, device_model, now, now + policy.preempt_notice + policy.minimum + policy.stop_margin
    )
    places = []
    for pool in store.pools_of(transaction, device_model, now):
        in_pool = [row for row in leaving if row.pool_id == pool.pool_id]
        free = pool.healthy - pool.drained - pool.in_use - pool.reserved
        free = min([free, *(event.room for event in events.get(pool.pool_id, ()))])
        promised = {row.preempted_for for row in in_pool if row.preempted_for is not None} - {for_run}
        free += sum(row.device_count for row in in_pool) - sum(asked.get(run_id, 0) for run_id in promised)
        gone = {row.id for row in in_pool}
        stays = [row for row in holds if row.pool_id == pool.pool_id and row.id not in gone]
        holders = tuple(store.holder(row, now) for row in stays if _may_be_asked(row, now, policy))
        places.append(Place(pool.pool_id, device_count - free, holders))
    chosen = where_fewest_give_way(places)
    if chosen is None:
        return False
    for each in chosen:
        _preempt(transaction, by_id[each.run_id], for_run, now, policy)
    return True


def _leaves_within_notice(row: Row, now: int, policy: Policy) -> bool:
    """Whether the run is known to end before anyone who is told now would have to."""
    if row.preempt_at is not None:
        return True
    if row.until_at - policy.stop_margin > now + policy.preempt_notice:
        return False
    return bool(row.kind != RunKind.NOTEBOOK.value or row.window_id is not None or row.warned_at is not None)


def _may_be_asked(row: Row, now: int, policy: Policy) -> bool:
    if row.state != RunState.RUNNING.value or Priority(row.priority) not in PREEMPTIBLE:
        return False
    return bool(row.priority == Priority.OPPORTUNISTIC.value or now - row.opened_at >= policy.borrow_minimum)


def _preempt(transaction: Transaction, row: Row, for_run: str, now: int, policy: Policy) -> None:
    # A hold that ends sooner is not made longer for it.
    at = max(min(now + policy.preempt_notice, row.until_at - policy.stop_margin), now)
    if not store.mark(transaction, row.id, at, for_run):
        raise Raced
    notices.tell(transaction, _told(row, at, now), now)
    detail = {"for": for_run, "at": show_instant(at), "project": row.project, "priority": row.priority}
    audit.record(transaction, now, "platform", "preempted", row.id, detail)


_CLASSES = {
    Priority.BORROWED.value: ("borrowed beyond its project's ceiling", "과제 한도를 넘어 대여한"),
    Priority.OPPORTUNISTIC.value: ("taken while nobody wanted them", "유휴 상태일 때 사용한"),
}


def _told(row: Row, at: int, now: int) -> notices.Notice:
    stop, left = show_instant(at), at - now
    kind_en, kind_ko = _CLASSES[row.priority]
    if row.kind == RunKind.NOTEBOOK.value:
        next_en = (
            "Open documents are saved before that; variables in memory are not. Start it again from the home page, or"
            " wait in the queue there when all devices are in use."
        )
        next_ko = (
            "열린 문서는 그 전에 저장되지만 메모리의 변수는 사라집니다. 홈 화면에서 다시 시작하거나,"
            " 장치가 모두 사용 중이면 대기열에 등록하세요."
        )
    else:
        next_en = (
            "What its notebook has come to is kept. Unless its schedule says otherwise, it waits in the queue anew."
        )
        next_ko = "그때까지의 노트북 출력은 보관됩니다. 일정에서 달리 정하지 않았다면 대기열에서 다시 기다립니다."
    return notices.Notice(
        person_id=row.person_id,
        kind="run preempted",
        about=f"{row.id}:{at}",
        text_en=f"Your run on {row.project} ({row.profile}) will be stopped at {stop}, in"
        f" {show_duration(left)}: its devices, {kind_en}, are wanted back. {next_en}",
        text_ko=f"{row.project} 과제의 실행({row.profile})이 {stop}({show_duration(left, 'ko')} 후)에 중지됩니다:"
        f" {kind_ko} 장치를 반납해야 합니다. {next_ko}",
    )


def spare(transaction: Transaction, for_run: str, now: int) -> int:
    """Nobody is stopped for `for_run`, which waits no more; who was to be is told. Return how many."""
    return _spare(transaction, store.preempted_for(transaction, for_run), now)


def _spare(transaction: Transaction, rows: Iterable[Row], now: int) -> int:
    spared = 0
    for row in rows:
        if not store.unmark(transaction, row.id, row.preempted_for):
            continue
        spared += 1
        notices.tell(
            transaction,
            notices.Notice(
                person_id=row.person_id,
                kind="run spared",
                about=f"{row.id}:{row.preempt_at}",
                text_en=f"Your run on {row.project} ({row.profile}) goes on: its devices are not wanted back any more,"
                f" and it will not be stopped at {show_instant(row.preempt_at)}.",
                text_ko=f"{row.project} 과제의 실행({row.profile})을 계속합니다: 장치를 반납하지 않아도 되며"
                f" {show_instant(row.preempt_at)}에 중지되지 않습니다.",
            ),
            now,
        )
        audit.record(transaction, now, "platform", "spared", row.id, {"for": row.preempted_for})
    return spared
