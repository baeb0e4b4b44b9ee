"""What people and the loop wait for reads no table from end to end that grows: SQLite says so of every statement."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from bench import growth
from quotas.domain.admission import Admitted, Request
from quotas.domain.recalls import RecallPolicy
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.services import admission, offers, periodic, preemption, pressure, refunds
from quotas.store.database import Database

SHORT = {
    *("organisations", "platform_roles", "device_models", "capability_facts", "images", "profiles", "rate_cards"),
    *("rates", "pools", "pool_devices", "capacity_phases", "doors", "periodic_jobs", "drains"),
}
"""Tables that have a row for each thing that the centre has, or each job that it does."""
A_STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", re.IGNORECASE)
A_SCAN = re.compile(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[growth.World]:
    with closing(growth.World(f"sqlite:///{tmp_path}/plans.sqlite", 200)) as made:
        yield made


def scans(world: growth.World, work: Callable[[], object]) -> list[str]:
    """Return the plans, of what `work` runs, that go through a whole table that grows.

    An index of what is open, or not over yet, is as long as what is open.
    """
    path = world.database.url.removeprefix("sqlite:///")
    texts: set[str] = set()

    def listen(connection: sqlite3.Connection, _record: Any) -> None:
        connection.set_trace_callback(texts.add)

    world.database.close()
    world.database = Database(world.database.url)
    event.listen(world.database.engine, "connect", listen)
    work()
    found = []
    with closing(sqlite3.connect(path)) as plain:
        tables = {name for (name,) in plain.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        partial = {
            name
            for (name,) in plain.execute("SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %'")
        }
        statements = [text for text in texts if A_STATEMENT.match(text)]
        assert statements
        for text in statements:
            for *_, detail in plain.execute(f"EXPLAIN QUERY PLAN {text}"):
                scan = A_SCAN.match(detail)
                if scan and scan[1] in tables - SHORT and scan[2] not in partial:
                    found.append(f"{detail}: {text}")
    return found


@pytest.mark.parametrize("name", growth.OPERATIONS)
def test_what_is_measured(world: growth.World, name: str) -> None:
    operation = growth.OPERATIONS[name]

    def work() -> None:
        for each in (operation.before, operation.work, operation.after):
            each(world)

    assert scans(world, work) == []


def _life(world: growth.World) -> None:
    """A server is offered, started, seen, extended, stopped and refunded."""
    now, run = growth.NOW, new_run_id()
    offers.offers(world.database, "person-150", now, growth.POLICY)
    request = Request(run, RunKind.NOTEBOOK, "person-150", "project-150", "gpu", door="bench")
    assert isinstance(admission.reserve(world.database, request, now, growth.POLICY), Admitted)
    admission.started(world.database, run, now)
    admission.seen(world.database, run, now + 60)
    admission.extend(world.database, run, now + 1200, growth.POLICY)
    ended = admission.Ended(now, now + 1500, Outcome.STOPPED)
    admission.settle(world.database, run, ended, now + 1500)
    refunds.refund_charge(world.database, run, 5, reason="a fault", actor="operator", now=now + 1600)


def _round(world: growth.World) -> None:
    """The loop goes round some times."""
    jobs = periodic.jobs(RecallPolicy())
    for turn in range(3):
        now = growth.NOW + 700 * turn
        pressure.relieve(world.database, now, growth.POLICY)
        preemption.spare_in_vain(world.database, now)
        periodic.run(world.database, jobs, now)
        refunds.expire_ended(world.database, now)


@pytest.mark.parametrize("work", [_life, _round])
def test_what_a_run_and_a_round_of_the_loop_read(world: growth.World, work: Callable[[growth.World], None]) -> None:
    assert scans(world, lambda: work(world)) == []


def test_a_scan_is_seen(world: growth.World) -> None:
    with closing(sqlite3.connect(world.database.url.removeprefix("sqlite:///"))) as plain:
        plain.execute("DROP INDEX ix_runs_started_at")
    assert any(plan.startswith("SCAN ") for plan in scans(world, lambda: growth.World.report(world)))
