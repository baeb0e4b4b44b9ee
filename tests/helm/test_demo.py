"""`mudeung demo --backend kubernetes` on a cluster: the whole round, and that nothing is left however it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from cli.demo.removal import CLUSTER_KINDS, OWN_LABEL
from tests.helm.conftest import Tools
from tests.helm.release import PLATFORM, Installed, _missing

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

NAMESPACE = "mudeung-test-demo"
NAME, TAG = PLATFORM.rsplit(":", 1)
DEMO = ["--backend", "kubernetes", "--namespace", NAMESPACE, "--lang", "en"]
IMAGE = ["--set", f"image.name={NAME}", "--set", f"image.tag={TAG}"]
TOO_LARGE = ["--set", "hub.resources.requests.cpu=4000", "--set", "hub.resources.limits.cpu=4000"]
RESOURCE = "nvidia.com/gpu"
END_SECONDS = 600
PROMISED = [
    "helm installs the platform, from nothing",
    "An operator brings the cluster's devices in",
    "logs in by the login form",
    "The start form lists",
    "The form is posted",
    "JupyterLab opens",
    f"Its pod holds {RESOURCE}: 1",
    "Refused: no device is free",
    "Every cell of train_digits.ipynb runs in a kernel",
    "is scheduled with other parameters",
    "It runs at its time, and succeeds",
    "The scheduled run was a Job",
    "The server is stopped",
    "Pods and Jobs are gone, the device is free",
    "Both runs are charged",
    "Refused: a profile that the project may not use",
    "Refused: a project whose award has ended",
    "Refused: a person who is not a member",
    "Refused: a budget that is too short",
    "Every invariant of the ledger holds",
    "All of it is removed; nothing is left on the cluster",
]


@dataclass
class Demo:
    """A demonstration that goes on, with what it has printed so far."""

    process: subprocess.Popen[str]
    printed: str = ""
    _reader: threading.Thread | None = field(default=None, repr=False)

    def read(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.printed += line

    def wait_for(self, words: str, seconds: float = 120) -> None:
        """It has printed the words."""
        deadline = time.monotonic() + seconds
        while words not in self.printed:
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.1)

    def end(self, seconds: float = END_SECONDS) -> int:
        """Return its exit code."""
        code = self.process.wait(seconds)
        assert self._reader is not None
        self._reader.join(10)
        return code


@contextlib.contextmanager
def demo(*words: str) -> Iterator[Demo]:
    """A demonstration with these words; it is ended with the block, as by Ctrl-C, where it has not ended by itself."""
    command = [sys.executable, "-u", "-m", "cli", "demo", *DEMO, *words]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        made = Demo(process)
        made.read()
        try:
            yield made
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    made.end()
                except subprocess.TimeoutExpired:
                    process.kill()


def run(*words: str) -> tuple[int, str]:
    """Return the exit code of a demonstration, and what it printed."""
    with demo(*words) as made:
        return made.end(), made.printed


@pytest.fixture(scope="module")
def supplied(cluster: Tools) -> Tools:
    """The cluster, whose machines have the images."""
    _forget(cluster)
    cluster.kubectl("create", "namespace", NAMESPACE)
    try:
        missing = _missing(Installed(cluster, NAMESPACE))
    finally:
        cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")
    if missing:
        pytest.skip(f"no machine of the Kubernetes cluster has the image {', '.join(missing)}")
    return cluster


@pytest.fixture
def ground(supplied: Tools) -> Iterator[Tools]:
    """The cluster with nothing of a demonstration on it; none is left on it by a test that fails."""
    try:
        yield supplied
    finally:
        _forget(supplied)


def _forget(cluster: Tools) -> None:
    if left(cluster):
        run("--remove")
    cluster.run("kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=60s")


def left(cluster: Tools) -> list[str]:
    """Return what there is of a demonstration on the cluster and on this machine."""
    kinds = ("namespaces", "persistentvolumes", *CLUSTER_KINDS)
    found = [f"{each['kind']} {each['metadata']['name']}" for kind in kinds for each in cluster.get(kind)["items"]]
    own = [each for each in found if each.partition(" ")[2].startswith(NAMESPACE)]
    return own + [f"process {each.pid}" for each in forwards()]


def forwards() -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words[:1] and Path(words[0]).name == "kubectl" and NAMESPACE in words and "port-forward" in words:
                found.append(process)
    return found


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return value


def test_the_round_on_a_cluster_is_as_it_should_be_though_the_forwarded_port_breaks(ground: Tools) -> None:
    nodes = ground.get("nodes")["items"]
    if not any(int(each["status"]["allocatable"].get(RESOURCE, 0)) for each in nodes):
        pytest.skip(f"no machine of the Kubernetes cluster offers {RESOURCE}")
    with demo(*IMAGE) as made:
        made.wait_for("is scheduled with other parameters", END_SECONDS)
        [before] = forwards()
        before.kill()
        until(lambda: [each for each in forwards() if each.pid != before.pid])
        code = made.end()
    printed = made.printed
    assert code == 0, printed
    steps = re.findall(r"^ *\d+\. ✓ (.*) \([\d.]+ s\)$", printed, re.MULTILINE)
    for promised in PROMISED:
        assert any(promised in step for step in steps), (promised, printed)
    assert "✗" not in printed
    assert re.search(rf"{NAMESPACE}-p-vision-drive/mudeung-\S+ \(\S+\): .*{RESOURCE} 1", printed)
    assert re.search(r"job/mudeung-\S+, mudeung/notebook:latest, \S+", printed)
    first, second = (float(each) for each in re.findall(r"accuracy = ([\d.]+)", printed))
    assert min(first, second) > 0.9
    charges = re.findall(r"^ *(batch|notebook): \S+.*: ([\d,]+) GFLOPS·s$", printed, re.MULTILINE)
    assert [kind for kind, _ in charges] == ["batch", "notebook"]
    assert all(int(amount.replace(",", "")) > 0 for _, amount in charges)
    assert "mudeung check: Every invariant holds." in printed
    assert left(ground) == []


def test_a_cluster_that_is_too_small_differs_and_what_is_kept_is_removed_when_it_is_asked_for(ground: Tools) -> None:
    code, printed = run(*IMAGE, *TOO_LARGE, "--keep")
    assert code == 1, printed
    assert "1. ✗ helm installs the platform, from nothing" in printed
    assert re.search(r"came: .*hub-\S+: .*Insufficient cpu", printed), printed
    assert re.search(r"^hub-\S+ +0/1 +Pending", printed, re.MULTILINE)  # where the pods stand
    assert "database system is ready to accept connections" in printed  # the end of a log
    assert "The release was kept." in printed
    assert f"Namespace {NAMESPACE}" in left(ground)

    code, printed = run()
    assert code == 1
    assert f"Error: namespace: {NAMESPACE} is there already" in printed
    assert f"Namespace {NAMESPACE}" in left(ground)

    code, printed = run("--remove")
    assert (code, f"Removed: {NAMESPACE}." in printed) == (0, True), printed
    assert left(ground) == []


def test_interrupted_it_removes_what_it_made_and_no_second_interruption_keeps_it_from_that(ground: Tools) -> None:
    with demo(*IMAGE) as made:
        until(lambda: ground.run("kubectl", "get", "deployment", "hub", "--namespace", NAMESPACE).returncode == 0)
        made.process.send_signal(signal.SIGTERM)
        made.wait_for("Removing what was made")
        made.process.send_signal(signal.SIGINT)
        code = made.end()
    assert code == 130, made.printed
    assert "Interrupted." in made.printed
    assert left(ground) == []


def test_without_an_image_it_says_so_and_removes_what_it_made(ground: Tools) -> None:
    code, printed = run("--set", "image.name=mudeung/nowhere", "--set", "image.tag=none")
    assert code == 1, printed
    assert "Error: image: mudeung/nowhere:none is not on " in printed
    assert "1. " not in printed
    assert left(ground) == []


def test_values_that_the_chart_refuses_are_told_before_anything_is_made(ground: Tools) -> None:
    code, printed = run("--set", "hubs.none=1")
    assert code == 1
    assert "Error: helm: " in printed
    assert "hubs" in printed
    assert left(ground) == []


def test_a_namespace_of_somebody_else_is_neither_taken_nor_removed(ground: Tools) -> None:
    ground.kubectl("create", "namespace", NAMESPACE)
    code, printed = run()
    assert (code, f"Error: namespace: {NAMESPACE} is there already" in printed) == (1, True), printed
    code, printed = run("--remove")
    assert (code, "is not of a demonstration; nothing was removed" in printed) == (1, True), printed
    found = ground.get("namespace", NAMESPACE)
    assert found["status"]["phase"] == "Active"
    assert OWN_LABEL not in found["metadata"]["labels"]


def test_a_cluster_that_does_not_answer_is_told(cluster: Tools, tmp_path: Path) -> None:
    del cluster
    away = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "away", "cluster": {"server": "https://127.0.0.1:1"}}],
        "contexts": [{"name": "away", "context": {"cluster": "away", "user": "nobody"}}],
        "users": [{"name": "nobody", "user": {}}],
        "current-context": "away",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(away))
    done = subprocess.run(
        [sys.executable, "-m", "cli", "demo", *DEMO],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "KUBECONFIG": str(path)},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: cluster: kubectl reaches none; set KUBECONFIG, or its context: ")
