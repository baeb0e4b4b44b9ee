"""A centre of any size, written as rows of its tables: loaded in bulk, and as whole as one that grew by itself.

Each project has one person, an award and its grant. The past, where there is one, is `RUNS_OF_EACH` runs of each
project with hold, release, charge and audit events, in order of time. Of all runs `RUNS_IN_MONTH` lie in `MONTH`, at
every size, so that a report of that month is about as much in a large centre as in a small one; what else there is
lies before and after it. One run in a thousand takes two days.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Table
from sqlalchemy.engine import make_url

from quotas.domain.months import Month
from quotas.domain.units import DAY_SECONDS, HOUR_SECONDS
from quotas.store import tables
from quotas.store.database import Database

STARTS_AT, NOW, ENDS_AT = 1_790_000_000, 1_795_000_000, 1_822_000_000
"""2026-09-21, 2026-11-18 and 2027-09-27."""
AWARD_GFLOPS, RATE_GFLOPS = 1_000_000, 66_900
GRANT = AWARD_GFLOPS * (ENDS_AT - STARTS_AT)
DEVICES = 1_000_000
"""Enough for every project: admissions are measured, not refusals."""
SCARCE_DEVICES = 8
"""So few that people wait for them."""
MONTH = Month(2026, 10)
RUNS_OF_EACH = 3
RUNS_IN_MONTH = 1_000

Row = tuple[object, ...]


@dataclass(frozen=True)
class PastRun:
    """A run that is over: of project `number`, charged for `seconds` from `started_at` on."""

    id: str
    number: int
    started_at: int
    seconds: int
    kind: str

    @property
    def ended_at(self) -> int:
        return self.started_at + self.seconds

    @property
    def held(self) -> int:
        return (self.seconds + 120) * RATE_GFLOPS

    @property
    def charge(self) -> int:
        return self.seconds * RATE_GFLOPS


@dataclass(frozen=True)
class Rows:
    """Rows of one table, each a tuple in the order of `columns`."""

    table: Table
    columns: str
    rows: Iterable[Row]


def past(projects: int) -> Iterator[PastRun]:
    """Yield the runs of a centre's past in order of time, each project's apart from each other."""
    whole = projects * RUNS_OF_EACH
    inside = min(RUNS_IN_MONTH, whole // 3)
    before = (whole - inside) * 4 // 5
    after = whole - inside - before
    spans = (
        (STARTS_AT, MONTH.starts_at - 3 * DAY_SECONDS, before),
        (MONTH.starts_at, MONTH.ends_at, inside),
        (MONTH.ends_at, NOW - 3 * DAY_SECONDS, after),
    )
    number = 0
    for since, until, runs in spans:
        draw = random.Random(since)  # noqa: S311 - a repeatable past, no secret
        for place in range(runs):
            started_at = since + (until - since) * place // runs
            is_long = draw.random() < 0.001
            seconds = 2 * DAY_SECONDS if is_long else draw.randint(600, 2 * HOUR_SECONDS)
            milliseconds = started_at * 1000
            run_id = uuid.UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | number)
            kind = "batch" if is_long or draw.random() < 0.3 else "notebook"
            yield PastRun(str(run_id), number % projects + 1, started_at, seconds, kind)
            number += 1


def contents(projects: int, *, with_past: bool = False) -> Iterator[Rows]:
    """Yield the rows of a centre with so many projects, in the order in which they refer to each other."""
    numbers, dates = range(1, projects + 1), (STARTS_AT, ENDS_AT)
    asked = AWARD_GFLOPS, "fp32", *dates
    yield from _catalogue()
    yield Rows(
        tables.persons,
        "id username display_name organisation_id language added_at",
        ((n, f"person-{n}", f"Person {n}", 1, "ko", STARTS_AT) for n in numbers),
    )
    yield Rows(
        tables.projects,
        "id code kind title_ko title_en organisation_id state requested_gflops requested_precision"
        " requested_starts_at requested_ends_at applied_at applied_by",
        ((n, f"project-{n}", "research", "과제", "Project", 1, "approved", *asked, STARTS_AT, n) for n in numbers),
    )
    yield Rows(tables.memberships, "project_id person_id role added_at", ((n, n, "pi", STARTS_AT) for n in numbers))
    yield Rows(
        tables.awards,
        "id project_id gflops precision starts_at ends_at burst_ppm utilisation_ppm awarded_at awarded_by",
        ((n, n, AWARD_GFLOPS, "fp32", *dates, 10**6, 10**6, STARTS_AT, "reviewer") for n in numbers),
    )
    yield Rows(
        tables.allocations,
        "id project_id award_id asset starts_at ends_at ceiling_gflops",
        ((n, n, n, "compute", *dates, AWARD_GFLOPS) for n in numbers),
    )
    yield Rows(tables.award_watches, "allocation_id look_at", ((n, NOW + DAY_SECONDS) for n in numbers))
    yield Rows(
        tables.project_profiles, "project_id profile_id", ((n, profile) for n in numbers for profile in (1, 2, 3))
    )
    yield from _ledger(projects, list(past(projects)) if with_past else [])


def _catalogue() -> Iterator[Rows]:
    yield Rows(tables.organisations, "id code name_ko name_en kind", [(1, "lab", "연구소", "Lab", "university")])
    yield Rows(
        tables.device_models,
        "code name kind memory_bytes units units_total",
        [("h100", "H100", "gpu", 2**36, 1, 1), ("a100", "A100", "gpu", 2**36, 1, 1)],
    )
    yield Rows(
        tables.images, "code reference title_ko title_en", [("notebook", "notebook:latest", "노트북", "Notebook")]
    )
    yield Rows(
        tables.profiles,
        "id code name_ko name_en image_code device_model device_count cpu_millis memory_bytes storage_bytes"
        " backend_terms position",
        [
            (1, "gpu", "GPU", "GPU", "notebook", "h100", 1, 8000, 2**36, 2**36, "{}", 1),
            (2, "cpu", "CPU", "CPU", "notebook", None, 0, 2000, 2**33, 2**36, "{}", 2),
            (3, "scarce", "A100", "A100", "notebook", "a100", 1, 8000, 2**36, 2**36, "{}", 3),
        ],
    )
    yield Rows(
        tables.rate_cards,
        "version effective_from reference_precision published_at published_by",
        [(1, STARTS_AT, "fp32", STARTS_AT, "operator")],
    )
    yield Rows(
        tables.rates,
        "version profile_id gflops rule reason approver",
        [
            (1, 1, RATE_GFLOPS, "fact", "peak", None),
            (1, 2, 100, "assigned", "a share", "operator"),
            (1, 3, 19_500, "fact", "peak", None),
        ],
    )
    yield Rows(tables.pools, "id code name_ko name_en simulated", [(1, "main", "주 풀", "Main", 1)])
    yield Rows(
        tables.capacity_phases,
        "pool_id device_model from_at installed powered healthy",
        [(1, model, STARTS_AT, *[number] * 3) for model, number in (("h100", DEVICES), ("a100", SCARCE_DEVICES))],
    )
    yield Rows(tables.pool_devices, "device_model pool_id", [("h100", 1), ("a100", 1)])


_ISSUANCE, _OVERRUN = 1, 2
_KINDS = ("available", "held", "spent", "expired")


def _account(number: int, kind: str) -> int:
    return 3 + 4 * (number - 1) + _KINDS.index(kind)


def _ledger(projects: int, runs: Sequence[PastRun]) -> Iterator[Rows]:
    spent = [0] * (projects + 1)
    for run in runs:
        spent[run.number] += run.charge
    yield Rows(
        tables.accounts,
        "id asset kind allocation_id balance",
        [
            (_ISSUANCE, "compute", "issuance", None, -GRANT * projects),
            (_OVERRUN, "compute", "overrun", None, 0),
            *(
                (_account(n, kind), "compute", kind, n, balance)
                for n in range(1, projects + 1)
                for kind, balance in zip(_KINDS, (GRANT - spent[n], 0, spent[n], 0), strict=True)
            ),
        ],
    )
    yield Rows(
        tables.runs,
        "id kind person_id project_id profile_id state door requested_at started_at finished_at outcome",
        (
            (
                run.id,
                run.kind,
                run.number,
                run.number,
                1,
                "settled",
                "bench",
                run.started_at,
                run.started_at,
                run.ended_at,
                "stopped",
            )
            for run in runs
        ),
    )
    yield Rows(
        tables.holds,
        "run_id allocation_id pool_id device_model device_count card_version gflops amount opened_at until_at state"
        " closed_at",
        ((run.id, run.number, 1, "h100", 1, 1, RATE_GFLOPS, run.held, run.started_at, *_posted(run)) for run in runs),
    )
    yield Rows(
        tables.transfers,
        "sequence key kind debit_account_id credit_account_id allocation_id amount run_id at",
        ((sequence, *row) for sequence, row in enumerate(_transfers(projects, runs), start=1)),
    )
    yield Rows(
        tables.charges,
        "run_id allocation_id card_version gflops seconds amount overrun_amount settled_at",
        ((run.id, run.number, 1, RATE_GFLOPS, run.seconds, run.charge, 0, run.ended_at) for run in runs),
    )
    yield Rows(
        tables.audit_events,
        "at actor action subject detail",
        (
            (at, actor, action, run.id, "{}")
            for run in runs
            for at, actor, action in (
                (run.started_at, f"person-{run.number}", "start admitted"),
                (run.ended_at, "platform", "run settled"),
            )
        ),
    )


def _posted(run: PastRun) -> Row:
    """Return until when it was held, the state of its hold, and when that was closed."""
    return run.ended_at + 120, "posted", run.ended_at


def _transfers(projects: int, runs: Iterable[PastRun]) -> Iterator[Row]:
    for n in range(1, projects + 1):
        yield f"award:{n}:grant", "grant", _ISSUANCE, _account(n, "available"), n, GRANT, None, STARTS_AT
    for run in runs:
        available, held, spent = (_account(run.number, kind) for kind in ("available", "held", "spent"))
        ended_at = run.ended_at
        rest = run.held - run.charge
        yield f"{run.id}:hold", "hold", available, held, run.number, run.held, run.id, run.started_at
        yield f"{run.id}:release", "release", held, available, run.number, rest, run.id, ended_at
        yield f"{run.id}:charge", "charge", held, spent, run.number, run.charge, run.id, ended_at


def load(database: Database, all_rows: Iterable[Rows]) -> None:
    """The rows are in the migrated, empty database; PostgreSQL knows its statistics, as some minutes later it would.

    By a connection of its own, which need not survive a cut of the power and may take its time.
    """
    if database.is_sqlite:
        path = make_url(database.url).database or ""
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute("BEGIN")
            for each in all_rows:
                columns = each.columns.split()
                marks = ", ".join("?" * len(columns))
                words = f"INSERT INTO {each.table.name} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 - ours
                connection.executemany(words, each.rows)
            connection.execute("COMMIT")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return
    with psycopg.connect(database.url, autocommit=True) as server:
        with server.transaction(), server.cursor() as cursor:
            for each in all_rows:
                names = sql.SQL(", ").join(map(sql.Identifier, each.columns.split()))
                with cursor.copy(
                    sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(each.table.name), names)
                ) as copy:
                    for row in each.rows:
                        copy.write_row(row)
                _go_on_counting(cursor, each.table)
        server.execute("VACUUM ANALYZE")


def _go_on_counting(cursor: psycopg.Cursor[Any], table: Table) -> None:
    """The next row gets the next number, as rows that bring their own do not count."""
    column = table.autoincrement_column
    if column is not None:
        statement = sql.SQL("SELECT setval(pg_get_serial_sequence({}, {}), greatest((SELECT max({}) FROM {}), 1))")
        name, own = table.name, column.name
        cursor.execute(statement.format(name, own, sql.Identifier(own), sql.Identifier(name)))
