"""A hub that starts while the ledger is away: nothing is started, nothing ends, and it comes up once it is back."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import time
from pathlib import Path

import httpx

from quotas.domain.runs import RunState
from quotas.services import check
from tests.platform import Platform, running
from tests.spawners.test_servers import processes


def lone_hub(platform: Platform) -> int:
    """Start a hub that is not waited for; return with what code it ended."""
    words = [sys.executable, "-m", "jupyterhub", "-f", str(platform.config)]
    platform.start("hub", words)
    return platform.processes.pop("hub").wait(60)


def test_a_hub_that_starts_without_its_ledger_leaves_the_servers_alone(tmp_path: Path) -> None:
    with running(tmp_path) as platform:
        platform.start_server("ada", "vision")
        platform.wait_ready("ada", "vision")
        alive = {process.pid for process in processes(platform)}
        platform.kill("hub")
        with contextlib.closing(sqlite3.connect(platform.home.path / "ledger.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert lone_hub(platform) != 0
            assert "DatabaseAway" in platform.printed("hub")
            assert httpx.get(f"{platform.url}/user/ada/vision/api").status_code == 200
            other.execute("ROLLBACK")
        platform.start_hub()
        platform.wait_ready("ada", "vision")
        assert {process.pid for process in processes(platform)} == alive
        (run,) = platform.runs()
        assert run.state is RunState.RUNNING
        assert platform.start_server("ben", "vision").status_code == 201
        assert check.findings(platform.database, int(time.time())) == []
