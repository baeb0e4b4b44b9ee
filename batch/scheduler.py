"""The scheduler: at its own pace it claims what is due and sees to it that every claimed execution comes to its end.

It remembers nothing that matters: all it needs is in the ledger, in the home folder and in the backend, so that it may
be killed at any moment and another one goes on.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from batch.runner import Runner
from batch.snapshots import RunFiles
from quotas.backends.port import Backend, BackendAway
from quotas.domain.queue import EntryState
from quotas.domain.schedules import FINAL, ExecutionState
from quotas.home import Home, beat
from quotas.services import doors, schedules
from quotas.services.schedules import Execution
from quotas.store.database import Database, DatabaseAway

log = logging.getLogger("mudeung.batch")

LOCK_NAME = "scheduler.lock"
CLAIMS_AT_ONCE = 20
"""How often one look claims again when a claim took as many as it may."""
RETRY_SECONDS = 5
BROKEN_RETRY_SECONDS = 60
END_SECONDS = 5
"""How long the scheduler waits at its end for what it is just doing; whatever is cut off is done again later."""


@dataclass
class Scheduler:
    """One scheduler of a home. Only the one that holds the home's lock works; see `leading`."""

    home: Home
    database: Database
    backend: Backend
    clock: Callable[[], float] = time.time
    stopping: threading.Event = field(default_factory=threading.Event)
    _woken: threading.Event = field(default_factory=threading.Event)
    _in_hand: dict[str, threading.Thread] = field(default_factory=dict)
    _not_before: dict[str, float] = field(default_factory=dict)
    _changing: threading.Lock = field(default_factory=threading.Lock)
    _runner: Runner | None = None

    def run(self) -> None:
        """Work until `stop`; runs go on without the scheduler."""
        while not self.stopping.is_set():
            try:
                self.boot()
                break
            except (DatabaseAway, BackendAway) as away:
                log.warning("not begun yet: %s", away)
                beat()
                self.stopping.wait(RETRY_SECONDS)
        while not self.stopping.is_set():
            self.look_safely()
            beat()
            self._pause(self.home.settings.schedule_seconds)
        self.leave()

    def run_once(self) -> None:
        """Claim what is due now, and return when all that can be carried now has ended."""
        self.boot()
        self.look()
        while not self.stopping.is_set() and (self._in_hand or self._take_up()):
            self._pause(self.home.settings.schedule_seconds)
            self._take_up()
        self.leave()

    def stop(self) -> None:
        """Nothing more is claimed or started, and every wait ends."""
        self.stopping.set()
        self._woken.set()

    def leave(self) -> None:
        """Nothing of this scheduler is working any more, or it has had its time to come to an end."""
        self.stop()
        until = time.monotonic() + END_SECONDS
        with self._changing:
            threads = list(self._in_hand.values())
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0))

    def boot(self) -> None:
        """The door has this instance, and what an earlier one left behind is cleared away."""
        door = doors.boot(self.database, "batch", int(self.clock()))
        self._runner = Runner(self.home, self.database, self.backend, door, self.stopping, self.clock)
        self._clear_away()
        log.info("scheduler %s: %s executions to take up", door, len(schedules.unfinished(self.database)))

    def look_safely(self) -> None:
        """Look once; what fails is tried again at the next look."""
        try:
            self.look()
        except DatabaseAway as away:
            log.warning("the ledger is away: %s", away)
        except Exception:
            log.exception("a look for due schedules failed")

    def look(self) -> int:
        """What is due is claimed, and as much of it as may run at once is being carried.

        Return how many firings were claimed. Raises DatabaseAway.
        """
        claimed = 0
        for _ in range(CLAIMS_AT_ONCE):
            taken = len(schedules.claim_due(self.database, int(self.clock())))
            claimed += taken
            if taken < schedules.CLAIM_LIMIT:
                break
        self._take_up()
        return claimed

    def _take_up(self) -> int:
        """Begin to carry what is claimed and not in hand: what runs already, and others as long as there is room.

        One that waits in the queue is left alone until it has its turn, or waits no more; its turn does not wait for
        others to end, as its devices are held.

        Return how many were begun.
        """
        now = time.monotonic()
        begun = 0
        for execution in sorted(schedules.unfinished(self.database), key=_order):
            if self.stopping.is_set():
                break
            waits = self._not_before.get(execution.run_id, 0.0) > now or execution.queue_state is EntryState.WAITING
            with self._changing:
                full = len(self._in_hand) >= self.home.settings.max_batch_runs
                if execution.run_id in self._in_hand or waits or (full and execution.state is ExecutionState.CLAIMED):
                    continue
                thread = threading.Thread(target=self._carry, args=(execution,), name=execution.run_id, daemon=True)
                self._in_hand[execution.run_id] = thread
            thread.start()
            begun += 1
        return begun

    def _carry(self, execution: Execution) -> None:
        retry_seconds: float | None = None
        try:
            if self._runner is None:
                raise RuntimeError("the scheduler was not booted")
            self._runner.carry(execution)
        except (BackendAway, DatabaseAway) as away:
            log.warning("execution %s waits: %s", execution.run_id, away)
            retry_seconds = RETRY_SECONDS
        except Exception:
            log.exception("execution %s could not be carried", execution.run_id)
            retry_seconds = BROKEN_RETRY_SECONDS
        finally:
            with self._changing:
                self._not_before.pop(execution.run_id, None)
                if retry_seconds is not None:
                    self._not_before[execution.run_id] = time.monotonic() + retry_seconds
                self._in_hand.pop(execution.run_id, None)
            self._woken.set()

    def _pause(self, seconds: float) -> None:
        """Wait, but not when an execution has just ended: another one may have its place."""
        self._woken.wait(seconds)
        self._woken.clear()

    def _clear_away(self) -> None:
        """What a crash left of executions that were recorded as ended is gone: their containers and their files.

        An output that could not be kept in its project stays for an operator to save.
        """
        for seen in self.backend.list_runs():
            if not seen.running and self._ended(seen.run_id) is not None:
                self.backend.remove(seen.run_id)
        for folder in sorted(self.home.batch.iterdir()):
            ended = self._ended(folder.name) if folder.is_dir() else None
            if ended is not None and (ended.output or not RunFiles(folder).output.exists()):
                RunFiles(folder).remove()

    def _ended(self, run_id: str) -> Execution | None:
        found = schedules.execution(self.database, run_id)
        return found if found is not None and found.state in FINAL else None


def _order(execution: Execution) -> tuple[bool, int, str]:
    """What runs already comes first, then what was claimed first."""
    return execution.state is ExecutionState.CLAIMED, execution.claimed_at, execution.run_id


@contextmanager
def leading(home: Home, stopping: threading.Event, wait_seconds: float | None = None) -> Iterator[bool]:
    """Hold the home's lock, which ends with this process; False when another one held it to the end of the wait.

    Without `wait_seconds` it waits until `stopping`.
    """
    descriptor = os.open(home.batch / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    began = time.monotonic()
    told = False
    try:
        while not stopping.is_set():
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if wait_seconds is not None and time.monotonic() - began >= wait_seconds:
                    break
                if not told:
                    log.info("another scheduler works in %s; this one waits for its turn", home.path)
                    told = True
                stopping.wait(0.5)
                continue
            yield True
            return
        yield False
    finally:
        os.close(descriptor)
