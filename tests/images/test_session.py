"""What a server in a container knows of its own time: the image's parts, and the whole way to the portal and back."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from docker.models.containers import Container
from sqlalchemy import select, update

from quotas.domain.sessions import API_PATH, TOKEN_VARIABLE, URL_VARIABLE
from quotas.domain.terms_docker import container_name
from quotas.network import gateway
from quotas.services import check
from quotas.store.tables import profiles, run_activity, runs
from tests.platform import IMAGE, Platform, answers, running, wait_for
from tests.spawners.engine import skip_without_engine

pytestmark = pytest.mark.docker

HOUR = 3_600
FETCH = (
    "import sys, urllib.request, urllib.error\n"
    "try: print(urllib.request.urlopen(sys.argv[1], timeout=5).status)\n"
    "except urllib.error.HTTPError as error: print(error.code)"
)
CONFIG = (
    "import json, re, urllib.request\n"
    "page = urllib.request.urlopen('http://127.0.0.1:8888/lab', timeout=20).read().decode()\n"
    "print(page.split('type=\"application/json\">')[1].split('</script>')[0])"
)


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    skip_without_engine()
    with contextlib.closing(docker.from_env(timeout=60)) as client:
        yield client


def ran(container: Container, *words: str, **variables: str) -> tuple[int, str]:
    code, output = container.exec_run(list(words), environment=variables)
    return code, output.decode()


def test_the_image_brings_all_parts_and_is_silent_without_a_platform(engine: docker.DockerClient) -> None:
    command = ["python", "-m", "jupyterlab", "--IdentityProvider.token=", "--ip=127.0.0.1"]
    container = engine.containers.run(IMAGE, command, detach=True, init=True, user="4242:4343")
    try:
        assert ran(container, "mudeung-session", LANG="en_US.UTF-8")[0] == 2
        assert "MUDEUNG_SESSION_URL" in ran(container, "python", "-m", "mudeung_session")[1]
        assert ran(container, "bash", "-ic", "true")[1].count("server") == 0
        status = [sys.executable, "-c", FETCH, "http://127.0.0.1:8888/api"]
        wait_for("JupyterLab", lambda: ran(container, "python", *status[1:])[1].strip() == "200", seconds=60)
        config = json.loads(ran(container, "python", "-c", CONFIG)[1])
        loaded = {each["name"]: each["load"] for each in config["federated_extensions"]}
        entry = f"http://127.0.0.1:8888/lab/extensions/mudeung-session/{loaded['mudeung-session']}"
        assert ran(container, "python", "-c", FETCH, entry)[1].strip() == "200"
        assert ran(container, "python", "-c", FETCH, "http://127.0.0.1:8888/mudeung/session")[1].strip() == "404"
        assert "no platform started this server" in container.logs().decode()
    finally:
        container.remove(force=True)


@pytest.fixture
def platform(engine: docker.DockerClient, tmp_path: Path) -> Iterator[Platform]:
    """A platform with containers and its portal; sessions last four hours."""
    del engine
    portal = {"MUDEUNG_TEST_PORTAL": "1"}
    with running(tmp_path, server=None, backend="docker", environment=portal) as started:
        process = started.start("portal", [sys.executable, "-m", "portal"])
        health = f"{started.url}/services/portal/health"
        wait_for("the portal", lambda: answers(health, 200), process=process)
        with started.database.write() as transaction:
            transaction.run(update(profiles).values(session_seconds=4 * HOUR))
        yield started


def test_a_container_asks_extends_and_reports_at_its_gateway(platform: Platform, engine: docker.DockerClient) -> None:
    assert platform.start_server("ada", "vision").status_code == 201
    run_id = platform.runs("vision")[0].id
    container = engine.containers.get(container_name(run_id))
    given = dict(each.split("=", 1) for each in container.attrs["Config"]["Env"])
    port = platform.home.ports()["portal"]
    inside = f"http://{gateway(platform.home)}:{port}"
    assert given[URL_VARIABLE] == f"{inside}{API_PATH}"

    told = session_of(container)
    assert (told["run"], told["limit"], told["project"]) == (run_id, "session", "vision")
    said = ran(container, "bash", "-ic", "true")[1]
    assert re.search(r"This server has 3 h 59 min left \(the length of a session\)\.", said), said

    with platform.database.write() as transaction:
        transaction.run(update(runs).where(runs.c.id == run_id).values(idle_stop_at=int(time.time()) + 300))
    assert session_of(container)["limit"] == "idle"
    code, said = ran(container, "mudeung-session", "--extend", "--language", "ko")
    assert (code, said.splitlines()[0][:9]) == (0, "연장되었습니다. ")
    assert session_of(container)["limit"] == "session"

    def reported() -> Any:
        with platform.database.read() as transaction:
            return transaction.one(select(run_activity.c.reported_at).where(run_activity.c.reported_at > 0))

    wait_for("the server's first word", reported, seconds=30)

    # Of the portal nothing else is to be reached from a container.
    for path, status in ((API_PATH, "401"), ("/services/portal/health", "404"), ("/services/portal/", "404")):
        assert ran(container, "python", "-c", FETCH, inside + path)[1].strip() == status, path
    loopback = f"http://127.0.0.1:{port}/services/portal/health"
    assert ran(container, "python", "-c", FETCH, loopback)[0] != 0

    assert platform.stop_server("ada", "vision").status_code == 204
    headers = {"Authorization": f"Bearer {given[TOKEN_VARIABLE]}"}
    assert httpx.get(f"{platform.url}{API_PATH}", headers=headers, timeout=30).status_code == 410
    assert check.findings(platform.database, int(time.time())) == []


def session_of(container: Container) -> dict[str, Any]:
    code, output = ran(container, "mudeung-session", "--json")
    assert code == 0, output
    found: dict[str, Any] = json.loads(output)
    return found
