"""Schedules of notebooks: made, paused, claimed exactly once, finished exactly once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quotas.domain.people import MEMBERSHIP_RIGHTS, MembershipRole
from quotas.domain.priorities import WISHES, Priority
from quotas.domain.queue import EntryState
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import new_run_id
from quotas.domain.schedules import (
    FINAL,
    LONGEST_TIMEOUT_SECONDS,
    SHORTEST_TIMEOUT_SECONDS,
    ExecutionState,
    Timing,
    check_timing,
    next_at,
)
from quotas.domain.units import InvalidValue
from quotas.store import audit
from quotas.store import schedules as store
from quotas.store.database import Database, Row, Transaction
from quotas.store.keys import keys

CLAIM_LIMIT = 50
"""How many due schedules one claim takes; the rest wait for the next."""
LOG_CHARACTERS = 20_000

PAUSING = frozenset(
    {
        Code.PERSON_UNKNOWN,
        Code.PROJECT_UNKNOWN,
        Code.NOT_A_MEMBER,
        Code.ROLE_MAY_NOT,
        Code.PROJECT_ENDED,
        Code.AWARD_ENDED,
        Code.PROFILE_UNKNOWN,
        Code.PROFILE_NOT_OFFERED,
    }
)
"""Refusals that no later firing will cure by itself: they pause the schedule, with the reason."""


@dataclass(frozen=True)
class NewSchedule:
    """What a person schedules. `notebook` is relative to the project's folder; `parameters` were checked against it.

    `wish` is how firmly each run asks for its devices: see :class:`quotas.domain.admission.Request`.
    """

    project: str
    person: str
    profile: str
    notebook: str
    timing: Timing
    timeout_seconds: int = 3600
    parameters: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    wish: Priority = Priority.GUARANTEED


@dataclass(frozen=True)
class Schedule:
    """A stored schedule; `next_at` (seconds UTC) is None when it never fires again, `pause_reason` why it is off."""

    id: int
    project: str
    person: str
    profile: str
    notebook: str
    title: str
    timing: Timing
    timeout_seconds: int
    parameters: Mapping[str, Any]
    enabled: bool
    pause_reason: str | None
    next_at: int | None
    created_at: int
    wish: Priority


@dataclass(frozen=True)
class Execution:
    """One firing of a schedule; `run_id` is also the run's UUID. Instants are seconds UTC.

    `output` is the output notebook, relative to the project's folder; `failing_cell` as the executor recorded it;
    `queue_state` is of its entry in the waiting queue, if it has or had one.
    """

    run_id: str
    schedule_id: int
    scheduled_for: int
    state: ExecutionState
    project: str
    person: str
    profile: str
    notebook: str
    title: str
    timeout_seconds: int
    parameters: Mapping[str, Any]
    claimed_at: int
    finished_at: int | None = None
    reason_ko: str | None = None
    reason_en: str | None = None
    notebook_sha256: str | None = None
    output: str | None = None
    exit_code: int | None = None
    failing_cell: Mapping[str, Any] | None = None
    log: str | None = None
    wish: Priority = Priority.GUARANTEED
    queue_state: EntryState | None = None


def _schedule(row: Row) -> Schedule:
    return Schedule(
        id=row.id,
        project=row.project,
        person=row.person,
        profile=row.profile,
        notebook=row.notebook,
        title=row.title,
        timing=Timing(row.zone, row.cron, row.once_at),
        timeout_seconds=row.timeout_seconds,
        parameters=json.loads(row.parameters),
        enabled=bool(row.enabled),
        pause_reason=row.pause_reason,
        next_at=row.next_at,
        created_at=row.created_at,
        wish=Priority(row.wish),
    )


def _execution(row: Row) -> Execution:
    return Execution(
        run_id=row.run_id,
        schedule_id=row.schedule_id,
        scheduled_for=row.scheduled_for,
        state=ExecutionState(row.state),
        project=row.project,
        person=row.person,
        profile=row.profile,
        notebook=row.notebook,
        title=row.title,
        timeout_seconds=row.timeout_seconds,
        parameters=json.loads(row.parameters),
        claimed_at=row.claimed_at,
        finished_at=row.finished_at,
        reason_ko=row.reason_ko,
        reason_en=row.reason_en,
        notebook_sha256=row.notebook_sha256,
        output=row.output,
        exit_code=row.exit_code,
        failing_cell=json.loads(row.failing_cell) if row.failing_cell else None,
        log=row.log,
        wish=Priority(row.wish),
        queue_state=None if row.queue_state is None else EntryState(row.queue_state),
    )


def create(database: Database, new: NewSchedule, *, actor: str, now: int) -> Schedule:
    """The schedule is stored and will fire. Raises InvalidValue for a stranger, a bad timing, time limit or profile."""
    if not SHORTEST_TIMEOUT_SECONDS <= new.timeout_seconds <= LONGEST_TIMEOUT_SECONDS:
        raise InvalidValue(
            "timeout",
            f"must be {SHORTEST_TIMEOUT_SECONDS} to {LONGEST_TIMEOUT_SECONDS} seconds, not {new.timeout_seconds}",
            f"{SHORTEST_TIMEOUT_SECONDS}~{LONGEST_TIMEOUT_SECONDS}초여야 합니다 (입력: {new.timeout_seconds})",
        )
    if new.wish not in WISHES:
        known = ", ".join(WISHES)
        raise InvalidValue("wish", f"must be one of {known}", f"다음 중 하나여야 합니다: {known}")
    first = check_timing(new.timing, now)
    with database.write() as transaction:
        found = keys(transaction, new.person, new.project, new.profile)
        _check_person(new, found)
        schedule_id = store.add(
            transaction,
            {
                "project_id": found.project_id,
                "person_id": found.person_id,
                "profile_id": found.profile_id,
                "title": (new.title or new.notebook)[:200],
                "notebook": new.notebook,
                "parameters": json.dumps(dict(new.parameters), ensure_ascii=False, sort_keys=True),
                "zone": new.timing.zone,
                "cron": new.timing.cron,
                "once_at": new.timing.once_at,
                "timeout_seconds": new.timeout_seconds,
                "enabled": 1,
                "next_at": first,
                "created_at": now,
                "wish": new.wish.value,
            },
        )
        audit.record(transaction, now, actor, "schedule created", new.project, {"schedule": schedule_id})
        return _schedule(store.one(transaction, schedule_id))


def _check_person(new: NewSchedule, found: Row) -> None:
    if found.project_id is None or found.person_id is None or found.role is None:
        raise InvalidValue(
            "project",
            f"{new.person} is not a member of {new.project}",
            f"{new.person}: {new.project} 과제의 구성원이 아닙니다",
        )
    if not MEMBERSHIP_RIGHTS[MembershipRole(found.role)].schedule:
        raise InvalidValue(
            "project",
            f"the role {found.role} may not schedule in {new.project}",
            f"{new.project} 과제에서 {found.role} 역할은 예약 실행을 할 수 없습니다",
        )
    if found.profile_id is None:
        raise InvalidValue("profile", f"there is no profile {new.profile}", f"프로필 {new.profile}이(가) 없습니다")


def list_schedules(database: Database, project: str | None = None) -> list[Schedule]:
    """Return the schedules of one project or of all, oldest first."""
    with database.read() as transaction:
        return [_schedule(row) for row in store.every(transaction, project)]


def pause(database: Database, schedule_id: int, *, reason: str, actor: str, now: int) -> Schedule:
    """The schedule does not fire until it is resumed."""
    return _change(database, schedule_id, {"enabled": 0, "pause_reason": reason}, "schedule paused", actor, now)


def resume(database: Database, schedule_id: int, *, actor: str, now: int) -> Schedule:
    """The schedule fires again from now on; instants that passed meanwhile are not made up."""
    with database.read() as transaction:
        row = store.one(transaction, schedule_id)
    if row is None:
        raise _no_schedule(schedule_id)
    values = {"enabled": 1, "pause_reason": None, "next_at": check_timing(_schedule(row).timing, now)}
    return _change(database, schedule_id, values, "schedule resumed", actor, now)


def run_now(database: Database, schedule_id: int, *, actor: str, now: int) -> Execution:
    """A firing at `now` is claimed beside the schedule's own; the same second twice is one firing."""
    with database.write() as transaction:
        row = store.one(transaction, schedule_id)
        if row is None:
            raise _no_schedule(schedule_id)
        run_id = new_run_id()
        if not store.claim(transaction, _claim_values(row, run_id, now, now)):
            raise InvalidValue("schedule", "was started this very second", "방금 시작되었습니다")
        audit.record(transaction, now, actor, "schedule run now", row.project, {"schedule": schedule_id})
        return _execution(store.execution(transaction, run_id))


