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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

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

STARTS_AT, NOW, ENDS_AT = 1_790_000_000, 1_795_000_000, 1_822_000_000
AWARD_GFLOPS, RATE_GFLOPS = 1_000_000, 66_900
GRANT = AWARD_GFLOPS * (ENDS_AT - STARTS_AT)
DEVICES = 1_000_000
"""Enough for every project: the bench measures admissions, not refusals."""

UNTIL_THE_LOG_TURNS = 1_200
"""After so many transactions either write-ahead log has been copied once and is written over from its beginning. As
long as it grows, each commit also waits for the file system's own journal; a server of some minutes is past that.
"""

Rows = Iterable[tuple[object, ...]]


def fill(connection: sqlite3.Connection, projects: int) -> None:
    """The migrated database has `projects` approved projects, each with a PI, an award and its grant in the ledger."""
    numbers, dates = range(1, projects + 1), (STARTS_AT, ENDS_AT)
    tables: dict[str, Rows] = {
        "organisations(id, code, name_ko, name_en, kind)": [(1, "lab", "연구소", "Lab", "university")],
        "persons(id, username, display_name, organisation_id, language, added_at)": (
            (n, f"person-{n}", f"Person {n}", 1, "ko", STARTS_AT) for n in numbers
        ),
        "projects(id, code, kind, title_ko, title_en, organisation_id, state, requested_gflops, requested_precision,"
        " requested_starts_at, requested_ends_at, applied_at, applied_by)": (
            (
                n,
                f"project-{n}",
                "research",
                "과제",
                "Project",
                1,
                "approved",
                AWARD_GFLOPS,
                "fp32",
                *dates,
                STARTS_AT,
                n,
            )
            for n in numbers
        ),
        "memberships(project_id, person_id, role, added_at)": ((n, n, "pi", STARTS_AT) for n in numbers),
        "awards(id, project_id, gflops, precision, starts_at, ends_at, burst_ppm, utilisation_ppm, awarded_at,"
        " awarded_by)": (
            (n, n, AWARD_GFLOPS, "fp32", STARTS_AT, ENDS_AT, 10**6, 10**6, STARTS_AT, "reviewer") for n in numbers
        ),
        "allocations(id, project_id, award_id, asset, starts_at, ends_at, ceiling_gflops)": (
            (n, n, n, "compute", STARTS_AT, ENDS_AT, AWARD_GFLOPS) for n in numbers
        ),
        "accounts(id, asset, kind, allocation_id, balance)": itertools.chain(
            [(1, "compute", "issuance", None, -GRANT * projects), (2, "compute", "overrun", None, 0)],
            (
                (4 * n - 1 + place, "compute", kind, n, 0 if place else GRANT)
                for n in numbers
                for place, kind in enumerate(("available", "held", "spent", "expired"))
            ),
        ),
        "transfers(key, kind, debit_account_id, credit_account_id, allocation_id, amount, at)": (
            (f"allocation:{n}:grant", "grant", 1, 4 * n - 1, n, GRANT, STARTS_AT) for n in numbers
        ),
        "device_models(code, name, kind, memory_bytes, units, units_total)": [("h100", "H100", "gpu", 2**36, 1, 1)],
        "images(code, reference, title_ko, title_en)": [("notebook", "notebook:latest", "노트북", "Notebook")],
        "profiles(id, code, name_ko, name_en, image_code, device_model, device_count, cpu_millis, memory_bytes,"
        " storage_bytes, backend_terms, position)": [
            (1, "gpu", "GPU", "GPU", "notebook", "h100", 1, 8000, 2**36, 2**36, "{}", 1),
            (2, "cpu", "CPU", "CPU", "notebook", None, 0, 2000, 2**33, 2**36, "{}", 2),
        ],
        "project_profiles(project_id, profile_id)": ((n, profile) for n in numbers for profile in (1, 2)),
        "rate_cards(version, effective_from, reference_precision, published_at, published_by)": [
            (1, STARTS_AT, "fp32", STARTS_AT, "operator")
        ],
        "rates(version, profile_id, gflops, rule, reason, approver)": [
            (1, 1, RATE_GFLOPS, "fact", "peak", None),
            (1, 2, 100, "assigned", "a share", "operator"),
        ],
        "pools(id, code, name_ko, name_en, simulated)": [(1, "main", "주 풀", "Main", 1)],
        "capacity_phases(pool_id, device_model, from_at, installed, powered, healthy)": [
            (1, "h100", STARTS_AT, DEVICES, DEVICES, DEVICES)
        ],
        "pool_devices(device_model, pool_id)": [("h100", 1)],
    }
    connection.execute("BEGIN")
    for table, rows in tables.items():
        marks = ", ".join("?" * (table.count(",") + 1))
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608 - the words are above
    connection.execute("COMMIT")


class Centre:
    """A migrated database with `projects` projects, on which decisions are timed."""

    def __init__(self, folder: Path, projects: int, profile: str = "gpu") -> None:
        path = folder / f"centre-{projects}-{profile}.sqlite"
        self.database = Database(f"sqlite:///{path}")
        migrate(self.database)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            fill(connection, projects)
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
