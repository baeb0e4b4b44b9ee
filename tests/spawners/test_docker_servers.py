"""Servers as containers, through the hub: real notebooks where they matter, light ones elsewhere."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest

from quotas.domain.launch import RUN_LABEL
from quotas.domain.profiles import Profile
from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.domain.runs import Outcome, RunState
from quotas.domain.terms_docker import PROJECT_FOLDER, container_name
from quotas.network import network_name
from quotas.services import check, profiles, projects, rates
from quotas.store.database import Database
from tests.platform import (
    BY,
    CPU,
    GIB,
    GPU,
    RATES,
    STAND_IN_IN_A_CONTAINER,
    Platform,
    build_world,
    running,
    wait_for,
)
from tests.spawners.engine import Mode, engine_door, skip_without_engine, through

pytestmark = pytest.mark.docker

ABSENT = "absent"


def world(database: Database, now: int) -> None:
    """The small world with real devices, of which this machine has none, and a profile that cannot be started."""
    build_world(database, now, simulated=False)
    by: dict[str, Any] = {"actor": BY, "now": now}
    profiles.add_image(database, "absent", "mudeung/never-built:1", "없음", "Absent", **by)
    profiles.add_profile(database, Profile(ABSENT, "a", "a", "absent", 1000, GIB, GIB), 10, **by)
    projects.offer_profile(database, "vision", ABSENT, **by)
    figures = {**RATES, ABSENT: 50}
    rows = tuple(Rate(code, gflops, RateRule.ASSIGNED, "a figure for tests", BY) for code, gflops in figures.items())
    rates.publish(database, RateCard(2, now, Precision.FP32, rows), **by)


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    skip_without_engine()
    with contextlib.closing(docker.from_env(timeout=60)) as client:
        yield client


@pytest.fixture(scope="module")
def platform(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    del engine
    folder = tmp_path_factory.mktemp("docker")
    with running(folder, server=STAND_IN_IN_A_CONTAINER, world=world, backend="docker") as started:
        yield started


def test_a_real_notebook_starts_runs_and_is_charged(engine: docker.DockerClient, tmp_path: Path) -> None:
    with running(tmp_path, server=None, backend="docker", reconciler=True) as platform:
        assert platform.start_server("ada", "vision").status_code == 201
        run = platform.runs("vision")[0]
        container = engine.containers.get(container_name(run.id))
        assert container.labels[RUN_LABEL] == run.id
        assert container.attrs["HostConfig"]["Memory"] == GIB
        assert container.attrs["HostConfig"]["CpuQuota"] == 100_000
        wrote = container.exec_run(["sh", "-c", "pwd; id -u; echo written > by-ada.txt"])
        assert wrote.output.decode().split() == [PROJECT_FOLDER, "1000"]
        assert (platform.home.projects / "vision" / "by-ada.txt").read_text() == "written\n"
        page = platform.browser("ada").get("/user/ada/vision/lab")
        assert page.status_code == 200
        assert "JupyterLab" in page.text
        models = platform.browser("ada").get("/user/ada/vision/api/contents/").json()["content"]
        assert [model["name"] for model in models] == ["by-ada.txt"]
        assert platform.stop_server("ada", "vision").status_code == 204
        run = platform.runs("vision")[0]
        assert (run.state, run.outcome, run.exit_code) == (RunState.SETTLED, Outcome.STOPPED, 0)
        assert run.charge == (run.seconds or 0) * RATES[CPU]
        assert platform.backend.list_runs() == []
        assert check.findings(platform.database, int(time.time())) == []


def test_each_start_has_a_container_and_a_token_of_its_own(platform: Platform, engine: docker.DockerClient) -> None:
    tokens = []
    for _ in range(2):
        assert platform.start_server("ada", "vision").status_code == 201
        run = platform.runs("vision")[0]
        environment = engine.containers.get(container_name(run.id)).attrs["Config"]["Env"]
        (token,) = [each.partition("=")[2] for each in environment if each.startswith("JUPYTERHUB_API_TOKEN=")]
        headers = {"Authorization": f"token {token}"}
        assert httpx.get(f"{platform.url}/hub/api/user", headers=headers).status_code == 200
        platform.stop_server("ada", "vision")
        assert httpx.get(f"{platform.url}/hub/api/user", headers=headers).status_code == 403
        tokens.append(token)
    assert tokens[0] != tokens[1]
    assert platform.backend.list_runs() == []


def test_containers_reach_the_hub_and_not_each_other(platform: Platform, engine: docker.DockerClient) -> None:
    for person in ("ada", "ben"):
        assert platform.start_server(person, "vision").status_code == 201
    ada, ben = (
        engine.containers.get(container_name(run.id))
        for run in sorted(platform.runs("vision")[:2], key=lambda run: run.person)
    )
    network = network_name(platform.home)
    addresses = {each.id: each.attrs["NetworkSettings"]["Networks"][network]["IPAddress"] for each in (ada, ben)}
    reach = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=3).status)"
    (api,) = [each for each in ada.attrs["Config"]["Env"] if each.startswith("JUPYTERHUB_API_URL=")]
    to_hub = ada.exec_run(["python", "-c", reach, api.partition("=")[2]])
    assert to_hub.output.decode().strip() == "200"
    to_ben = ada.exec_run(["python", "-c", reach, f"http://{addresses[ben.id]}:8888/user/ben/vision/api"])
    assert to_ben.exit_code != 0
    assert "timed out" in to_ben.output.decode()
    for person in ("ada", "ben"):
        platform.stop_server(person, "vision")


NO_MACHINE = (
    "The backend docker cannot attach the device h100 of the profile gpu-h100: its pool has no machine that assigns it;"
    " the operator adds one with `mudeung nodes add`."
)


@pytest.mark.parametrize(
    ("profile", "status", "words"),
    [
        (ABSENT, 409, "The image mudeung/never-built:1 of the profile absent is not on this machine."),
        (
            GPU,
            409,
            NO_MACHINE,
        ),
    ],
)
def test_what_cannot_be_started_is_refused_and_leaves_nothing(
    platform: Platform, engine: docker.DockerClient, profile: str, status: int, words: str
) -> None:
    answer = platform.start_server("ada", "vision", profile)
    assert (answer.status_code, answer.json()["message"].split(". ")[0] + ".") == (status, words)
    assert platform.runs("vision")[0].state is RunState.SETTLED
    assert platform.runs("vision")[0].charge == 0
    assert platform.backend.list_runs() == []
    assert platform.start_server("ada", "vision").status_code == 201
    host = engine.containers.get(container_name(platform.runs("vision")[0].id)).attrs["HostConfig"]
    assert not host["DeviceRequests"]
    platform.stop_server("ada", "vision")
    assert check.findings(platform.database, int(time.time())) == []


def test_a_container_that_was_removed_by_hand_ends_its_server(engine: docker.DockerClient, tmp_path: Path) -> None:
    quick = {"MUDEUNG_TEST_POLL_SECONDS": "1"}
    with running(tmp_path, server=STAND_IN_IN_A_CONTAINER, backend="docker", environment=quick) as platform:
        platform.start_server("ada", "vision")
        run = platform.runs("vision")[0]
        engine.containers.get(container_name(run.id)).remove(force=True)
        platform.wait_stopped("ada", "vision")
        run = platform.runs("vision")[0]
        assert (run.state, run.outcome) == (RunState.SETTLED, Outcome.LOST)
        assert platform.start_server("ada", "vision").status_code == 201


def test_a_container_that_is_killed_is_charged_with_its_exit_code(engine: docker.DockerClient, tmp_path: Path) -> None:
    quick = {"MUDEUNG_TEST_POLL_SECONDS": "1"}
    with running(tmp_path, server=STAND_IN_IN_A_CONTAINER, backend="docker", environment=quick) as platform:
        platform.start_server("ada", "vision")
        engine.containers.get(container_name(platform.runs("vision")[0].id)).kill()
        platform.wait_stopped("ada", "vision")
        run = platform.runs("vision")[0]
        assert (run.state, run.outcome, run.exit_code) == (RunState.SETTLED, Outcome.EXITED, 137)
        assert run.charge == (run.seconds or 0) * RATES[CPU]
        assert platform.backend.list_runs() == []


def test_a_slow_stop_keeps_nobody(engine: docker.DockerClient, tmp_path: Path) -> None:
    del engine
    deaf = (*STAND_IN_IN_A_CONTAINER[:-1], STAND_IN_IN_A_CONTAINER[-1].replace("sys.exit(0)", "None"))
    with running(tmp_path, server=deaf, backend="docker") as platform:
        for person in ("ada", "ben"):
            platform.start_server(person, "vision")
        platform.api("cho", "GET", "/user")
        url = f"{platform.url}/hub/api/users"
        for person in ("ada", "ben"):
            headers = {"Authorization": f"token {platform._tokens[person]}"}
            with pytest.raises(httpx.ReadTimeout):
                httpx.delete(f"{url}/{person}/servers/vision", headers=headers, timeout=0.3)
        began = time.monotonic()
        assert platform.start_server("cho", "vision").status_code == 201
        assert time.monotonic() - began < 6
        for person in ("ada", "ben"):
            platform.wait_stopped(person, "vision")
        assert {run.outcome for run in platform.runs("vision")} == {Outcome.STOPPED, None}


@pytest.mark.parametrize("mode", [Mode.ANSWERS_500, Mode.SAYS_NOTHING, Mode.HANGS_UP])
def test_an_engine_that_is_away_ends_nobody_s_server(engine: docker.DockerClient, tmp_path: Path, mode: Mode) -> None:
    with (
        engine_door(tmp_path) as door,
        running(
            tmp_path,
            server=STAND_IN_IN_A_CONTAINER,
            backend="docker",
            environment={**through(door), "MUDEUNG_TEST_POLL_SECONDS": "1"},
            reconciler=True,
        ) as platform,
    ):
        for person, project in (("ada", "vision"), ("ben", "robots")):
            platform.start_server(person, project)
            platform.wait_ready(person, project)
        before = {each.id: each.attrs["State"]["StartedAt"] for each in running_containers(engine, platform)}
        assert len(before) == 2
        door.become(mode)
        time.sleep(3)  # polls and rounds of the loop meet it
        platform.kill("hub")
        platform.start_hub()
        for person, project in (("ada", "vision"), ("ben", "robots")):
            platform.wait_ready(person, project, seconds=90)
        if mode is not Mode.SAYS_NOTHING:  # each call would take its time
            answer = platform.start_server("ada", "robots")
            assert answer.status_code == 503
            assert "The backend docker does not answer" in answer.json()["message"]
        after = {each.id: each.attrs["State"]["StartedAt"] for each in running_containers(engine, platform)}
        assert after == before
        door.become(Mode.OPEN)
        wait_for("the loop", lambda: platform.runs("vision")[0].state is RunState.RUNNING)
        platform.stop_server("ada", "vision")
        platform.stop_server("ben", "robots")
        wait_for("their charges", lambda: all(run.state is RunState.SETTLED for run in platform.runs()))
        charged = {run.person + run.project: run.charge for run in platform.runs() if run.charge}
        assert set(charged) == {"adavision", "benrobots"}
        assert check.findings(platform.database, int(time.time())) == []


def running_containers(engine: docker.DockerClient, platform: Platform) -> list[Any]:
    return engine.containers.list(filters={"label": f"mudeung.home={platform.home.path}"})


@pytest.mark.parametrize("moment", ["after launch", "before save"])
def test_a_kill_during_a_start_leaves_no_container(engine: docker.DockerClient, tmp_path: Path, moment: str) -> None:
    with running(tmp_path, server=STAND_IN_IN_A_CONTAINER, backend="docker", reconciler=True, hub=False) as platform:
        platform.start_hub(MUDEUNG_TEST_KILL=moment)
        with contextlib.suppress(httpx.HTTPError):
            platform.start_server("ada", "vision")
        platform.wait_until_gone("hub")
        assert len(running_containers(engine, platform)) == 1
        platform.start_hub()
        wait_for("its end", lambda: platform.backend.list_runs() == [], seconds=60)
        (run,) = platform.runs("vision")
        assert (run.state, run.outcome) == (RunState.SETTLED, Outcome.STRAY)
        assert run.charge == (run.seconds or 0) * RATES[CPU]
        assert check.findings(platform.database, int(time.time())) == []


def test_the_hub_s_address_outlives_the_engine(platform: Platform) -> None:
    kept = json.loads((platform.home.hub / "network.json").read_text())
    assert kept["name"] == network_name(platform.home)
    (address,) = {kept["gateway"]}
    assert httpx.get(f"http://{address}:{platform.home.ports()['hub']}/hub/api").status_code == 200
