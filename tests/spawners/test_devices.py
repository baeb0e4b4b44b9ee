"""Servers with devices, through the hub: each container has its own, and what cannot be attached costs nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, cast

import docker
import pytest

from quotas.domain.profiles import Profile
from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.domain.runs import Outcome, RunState
from quotas.domain.terms_docker import DEVICES_LABEL, container_name
from quotas.services import admission, check, profiles, projects, rates
from quotas.services.admission import Ended
from quotas.services.probes import LOOK_SECONDS
from quotas.services.reconciliation import Reconciler
from quotas.store import audit
from quotas.store.database import Database
from spawners.reconciler import reconciler
from tests.devices import GROUP, add_machine, character_devices, gpu, npu, states
from tests.platform import BY, GIB, GPU, RATES, STAND_IN_IN_A_CONTAINER, Platform, build_world, running
from tests.spawners.engine import skip_without_engine

pytestmark = pytest.mark.docker

NPU = "npu-atom"
FILES = ("/dev/mudeung-tests-npu0", "/dev/mudeung-tests-npu1")


def world(database: Database, now: int) -> None:
    """The small world with a machine of two NPUs and a GPU, which are really there."""
    build_world(database, now, simulated=False)
    by: dict[str, Any] = {"actor": BY, "now": now}
    add_machine(database, [npu(0, FILES[0]), npu(1, FILES[1]), gpu(0)], now)
    profiles.add_profile(database, Profile(NPU, "npu", "npu", "science", 1000, GIB, GIB, "atom", 1), 10, **by)
    projects.offer_profile(database, "vision", NPU, **by)
    figures = {**RATES, NPU: 1000}
    rows = tuple(Rate(code, gflops, RateRule.ASSIGNED, "a figure for tests", BY) for code, gflops in figures.items())
    rates.publish(database, RateCard(2, now, Precision.FP32, rows), **by)


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.DockerClient]:
    skip_without_engine()
    with contextlib.closing(docker.from_env(timeout=60)) as client:
        yield client


@pytest.fixture
def files() -> Iterator[None]:
    """The machine has the device files of its NPUs."""
    with character_devices() as make:
        for path in FILES:
            Path(make("npu")).rename(path)
        try:
            yield
        finally:
            for path in FILES:
                Path(path).unlink(missing_ok=True)


@pytest.fixture
def platform(engine: docker.DockerClient, files: None, tmp_path: Path) -> Iterator[Platform]:
    del engine, files
    with running(tmp_path, server=STAND_IN_IN_A_CONTAINER, world=world, backend="docker") as started:
        yield started


@pytest.fixture
def container_of(engine: docker.DockerClient, platform: Platform) -> Callable[[str], Any]:
    """Returns the container of a person's newest server."""

    def found(person: str) -> Any:
        newest = next(run for run in platform.runs("vision") if run.person == person)
        return engine.containers.get(container_name(newest.id))

    return found


def opened(container: Any) -> list[str]:
    """Return those of the machine's NPUs that the container's own user can open."""
    tried = 'for each in "$@"; do ( : < $each ) 2>/dev/null && echo $each; done'
    return container.exec_run(["sh", "-c", tried, "sh", *FILES]).output.decode().split()


class Closes(Protocol):
    def close(self) -> None: ...


@contextlib.contextmanager
def round_of(platform: Platform) -> Iterator[Reconciler]:
    """The reconciling loop in this process, whose rounds the test begins."""
    loop = reconciler(platform.home)
    with contextlib.ExitStack() as stack:
        for part in (loop.database, loop.hub, loop.backend):
            stack.callback(cast("Closes", part).close)
        yield loop


