"""Which run a process is of."""

from __future__ import annotations

import contextlib
import gc
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from agent.processes import DockerLabels, Runs

RUN = "0f0e0d0c-0000-4000-8000-000000000001"
OTHER = "0f0e0d0c-0000-4000-8000-000000000002"
CONTAINER = "ab" * 32


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Engine:
    """Labels of containers as an engine would have them: a small one that counts how often it is asked."""

    def __init__(self, runs: dict[str, str]) -> None:
        self.runs = runs
        self.asked = 0
        self.away = False

    def run_of(self, container: str) -> str:
        self.asked += 1
        if self.away:
            raise OSError("no engine")
        return self.runs.get(container, "")

    def close(self) -> None:
        self.away = True


def process(proc: Path, pid: int, cgroup: str, **environment: str) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cgroup").write_text(cgroup)
    (folder / "environ").write_text("".join(f"{name}={value}\0" for name, value in environment.items()))


@pytest.fixture
def engine() -> Engine:
    return Engine({CONTAINER: RUN})


@pytest.fixture
def runs(proc: Path, engine: Engine) -> Runs:
    return Runs(proc, engine)


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/system.slice/docker-{CONTAINER}.scope\n",
        f"0::/docker/{CONTAINER}\n",
        f"0::/../docker-{CONTAINER}.scope/init\n",
        f"12:memory:/docker/{CONTAINER}\n11:cpu:/docker/{CONTAINER}\n",
    ],
)
def test_a_container_s_process_is_of_its_label_s_run(runs: Runs, proc: Path, engine: Engine, cgroup: str) -> None:
    process(proc, 10, cgroup, MUDEUNG_RUN=OTHER)
    process(proc, 11, cgroup)
    assert [runs.of(10), runs.of(11), runs.of(10)] == [RUN, RUN, RUN]
    assert engine.asked == 1


def test_what_a_container_s_process_says_of_itself_is_not_believed(runs: Runs, proc: Path) -> None:
    process(proc, 10, f"0::/docker/{'cd' * 32}\n", MUDEUNG_RUN=RUN)
    assert runs.of(10) == ""


def test_outside_containers_the_environment_says_it(runs: Runs, proc: Path, engine: Engine) -> None:
    process(proc, 10, "0::/user.slice/session-1.scope\n", PATH="/bin", MUDEUNG_RUN=RUN, LAST="x")
    process(proc, 11, "0::/\n", PATH="/bin")
    process(proc, 12, "0::/\n", MUDEUNG_RUN="../../etc", OTHER="x")
    assert [runs.of(pid) for pid in (10, 11, 12, 13)] == [RUN, "", "", ""]
    assert engine.asked == 0


def test_a_number_that_another_process_has_is_looked_into_anew(runs: Runs, proc: Path) -> None:
    process(proc, 10, "0::/\n", MUDEUNG_RUN=RUN)
    assert runs.of(10) == RUN
    shutil.rmtree(proc / "10")
    assert runs.of(10) == ""
    process(proc, 10, "0::/\n", MUDEUNG_RUN=OTHER)
    assert runs.of(10) == OTHER


def test_a_real_process_is_known_until_it_ends(engine: Engine) -> None:
    runs = Runs(Path("/proc"), engine)
    words = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    child = subprocess.Popen(words, env={"MUDEUNG_RUN": RUN}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        expected = RUN if "docker" not in Path("/proc/self/cgroup").read_text() else ""
        assert runs.of(child.pid) == expected
    finally:
        child.communicate(timeout=10)
    assert runs.of(child.pid) == ""


def test_processes_that_are_gone_are_forgotten(runs: Runs, proc: Path) -> None:
    before = open_files()
    for pid in range(10, 40):
        process(proc, pid, "0::/\n", MUDEUNG_RUN=RUN)
        runs.of(pid)
    assert open_files() == before + 30
    runs.forget_others({10})
    assert open_files() == before + 1
    runs.forget_others(set())
    assert open_files() == before


def test_an_engine_that_is_away_is_asked_again_later(
    runs: Runs, proc: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(proc, 10, f"0::/docker/{CONTAINER}\n")
    engine.away = True
    assert [runs.of(10), runs.of(10)] == ["", ""]
    assert engine.asked == 1  # it rests, for each asking may take its whole timeout
    engine.away = False
    monkeypatch.setattr(runs, "_ask_again_at", 0.0)
    assert runs.of(10) == RUN


# The engine's own library leaves the socket that it could not connect to the collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_engine_that_is_not_there_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with contextlib.closing(DockerLabels()) as labels, pytest.raises(OSError, match="engine"):
        labels.run_of(CONTAINER)
    gc.collect()


@pytest.mark.docker
def test_docker_s_engine_tells_the_label() -> None:
    docker = pytest.importorskip("docker")
    try:
        client = docker.DockerClient.from_env(timeout=20)
        image = client.images.get("mudeung/notebook:latest")
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker engine, or no notebook image: {error}")
    run = str(uuid.uuid4())
    container = client.containers.create(image, ["true"], labels={"mudeung.run": run})
    plain = client.containers.create(image, ["true"])
    try:
        with contextlib.closing(DockerLabels()) as labels:
            assert labels.run_of(container.id) == run
            assert labels.run_of(plain.id) == ""
            assert labels.run_of("ef" * 32) == ""
    finally:
        container.remove(force=True)
        plain.remove(force=True)
        client.close()
