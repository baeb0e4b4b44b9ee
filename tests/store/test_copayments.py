"""What a statement reads is found by indexes: it does not grow with a project's past, nor with other projects."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import sqlite

from quotas.store import copayments
from quotas.store.database import Database, Prepared

VALUES = {"project_id": 1, "since": 1, "before": 2, "month": "2026-11", "statement_id": 1, "code": "vision", "key": "x"}
STATEMENTS = (
    copayments._SETTLED_SINCE,
    copayments._TAKEN_OF_SETTLED,
    copayments._EVER_REFUNDED,
    copayments._TAKEN_OF_REFUNDED,
    copayments._OPEN_RUNS,
    copayments._LAST,
    copayments._BEFORE,
    copayments._STATEMENT,
    copayments._LINES,
    copayments._BY_KEY,
)


def plan(database: Database, prepared: Prepared) -> list[str]:
    wanted = {name: value for name, value in VALUES.items() if name in prepared.statement.compile().params}
    filled = prepared.statement.params(wanted)  # type: ignore[attr-defined]
    written = str(filled.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    with database.engine.connect() as connection:
        return [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {written}"))]


@pytest.mark.parametrize("dialect", ["sqlite"])
@pytest.mark.parametrize("prepared", STATEMENTS, ids=range(len(STATEMENTS)))
def test_no_table_is_read_from_end_to_end(database: Database, prepared: Prepared) -> None:
    steps = plan(database, prepared)
    assert steps
    assert [step for step in steps if step.startswith("SCAN")] == []


@pytest.mark.parametrize("dialect", ["sqlite"])
def test_charges_are_found_by_their_settlement_and_refunds_by_their_own_index(database: Database) -> None:
    settled = plan(database, copayments._SETTLED_SINCE)
    assert any("ix_charges_allocation_id_settled_at (allocation_id=? AND settled_at>?)" in step for step in settled)
    assert any("ix_transfers_refunds" in step for step in plan(database, copayments._EVER_REFUNDED))
