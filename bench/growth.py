"""Nothing grows: what the engine does at 1,000, 10,000 and 100,000 users and projects, to a million ledger rows.

The same four things are timed at each size, on SQLite and on PostgreSQL: a decision with its settlement, a project's
balance, a step of the queue with `WAITING` entries in it, and the report of a month that has as many runs at each
size. The databases are in memory and wait for no disk: how long that takes has nothing to do with the ledger's
length, and would hide what does. The centres stand side by side and do each thing in turn, smallest to largest and
back, so that a machine that slows down does so for all. A figure is the median of the rounds' ratios of the largest to
the smallest; the slope is that of the medians' logarithms against those of the sizes, 0 where nothing grows and 1
where it grows with them.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.contents import MONTH, NOW, SCARCE_DEVICES, contents, load
from bench.measure import Result, at_most, ratio_of
from quotas.domain.admission import Admitted, Request
from quotas.domain.policy import Policy
from quotas.domain.queue import EntryState, Mode, QueueLimits
from quotas.domain.refusals import Refused
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.services import admission, check, projects, queue, queue_steps, reports
from quotas.store import queue as queue_store
from quotas.store.database import Database
from quotas.store.migrate import migrate
from tests import postgresql

SIZES = (1_000, 10_000, 100_000)
ROUNDS = 9
TARGET = 1.3
DATABASES = ("sqlite", "postgresql")
POLICY = Policy()
RUN_SECONDS = 60
WAITING = 100
"""How many wait for one of `SCARCE_DEVICES`, as far as there are so many projects."""
SCARCE_SECONDS = 86_400
PATIENCE = QueueLimits(wait_seconds=10 * 365 * 86_400)
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder that Linux keeps in memory
SERVER = (*postgresql.FAST, "shared_buffers=1GB")


class World:
    """A centre of `size` users and projects, on which single operations are timed."""

    def __init__(self, url: str, size: int) -> None:
        self.database = Database(url)
        migrate(self.database)
        load(self.database, contents(size, with_past=True))
        self.size = size
        order = list(range(1, size + 1))
        random.Random(size).shuffle(order)  # noqa: S311 - a repeatable order, no secret
        self._projects: Iterator[int] = itertools.cycle(order)
        self._now = NOW
        self._holders: collections.deque[tuple[str, int]] = collections.deque()
        for number in range(1, min(SCARCE_DEVICES + WAITING, size) + 1):
            self._ask_for_a_scarce_device(number)

    def decision(self) -> None:
        """A person's server is held, has run for a minute, and is charged."""
        number, run_id = next(self._projects), new_run_id()
        request = Request(run_id, RunKind.NOTEBOOK, f"person-{number}", f"project-{number}", "gpu", door="bench")
        decision = admission.reserve(self.database, request, self._now, POLICY)
        if not isinstance(decision, Admitted):
            raise RuntimeError(f"not admitted: {decision}")
        ended = admission.Ended(self._now, self._now + RUN_SECONDS, Outcome.STOPPED)
        self._now += 2 * RUN_SECONDS
        admission.settle(self.database, run_id, ended, self._now)

    def balance(self) -> None:
        """A project is shown with its award and balances."""
        if projects.show(self.database, f"project-{next(self._projects)}", self._now) is None:
            raise RuntimeError("the project is not there")

    def report(self) -> None:
        """A month is reported."""
        if not reports.monthly(self.database, str(MONTH), now=self._now).lines:
            raise RuntimeError("nobody used anything")

    def _ask_for_a_scarce_device(self, number: int) -> None:
        """The project has one of the scarce devices, or waits for one."""
        asked = self._batch(new_run_id(), number)
        if isinstance(queue.start(self.database, asked, self._now, POLICY), Admitted):
            self._holders.append((asked.run_id, number))
            return
        entry = queue.join(self.database, asked, Mode.START, self._now, POLICY, PATIENCE)
        if isinstance(entry, Refused):
            raise RuntimeError(f"not taken into the queue: {entry}")

    def _batch(self, run_id: str, number: int) -> Request:
        person, project = f"person-{number}", f"project-{number}"
        return Request(run_id, RunKind.BATCH, person, project, "scarce", SCARCE_SECONDS, door="bench")

    def one_comes_free(self) -> None:
        """The run that has had its device for longest is over."""
        run_id, number = self._holders.popleft()
        ended = admission.Ended(self._now, self._now + RUN_SECONDS, Outcome.EXITED)
        self._now += 2 * RUN_SECONDS
        admission.settle(self.database, run_id, ended, self._now)
        self._last = number

    def queue_step(self) -> None:
        """One of those who wait has their turn, and all others go on waiting."""
        done = queue_steps.step(self.database, self._now, POLICY, PATIENCE)
        if done["turn"] != 1:
            raise RuntimeError(f"one device was free, and the step came to {done}")

    def turn_is_taken(self) -> None:
        """Whoever has their turn has started, and who had the device before waits again."""
        with self.database.read() as transaction:
            [entry] = [
                row for row in queue_store.open_entries(transaction, 2 * WAITING) if row.state == EntryState.TURN
            ]
        number = int(entry.project.removeprefix("project-"))
        taken = queue.start(self.database, self._batch(entry.run_id, number), self._now, POLICY)
        if not isinstance(taken, Admitted):
            raise RuntimeError(f"the turn could not be taken: {taken}")
        self._holders.append((entry.run_id, number))
        self._ask_for_a_scarce_device(self._last)

    def ledger_rows(self) -> int:
        """How many transfers the ledger has."""
        return reports.monthly(self.database, str(MONTH), now=self._now).offset

    def close(self) -> None:
        self.database.close()


