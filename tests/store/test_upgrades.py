"""A ledger with data in it is brought to the newest revision from each earlier one, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Connection, MetaData, select

from quotas.domain.admission import Admitted, Request
from quotas.domain.policy import Policy
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.schedules import Timing
from quotas.services import admission, check, refunds, schedules
from quotas.services.admission import Ended
from quotas.store import migrate, notices
from quotas.store.database import Database
from quotas.store.tables import metadata
from tests import centre as small
from tests.centre import NOW, Centre
from tests.databases import Databases
from tests.store.structure import structure

POLICY = Policy()
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def used(seeded: Centre) -> Centre:
    """A centre in which everything has happened that the first revision records; two runs are open."""
    database, run = seeded.database, new_run_id()
    reserve(seeded, "h100", NOW, run_id=run)
    admission.started(database, run, NOW)
    admission.extend(database, run, NOW + 1000, POLICY)
    admission.settle(database, run, Ended(NOW, NOW + 4000, Outcome.OUT_OF_MEMORY), NOW + 4000)
    refunds.refund_charge(database, run, 5_000, reason="a fault", actor=seeded.operator, now=NOW + 4001)
    reserve(seeded, "h100-1g", NOW + 5000)
    reserve(seeded, "cpu-small", NOW + 5000, kind=RunKind.BATCH, seconds=600)
    new = schedules.NewSchedule(seeded.project, seeded.member, "cpu-small", "a.ipynb", Timing("UTC", cron="* * * * *"))
    schedules.create(database, new, actor=seeded.member, now=NOW)
    assert schedules.claim_due(database, NOW + 3600)
    with database.write() as transaction:
        notices.tell(transaction, notices.Notice(1, "a kind", "a matter", "글", "a text"), NOW)
    return seeded


def reserve(centre: Centre, profile: str, now: int, **changes: Any) -> Admitted:
    values: dict[str, Any] = {"run_id": new_run_id(), "kind": RunKind.NOTEBOOK, "person": centre.member, **changes}
    decision = admission.reserve(
        centre.database, Request(project=centre.project, profile=profile, **values), now, POLICY
    )
    assert isinstance(decision, Admitted), decision
    return decision


@pytest.fixture
def old(databases: Databases) -> Iterator[Database]:
    """A database without a schema."""
    made = databases.empty()
    yield made
    databases.drop(made)


def copied(source: Database, target: Database) -> Rows:
    """Return the rows of `source` as they are in `target` now, which has tables of its own and no more of them."""
    tables, rows = MetaData(), {}
    tables.reflect(target.engine)
    with source.engine.connect() as reading, target.engine.connect() as writing:
        for table in metadata.sorted_tables:
            if table.name not in tables.tables:
                continue
            names = [column.name for column in tables.tables[table.name].c]
            columns = [table.c[name] for name in names]
            rows[table.name] = [dict(row._mapping) for row in reading.execute(select(*columns))]
            if rows[table.name]:
                writing.execute(tables.tables[table.name].insert(), rows[table.name])
            if not target.is_sqlite:
                _go_on_counting(writing, table.name, rows[table.name])
    return rows


def _go_on_counting(connection: Connection, table: str, rows: list[dict[str, Any]]) -> None:
    """New rows get numbers after those of the rows that were put in with theirs."""
    for name in [key for key in ("id", "sequence") if rows and isinstance(rows[0].get(key), int)]:
        connection.exec_driver_sql(
            f"SELECT setval(pg_get_serial_sequence('{table}', '{name}'), (SELECT max({name}) FROM {table}))"  # noqa: S608 - our own names
        )


def same_columns(database: Database, rows: Rows) -> Rows:
    """Return what `database` has in the tables and columns of `rows`."""
    with database.engine.connect() as connection:
        return {
            name: [
                dict(row._mapping)
                for row in connection.execute(select(*(metadata.tables[name].c[key] for key in kept[0])))
            ]
            for name, kept in rows.items()
            if kept
        }


def in_order(rows: Rows) -> dict[str, list[str]]:
    return {name: sorted(str(sorted(row.items())) for row in each) for name, each in rows.items() if each}


@pytest.mark.parametrize("revision", migrate.revisions())
def test_a_ledger_in_use_is_brought_to_the_newest_revision(
    used: Centre, old: Database, revision: str, database: Database
) -> None:
    later = migrate.revisions()[migrate.revisions().index(revision) + 1 :]
    migrate.upgrade(old, revision)
    rows = copied(used.database, old)
    filled = {name for name, each in rows.items() if each}
    assert {"transfers", "charges", "holds", "runs", "audit_events", "notices", "schedules", "executions"} <= filled

    assert migrate.current(old) == revision
    assert migrate.migrate(old) == later
    assert in_order(same_columns(old, rows)) == in_order(rows)
    assert structure(old) == structure(database)
    assert check.findings(old, NOW + 6000) == []

    centre = Centre(old)
    for run_id in [row["run_id"] for row in rows["holds"] if row["state"] == "open"]:
        charge = admission.settle(old, run_id, Ended(NOW + 5000, NOW + 5060, Outcome.STOPPED), NOW + 6000)
        assert charge is not None
        assert charge.seconds == 60
    again = reserve(centre, "h100", NOW + 6000)
    assert admission.settle(old, again.run_id, Ended(NOW + 6000, NOW + 6001, Outcome.STOPPED), NOW + 6001)
    small.applied(centre, "another")
    small.approve(centre, "another", now=NOW + 6000)
    assert check.findings(old, NOW + 7000) == []


def test_every_table_of_the_first_revision_has_rows(used: Centre, old: Database) -> None:
    """So that what an upgrade does to them is seen."""
    migrate.upgrade(old, migrate.revisions()[0])
    first = set(sqlalchemy.inspect(old.engine).get_table_names()) - {"alembic_version", "credentials", "doors"}
    assert {name for name, rows in copied(used.database, old).items() if rows} == first
