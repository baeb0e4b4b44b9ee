"""The figures for sizing are of what they say they are."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from bench import hub_people, ledger_bytes
from quotas.services import check, runs
from quotas.store.database import Database


def test_a_run_takes_bytes_and_a_longer_one_more(tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/ledger.sqlite")) as database:
        found = ledger_bytes.of_runs(database, runs=60, hours=4)
        assert len(runs.runs(database, limit=1000)) == 120
        assert check.findings(database, ledger_bytes.NOW + 10 * 365 * 86_400) == []
    assert 200 < found["run_bytes"] < 20_000
    assert 50 < found["run_hour_bytes"] < 5_000


def test_metering_takes_bytes_for_each_hour_of_a_device(tmp_path: Path) -> None:
    assert 500 < ledger_bytes.of_metering(tmp_path, hours=1)["device_hour_bytes"] < 20_000


def test_a_hub_is_measured_with_the_people_that_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert hub_people.main(["--sizes", "20"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["people"] == 20
    assert 0 < found["restart_seconds"] < 60
    assert found["started_mib"] > 20
