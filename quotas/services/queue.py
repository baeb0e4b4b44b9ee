"""Who waits for devices: joining and leaving the queue, and starting in one's turn or before it.

The queue is in the database only. An entry waits, has its turn, in which its devices are held by a run of the entry's
own id, and is taken by whoever starts that run; or it ends in another way, which its person is told.
"""

from __future__ import annotations

from dataclasses import replace

from quotas.domain.admission import (
    Decision,
    Request,
    Rule,
    award_runs,
    decide,
    person_is_known,
    person_is_member,
    profile_is_offered,
    project_exists,
    project_is_approved,
)
from quotas.domain.policy import Policy
from quotas.domain.queue import WAITABLE, EntryState, Mode, QueueLimits
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import RunKind
from quotas.domain.units import InvalidValue
from quotas.services.admission import Raced, answered, reserve_in, stored_answer
from quotas.services.queue_entries import Entry, alone, end_in, entry_of, tell_end, tell_failed, tell_started
from quotas.store import admission as admission_store
from quotas.store import audit
from quotas.store import queue as store
from quotas.store.database import Database, DatabaseAway, Row, Transaction

RIGHTS: tuple[Rule, ...] = (
    person_is_known,
    project_exists,
    person_is_member,
    project_is_approved,
    award_runs,
    profile_is_offered,
)
"""What is asked again when a turn is taken: its devices are held already."""
STARTED_DIRECTLY = ("서버를 직접 시작했습니다.", "you have started a server on the project.")
ANOTHER_CHOSEN = ("다른 프로필로 바꾸었습니다.", "you have chosen another profile.")


