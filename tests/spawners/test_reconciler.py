"""The reconciling loop beside a real hub: it extends, warns, stops and settles, whoever is away."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from quotas.domain.people import MembershipRole
from quotas.domain.runs import Outcome, RunState
from quotas.services import check, projects
from quotas.store import notices
from tests.platform import BY, CPU, GPU, LARGE, RATES, ROOT, Platform, add_project, build_world, running, wait_for

TINY = {
    "hold_seconds": 6,
    "stop_margin_seconds": 2,
    "extend_below_seconds": 5,
    "minimum_session_seconds": 3,
    "preempt_notice_seconds": 3,
}
"""Lengths with which a hold is seen to be extended, and to end, within a test."""


def settled(platform: Platform, project: str) -> Any:
    run = platform.runs(project)[0]
    return run if run.state is RunState.SETTLED else None


def told(platform: Platform, person: str, kind: str = "run ending") -> list[str]:
    with platform.database.read() as transaction:
        return [each.text_en for each in notices.of_person(transaction, person, 0) if each.kind == kind]


def test_a_hold_is_extended_while_its_server_runs(tmp_path: Path) -> None:
    with running(tmp_path, reconciler=True, **TINY) as platform:
        platform.start_server("ada", "vision")
        platform.wait_ready("ada", "vision")
        first = platform.runs("vision")[0].until_at
        wait_for("its extension", lambda: platform.runs("vision")[0].until_at > first)
        wait_for("another", lambda: platform.runs("vision")[0].until_at > first + 6)
        assert platform.server("ada", "vision")
        assert told(platform, "ada") == []
        platform.stop_server("ada", "vision")
        assert check.findings(platform.database, int(time.time())) == []


@pytest.mark.parametrize("profile", [CPU, GPU])
def test_a_spent_budget_warns_and_stops_before_the_hold_ends(tmp_path: Path, profile: str) -> None:
    def world(database: Any, now: int) -> None:
        build_world(database, now)
        add_project(database, "poor", now, gflops=RATES[profile], profiles=(profile,), budget=RATES[profile] * 12)

    with running(tmp_path, reconciler=True, world=world, **TINY) as platform:
        assert platform.start_server("ada", "poor", profile).status_code == 201
        run = wait_for("its end", lambda: settled(platform, "poor"))
        assert run.outcome is Outcome.LIMIT
        assert run.finished_at <= run.until_at
        assert run.charge <= RATES[profile] * 12
        assert run.overrun == 0
        (notice,) = told(platform, "ada")
        assert notice.startswith(f"Your run on poor ({profile}) will be stopped at ")
        assert "the project's budget is spent" in notice
        assert any(each.startswith("The award of poor ends within ") for each in told(platform, "ada", "award end"))
        platform.wait_stopped("ada", "poor")
        assert platform.backend.list_runs() == []
        assert check.findings(platform.database, int(time.time())) == []


def test_a_removed_member_and_an_ended_project_are_stopped(tmp_path: Path) -> None:
    with running(tmp_path, reconciler=True) as platform:
        for person, project in (("ben", "vision"), ("ada", "robots"), ("ada", "vision")):
            platform.start_server(person, project)
            platform.wait_ready(person, project)
        now = int(time.time())
        projects.remove_member(platform.database, "vision", "ben", actor=BY, now=now)
        projects.end(platform.database, "robots", actor=BY, now=now)
        platform.wait_stopped("ben", "vision", seconds=20)
        platform.wait_stopped("ada", "robots", seconds=20)
        assert httpx.get(f"{platform.url}/user/ben/vision/api", follow_redirects=False).status_code != 200
        ended = {(run.person, run.project): run.outcome for run in platform.runs() if run.state is RunState.SETTLED}
        assert ended == {("ben", "vision"): Outcome.REVOKED, ("ada", "robots"): Outcome.REVOKED}
        assert platform.server("ada", "vision")
        projects.add_member(platform.database, "vision", "ben", MembershipRole.MEMBER, actor=BY, now=now)
        assert platform.start_server("ben", "vision").status_code == 201


def test_the_loop_works_while_the_hub_is_away(tmp_path: Path) -> None:
    with running(tmp_path, reconciler=True, **TINY) as platform:
        for person in ("ada", "ben"):
            platform.start_server(person, "vision")
            platform.wait_ready(person, "vision")
        platform.kill("hub")
        first = {run.person: run.until_at for run in platform.runs("vision")}
        wait_for("extensions", lambda: all(run.until_at > first[run.person] + 6 for run in platform.runs("vision")))
        projects.remove_member(platform.database, "vision", "ben", actor=BY, now=int(time.time()))
        wait_for("its end", lambda: {run.person: run.state for run in platform.runs()}["ben"] is RunState.SETTLED)
        platform.start_hub()
        platform.wait_ready("ada", "vision")
        platform.wait_stopped("ben", "vision")
        assert check.findings(platform.database, int(time.time())) == []


def test_a_process_without_a_hold_is_stopped(tmp_path: Path) -> None:
    with running(tmp_path, reconciler=True) as platform:
        command = platform.backend.keeper_command("01900000-0000-7000-8000-000000000001", ["/bin/sleep", "600"])
        stray = subprocess.Popen(command, start_new_session=True)
        assert stray.wait(30) != 0
        wait_for("its record's end", lambda: platform.backend.list_runs() == [])


def test_a_locked_ledger_refuses_starts_and_ends_nothing(tmp_path: Path) -> None:
    with running(tmp_path, reconciler=True) as platform:
        platform.start_server("ada", "vision", LARGE)
        platform.wait_ready("ada", "vision")
        with contextlib.closing(sqlite3.connect(platform.home.path / "ledger.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = platform.start_server("ben", "vision")
            assert answer.status_code in {202, 503}
            wait_for("its complaint", lambda: "the ledger is away" in platform.printed("reconciler"), seconds=40)
            assert "원장이 응답하지 않아 시작할 수 없습니다" in platform.progress("ben", "vision")[-1]["message"]
            assert platform.server("ada", "vision")
            other.execute("ROLLBACK")
        assert platform.processes["reconciler"].poll() is None
        assert platform.start_server("ben", "vision").status_code == 201
        for person in ("ada", "ben"):
            platform.stop_server(person, "vision")
        assert [run.state for run in platform.runs("vision")] == [RunState.SETTLED, RunState.SETTLED]
        assert check.findings(platform.database, int(time.time())) == []


def test_it_ends_at_once_when_told(tmp_path: Path) -> None:
    with running(tmp_path, hub=False, reconciler=True, reconcile_seconds=500) as platform:
        wait_for("its first line", lambda: "going round" in platform.printed("reconciler"))
        time.sleep(1)
        process = platform.processes["reconciler"]
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert time.monotonic() - began < 2


def reconciler(tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spawners.reconciler", *words]
    return subprocess.run(
        command,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_its_help_and_its_errors(tmp_path: Path) -> None:
    shown = reconciler(tmp_path, "--help")
    assert shown.returncode == 0
    assert "--once" in shown.stdout
    homeless = reconciler(tmp_path, "--once")
    assert homeless.returncode == 2
    assert "MUDEUNG_HOME must name the home folder" in homeless.stderr
    (tmp_path / "mudeung.toml").write_text("reconcile_seconds = 0\n")
    wrong = reconciler(tmp_path, "--once", MUDEUNG_HOME=str(tmp_path))
    assert wrong.returncode == 2
    assert "mudeung.toml: reconcile_seconds = 0" in wrong.stderr


def test_once_goes_round_once(tmp_path: Path) -> None:
    with running(tmp_path, hub=False) as platform:
        gone = reconciler(tmp_path, "--once", MUDEUNG_HOME=str(platform.home.path))
        assert gone.returncode == 0, gone.stderr
        assert "the hub does not answer" in gone.stderr
    empty = reconciler(tmp_path, "--once", MUDEUNG_HOME=str(tmp_path / "nothing"))
    assert empty.returncode == 1
    assert "the ledger is away" in empty.stderr