def _nothing(_world: World) -> None:
    return


@dataclass(frozen=True)
class Operation:
    """What is timed, how often for one sample, and what is done before and after it and not timed."""

    work: Callable[[World], None]
    times: int
    before: Callable[[World], None] = _nothing
    after: Callable[[World], None] = _nothing


OPERATIONS: dict[str, Operation] = {
    "decision": Operation(World.decision, 100),
    "balance": Operation(World.balance, 200),
    "queue_step": Operation(World.queue_step, 25, World.one_comes_free, World.turn_is_taken),
    "report": Operation(World.report, 9),
}


def sample(worlds: Sequence[World], operation: Operation) -> dict[int, float]:
    """Return the median microseconds of the operation by size; one after the other does it, and so again."""
    spent: dict[int, list[float]] = {world.size: [] for world in worlds}
    for turn in range(operation.times):
        for world in worlds if turn % 2 else reversed(worlds):
            operation.before(world)
            begin = time.perf_counter()
            operation.work(world)
            spent[world.size].append((time.perf_counter() - begin) * 1e6)
            operation.after(world)
    return {size: statistics.median(each) for size, each in spent.items()}


def slope(medians: dict[int, float]) -> float:
    """Return the slope of the line through the logarithms, by least squares."""
    points = [(math.log(size), math.log(median)) for size, median in medians.items()]
    x_mean, y_mean = (statistics.fmean(values) for values in zip(*points, strict=True))
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / sum((x - x_mean) ** 2 for x, _ in points)


def compare(worlds: Sequence[World], rounds: int, kind: str) -> list[Result]:
    """Return one figure for each operation: the largest centre's time to the smallest's."""
    small, *_, large = sorted(worlds, key=lambda world: world.size)
    samples: dict[tuple[str, int], list[float]] = {}
    for turn in range(-1, rounds):  # the first is not counted
        for name, operation in OPERATIONS.items():
            for size, taken in sample(worlds, operation).items():
                if turn >= 0:
                    samples.setdefault((name, size), []).append(taken)
    results = []
    for name in OPERATIONS:
        medians = {world.size: statistics.median(samples[name, world.size]) for world in worlds}
        detail = {
            "unit": "median microseconds",
            "slope": round(slope(medians), 4),
            "by_projects": {size: round(median, 1) for size, median in medians.items()},
            "ledger_rows": {world.size: world.ledger_rows() for world in worlds},
        }
        ratio = ratio_of(samples[name, large.size], samples[name, small.size])
        results.append(at_most(f"growth_{name}_{kind}", ratio, TARGET, detail))
    return results


def measure(
    folder: Path, sizes: Sequence[int] = SIZES, rounds: int = ROUNDS, databases: Sequence[str] = DATABASES
) -> Iterator[Result]:
    """Yield the figures of each database. Raises RuntimeError where the smallest centre is not whole afterwards."""
    for kind in databases:
        with contextlib.ExitStack() as stack:
            if kind == "sqlite":
                urls = [f"sqlite:///{folder}/growth-{size}.sqlite" for size in sizes]
            else:
                server = stack.enter_context(postgresql.server(*SERVER))
                urls = [server.create() for _ in sizes]
                for url in urls:
                    stack.callback(server.drop, url)
            worlds = [
                stack.enter_context(contextlib.closing(World(url, size))) for url, size in zip(urls, sizes, strict=True)
            ]
            yield from compare(worlds, rounds, kind)
            found = check.findings(worlds[0].database, NOW)
            if found:
                raise RuntimeError(f"the ledger is broken: {found[:3]}")


def main(arguments: list[str] | None = None) -> int:
    """The figures are printed, a line of JSON each; the status is 0 when all are met."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="users and projects, in rising order")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds to measure (default {ROUNDS})")
    parser.add_argument("--databases", default=",".join(DATABASES), help="which of them (default both)")
    parser.add_argument(
        "--folder", type=Path, default=MEMORY if MEMORY.is_dir() else None, help=f"of SQLite's files ({MEMORY})"
    )
    chosen = parser.parse_args(arguments)
    met = True
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="growth-") as folder:
        sizes = [int(word) for word in chosen.sizes.split(",")]
        for result in measure(Path(folder), sizes, chosen.rounds, chosen.databases.split(",")):
            print(result.to_json(), flush=True)
            met = met and result.met
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
