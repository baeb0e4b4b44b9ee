"""Entries of the waiting queue: as people see them, and what happens when one ends, told to whom it belongs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from quotas.domain.priorities import Priority
from quotas.domain.queue import ALLOWED_CHANGES, EntryState, Mode
from quotas.domain.refusals import Refused
from quotas.domain.runs import Outcome, RunKind
from quotas.domain.states import change
from quotas.domain.units import show_instant
from quotas.services import preemption
from quotas.services.admission import ATTEMPTS, RACED, Ended, Raced, settle_in
from quotas.store import audit, notices
from quotas.store import queue as store
from quotas.store.database import Database, DatabaseAway, Row, Transaction

Result = TypeVar("Result")
Reasons = tuple[str, str]
"""Why an entry ended, in Korean and English."""


@dataclass(frozen=True)
class Entry:
    """Someone who waits, or waited, for devices; `run_id` is also the id of the run that it becomes.

    `seconds` is a batch run's length; `blocked_by` the code of its project's own reason for which it is passed over.
    Its devices are held from `turn_at` to `turn_until`. Instants in seconds UTC.
    """

    run_id: str
    kind: RunKind
    person: str
    project: str
    title_ko: str
    title_en: str
    profile: str
    name_ko: str
    name_en: str
    device_model: str
    device_name: str
    device_count: int
    seconds: int | None
    wish: Priority
    mode: Mode
    state: EntryState
    blocked_by: str | None
    joined_at: int
    turn_at: int | None
    turn_until: int | None
    ended_at: int | None
    reason_ko: str | None
    reason_en: str | None

    @property
    def is_open(self) -> bool:
        return self.ended_at is None

    def title(self, language: str) -> str:
        return self.title_ko if language == "ko" else self.title_en

    def profile_name(self, language: str) -> str:
        return self.name_ko if language == "ko" else self.name_en

    def reason(self, language: str) -> str | None:
        return self.reason_ko if language == "ko" else self.reason_en


def entry_of(row: Row) -> Entry:
    """Return the stored entry."""
    return Entry(
        run_id=row.run_id,
        kind=RunKind(row.kind),
        person=row.person,
        project=row.project,
        title_ko=row.title_ko,
        title_en=row.title_en,
        profile=row.profile,
        name_ko=row.name_ko,
        name_en=row.name_en,
        device_model=row.device_model,
        device_name=row.device_name,
        device_count=row.device_count,
        seconds=row.seconds,
        wish=Priority(row.wish),
        mode=Mode(row.mode),
        state=EntryState(row.state),
        blocked_by=row.blocked_by,
        joined_at=row.joined_at,
        turn_at=row.turn_at,
        turn_until=row.turn_until,
        ended_at=row.ended_at,
        reason_ko=row.reason_ko,
        reason_en=row.reason_en,
    )


def alone(database: Database, work: Callable[[Transaction], Result]) -> Result:
    """Return what `work` comes to in a transaction of its own, begun anew when overtaken. Raises DatabaseAway."""
    for _ in range(ATTEMPTS):
        try:
            with database.write() as transaction:
                return work(transaction)
        except RACED:
            continue
    raise DatabaseAway("the queue's entry changed at every attempt")


def end_in(
    transaction: Transaction, entry: Row, state: EntryState, now: int, *, actor: str, reasons: Reasons | None = None
) -> None:
    """The open entry has ended as `state`; what was held for its turn is given back, unless it is taken.

    Nobody gives way for it any more. Raises InvalidValue where it cannot end so, and one of
    :data:`quotas.services.admission.RACED`: then the transaction must be rolled back.
    """
    change(ALLOWED_CHANGES, "entry", f"entry {entry.run_id}", EntryState(entry.state), state)
    if not store.end(transaction, entry, state, now, reasons):
        raise Raced
    if entry.state == EntryState.TURN.value and state is not EntryState.TAKEN:
        settle_in(transaction, entry.run_id, Ended(None, None, Outcome.FAILED_TO_START), now)
    if entry.state == EntryState.WAITING.value:
        preemption.spare(transaction, entry.run_id, now)
    audit.record(transaction, now, actor, f"queue {state.value}", entry.run_id, {"project": entry.project})


# What people are told. A batch run's person did not wait themselves: of a turn that is taken at once there is no word.


def tell_turn(transaction: Transaction, entry: Row, until: int, now: int) -> None:
    """The person knows that their turn has come, what happens now, and until when their devices are kept."""
    at = show_instant(until)
    if entry.kind == RunKind.BATCH.value:
        next_en, next_ko = "it is started.", "실행을 시작합니다."
    elif entry.mode == Mode.START.value:
        next_en = f"your server is being started. Its devices are kept until {at}."
        next_ko = f"서버를 시작합니다. 장치는 {at}까지 확보됩니다."
    else:
        next_en = f"the devices are kept for you until {at}. Start the server from the home page before that."
        next_ko = f"장치를 {at}까지 확보합니다. 그 전에 홈 화면에서 서버를 시작하세요."
    _tell(
        transaction,
        entry,
        "queue turn",
        f"Your turn has come for {entry.profile} on {entry.project}: {next_en}",
        f"{entry.project} 과제, {entry.profile}: 차례가 되었습니다. {next_ko}",
        now,
    )


def tell_started(transaction: Transaction, entry: Row, now: int) -> None:
    """The person who waited knows that the server runs."""
    _tell(
        transaction,
        entry,
        "queue started",
        f"Your server on {entry.project} ({entry.profile}), for which you waited, is running since"
        f" {show_instant(now)}. It is charged from now on.",
        f"{entry.project} 과제에서 기다리던 서버({entry.profile})가 {show_instant(now)}부터 실행 중입니다."
        " 지금부터 차감됩니다.",
        now,
    )


def tell_failed(transaction: Transaction, entry: Row, refused: Refused, now: int) -> None:
    """The person who waited knows that the server could not be started, and why."""
    _tell(
        transaction,
        entry,
        "queue ended",
        f"Your turn for {entry.profile} on {entry.project} had come, but: {refused.sentence('en')}",
        f"{entry.project} 과제, {entry.profile}: 차례가 되었으나 시작하지 못했습니다. {refused.sentence('ko')}",
        now,
    )


def tell_end(transaction: Transaction, entry: Row, reasons: Reasons, now: int) -> None:
    """The person knows that they wait no more, and why."""
    _tell(
        transaction,
        entry,
        "queue ended",
        f"You do not wait any more for {entry.profile} on {entry.project}: {reasons[1]}",
        f"{entry.project} 과제, {entry.profile}: 대기가 종료되었습니다. {reasons[0]}",
        now,
    )


def _tell(transaction: Transaction, entry: Row, kind: str, text_en: str, text_ko: str, now: int) -> None:
    notice = notices.Notice(person_id=entry.person_id, kind=kind, about=entry.run_id, text_ko=text_ko, text_en=text_en)
    notices.tell(transaction, notice, now)
