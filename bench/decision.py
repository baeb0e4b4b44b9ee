"""What a durable admission costs: one `reserve` beside one fsync'd one-row SQLite transaction on the same disk.

A decision reads the person's rights, the project's award and balance, the rate and the pool, writes the run, its
hold, a transfer with both balances and an audit event, and is on the disk when it returns. The plain transaction
inserts one row, with the same settings of SQLite (WAL, synchronous=FULL). A sample is the median of `OPERATIONS` of
either; the settling in between is not timed. The second figure is the same decision among 100,000 projects and among
100.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.contents import NOW, contents, load
from bench.measure import Ratio, Result, at_most, paired
from quotas.domain.admission import Admitted, Request
from quotas.domain.policy import Policy
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.services import admission, check
from quotas.store.database import Database
from quotas.store.migrate import migrate

OPERATIONS = 200
PAIRS = 9
PROJECTS = (100, 1_000, 10_000, 100_000)
TARGET = 1.5
TARGET_OF_GROWTH = 1.25

UNTIL_THE_LOG_TURNS = 1_200
"""After so many transactions either write-ahead log has been copied once and is written over from its beginning. As
long as it grows, each commit also waits for the file system's own journal; a server of some minutes is past that.
"""


class Centre:
    """A migrated database with `projects` projects, on which decisions are timed."""

    def __init__(self, folder: Path, projects: int, profile: str = "gpu") -> None:
        path = folder / f"centre-{projects}-{profile}.sqlite"
        self.database = Database(f"sqlite:///{path}")
        migrate(self.database)
        load(self.database, contents(projects))
        self.profile = profile
        order = list(range(1, projects + 1))
        random.Random(projects).shuffle(order)  # noqa: S311 - a repeatable order, no secret
        self._projects: Iterator[int] = itertools.cycle(order)
        for _ in range(UNTIL_THE_LOG_TURNS):
            self._one()

    def sample(self) -> float:
        """Return the median microseconds of `OPERATIONS` decisions, each settled again before the next."""
        return statistics.median(self._one() for _ in range(OPERATIONS))

    def _one(self) -> float:
        number = next(self._projects)
        run_id = new_run_id()
        begin = time.perf_counter()
        request = Request(run_id, RunKind.NOTEBOOK, f"person-{number}", f"project-{number}", self.profile, door="hub")
        decision = admission.reserve(self.database, request, NOW, POLICY)
        spent = time.perf_counter() - begin
        if not isinstance(decision, Admitted):
            raise RuntimeError(f"not admitted: {decision}")
        admission.settle(self.database, run_id, admission.Ended(None, None, Outcome.FAILED_TO_START), NOW)
        return spent * 1e6

    def close(self) -> None:
        """Close the database; raise RuntimeError if any invariant of the stored data does not hold."""
        found = check.findings(self.database, NOW)
        self.database.close()
        if found:
            raise RuntimeError(f"the ledger is broken: {found[:3]}")


class Plain:
    """An SQLite file with one table, into which one row at a time is committed."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / "plain.sqlite", isolation_level=None)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE rows_of_it (id INTEGER PRIMARY KEY, name TEXT NOT NULL, value INTEGER NOT NULL)",
        ):
            self._connection.execute(statement)
        for _ in range(UNTIL_THE_LOG_TURNS):
            self._one()

    def sample(self) -> float:
        """Return the median microseconds of `OPERATIONS` transactions."""
        return statistics.median(self._one() for _ in range(OPERATIONS))

    def _one(self) -> float:
        execute = self._connection.execute
        begin = time.perf_counter()
        execute("BEGIN IMMEDIATE")
        execute("INSERT INTO rows_of_it (name, value) VALUES (?, ?)", ("a row", 1))
        execute("COMMIT")
        return (time.perf_counter() - begin) * 1e6

    def close(self) -> None:
        self._connection.close()


POLICY = Policy()


def measure(folder: Path, projects: Sequence[int] = PROJECTS, pairs: int = PAIRS) -> list[Result]:
    """Return both figures: a decision to a plain transaction, and the largest centre's decision to the smallest's."""
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context
        centres = {number: opened(contextlib.closing(Centre(folder, number))) for number in sorted(projects)}
        small, large = centres[min(centres)], centres[max(centres)]
        without_device = opened(contextlib.closing(Centre(folder, min(centres), "cpu")))
        plain = opened(contextlib.closing(Plain(folder)))

        def to_plain(sample: Callable[[], float]) -> Ratio:
            return paired(sample, plain.sample, pairs)

        ratios = {number: to_plain(centre.sample) for number, centre in centres.items()}
        detail = {f"ratio_at_{number}_projects": round(ratio.median, 3) for number, ratio in ratios.items()}
        detail |= {"ratio_without_a_device": round(to_plain(without_device.sample).median, 3)}
        growth = paired(large.sample, small.sample, pairs)
    unit = {"unit": f"median microseconds of {OPERATIONS} operations"}
    return [
        at_most("decision_to_transaction", ratios[min(centres)], TARGET, {**unit, **detail}),
        at_most("decision_growth", growth, TARGET_OF_GROWTH, {**unit, "projects": [max(centres), min(centres)]}),
    ]


def main(arguments: list[str] | None = None) -> int:
    """The figures are printed, a line of JSON each; the status is 0 when both are met."""
    parser = argparse.ArgumentParser(prog="python -m bench.decision", description=__doc__)
    parser.add_argument("--projects", default=",".join(map(str, PROJECTS)), help="sizes of the centre, in projects")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"pairs of samples to measure (default {PAIRS})")
    parser.add_argument("--folder", type=Path, default=Path("build"), help="a folder on the disk to measure")
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="decision-") as folder:
        results = measure(Path(folder), [int(word) for word in chosen.projects.split(",")], chosen.pairs)
    for result in results:
        print(result.to_json())
    return 0 if all(result.met for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
