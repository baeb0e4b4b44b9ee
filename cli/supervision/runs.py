"""The end of every run of a platform that is being stopped: stopped in the backend, then charged."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from batch.runner import Runner
from quotas.backends.port import Backend, BackendAway
from quotas.domain.launch import Seen
from quotas.domain.runs import Outcome, RunKind
from quotas.home import Home
from quotas.services import admission, schedules
from quotas.services.admission import Ended
from quotas.store import runs as store
from quotas.store.database import Database, Row

log = logging.getLogger("mudeung.up")

GRACE_SECONDS = 10
AT_ONCE = 8
LIMIT_SECONDS = 120.0
"""How long all of them may take together; what is left then is left to the next start."""
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Stopped:
    """How many runs were stopped and charged, and the ids of those that could not be."""

    settled: int
    left: tuple[str, ...] = ()


def open_runs(database: Database) -> tuple[int, int]:
    """Return how many servers and how many batch runs are open. Raises DatabaseAway."""
    with database.read() as transaction:
        kinds = [row.kind for row in store.open_runs(transaction)]
    return kinds.count(RunKind.NOTEBOOK.value), kinds.count(RunKind.BATCH.value)


def stop_all(home: Home, database: Database, hastened: threading.Event, tell: Callable[[int, int], None]) -> Stopped:
    """No open run runs, and each is charged for what it ran, by its backend; `tell` is given (done, all) as it goes.

    To be called when no door works any more. A batch run's output and end are kept as at any other end. With
    `hastened` set nothing is given time to end by itself. Raises DatabaseAway when the runs cannot be read.
    """
    with database.read() as transaction:
        rows = store.open_runs(transaction)
    if not rows:
        return Stopped(0)
    backend = home.backend()
    end = functools.partial(_end, home, database, backend, hastened)
    pool = ThreadPoolExecutor(AT_ONCE, "ending")
    futures = {pool.submit(end, row): row for row in rows}
    left = _followed(futures, backend, hastened, tell)
    pool.shutdown(wait=False, cancel_futures=True)
    return Stopped(len(rows) - len(left), tuple(left))


def _followed(
    futures: dict[Future[None], Row], backend: Backend, hastened: threading.Event, tell: Callable[[int, int], None]
) -> list[str]:
    """Wait for all; return the ids of the runs that could not be stopped or charged."""
    deadline = time.monotonic() + LIMIT_SECONDS
    pending, done, killed = set(futures), 0, False
    while pending and time.monotonic() < deadline:
        _, pending = wait(pending, POLL_SECONDS)
        if len(futures) - len(pending) != done:
            done = len(futures) - len(pending)
            tell(done, len(futures))
        if hastened.is_set() and not killed:
            killed = True
            for each in pending:
                threading.Thread(target=_kill, args=(backend, futures[each].id), daemon=True).start()
    failed = [each for each in futures if each not in pending and each.exception() is not None]
    for each in failed:
        log.warning("run %s could not be ended: %r", futures[each].id, each.exception())
    return sorted(futures[each].id for each in (*failed, *pending))


def _end(home: Home, database: Database, backend: Backend, hastened: threading.Event, row: Row) -> None:
    seen = backend.inspect(row.id)
    is_batch = row.kind == RunKind.BATCH.value
    if seen is None and is_batch:
        return  # claimed and not launched yet: the next scheduler launches it
    outcome = Outcome.EXITED
    if seen is not None and seen.running:
        outcome = Outcome.STOPPED
        backend.stop(row.id, 0 if hastened.is_set() else GRACE_SECONDS)
        seen = backend.inspect(row.id)
    if not is_batch or outcome is Outcome.STOPPED:
        _settle(database, row, seen, outcome)
    if is_batch:
        execution = schedules.execution(database, row.id)
        if execution is not None:
            Runner(home, database, backend, door="").carry(execution)
    elif seen is not None:
        backend.remove(row.id)


def _settle(database: Database, row: Row, seen: Seen | None, outcome: Outcome) -> None:
    ended = Ended(None, None, Outcome.FAILED_TO_START if row.started_at is None else outcome)
    if seen is not None and seen.started_at is not None:
        ended = Ended(seen.started_at, seen.finished_at, outcome, seen.exit_code)
    admission.settle(database, row.id, ended, int(time.time()))


def _kill(backend: Backend, run_id: str) -> None:
    try:
        backend.stop(run_id, 0)
    except BackendAway as away:
        log.warning("run %s: %s", run_id, away)