def _change(
    database: Database, schedule_id: int, values: dict[str, Any], action: str, actor: str, now: int
) -> Schedule:
    with database.write() as transaction:
        store.change(transaction, schedule_id, values)
        row = store.one(transaction, schedule_id)
        if row is None:
            raise _no_schedule(schedule_id)
        audit.record(transaction, now, actor, action, row.project, {"schedule": schedule_id})
        return _schedule(row)


def _no_schedule(schedule_id: int) -> InvalidValue:
    return InvalidValue("schedule", f"there is no schedule {schedule_id}", f"예약 실행 {schedule_id}이(가) 없습니다")


def _claim_values(row: Row, run_id: str, scheduled_for: int, now: int) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "schedule_id": row.id,
        "scheduled_for": scheduled_for,
        "state": ExecutionState.CLAIMED.value,
        "parameters": row.parameters,
        "claimed_at": now,
    }


def claim_due(database: Database, now: int, limit: int = CLAIM_LIMIT) -> list[Execution]:
    """Every due firing is claimed, once, whatever crashes or runs beside; return those that this call claimed.

    A schedule that missed several instants (the scheduler was away) fires once, for the first of them. While its
    last execution has not finished, a firing is recorded as refused and not started.
    """
    claimed: list[Execution] = []
    with database.write() as transaction:
        for row in store.due(transaction, now, limit):
            following = next_at(Timing(row.zone, row.cron, row.once_at), now)
            if not store.advance(transaction, row.id, row.next_at, following):
                continue
            run_id = new_run_id()
            overlapping = store.has_unfinished(transaction, row.id)
            values = _claim_values(row, run_id, row.next_at, now)
            if overlapping:
                values |= {
                    "state": ExecutionState.REFUSED.value,
                    "reason_en": "The previous execution of this schedule has not ended.",
                    "reason_ko": "이 예약의 이전 실행이 아직 끝나지 않았습니다.",
                    "finished_at": now,
                }
            if store.claim(transaction, values) and not overlapping:
                claimed.append(_execution(store.execution(transaction, run_id)))
    return claimed