def test_each_server_has_its_own_device_and_no_other(platform: Platform, container_of: Callable[[str], Any]) -> None:
    for person in ("ada", "ben"):
        assert platform.start_server(person, "vision", NPU).status_code == 201
    seen = [opened(container_of(person)) for person in ("ada", "ben")]
    assert sorted(seen) == [[path] for path in FILES]
    container = container_of("ada")
    assert [FILES[int(container.labels[DEVICES_LABEL][-1])]] == seen[0]
    host = container.attrs["HostConfig"]
    assert (host["GroupAdd"], host["Memory"], host["CpuQuota"]) == ([str(GROUP)], GIB, 100_000)
    refused = platform.start_server("cho", "vision", NPU)
    assert refused.status_code == 409
    assert check.findings(platform.database, int(time.time())) == []
    for person in ("ada", "ben"):
        assert platform.stop_server(person, "vision").status_code == 204
    assert set(states(platform.database).values()) == {"available"}
    assert platform.start_server("cho", "vision", NPU).status_code == 201
    assert len(opened(container_of("cho"))) == 1
    platform.stop_server("cho", "vision")
    assert check.findings(platform.database, int(time.time())) == []


def test_what_the_engine_cannot_attach_is_refused_with_its_words_and_costs_nothing(
    platform: Platform, engine: docker.DockerClient
) -> None:
    if "nvidia" in engine.info()["Runtimes"]:
        pytest.fail("this test is for an engine without NVIDIA's runtime")
    answer = platform.start_server("ada", "vision", GPU)
    assert answer.status_code == 409
    message = answer.json()["message"]
    assert message.startswith("The backend docker cannot attach the device h100 of the profile gpu-h100: ")
    assert "could not select device driver" in message
    _nothing_is_left(platform)


def test_a_device_file_that_is_gone_is_named_and_costs_nothing(platform: Platform) -> None:
    for path in FILES:
        Path(path).unlink()
    answer = platform.start_server("ben", "vision", NPU)
    assert answer.status_code == 409
    assert f"이 장비에 {FILES[0]}이(가) 없습니다" in answer.json()["message"]
    _nothing_is_left(platform)


def test_a_container_that_outlived_its_run_never_shares_its_device(
    platform: Platform, container_of: Callable[[str], Any]
) -> None:
    """The ledger has settled it, and nobody has stopped it yet."""
    platform.start_server("ada", "vision", NPU)
    leftover, run = container_of("ada"), platform.runs("vision")[0]
    now = time.time()
    admission.settle(platform.database, run.id, Ended(now - 1, now, Outcome.LOST), int(now) + 1)
    for person in ("ben", "cho"):
        assert platform.start_server(person, "vision", NPU).status_code == 201
    leftover.reload()
    assert leftover.status == "exited"
    assert sorted(opened(container_of(person)) for person in ("ben", "cho")) == [[path] for path in FILES]
    with platform.database.read() as transaction:
        events = [row.subject for row in audit.latest(transaction) if row.action == "stopped without a hold"]
    assert events == [run.id]
    for person in ("ben", "cho"):
        platform.stop_server(person, "vision")


def test_a_device_that_is_taken_from_a_server_pauses_its_charge(
    platform: Platform, container_of: Callable[[str], Any]
) -> None:
    """As `systemctl daemon-reload` does on a host; here root removes the file inside."""
    platform.start_server("ada", "vision", NPU)
    run, container = platform.runs("vision")[0], container_of("ada")
    (path,) = opened(container)
    with round_of(platform) as loop:
        assert "taken" not in loop.tick(int(time.time()))
        container.exec_run(["rm", path], user="0")
        now = int(time.time()) + LOOK_SECONDS
        assert loop.tick(now)["taken"] == 1
    assert sorted(states(platform.database).values()) == ["available", "available", "lost"]
    platform.stop_server("ada", "vision")
    settled = platform.runs("vision")[0]
    assert (settled.id, settled.state) == (run.id, RunState.SETTLED)
    assert check.findings(platform.database, now + 1) == []


def _nothing_is_left(platform: Platform) -> None:
    (run,) = platform.runs("vision")
    assert (run.state, run.outcome, run.charge) == (RunState.SETTLED, Outcome.FAILED_TO_START, 0)
    assert platform.backend.list_runs() == []
    assert set(states(platform.database).values()) == {"available"}
    assert check.findings(platform.database, int(time.time())) == []
