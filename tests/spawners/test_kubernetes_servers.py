"""Servers as pods of a real cluster, of which this machine is a node: the hub runs here, as a process."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import bindparam, update

from quotas.domain.runs import Outcome, RunState
from quotas.services import check
from quotas.services import profiles as services
from quotas.store.database import Database
from quotas.store.tables import images, profiles
from tests.kubernetes.cluster import IMAGE, MIB, Corner, Door, corner, kubeconfig, until
from tests.platform import CPU, GPU, LARGE, ROOT, STAND_IN_IN_A_CONTAINER, Platform, build_world, running

pytestmark = pytest.mark.kubernetes

ABSENT = "localhost:1/mudeung/never-built:1"
CONFIG = ROOT / "tests" / "kubernetes" / "hub_config.py"


def world(database: Database, now: int) -> None:
    """The small world with tiny profiles; LARGE has an image that is nowhere."""
    build_world(database, now, simulated=False)
    by: dict[str, Any] = {"actor": "tests", "now": now}
    services.add_image(database, "absent", ABSENT, "없음", "Absent", **by)
    smaller = update(profiles).values(cpu_millis=bindparam("cpu"), memory_bytes=bindparam("memory"))
    absent = update(profiles).where(profiles.c.code == bindparam("of")).values(image_code=bindparam("image"))
    with database.write() as transaction:
        transaction.run(smaller, cpu=20, memory=64 * MIB)
        transaction.run(
            update(images).where(images.c.code == bindparam("of")).values(reference=bindparam("to")),
            of="science",
            to=IMAGE,
        )
        transaction.run(absent, of=LARGE, image="absent")


def own_address(place: Corner) -> str:
    """Return an address of this machine by which the cluster knows it as a node."""
    for node in place.api.get("/api/v1/nodes")["items"]:
        for each in node["status"].get("addresses", ()):
            with socket.socket() as probe:
                try:
                    probe.bind((each["address"], 0))
                except OSError:
                    continue
                return str(each["address"])
    pytest.skip("this machine is no node of the cluster, so that it does not reach its pods")


@pytest.fixture(scope="module")
def place() -> Iterator[Corner]:
    with corner() as made:
        yield made


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


@pytest.fixture(scope="module")
def platform(place: Corner, door: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    environment = {
        "MUDEUNG_TEST_CONFIG": str(CONFIG),
        "MUDEUNG_TEST_PLATFORM_CONFIG": str(ROOT / "jupyterhub_config.py"),
        "MUDEUNG_TEST_ADDRESS": own_address(place),
        "MUDEUNG_TEST_POLL_SECONDS": "1",
        "KUBECONFIG": str(kubeconfig(folder, server=door.url)),
    }
    site = place.site
    with running(
        folder,
        server=("python3", *STAND_IN_IN_A_CONTAINER[1:]),
        world=world,
        environment=environment,
        backend="kubernetes",
        kubernetes_namespace=site.namespace,
        kubernetes_namespace_prefix=site.prefix,
        kubernetes_home_bytes=MIB,
        kubernetes_project_bytes=MIB,
        start_timeout_seconds=60,
    ) as started:
        yield started
        started.backend.close()


@pytest.fixture(autouse=True)
def _nothing_is_left(platform: Platform) -> Iterator[None]:
    yield
    assert platform.processes["hub"].poll() is None
    for person, project in (("ada", "vision"), ("ben", "vision"), ("cho", "vision")):
        platform.stop_server(person, project)
    until(lambda: platform.backend.list_runs() == [])
    until(lambda: {run.state for run in platform.runs()} <= {RunState.SETTLED})
    assert check.findings(platform.database, int(time.time())) == []


def pod_of(platform: Platform, place: Corner, project: str = "vision") -> dict[str, Any]:
    run = platform.runs(project)[0]
    place.runs[run.id] = project
    return place.pod(run.id)


def test_a_server_from_its_start_to_its_charge(platform: Platform, place: Corner) -> None:
    assert platform.start_server("ada", "vision").status_code in (201, 202)
    platform.wait_ready("ada", "vision")
    (run,) = [each for each in platform.runs("vision") if each.state is RunState.RUNNING]
    pod = pod_of(platform, place)
    assert pod["metadata"]["name"] == f"mudeung-{run.id}"
    assert pod["metadata"]["labels"]["hub.jupyter.org/username"] == "ada"
    (container,) = pod["spec"]["containers"]
    values = {each["name"]: each.get("value") for each in container["env"]}
    assert values["FROM_THE_OPERATOR"] == '{"with": "{braces}"}'
    assert values["JUPYTERHUB_USER"] == "ada"
    assert values["MUDEUNG_RUN"] == run.id
    assert values["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    answer = platform.api("ada", "GET", "/user").json()["servers"]["vision"]
    assert answer["ready"]
    assert platform.stop_server("ada", "vision").status_code in (202, 204)
    until(lambda: platform.runs("vision")[0].state is RunState.SETTLED)
    run = platform.runs("vision")[0]
    assert (run.outcome, run.charge) == (Outcome.STOPPED, (run.seconds or 0) * 50)


def test_a_gpu_is_the_cluster_s_to_choose(platform: Platform, place: Corner) -> None:
    assert platform.start_server("ada", "vision", GPU).status_code in (201, 202)
    platform.wait_ready("ada", "vision")
    (container,) = pod_of(platform, place)["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "NVIDIA_VISIBLE_DEVICES" not in {each["name"] for each in container["env"]}


def test_a_learner_reads_the_project_s_files(platform: Platform, place: Corner) -> None:
    assert platform.start_server("cho", "vision").status_code in (201, 202)
    platform.wait_ready("cho", "vision")
    (container,) = pod_of(platform, place)["spec"]["containers"]
    mounts = {each["mountPath"]: each.get("readOnly", False) for each in container["volumeMounts"]}
    assert mounts == {"/home/jovyan": False, "/home/jovyan/project": True, "/dev/shm": False}
    values = {each["name"]: each.get("value") for each in container["env"]}
    assert values["JUPYTERHUB_ROOT_DIR"] == "/home/jovyan"


@pytest.mark.parametrize(
    "options",
    [
        {"image--unlisted-choice": "evil/img"},
        {"profile": CPU, "image--unlisted-choice": "evil/img"},
        {"profile": CPU, "image": "evil/img"},
        {"profile-option-x--image": "evil/img"},
    ],
)
def test_what_kubespawner_would_take_of_the_options_starts_nothing(platform: Platform, options: dict[str, str]) -> None:
    before = len(platform.runs())
    answer = platform.api("ada", "POST", "/users/ada/servers/vision", json=options)
    assert answer.status_code == 400, answer.text
    assert len(platform.runs()) == before
    assert platform.backend.list_runs() == []


def test_an_image_that_is_nowhere_is_refused(platform: Platform) -> None:
    assert platform.start_server("ada", "vision", LARGE).status_code in (201, 202)  # it is pending
    events = platform.progress("ada", "vision")
    assert events[-1]["failed"]
    assert f"The image {ABSENT}" in events[-1]["message"]
    assert platform.runs("vision")[0].charge in (0, None)


def test_a_quota_of_the_namespace_is_a_refusal_with_its_words(platform: Platform, place: Corner) -> None:
    """An operator's own limit, beside the one that follows from the award."""
    folder = f"/api/v1/namespaces/{place.site.namespace_of('vision')}/resourcequotas"
    place.api.post(folder, {"metadata": {"name": "closed"}, "spec": {"hard": {"pods": "0"}}})
    until(lambda: place.api.get(f"{folder}/closed")["status"].get("hard"))
    try:
        for _ in range(6):  # more than any limit of failures in a row
            answer = platform.start_server("ada", "vision")
            assert answer.status_code == 503
            assert "exceeded quota" in answer.json()["message"]
    finally:
        place.api.delete(f"{folder}/closed")


