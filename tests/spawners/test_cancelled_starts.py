"""A start that is given up while it is under way: its hold, its turn and its process are given back, at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from quotas.domain.runs import Outcome, RunState
from quotas.services import check, projects
from spawners.attempt import SLOT_SECONDS
from tests.platform import CPU, STAND_IN, Platform, running, wait_for
from tests.spawners.test_servers import processes
from tests.spawners.visitor import Visitor

SILENT_FOR_ADA = ("/bin/sh", "-c", f'[ "$USER" = ada ] && exec sleep 600; exec {" ".join(STAND_IN)}')
"""Ada's server never answers; everyone else's does."""


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """Starts are let through one at a time."""
    with running(tmp_path, server=SILENT_FOR_ADA, start_slots=1) as started:
        for person in ("ada", "ben", "cho"):
            started.api(person, "GET", "/user")
        yield started


def begin(platform: Platform, person: str) -> None:
    """The person's start is under way; nobody waits for it."""
    url = f"{platform.url}/hub/api/users/{person}/servers/vision"
    headers = {"Authorization": f"token {platform._tokens[person]}"}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, headers=headers, json={"profile": CPU}, timeout=0.5)


def runs(platform: Platform) -> dict[str, Any]:
    return {run.person: run for run in platform.runs("vision")}


def by_the_api(platform: Platform, person: str) -> None:
    assert platform.stop_server(person, "vision").status_code in {202, 204}


def by_the_page(platform: Platform, person: str) -> None:
    with Visitor(platform.url) as visitor:
        visitor.log_in(person)
        visitor.visit(f"/hub/spawn-pending/{person}/vision")
        visitor.send(f"/hub/stop/{person}/vision")


@pytest.mark.parametrize("give_up", [by_the_api, by_the_page])
def test_the_next_one_s_turn_comes_at_once(platform: Platform, give_up: Callable[[Platform, str], None]) -> None:
    view = projects.show(platform.database, "vision", int(time.time()))
    assert view is not None
    begin(platform, "ada")
    wait_for("its process", lambda: runs(platform)["ada"].state is RunState.RUNNING)
    begin(platform, "ben")
    assert runs(platform)["ben"].state is RunState.HELD
    began = time.monotonic()
    give_up(platform, "ada")
    platform.wait_ready("ben", "vision")
    assert time.monotonic() - began < SLOT_SECONDS / 2, "it waited until the turn ran out"
    wait_for("the end of its hold", lambda: runs(platform)["ada"].state is RunState.SETTLED)
    assert runs(platform)["ada"].outcome is Outcome.FAILED_TO_START
    wait_for("the end of its process", lambda: {each.environ()["USER"] for each in processes(platform)} == {"ben"})
    platform.wait_stopped("ada", "vision")
    platform.stop_server("ben", "vision")
    assert check.findings(platform.database, int(time.time())) == []


def test_one_that_waits_for_its_turn_leaves_the_line_and_its_hold(platform: Platform) -> None:
    begin(platform, "ada")
    wait_for("its process", lambda: runs(platform)["ada"].state is RunState.RUNNING)
    begin(platform, "ben")
    begin(platform, "cho")
    by_the_api(platform, "ben")
    wait_for("the end of its hold", lambda: runs(platform)["ben"].state is RunState.SETTLED)
    assert (runs(platform)["ben"].charge, runs(platform)["ben"].started_at) == (0, None)
    assert {each.environ()["USER"] for each in processes(platform)} == {"ada"}
    by_the_api(platform, "ada")
    platform.wait_ready("cho", "vision")
    begin_again = platform.start_server("ben", "vision")
    assert begin_again.status_code == 201, begin_again.text
    assert check.findings(platform.database, int(time.time())) == []
