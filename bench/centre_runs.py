"""The life of the simulated centre's runs: asked for, waited for, held, extended, given back, stopped and charged.

Each step is the engine's own service, called as the hub, the scheduler and the loop beside them call it. A run is
looked at when its hold says that something can change, not every minute.
"""

from __future__ import annotations

import heapq
import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sqlalchemy import select

from bench.centre_watch import OpenRun, Watch
from quotas.domain.admission import Admitted, Request
from quotas.domain.extension import Standing
from quotas.domain.policy import Policy
from quotas.domain.priorities import PREEMPTIBLE, Priority
from quotas.domain.queue import WAITABLE, EntryState, Mode, QueueLimits
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import Limit, Outcome, RunKind
from quotas.domain.units import DAY_SECONDS, HOUR_SECONDS, InvalidValue
from quotas.services import admission, queue, queue_steps
from quotas.store import queue as queue_store
from quotas.store import runs as runs_store
from quotas.store.database import Database, Prepared
from quotas.store.tables import runs

MOST_WAITING = 10_000
JOINS = 0.65
"""How many of those who find no room wait for it; the others leave it at that."""
LIMITS = QueueLimits(wait_seconds=3 * DAY_SECONDS)
POLICY = Policy(hold=4 * HOUR_SECONDS, extend_below=HOUR_SECONDS)
"""Holds of four hours where the platform's default is half an hour: a sixth of the extensions, and no other rule."""

_PREEMPTED = Prepared(
    select(runs.c.id, runs.c.preempt_at).where(runs.c.preempted_for.is_not(None), runs.c.state != "settled")
)
_OUTCOMES = {Limit.RIGHTS: Outcome.REVOKED, Limit.PREEMPTED: Outcome.PREEMPTED}


class Clock:
    """What happens when; whatever is due at the same instant happens in the order in which it was planned."""

    def __init__(self, now: int) -> None:
        self.now = now
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._planned = 0

    def at(self, when: float, act: Callable[[], None]) -> None:
        self._planned += 1
        heapq.heappush(self._events, (max(int(when), self.now), self._planned, act))

    def next(self, until: int) -> Callable[[], None] | None:
        """Go on to the next event before `until` and return it; None where there is none."""
        if not self._events or self._events[0][0] >= until:
            self.now = until
            return None
        self.now, _, act = heapq.heappop(self._events)
        return act

    def peek(self) -> int:
        """Return when the next event is."""
        return self._events[0][0] if self._events else self.now


@dataclass(frozen=True)
class Intent:
    """What someone wants to run: for `length` seconds if nobody stops it; a batch run with `limit` as its longest."""

    person: str
    project: str
    profile: str
    length: float
    limit: int | None = None
    wish: Priority = Priority.GUARANTEED
    may_borrow: bool = False
    mode: Mode = Mode.START
    patience: int = 6 * HOUR_SECONDS

    @property
    def kind(self) -> RunKind:
        return RunKind.NOTEBOOK if self.limit is None else RunKind.BATCH


@dataclass
class Tally:
    """What was answered and what became of it, by the phase in which it was."""

    asked: Counter[str] = field(default_factory=Counter)
    at_once: Counter[str] = field(default_factory=Counter)
    refused: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    joined: Counter[str] = field(default_factory=Counter)
    waits: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    in_vain: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    charged: Counter[Priority] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    overrun: int = 0
    overruns: int = 0
    runs: int = 0
    extensions: int = 0
    told_to_give_way: int = 0
    preempted: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)