def unfinished(database: Database) -> list[Execution]:
    """Return every execution that was claimed and has not finished: what a booting scheduler takes up again."""
    with database.read() as transaction:
        return [_execution(row) for row in store.unfinished(transaction)]


def executions(database: Database, project: str, limit: int = 30) -> list[Execution]:
    """Return the project's newest executions, newest first."""
    with database.read() as transaction:
        return [_execution(row) for row in store.latest(transaction, project, limit)]


def execution(database: Database, run_id: str) -> Execution | None:
    """Return one execution, or None."""
    with database.read() as transaction:
        row = store.execution(transaction, run_id)
        return None if row is None else _execution(row)


def mark_running(database: Database, run_id: str, *, notebook_sha256: str, output: str) -> None:
    """The execution runs this notebook, and its output will be there."""
    values = {"state": ExecutionState.RUNNING.value, "notebook_sha256": notebook_sha256, "output": output}
    with database.write() as transaction:
        store.change_execution(transaction, run_id, values)


def mark_waiting(database: Database, run_id: str) -> None:
    """The execution waits in the queue for devices, under its own id."""
    with database.write() as transaction:
        store.change_execution(transaction, run_id, {"state": ExecutionState.WAITING.value})


def refuse(database: Database, run_id: str, refused: Refused, now: int) -> None:
    """The execution ended as refused, with the reason; a refusal that time will not cure pauses its schedule."""
    finish(
        database,
        run_id,
        Finished(ExecutionState.REFUSED, reason_ko=refused.sentence("ko"), reason_en=refused.sentence("en")),
        now,
    )
    if refused.code not in PAUSING:
        return
    with database.read() as transaction:
        row = store.execution(transaction, run_id)
    if row is not None:
        pause(database, row.schedule_id, reason=refused.message("en"), actor="platform", now=now)


@dataclass(frozen=True)
class Finished:
    """How an execution ended, by its runner's end and never by the notebook."""

    state: ExecutionState
    exit_code: int | None = None
    reason_ko: str | None = None
    reason_en: str | None = None
    failing_cell: Mapping[str, Any] | None = None
    log: str | None = None
    output: str | None = None


def finish(database: Database, run_id: str, finished: Finished, now: int) -> bool:
    """The execution's end is recorded, once; False when it had ended before."""
    if finished.state not in FINAL:
        raise ValueError(f"{finished.state} is no end")
    values: dict[str, Any] = {
        "state": finished.state.value,
        "exit_code": finished.exit_code,
        "reason_ko": finished.reason_ko,
        "reason_en": finished.reason_en,
        "failing_cell": json.dumps(finished.failing_cell, ensure_ascii=False) if finished.failing_cell else None,
        "log": finished.log[-LOG_CHARACTERS:] if finished.log else None,
        "finished_at": now,
    }
    if finished.output is not None:
        values["output"] = finished.output
    with database.write() as transaction:
        changed = store.change_execution(transaction, run_id, values)
        if changed:
            _record_end(transaction, run_id, finished.state, now)
        return changed


def _record_end(transaction: Transaction, run_id: str, state: ExecutionState, now: int) -> None:
    audit.record(transaction, now, "platform", "execution ended", run_id, {"state": state.value})
