"""One tick of the loop that compares what is held with what really runs. It lives beside the hub and outlives it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from quotas.backends.port import Backend, BackendAway
from quotas.domain.extension import Standing
from quotas.domain.launch import Seen, ended_as
from quotas.domain.policy import Policy
from quotas.domain.queue import DOOR as QUEUE
from quotas.domain.reconciliation import Action, HeldRun, action
from quotas.domain.runs import Limit, Outcome, RunKind, RunState
from quotas.domain.schedules import FINAL, ExecutionState
from quotas.services import (
    admission,
    device_health,
    endings,
    idleness,
    preemption,
    pressure,
    refunds,
    reservation_windows,
)
from quotas.services.admission import Ended
from quotas.services.probes import Probes
from quotas.store import audit
from quotas.store import runs as runs_store
from quotas.store import schedules as schedules_store
from quotas.store.database import Database, DatabaseAway, Row, Transaction

log = logging.getLogger("mudeung.reconciliation")

STOP_GRACE_SECONDS = 10
STOPS_AT_ONCE = 16
"""A class whose project has ended is stopped together: one at a time, the last would go on for many minutes."""
SUSPECT_SECONDS = 15
"""How long a running server must be unknown to the hub, over at least two ticks, before it is called a stray."""


class HubDoor(Protocol):
    """What the loop asks of the hub; both calls end within seconds and never raise."""

    def known_runs(self) -> frozenset[str] | None:
        """Return the runs of servers that the hub counts as active or pending; None when it does not answer."""

    def forget_server(self, person: str, project: str) -> bool:
        """Ask the hub to clear its record of a server that was stopped; return whether it took the request."""


Part = Callable[[Database, int, Policy], Counter[str]]
"""A part of a round, given the moment and the policy; it returns what it did, and how often."""


def _windows(database: Database, now: int, policy: Policy) -> Counter[str]:
    done = reservation_windows.tick(database, now, policy)
    return Counter({f"window_{what}": count for what, count in done.items()})


def _marks(database: Database, now: int, policy: Policy) -> Counter[str]:
    return Counter(marked=pressure.relieve(database, now, policy))


def _spared(database: Database, now: int, _policy: Policy) -> Counter[str]:
    return Counter(spared=preemption.spare_in_vain(database, now))


def _expired(database: Database, now: int, _policy: Policy) -> Counter[str]:
    return Counter(expired=refunds.expire_ended(database, now))


BEFORE: tuple[Part, ...] = (_windows, _marks, _spared, idleness.spare_active, device_health.look_for_silence)
"""What is done before anything that runs is extended: who holds devices, and how far, follows from it."""
AFTER: tuple[Part, ...] = (_expired,)

_OUTCOMES: dict[Limit | None, Outcome] = {
    Limit.RIGHTS: Outcome.REVOKED,
    Limit.PREEMPTED: Outcome.PREEMPTED,
    Limit.IDLE: Outcome.IDLE,
    Limit.SESSION: Outcome.IDLE,
    Limit.DEVICE_LOST: Outcome.DEVICE_LOST,
}
"""As what a run is counted that is stopped because of a limit; every other is `limit`."""


@dataclass(frozen=True)
class _Known:
    """What is there at the beginning of a round: the backend's runs and the hub's, None where they do not answer."""

    listed: dict[str, Seen] | None
    by_hub: frozenset[str] | None
    doors: dict[str, str | None]


@dataclass(frozen=True)
class Ending:
    """A run that is to be stopped and charged, and as what it is then counted."""

    row: Row
    outcome: Outcome
    counted_as: str


@dataclass
class Reconciler:
    """The loop's memory between ticks. `start_limit_seconds` bounds how long a held run may stay without a process."""

    database: Database
    backend: Backend
    hub: HubDoor
    policy: Policy
    start_limit_seconds: int
    suspects: dict[str, int] = field(default_factory=dict)
    probes: Probes = field(default_factory=Probes)

    def tick(self, now: int) -> Counter[str]:
        """Every open run was looked at once; return how many of each action were taken. Raises DatabaseAway.

        First what changes who may hold devices is brought up to date, then what runs is extended or stopped by it. One
        part that fails, or one run, keeps no other from its turn; it is counted as `failed`, and looked at again.

        The backend is listed before the ledger is read: what is listed was held before. What is listed but not held
        is stopped. Where the backend does not answer, holds are extended and nothing is concluded.
        """
        done: Counter[str] = Counter()
        for part in BEFORE:
            done.update(self._part(part, now))
        try:
            listed: dict[str, Seen] | None = {seen.run_id: seen for seen in self.backend.list_runs()}
        except BackendAway as away:
            log.warning("the backend %s is away: %s", self.backend.name, away)
            listed = None
        known = self.hub.known_runs()
        with self.database.read() as transaction:
            open_rows = runs_store.open_runs(transaction)
            doors = {name: runs_store.door(transaction, name) for name in ("hub", "batch")}
        current = {name: door.instance if door else None for name, door in doors.items()}
        there = _Known(listed, known, current)
        # Of seats nothing runs: they end with their window.
        todos = [(row, self._decided(row, there, now)) for row in open_rows if row.kind != RunKind.SEATS.value]
        if listed is not None:
            todos = self._seen(todos, now)
        ending: list[Ending] = []
        for row, todo in todos:
            came_to = self._safely(todo, row, now)
            if isinstance(came_to, Ending):
                ending.append(came_to)
            else:
                done[came_to] += 1
        done.update(_together(lambda each: self._end(each, now), ending))
        held = {row.id for row in open_rows}
        if listed is not None:
            strangers = [listed[run_id] for run_id in sorted(set(listed) - held)]
            done.update(_together(lambda seen: self._not_held(seen, now), strangers))
        self.suspects = {run: since for run, since in self.suspects.items() if run in held}
        for part in (*AFTER, self._missed_devices):
            done.update(self._part(part, now))
        return +done  # without what was done not once

    def _missed_devices(self, database: Database, now: int, policy: Policy) -> Counter[str]:
        return self.probes.probe(database, self.backend, now, policy)

    def _part(self, part: Part, now: int) -> Counter[str]:
        try:
            return part(self.database, now, self.policy)
        except DatabaseAway as away:
            log.warning("%s: the ledger is away: %s", part.__name__, away)
            return Counter(failed=1)
        except Exception:
            log.exception("%s: not done in this round", part.__name__)
            return Counter(failed=1)

    def _seen(self, todos: list[tuple[Row, Action | None]], now: int) -> list[tuple[Row, Action | None]]:
        """What runs was seen: all in one transaction, or each in its own where one of them is in the way."""
        running = [row.id for row, todo in todos if todo is Action.EXTEND]
        try:
            admission.seen_all(self.database, running, now)
        except DatabaseAway:
            raise
        except Exception:
            log.exception("not seen together: each is seen by itself")
            return [(row, self._seen_alone(row, todo, now)) for row, todo in todos]
        return todos

    def _seen_alone(self, row: Row, todo: Action | None, now: int) -> Action | None:
        if todo is not Action.EXTEND:
            return todo
        try:
            admission.seen(self.database, row.id, now)
        except DatabaseAway:
            raise
        except Exception:
            log.exception("run %s: not looked at in this round", row.id)
            return None
        return todo

    def _decided(self, row: Row, known: _Known, now: int) -> Action | None:
        try:
            return self._decide(row, known, now)
        except Exception:
            log.exception("run %s: not looked at in this round", row.id)
            return None

    def _safely(self, todo: Action | None, row: Row, now: int) -> str | Ending:
        if todo is None:
            return "failed"
        try:
            return self._carry_out(todo, row, now)
        except BackendAway as away:
            log.warning("run %s: the backend is away: %s", row.id, away)
            return "away"
        except DatabaseAway:
            raise
        except Exception:
            log.exception("run %s: not looked at in this round", row.id)
            return "failed"

    def _decide(self, row: Row, known: _Known, now: int) -> Action:
        """Return what is to be done about the run; where the backend does not answer, its hold is extended."""
        if known.listed is None:
            return Action.EXTEND
        seen = known.listed.get(row.id)
        door = known.doors["hub" if row.kind == RunKind.NOTEBOOK.value else "batch"]
        held = HeldRun(
            row.id,
            RunKind(row.kind),
            RunState(row.state),
            row.requested_at,
            door is not None and row.door != door,
            in_turn=row.door == QUEUE,
        )
        known_to_hub = None if known.by_hub is None else row.id in known.by_hub
        todo = action(held, seen, known_to_hub=known_to_hub, now=now, start_limit_seconds=self.start_limit_seconds)
        if (
            todo is Action.STOP_STRAY
            and not held.door_is_gone
            and now - self.suspects.setdefault(row.id, now) < (SUSPECT_SECONDS)
        ):
            todo = Action.EXTEND
        elif todo is not Action.STOP_STRAY:
            self.suspects.pop(row.id, None)
        return todo

    def _carry_out(self, todo: Action, row: Row, now: int) -> str | Ending:
        if todo is Action.EXTEND:
            return self._extend(row, now)
        if todo is Action.STOP_STRAY:
            return Ending(row, Outcome.STRAY, todo.value)
        if todo in {Action.SETTLE, Action.VOID}:
            # The listing is older than the ledger's row: ask again about this one run before concluding.
            fresh = self.backend.inspect(row.id)
            if fresh is not None and fresh.running:
                return Action.WAIT.value
            outcome = Outcome.EXITED if todo is Action.SETTLE else Outcome.FAILED_TO_START
            self._settle(row, fresh, outcome, now)
        return todo.value

    def _extend(self, row: Row, now: int) -> str | Ending:
        if endings.is_kept(row, now, self.policy):  # as most are, most of the time: nothing is to be written
            return Standing.KEPT.value
        extension = admission.extend(self.database, row.id, now, self.policy)
        if extension.standing is Standing.ENDING and extension.stop_at is not None and extension.stop_at <= now:
            return Ending(row, _OUTCOMES.get(extension.limit, Outcome.LIMIT), "stopped")
        return "warned" if extension.warned_now else extension.standing.value

    def _end(self, ending: Ending, now: int) -> str:
        """Stop the run in its backend, charge it with the true reason, then have the hub clear its record."""
        row = ending.row
        try:
            self.backend.stop(row.id, STOP_GRACE_SECONDS)
            self._settle(row, self.backend.inspect(row.id), ending.outcome, now)
        except BackendAway as away:
            log.warning("run %s: the backend is away: %s", row.id, away)
            return "away"
        if row.kind == RunKind.NOTEBOOK.value:
            self.hub.forget_server(row.person, row.project)
        return ending.counted_as

    def _settle(self, row: Row, seen: Seen | None, outcome: Outcome, now: int) -> None:
        ended = Ended(None, None, outcome)
        if seen is not None:
            ended = Ended(seen.started_at, seen.finished_at, ended_as(seen, outcome), seen.exit_code)
        charge = admission.settle(self.database, row.id, ended, now)
        log.info("run %s of %s on %s: %s, charged %s", row.id, row.person, row.project, ended.outcome.value, charge)
        if seen is not None and row.kind == RunKind.NOTEBOOK.value:
            self.backend.remove(row.id)

    def _not_held(self, seen: Seen, now: int) -> str:
        """What the backend has without an open hold: a running one is stopped, what nobody is to collect is removed."""
        run_id, done = seen.run_id, "removed"
        with self.database.read() as transaction:
            row = runs_store.one(transaction, run_id)
            is_batch = row is not None and row.kind == RunKind.BATCH.value
            is_to_be_collected = is_batch and not _was_collected(transaction, run_id)
        if row is not None and row.state != RunState.SETTLED.value:
            return "wait"
        try:
            if seen.running:
                self.backend.stop(run_id, STOP_GRACE_SECONDS)
                with self.database.write() as transaction:
                    audit.record(transaction, now, "platform", "stopped without a hold", run_id)
                done = "without_hold"
            if not is_to_be_collected:
                self.backend.remove(run_id)
            elif not seen.running:
                return "kept"  # its log and record are the batch runner's to collect
        except (BackendAway, ValueError) as error:
            log.warning("run %s without a hold: %s", run_id, error)
            return "away"
        return done


def _was_collected(transaction: Transaction, run_id: str) -> bool:
    """Return whether the batch runner has recorded how the run ended: what there is of it then is an orphan."""
    found = schedules_store.execution(transaction, run_id)
    return found is not None and ExecutionState(found.state) in FINAL


Item = TypeVar("Item")


def _together(work: Callable[[Item], str], items: Sequence[Item]) -> Counter[str]:
    """The work was done on every item, on many at the same time; return what it came to, for each how often."""

    def safely(item: Item) -> str:
        try:
            return work(item)
        except Exception:
            log.exception("not done in this round: %s", item)
            return "failed"

    if not items:
        return Counter()
    with ThreadPoolExecutor(min(STOPS_AT_ONCE, len(items)), "stop") as threads:
        return Counter(threads.map(safely, items))


__all__ = ["DatabaseAway", "HubDoor", "Reconciler"]