class Runs:
    """All runs of the centre, those who wait for one, and those whose turn it is."""

    def __init__(self, database: Database, clock: Clock, watch: Watch, seed: int) -> None:
        self.database = database
        self.clock = clock
        self.watch = watch
        self.tally = Tally()
        self.draw = random.Random(f"{seed}/runs")  # noqa: S311 - a repeatable year, no secret
        self.busy: set[tuple[str, str]] = set()
        """Who has, or waits for, a server on which project."""
        self.recent: list[tuple[str, str, int]] = []
        """The last runs that were charged: id, device model, amount."""
        self._intents: dict[str, Intent] = {}
        self._waiting: dict[str, tuple[int, str]] = {}
        self._turns: set[str] = set()
        self._told: set[tuple[str, int]] = set()
        self.is_dirty = False
        """Whether something came free since the last step of the queue."""

    @property
    def now(self) -> int:
        return self.clock.now

    @property
    def phase(self) -> str:
        return self.watch.phase(self.now).name

    def ask(self, intent: Intent) -> None:
        """Someone asks for a start; where there is no room, many wait."""
        self.tally.asked[self.phase] += 1
        run_id = self._new_id()
        decision = self._start(run_id, intent)
        if isinstance(decision, Refused):
            self.tally.refused[self.phase][decision.code.value] += 1
            if decision.code is Code.CEILING and intent.may_borrow:
                intent = replace(intent, wish=Priority.BORROWED)
                decision = self._start(run_id, intent)
        else:
            self.tally.at_once[self.phase] += 1
        if isinstance(decision, Admitted):
            self._granted(intent, decision)
        elif decision.code in WAITABLE and self.draw.random() < JOINS:
            self._join(run_id, intent)

    def _start(self, run_id: str, intent: Intent) -> Admitted | Refused:
        return queue.start(self.database, self._request(run_id, intent), self.now, POLICY)

    def _request(self, run_id: str, intent: Intent) -> Request:
        person, project, profile = intent.person, intent.project, intent.profile
        return Request(run_id, intent.kind, person, project, profile, intent.limit, "bench", intent.wish)

    def _new_id(self) -> str:
        bits = (self.now * 1000 << 80) | (7 << 76) | (2 << 62) | self.draw.getrandbits(62)
        return str(uuid.UUID(int=bits))

    def _join(self, run_id: str, intent: Intent) -> None:
        entry = queue.join(self.database, self._request(run_id, intent), intent.mode, self.now, POLICY, LIMITS)
        if isinstance(entry, Refused):
            self.tally.others[f"queue {entry.code.value}"] += 1
            return
        self._intents[run_id] = intent
        self._waiting[run_id] = self.now, self.phase
        self.tally.joined[self.phase] += 1
        self._is_busy(intent)
        self.clock.at(self.now + intent.patience, lambda: self._lose_patience(run_id))
        self.is_dirty = True

    def _is_busy(self, intent: Intent) -> None:
        if intent.limit is None:
            self.busy.add((intent.person, intent.project))

    def _is_free(self, intent: Intent) -> None:
        if intent.limit is None:
            self.busy.discard((intent.person, intent.project))

    def _lose_patience(self, run_id: str) -> None:
        if run_id in self._waiting:
            try:
                queue.cancel(self.database, run_id, actor=self._intents[run_id].person, now=self.now)
            except InvalidValue:
                return  # it has just ended in another way, which the next step finds
            self._waits_no_more(run_id)
            self.is_dirty = True

    def _waits_no_more(self, run_id: str) -> None:
        _, phase = self._waiting.pop(run_id)
        self.tally.in_vain[phase] += 1
        self._is_free(self._intents.pop(run_id))

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._turns)

    def step(self) -> None:
        """The queue has taken a step, as the loop has it do; whoever has their turn starts, soon or never."""
        self.is_dirty = False
        if self.waiting:
            queue_steps.step(self.database, self.now, POLICY, LIMITS)
            with self.database.read() as transaction:
                entries = {row.run_id: row for row in queue_store.open_entries(transaction, MOST_WAITING)}
                news = [
                    run for run in sorted(self._waiting) if run in entries and entries[run].state == EntryState.TURN
                ]
                held = {run: runs_store.one(transaction, run) for run in news}
            for run_id in sorted(self._turns - set(entries)):
                self._turns.discard(run_id)
                self._is_free(self._intents.pop(run_id))
                self.watch.closed(run_id)
                self.tally.others["turns not taken"] += 1
            for run_id in sorted(set(self._waiting) - set(entries)):
                self._waits_no_more(run_id)
            for run_id in news:
                self._turn(run_id, held[run_id])
        self.look_for_preempted()

    def _turn(self, run_id: str, row: Any) -> None:
        intent = self._intents[run_id]
        joined_at, phase = self._waiting.pop(run_id)
        self.tally.waits[phase].append(self.now - joined_at)
        self._turns.add(run_id)
        run = _open(intent, row, run_id)
        run.is_turn = True
        self.watch.opened(run)
        if intent.mode is Mode.START:
            self.clock.at(self.now + self.draw.randint(5, 40), lambda: self._take(run_id))
        elif self.draw.random() < 0.85:
            self.clock.at(self.now + self.draw.randint(10, 560), lambda: self._take(run_id))

    def _take(self, run_id: str) -> None:
        if run_id not in self._turns:
            return
        self._turns.discard(run_id)
        intent = self._intents.pop(run_id)
        decision = self._start(run_id, intent)
        if isinstance(decision, Refused):
            self.watch.closed(run_id)
            self._is_free(intent)
            self.tally.others[f"turn refused: {decision.code.value}"] += 1
            return
        self.watch.closed(run_id)
        self._granted(intent, decision)

    def _granted(self, intent: Intent, decision: Admitted) -> None:
        self.tally.runs += 1
        self._is_busy(intent)
        self._intents[decision.run_id] = intent
        run = _open(intent, decision, decision.run_id)
        self.watch.opened(run)
        self.clock.at(self.now + self.draw.randint(15, 90), lambda: self._begin(run))

    def _begin(self, run: OpenRun) -> None:
        if self.draw.random() < 0.01:
            self._end(run, None, Outcome.FAILED_TO_START)
            return
        run.started_at = self.now + self.draw.random()
        admission.started(self.database, run.id, run.started_at)
        self.clock.at(run.started_at + self._intents[run.id].length + 1, lambda: self._finish(run))
        self._look_later(run)

    def _look_later(self, run: OpenRun) -> None:
        """The run is looked at when its hold can be extended, or is to end."""
        margin = POLICY.extend_below - 1 if run.is_notebook and not run.has_seat else POLICY.stop_margin
        self.clock.at(max(run.until_at - margin, self.now + 60), lambda: self._look(run))

    def _look(self, run: OpenRun) -> None:
        if run.stopping or run.id not in self.watch.open:
            return
        extension = admission.extend(self.database, run.id, self.now, POLICY)
        run.until_at = extension.until_at
        if extension.standing is not Standing.ENDING:
            self.tally.extensions += extension.standing is Standing.EXTENDED
            self._look_later(run)
        elif extension.stop_at is not None and extension.stop_at > self.now:
            self.clock.at(extension.stop_at, lambda: self._look(run))
        else:
            limit = extension.limit or Limit.WINDOW
            self.tally.others[f"stopped: {limit.value}"] += 1
            # Most end within seconds; one in a hundred hangs, and is charged for it beyond its hold.
            seconds = self.draw.randint(150, 900) if self.draw.random() < 0.01 else self.draw.randint(2, 12)
            run.stopping = True
            outcome = _OUTCOMES.get(limit, Outcome.LIMIT)
            self.clock.at(self.now + seconds, lambda: self._end(run, self.now, outcome))

    def _finish(self, run: OpenRun) -> None:
        """The run has ended by itself or by its person, which the loop sees a moment later."""
        if run.stopping or run.id not in self.watch.open:
            return
        run.stopping = True
        finished_at = (run.started_at or self.now) + self._intents[run.id].length
        outcome = Outcome.STOPPED if run.is_notebook else Outcome.EXITED
        if self.draw.random() < 0.003:  # its node is gone, and nobody recorded the end
            admission.seen(self.database, run.id, int(finished_at))
            finished_at = None
        seen_at = self.now + self.draw.randint(0, 59)
        self.clock.at(seen_at, lambda: self._end(run, finished_at, outcome))

    def _end(self, run: OpenRun, finished_at: float | None, outcome: Outcome) -> None:
        ended = admission.Ended(run.started_at, finished_at, outcome)
        charge = admission.settle(self.database, run.id, ended, self.now)
        if charge is None or not charge.settled_now:
            raise RuntimeError(f"{run.id} was settled by somebody else: {charge}")
        self.watch.closed(run.id)
        self._is_free(self._intents.pop(run.id))
        tally = self.tally
        tally.outcomes[outcome.value] += 1
        tally.charged[run.priority] += charge.amount
        tally.used[run.project] += charge.amount
        tally.overrun += charge.overrun
        tally.overruns += charge.overrun > 0
        if outcome is Outcome.PREEMPTED:
            tally.preempted[self.phase] += 1
        if run.device_model is not None and charge.amount > charge.overrun:
            self.recent = [*self.recent[-19:], (run.id, run.device_model, charge.amount - charge.overrun)]
        self.is_dirty = True

    def look_for_preempted(self) -> None:
        """Whoever was told to give devices back is stopped when they were told."""
        with self.database.read() as transaction:
            rows = transaction.rows(_PREEMPTED)
        for row in rows:
            run = self.watch.open.get(row.id)
            if run is None or (row.id, row.preempt_at) in self._told:
                continue
            self._told.add((row.id, row.preempt_at))
            self.tally.told_to_give_way += 1
            if run.priority not in PREEMPTIBLE:
                raise RuntimeError(f"{run.id} is {run.priority} and was told to give way")
            self.clock.at(row.preempt_at, partial(self._look, run))

    def stop_all(self) -> None:
        """Nobody waits any more, and everything that runs has ended now."""
        for run_id in sorted(self._waiting):
            self._lose_patience(run_id)
        for run_id in sorted(self._turns):
            queue.cancel(self.database, run_id, actor="operator", now=self.now)
            self.watch.closed(run_id)
        self._turns.clear()
        for run in sorted(self.watch.open.values(), key=lambda run: run.id):
            finished_at = None if run.started_at is None else max(float(self.now), run.started_at)
            self._end(run, finished_at, Outcome.STOPPED)


def _open(intent: Intent, held: Any, run_id: str) -> OpenRun:
    """Return the run of an admission, or of a stored hold."""
    return OpenRun(
        id=run_id,
        project=intent.project,
        person=intent.person,
        is_notebook=intent.limit is None,
        gflops=held.gflops,
        priority=Priority(held.priority),
        until_at=held.until_at,
        pool_id=held.pool_id,
        device_model=held.device_model,
        device_count=held.device_count,
        has_seat=held.window_id is not None,
    )
