"""What is decided of an award reaches the servers that run on it: beside a real hub and its loop."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from quotas.domain.runs import Outcome, RunState
from quotas.services import awards, check, projects, refunds
from tests.platform import BY, Platform, running, wait_for

TINY = {
    "hold_seconds": 6,
    "stop_margin_seconds": 2,
    "extend_below_seconds": 5,
    "minimum_session_seconds": 3,
    "preempt_notice_seconds": 3,
}


def refused_as(platform: Platform, person: str, project: str) -> str:
    """Return what the hub says to a start that it refuses."""
    answer = platform.start_server(person, project)
    assert answer.status_code >= 400, answer.text
    return answer.text


def test_a_suspended_award_keeps_its_servers_until_their_holds_end_and_starts_none(tmp_path: Path) -> None:
    with running(tmp_path, reconciler=True, **TINY) as platform:
        platform.start_server("ada", "vision")
        platform.wait_ready("ada", "vision")
        now = int(time.time())
        awards.suspend(platform.database, "vision", reason="a leak", actor=BY, now=now)
        held_until = platform.runs("vision")[0].until_at
        assert "is suspended" in refused_as(platform, "cho", "vision")
        platform.wait_stopped("ada", "vision", seconds=30)
        run = wait_for("its end", lambda: next(iter(r for r in platform.runs("vision") if r.finished_at), None))
        assert (run.outcome, run.overrun) == (Outcome.LIMIT, 0)
        assert run.until_at <= held_until + 1
        assert run.finished_at <= run.until_at
        awards.resume(platform.database, "vision", reason="it was none", actor=BY, now=int(time.time()))
        assert platform.start_server("ada", "vision").status_code == 201
        platform.wait_ready("ada", "vision")
        assert check.findings(platform.database, int(time.time())) == []


def test_a_revoked_awards_servers_are_stopped_and_their_rest_is_returned(tmp_path: Path) -> None:
    with running(tmp_path, reconciler=True) as platform:
        for person in ("ada", "ben"):
            platform.start_server(person, "vision")
            platform.wait_ready(person, "vision")
        platform.start_server("ada", "robots")
        platform.wait_ready("ada", "robots")
        now = int(time.time())
        awards.revoke(platform.database, "vision", reason="mining", confirm="vision", actor=BY, now=now)
        for person in ("ada", "ben"):
            platform.wait_stopped(person, "vision", seconds=20)
            page = httpx.get(f"{platform.url}/user/{person}/vision/api", follow_redirects=False, timeout=30)
            assert page.status_code != 200
        wait_for("their ends", lambda: all(run.state is RunState.SETTLED for run in platform.runs("vision")))
        assert {run.outcome for run in platform.runs("vision")} == {Outcome.REVOKED}
        assert "was revoked" in refused_as(platform, "ada", "vision")
        assert platform.server("ada", "robots")
        refunds.expire_ended(platform.database, int(time.time()))
        view = projects.show(platform.database, "vision", int(time.time()))
        assert view is not None
        assert (view.available, view.held, view.expired) == (0, 0, 0)
        assert view.granted == view.spent > 0
        assert check.findings(platform.database, int(time.time())) == []
