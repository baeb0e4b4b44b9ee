"""How much of a disk the ledger takes: for each run, each hour that one is held, and each hour of a device's metering.

Runs begin, are extended as the reconciling loop does it, and are charged, through the services that the platform uses;
then a machine's devices report for some hours. The size is that of the whole database before and after, packed
(`VACUUM`), divided by what came meanwhile: rows, indexes and audit included. Each figure is for both databases.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.contents import NOW, contents, load
from bench.metering import REPORT_SECONDS, Machine
from quotas.domain.admission import Admitted, Request
from quotas.domain.policy import Policy
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.services import admission, metering
from quotas.store.database import Database
from quotas.store.migrate import migrate
from tests import postgresql

PROJECTS, RUNS, HOURS = 100, 500, 8
POLICY = Policy()
EXTENDED_EACH = POLICY.hold - POLICY.extend_below
"""How often a hold is extended while its run goes on."""


def size(database: Database) -> int:
    """Return the bytes of the database, packed."""
    with contextlib.closing(database.engine.raw_connection()) as connection:
        driver: Any = connection.driver_connection
        driver.rollback()
        if not database.is_sqlite:
            driver.autocommit = True
        cursor = driver.cursor()
        cursor.execute("VACUUM" if database.is_sqlite else "VACUUM FULL")
        if database.is_sqlite:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            cursor.fetchall()
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        else:
            cursor.execute("SELECT pg_database_size(current_database())")
        (found,) = cursor.fetchone()
        if not database.is_sqlite:
            driver.autocommit = False
        return int(found)


def run(database: Database, number: int, began: int, seconds: int) -> None:
    """A person's server has run for so long, extended all the while, and is charged."""
    run_id = new_run_id()
    request = Request(run_id, RunKind.NOTEBOOK, f"person-{number}", f"project-{number}", "gpu", door="bench")
    decision = admission.reserve(database, request, began, POLICY)
    if not isinstance(decision, Admitted):
        raise RuntimeError(f"not admitted: {decision}")
    admission.started(database, run_id, began)
    for at in range(began + EXTENDED_EACH, began + seconds, EXTENDED_EACH):
        admission.seen(database, run_id, at)
        admission.extend(database, run_id, at, POLICY)
    ended = admission.Ended(began, began + seconds, Outcome.STOPPED)
    admission.settle(database, run_id, ended, began + seconds)


def of_runs(database: Database, runs: int = RUNS, hours: int = HOURS) -> dict[str, float]:
    """Return the bytes of a run as such, and of each hour that it goes on."""
    migrate(database)
    load(database, contents(PROJECTS))
    sizes, now = [size(database)], NOW
    for seconds in (60, hours * 3600):
        for number in range(runs):
            run(database, number % PROJECTS + 1, now, seconds)
            now += seconds // PROJECTS + 1 if number % PROJECTS else seconds + 1
        sizes.append(size(database))
        now += hours * 3600
    short, long = ((after - before) / runs for before, after in itertools.pairwise(sizes))
    return {"run_bytes": short, "run_hour_bytes": max(0.0, long - short) / hours}


def of_metering(folder: Path, hours: int = HOURS) -> dict[str, float]:
    """Return the bytes of an hour of one device's metering, on SQLite."""
    machine = Machine(folder)
    try:
        before = size(machine.database)
        for at in range(machine.now + REPORT_SECONDS, machine.now + hours * 3600 + 1, REPORT_SECONDS):
            with machine.database.write() as transaction:
                metering.take(transaction, machine.node_id, machine.report(at), at)
        return {"device_hour_bytes": (size(machine.database) - before) / hours / len(machine.uuids)}
    finally:
        machine.database.close()


def measure(folder: Path, runs: int, hours: int) -> Iterator[dict[str, Any]]:
    """Yield what each database takes."""
    with contextlib.closing(Database(f"sqlite:///{folder}/runs.sqlite")) as database:
        yield {"database": "sqlite", **of_runs(database, runs, hours), **of_metering(folder, hours)}
    if postgresql.missing() is None:
        with postgresql.server(*postgresql.FAST) as server:
            url = server.create()
            with contextlib.closing(Database(url)) as database:
                yield {"database": "postgresql", **of_runs(database, runs, hours)}
            server.drop(url)


def main(arguments: list[str] | None = None) -> int:
    """A line of JSON is printed for each database."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger_bytes", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"runs of each length (default {RUNS})")
    parser.add_argument("--hours", type=int, default=HOURS, help=f"how long the longer ones are (default {HOURS})")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ledger-bytes-") as folder:
        for found in measure(Path(folder), chosen.runs, chosen.hours):
            rounded = {key: round(value) if isinstance(value, float) else value for key, value in found.items()}
            print(json.dumps(rounded), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