def test_the_namespace_is_bounded_by_the_award(platform: Platform, place: Corner) -> None:
    """A ceiling of 200,000 GFLOPS and as much that may be borrowed: five H100s of 66,900, and one beside a mix."""
    platform.start_server("ben", "robots")
    path = "/api/v1/namespaces/{}/resourcequotas/mudeung"
    robots = place.api.get(path.format(place.site.namespace_of("robots")))["spec"]["hard"]
    platform.stop_server("ben", "robots")
    assert (robots["requests.nvidia.com/gpu"], robots["pods"]) == ("0", "21")
    vision = place.api.get(path.format(place.site.namespace_of("vision")))["spec"]["hard"]
    assert vision["requests.nvidia.com/gpu"] == "6"


def test_a_pod_that_somebody_deletes_ends_its_server_at_its_true_end(platform: Platform, place: Corner) -> None:
    platform.start_server("ada", "vision")
    platform.wait_ready("ada", "vision")
    run = platform.runs("vision")[0]
    place.runs[run.id] = "vision"
    place.api.delete(place.path(run.id), gracePeriodSeconds=1)
    platform.wait_stopped("ada", "vision")
    until(lambda: platform.runs("vision")[0].state is RunState.SETTLED)
    run = platform.runs("vision")[0]
    assert run.outcome is Outcome.EXITED
    assert run.charge == (run.seconds or 0) * 50


def test_while_the_api_server_is_away_nobody_s_server_ends_and_none_begins(
    platform: Platform, place: Corner, door: Door
) -> None:
    platform.start_server("ada", "vision")
    platform.wait_ready("ada", "vision")
    before = pod_of(platform, place)["metadata"]["uid"]
    door.become("shut")
    answer = platform.start_server("ben", "vision")
    assert answer.status_code == 503
    assert "kubernetes" in answer.json()["message"]
    time.sleep(3)  # the hub polls once a second
    platform.kill("hub")
    platform.start_hub()
    time.sleep(3)
    assert platform.server("ada", "vision")
    door.become("open")
    platform.wait_ready("ada", "vision")
    until(lambda: platform.start_server("ben", "vision").status_code in (201, 202), seconds=60)
    platform.wait_ready("ben", "vision")
    assert pod_of(platform, place, "vision")
    ada = next(each for each in platform.runs("vision") if each.person == "ada")
    place.runs[ada.id] = "vision"
    assert place.pod(ada.id)["metadata"]["uid"] == before


def test_the_home_folder_of_the_platform_is_no_pod_s(platform: Platform, place: Corner, tmp_path: Path) -> None:
    """Nothing of the hub's machine is in a pod."""
    platform.start_server("ada", "vision")
    platform.wait_ready("ada", "vision")
    spec = json.dumps(pod_of(platform, place)["spec"])
    assert "hostPath" not in spec
    assert str(tmp_path.parent) not in spec