class _Undone(Exception):  # noqa: N818 - named for what happened
    """The answer is a refusal, and what was done before it in the same transaction must not be kept."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.code)
        self.refused = refused


def join(
    database: Database, asked: Request, mode: Mode, now: int, policy: Policy, limits: QueueLimits | None = None
) -> Entry | Refused:
    """The request waits under its own id, or the person's entry for a server on the project, which there was before.

    What may wait is within the project's rights, and would start if there were devices. The same profile again
    changes wish and mode of an entry and keeps its place; another profile gives the old one's place up. Every other
    refusal is the answer, and nothing has changed.
    """
    try:
        row = alone(database, lambda transaction: _join_in(transaction, asked, mode, now, policy, limits))
    except _Undone as undone:
        return undone.refused
    except DatabaseAway:
        return Refused(Code.LEDGER_AWAY)
    return entry_of(row)


def _join_in(
    transaction: Transaction, asked: Request, mode: Mode, now: int, policy: Policy, limits: QueueLimits | None
) -> Row:
    own = _own(transaction, asked)
    if own is not None and own.profile != asked.profile:
        end_in(transaction, own, EntryState.CANCELLED, now, actor=asked.person, reasons=ANOTHER_CHOSEN)
        own = None
    wishes_anew = own is not None and own.state == EntryState.WAITING.value and own.wish != asked.wish.value
    if own is None or wishes_anew:
        keys, model, count = _what_waits(transaction, asked, now, policy)
        if own is None:
            _check_limits(transaction, asked, keys, model, limits or QueueLimits())
            store.add(
                transaction,
                run_id=asked.run_id,
                kind=asked.kind.value,
                person_id=keys.person_id,
                project_id=keys.project_id,
                profile_id=keys.profile_id,
                device_model=model,
                device_count=count,
                seconds=asked.seconds,
                wish=asked.wish.value,
                mode=mode.value,
                joined_at=now,
            )
            detail = {"profile": asked.profile, "wish": asked.wish.value, "mode": mode.value, "run": asked.run_id}
            audit.record(transaction, now, asked.person, "queue joined", asked.project, detail)
    if own is not None and (own.wish, own.mode) != (asked.wish.value, mode.value):
        wish = asked.wish.value if own.state == EntryState.WAITING.value else own.wish
        store.choose(transaction, own.run_id, wish=wish, mode=mode.value)
    return store.one(transaction, asked.run_id if own is None else own.run_id)


def _own(transaction: Transaction, asked: Request) -> Row | None:
    """Return the open entry that the request would become."""
    if asked.kind is RunKind.NOTEBOOK:
        return store.open_notebook(transaction, asked.person, asked.project)
    row = store.one(transaction, asked.run_id)
    return row if row is not None and row.ended_at is None else None


def _what_waits(
    transaction: Transaction, asked: Request, now: int, policy: Policy
) -> tuple[admission_store.Keys, str, int]:
    """Return the ids and the devices of a request that may wait. Raises _Undone for one that may not."""
    situation, keys = admission_store.read_situation(transaction, asked, now, policy)
    decision = decide(asked, situation, now, policy)
    if isinstance(decision, Refused) and decision.code not in WAITABLE:
        raise _Undone(decision)
    if situation.device_model is None:
        raise _Undone(Refused(Code.NOTHING_TO_WAIT_FOR, {"project": asked.project, "profile": asked.profile}))
    return keys, situation.device_model, situation.device_count


def _check_limits(
    transaction: Transaction, asked: Request, keys: admission_store.Keys, model: str, limits: QueueLimits
) -> None:
    if asked.kind is RunKind.NOTEBOOK:
        waiting = store.count_of_person(transaction, keys.person_id or 0)
        if waiting >= limits.per_person:
            numbers: dict[str, str | int] = {"waiting": waiting, "limit": limits.per_person}
            raise _Undone(Refused(Code.QUEUE_LIMIT, {**numbers, "person": asked.person}))
    if store.count_of_model(transaction, model) >= limits.per_model:
        raise _Undone(Refused(Code.QUEUE_FULL, {"device": model, "limit": limits.per_model}))


def cancel(database: Database, run_id: str, *, actor: str, now: int, person: str | None = None) -> Entry:
    """The entry waits no more, and what was held for its turn is given back.

    With `person`, only an entry of theirs. Raises InvalidValue for one that there is not, or that has ended.
    """

    def work(transaction: Transaction) -> Row:
        entry = _open_entry(transaction, run_id, person)
        by_another = actor != entry.person
        reasons = (
            ("운영자가 취소했습니다.", "an operator cancelled it.")
            if by_another
            else ("취소했습니다.", "you cancelled it.")
        )
        end_in(transaction, entry, EntryState.CANCELLED, now, actor=actor, reasons=reasons)
        if by_another:
            tell_end(transaction, entry, reasons, now)
        return store.one(transaction, run_id)

    return entry_of(alone(database, work))


def take(database: Database, run_id: str, *, person: str, now: int) -> Entry:
    """The server of the person's entry is started in its turn, by the platform: an offer is so taken.

    Raises InvalidValue for an entry that is not the person's, has ended, or is a batch run's.
    """

    def work(transaction: Transaction) -> Row:
        entry = _open_entry(transaction, run_id, person)
        if entry.kind != RunKind.NOTEBOOK.value:
            raise InvalidValue("entry", "is a batch run's, which starts by itself", "배치 실행은 스스로 시작됩니다")
        if entry.mode != Mode.START.value:
            store.choose(transaction, run_id, wish=entry.wish, mode=Mode.START.value)
            audit.record(transaction, now, person, "queue to be started", run_id, {"project": entry.project})
        return store.one(transaction, run_id)

    return entry_of(alone(database, work))


def _open_entry(transaction: Transaction, run_id: str, person: str | None) -> Row:
    entry = store.one(transaction, run_id)
    if entry is None or (person is not None and entry.person != person):
        raise InvalidValue(
            "entry", f"there is no entry {run_id!r:.60} of yours", f"{run_id!r:.60} 대기 항목이 없습니다"
        )
    if entry.ended_at is not None:
        raise InvalidValue(
            "entry", f"{run_id} waits no more: {entry.state}", f"{run_id}: 이미 종료된 대기입니다 ({entry.state})"
        )
    return entry


def start(database: Database, request: Request, now: int, policy: Policy, *, turn_only: bool = False) -> Decision:
    """As :func:`quotas.services.admission.reserve`, for someone who may have waited: their turn is taken by it.

    The answer's run is that of the turn, where there is one for the same profile: rights are read anew, the devices
    are held already. For another profile the turn is given back, unless that is refused. Whoever waits and is
    admitted by another way waits no more. With `turn_only` nothing but the turn of the request's own id is taken: who
    gave it up meanwhile does not find a server that they did not want.
    """

    def decided(transaction: Transaction) -> Decision:
        if turn_only:
            own = _own(transaction, request)
            if own is None or own.run_id != request.run_id or own.state != EntryState.TURN.value:
                names = {"person": request.person, "project": request.project, "profile": request.profile}
                return Refused(Code.TURN_OVER, names)
        return _start_in(transaction, request, now, policy)

    try:
        return answered(database, request.run_id, decided)
    except _Undone as undone:
        _note_refusal(database, request, undone.refused, now)
        return undone.refused


def _start_in(transaction: Transaction, request: Request, now: int, policy: Policy) -> Decision:
    own = _own(transaction, request)
    if own is None:
        return reserve_in(transaction, request, now, policy)
    is_same = own.profile == request.profile
    is_turn = own.state == EntryState.TURN.value
    if is_turn and is_same:
        return _take_in(transaction, own, request, now, policy)
    if is_turn:
        end_in(transaction, own, EntryState.CANCELLED, now, actor=request.person, reasons=ANOTHER_CHOSEN)
    asked = replace(request, run_id=own.run_id) if is_same else request
    decision = reserve_in(transaction, asked, now, policy)
    if isinstance(decision, Refused):
        if is_turn:
            raise _Undone(decision)
        return decision
    if not is_turn:
        state = EntryState.TAKEN if is_same else EntryState.CANCELLED
        reasons = None if is_same else STARTED_DIRECTLY
        end_in(transaction, own, state, now, actor=request.person, reasons=reasons)
    if not is_same:
        tell_end(transaction, own, ANOTHER_CHOSEN if is_turn else STARTED_DIRECTLY, now)
    return decision


def _take_in(transaction: Transaction, own: Row, request: Request, now: int, policy: Policy) -> Decision:
    """Return the turn's admission, its run now of the request's door; or why the person may not start any more."""
    situation, _ = admission_store.read_situation(transaction, request, now, policy)
    for rule in RIGHTS:
        refused = rule(request, situation, now, policy)
        if refused is not None:
            reasons = refused.sentence("ko"), refused.sentence("en")
            end_in(transaction, own, EntryState.REFUSED, now, actor="platform", reasons=reasons)
            tell_end(transaction, own, reasons, now)
            return refused
    end_in(transaction, own, EntryState.TAKEN, now, actor=request.person)
    if not store.hand_over(transaction, own.run_id, request.door, now):
        raise Raced
    decision = stored_answer(transaction, own.run_id)
    if decision is None:
        raise Raced
    return decision


def _note_refusal(database: Database, request: Request, refused: Refused, now: int) -> None:
    detail = {"code": refused.code.value, "profile": request.profile[:80], "kind": request.kind.value}
    with database.write() as transaction:
        audit.record(transaction, now, request.person, "start refused", request.project, detail)


def started(database: Database, run_id: str, now: int) -> None:
    """Whoever waited for the server and left its start to the platform is told once that it runs."""
    _tell_starter(database, run_id, None, now)


def failed(database: Database, run_id: str, refused: Refused, now: int) -> None:
    """Whoever waited for the server and left its start to the platform is told once why it does not run."""
    _tell_starter(database, run_id, refused, now)


def _tell_starter(database: Database, run_id: str, refused: Refused | None, now: int) -> None:
    with database.read() as transaction:
        entry = store.one(transaction, run_id)
    if entry is None or entry.kind != RunKind.NOTEBOOK.value or entry.mode != Mode.START.value:
        return
    if entry.turn_at is None:  # it was started by the person
        return
    with database.write() as transaction:
        if refused is None:
            tell_started(transaction, entry, now)
        else:
            tell_failed(transaction, entry, refused, now)
