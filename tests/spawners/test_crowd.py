"""Many people ask at once: exactly as many are let in as fit, and nobody is kept by someone else's slow stop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from quotas.domain.people import MembershipRole
from quotas.domain.runs import RunState
from quotas.services import check, people, projects
from quotas.store.database import Database
from tests.platform import BY, CPU, GPU, RATES, STAND_IN, Platform, add_project, build_world, running

CROWD = [f"p{number:02d}" for number in range(50)]
HOLD_SECONDS = 1920


def crowded(*, project: str, profile: str, gflops: int, budget: int | None = None) -> Any:
    """The small world and fifty people more, all on one project."""

    def world(database: Database, now: int) -> None:
        build_world(database, now)
        add_project(database, project, now, gflops=gflops, profiles=(profile,), budget=budget)
        for person in CROWD:
            people.add_person(database, person, person, organisation="lab", language="en", actor=BY, now=now)
            projects.add_member(database, project, person, MembershipRole.LEARNER, actor=BY, now=now)

    return world


def all_at_once(platform: Platform, persons: Sequence[str], project: str, profile: str) -> list[httpx.Response]:
    """Each asks for a server at the same time; return the answers to all of them."""
    for person in persons:
        platform.api(person, "GET", "/user")

    async def ask() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=len(persons))
        async with httpx.AsyncClient(base_url=f"{platform.url}/hub/api", timeout=120, limits=limits) as client:
            asked = (
                client.post(
                    f"/users/{person}/servers/{project}",
                    json={"profile": profile},
                    headers={"Authorization": f"token {platform._tokens[person]}"},
                )
                for person in persons
            )
            return list(await asyncio.gather(*asked))

    return asyncio.run(ask())


def admitted(platform: Platform, project: str) -> int:
    return sum(run.state is not RunState.SETTLED or run.charge != 0 for run in platform.runs(project))


def test_fifty_at_once_for_the_last_of_an_allocation(tmp_path: Path) -> None:
    need = RATES[CPU] * HOLD_SECONDS
    world = crowded(project="last", profile=CPU, gflops=RATES[CPU] * 60, budget=need * 21)
    with running(tmp_path, world=world, minimum_session_seconds=HOLD_SECONDS) as platform:
        view = projects.show(platform.database, "last", int(time.time()))
        assert view is not None
        fit = view.available // need
        assert 15 < fit < 25
        answers = Counter(answer.status_code for answer in all_at_once(platform, CROWD, "last", CPU))
        assert answers[402] == len(CROWD) - fit
        assert answers[201] + answers[202] == fit
        assert admitted(platform, "last") == fit
        assert check.findings(platform.database, int(time.time())) == []


def test_fifty_at_once_for_the_last_devices(tmp_path: Path) -> None:
    world = crowded(project="last", profile=GPU, gflops=RATES[GPU] * 60)
    with running(tmp_path, world=world) as platform:
        answers = Counter(answer.status_code for answer in all_at_once(platform, CROWD, "last", GPU))
        assert (answers[409], answers[201] + answers[202]) == (len(CROWD) - 4, 4)
        assert admitted(platform, "last") == 4
        assert check.findings(platform.database, int(time.time())) == []


def test_one_person_who_asks_many_times_has_one_server(tmp_path: Path) -> None:
    with running(tmp_path) as platform:
        answers = all_at_once(platform, ["ada"] * 20, "vision", CPU)
        assert {answer.status_code for answer in answers} <= {201, 202, 400, 500}
        platform.wait_ready("ada", "vision")
        assert [run.state for run in platform.runs("vision")] == [RunState.RUNNING]


def test_a_slow_stop_keeps_nobody(tmp_path: Path) -> None:
    deaf = ("/bin/sh", "-c", f"trap '' TERM; {' '.join(STAND_IN)} & while :; do sleep 1; done")
    with running(tmp_path, server=deaf) as platform:
        for person in ("ada", "ben"):
            platform.start_server(person, "vision")
            platform.wait_ready(person, "vision")
        platform.api("cho", "GET", "/user")
        began = time.monotonic()

        async def scene() -> float:
            async with httpx.AsyncClient(base_url=f"{platform.url}/hub/api", timeout=60) as client:
                tokens = {name: {"Authorization": f"token {platform._tokens[name]}"} for name in ("ada", "ben", "cho")}
                stops = [
                    asyncio.create_task(client.delete(f"/users/{name}/servers/vision", headers=tokens[name]))
                    for name in ("ada", "ben")
                ]
                await asyncio.sleep(0.5)
                asked = await client.post("/users/cho/servers/vision", json={"profile": CPU}, headers=tokens["cho"])
                assert asked.status_code == 201
                started = time.monotonic()
                await asyncio.gather(*stops)
                return started

        started = asyncio.run(scene())
        assert started - began < 8
        assert time.monotonic() - began >= 9
        platform.wait_stopped("ada", "vision")
        platform.wait_stopped("ben", "vision")
