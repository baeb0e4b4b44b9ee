"""Borrowed devices are given back: who is asked to, how long before, and how they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quotas.domain.policy import Policy
from quotas.domain.priorities import PREEMPTIBLE, Place, Priority, where_fewest_give_way
from quotas.domain.runs import RunKind, RunState
from quotas.domain.units import show_duration, show_instant
from quotas.services.admission import Raced
from quotas.store import audit, capacity, notices
from quotas.store import preemption as store
from quotas.store.database import Database, Row, Transaction


def make_room(
    transaction: Transaction, *, device_model: str, device_count: int, for_run: str, now: int, policy: Policy
) -> bool:
    """In one pool enough devices are free, or come free within the notice; False where nobody can be asked for them.

    `for_run` waits in the queue, within its project's ceiling. Those who hold borrowed devices, or took idle ones, are
    told that they are stopped at the end of the notice. What comes free by itself until then is not asked for, nor is
    what others who wait have been promised. It may be asked for again and again: nobody is asked in vain. Raises one
    of :data:`quotas.services.admission.RACED`: then the transaction must be rolled back.
    """
    waiting = store.waiting(transaction, device_model)
    asking = _Asking({**waiting, for_run: device_count}, for_run, now, policy)
    rows = store.open_holds(transaction, device_model)
    until = now + policy.preempt_notice + policy.stop_margin + policy.minimum
    instants = capacity.instants(transaction, device_model, now, until)
    places = []
    for pool in store.pools_of(transaction, device_model, now):
        times = {now, *(max(each.at, now) for each in instants if each.pool_id == pool.pool_id)}
        supplies = {at: capacity.supply(transaction, device_model, pool.pool_id, at).devices for at in times}
        places.append(_place(pool.pool_id, [row for row in rows if row.pool_id == pool.pool_id], supplies, asking))
    found = where_fewest_give_way(places)
    if found is None:
        return False
    pool_id, chosen = found
    ids = {each.run_id for each in chosen}
    for row in rows:
        if row.id in ids:
            _preempt(transaction, row, asking)
        elif row.preempted_for == for_run and row.pool_id != pool_id:
            _spare(transaction, row, now)
    return True


@dataclass(frozen=True)
class _Asking:
    """For whom room is made, when, and how many devices each of those wants who wait for the model."""

    wanted: dict[str, int]
    for_run: str
    now: int
    policy: Policy


def _place(pool_id: int, rows: Sequence[Row], supplies: dict[int, int], asking: _Asking) -> Place:
    """Return how many devices more are wanted in the pool, and who may be asked for them.

    Wanted are those for `for_run`, and those for whom others have been asked to go already. `supplies`: instant → the
    devices that runs may hold then.
    """
    now = asking.now
    leaving = {row.id for row in rows if _leaves_within_notice(row, asking)}
    promised = {row.preempted_for for row in rows if row.preempted_for in asking.wanted}
    wanted = sum(asking.wanted[run_id] for run_id in promised | {asking.for_run})
    staying = [row for row in rows if row.id not in leaving]
    needed = 0
    for at, devices in supplies.items():
        there = sum(row.device_count for row in staying if at <= now or _is_there(row, at))
        needed = max(needed, wanted + there - devices)
    may_be_asked = [row for row in staying if _may_be_asked(row, asking)] if needed else []
    holders = tuple(store.holder(row, now, asked=row.preempt_at is not None) for row in may_be_asked)
    return Place(pool_id, needed, holders, begun=asking.for_run in promised)


def _rolls(row: Row) -> bool:
    return bool(row.kind == RunKind.NOTEBOOK.value and row.window_id is None)


def _is_there(row: Row, at: int) -> bool:
    """Whether the run will hold its devices at `at`: its hold reaches so far, or will."""
    return bool(row.until_at > at or (_rolls(row) and (row.ends_by is None or row.ends_by > at)))


def _leaves_within_notice(row: Row, asking: _Asking) -> bool:
    """Whether the run is known to end before anyone who is told now would have to."""
    if row.lost_stop_at is not None:
        return True  # its device is counted out already
    if row.preempt_at is not None:
        return row.preempted_for in asking.wanted  # for one that does not wait any more nobody need go
    if row.until_at - asking.policy.stop_margin > asking.now + asking.policy.preempt_notice:
        return False
    return not _rolls(row) or row.warned_at is not None


def _may_be_asked(row: Row, asking: _Asking) -> bool:
    """Whether it runs on devices that are not its own, has had its time, and is paid for to the end of the notice."""
    if row.state != RunState.RUNNING.value or Priority(row.priority) not in PREEMPTIBLE:
        return False
    if row.preempt_at is not None:
        return True
    now, policy = asking.now, asking.policy
    if row.until_at - policy.stop_margin < now + policy.preempt_notice:
        return False
    return bool(row.priority == Priority.OPPORTUNISTIC.value or now - row.opened_at >= policy.borrow_minimum)


def _preempt(transaction: Transaction, row: Row, asking: _Asking) -> None:
    for_run, now = asking.for_run, asking.now
    if row.preempt_at is not None:  # it was told so already, for one that does not wait any more
        if not store.hand_over(transaction, row.id, row.preempted_for, for_run):
            raise Raced
        return
    at = now + asking.policy.preempt_notice
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
        next_en = "What its notebook has come to by then is kept, and it is run once more from its beginning."
        next_ko = "그때까지의 노트북 출력은 보관되며, 처음부터 한 번 더 실행합니다."
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
    return sum(_spare(transaction, row, now) for row in store.preempted_for(transaction, for_run))


def spare_in_vain(database: Database, now: int) -> int:
    """Nobody is stopped for one that does not wait for devices any more; return how many were spared."""
    with database.read() as transaction:
        if not store.preempted_in_vain(transaction):
            return 0
    with database.write() as transaction:
        return sum(_spare(transaction, row, now) for row in store.preempted_in_vain(transaction))


def _spare(transaction: Transaction, row: Row, now: int) -> bool:
    if not store.unmark(transaction, row.id, row.preempted_for):
        return False
    at = show_instant(row.preempt_at)
    notices.tell(
        transaction,
        notices.Notice(
            person_id=row.person_id,
            kind="run spared",
            about=f"{row.id}:{row.preempt_at}",
            text_en=f"Your run on {row.project} ({row.profile}) goes on: its devices are not wanted back any more,"
            f" and it will not be stopped at {at}.",
            text_ko=f"{row.project} 과제의 실행({row.profile})을 계속합니다: 장치를 반납하지 않아도 되며 {at}에"
            " 중지되지 않습니다.",
        ),
        now,
    )
    audit.record(transaction, now, "platform", "spared", row.id, {"for": row.preempted_for})
    return True
