"""A disk that is full: what was acknowledged is stored, what does not fit is refused, nothing is half-written.

SQLite's disk, whose files are the process's own. PostgreSQL's belongs to its server.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from contextlib import closing

import pytest
from sqlalchemy import select

from quotas.domain.refusals import Code
from quotas.services import check
from quotas.store.tables import charges, holds
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre

NOW = START + DAY


@pytest.mark.parametrize("dialect", ["sqlite"])
@pytest.mark.parametrize("room_bytes", [20_000, 150_000, 700_000])
def test_the_ledger_refuses_what_it_cannot_keep_and_keeps_what_it_said(centre: Centre, room_bytes: int) -> None:
    """No file of the process may grow beyond `room_bytes`, as on a disk with so much left."""
    centre.member("vision", "zoe")
    centre.award("vision", 10**9 * GPU_GFLOPS)
    with centre.database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    words = [sys.executable, "-m", "tests.services.worker", centre.database.url, "loop", "vision", str(NOW), "zoe"]

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, room_bytes))

    ended = subprocess.run(
        words, input="go\n", capture_output=True, text=True, timeout=60, check=False, preexec_fn=small_files
    )
    lines = [line.split() for line in ended.stdout.splitlines()[1:]]
    assert lines[-1] == ["refused", Code.LEDGER_AWAY.value] or "DatabaseAway" in ended.stderr
    admitted = {run_id for word, run_id in lines if word == "admitted"}
    settled = {run_id for word, run_id in lines if word == "settled"}
    assert len(settled) >= room_bytes // 100_000
    assert check.findings(centre.database, NOW) == []
    with centre.database.read() as transaction:
        assert admitted <= {row.run_id for row in transaction.rows(select(holds.c.run_id))}
        assert settled <= {row.run_id for row in transaction.rows(select(charges.c.run_id))}
    with closing(centre.database.engine.raw_connection()) as connection:
        assert connection.cursor().execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert centre.admitted(NOW, person="ada").amount > 0
