"""A cluster to try the chart on: whichever `kubectl` knows. Tests that need it skip themselves where there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.helm.standing import Standing

CHART = Path(__file__).resolve().parents[2] / "helm" / "mudeung"
CALL_SECONDS = 120


class Tools:
    """helm and kubectl; each call ends in time."""

    def run(
        self, *words: str, given: str | None = None, seconds: int = CALL_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Return what the command came to, whatever it is."""
        return subprocess.run(words, input=given, capture_output=True, text=True, timeout=seconds, check=False)

    def kubectl(self, *words: str, given: str | None = None, seconds: int = CALL_SECONDS) -> str:
        """Return what kubectl printed. It has to succeed."""
        done = self.run("kubectl", *words, given=given, seconds=seconds)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout

    def get(self, *words: str) -> Any:
        """Return objects as the API server has them."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def template(self, *words: str, namespace: str = "mudeung") -> str:
        """Return the objects of the chart with these values. It has to succeed."""
        done = self.run("helm", "template", "mudeung", str(CHART), "--namespace", namespace, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def helm() -> Tools:
    """The programs, without a cluster."""
    if shutil.which("helm") is None:
        pytest.skip("helm is not installed")
    return Tools()


@pytest.fixture(scope="session")
def cluster(helm: Tools) -> Tools:
    """The programs, with a cluster that answers."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    if helm.run("kubectl", "get", "--raw", "/readyz", "--request-timeout=5s").returncode != 0:
        pytest.skip("kubectl reaches no Kubernetes cluster")
    return helm


@pytest.fixture(scope="package")
def standing(cluster: Tools) -> Iterator[Standing]:
    """A platform that several modules of tests share."""
    from tests.helm.standing import standing as stands  # noqa: PLC0415 - it needs what is here

    with stands(cluster) as made:
        yield made


def sets(**values: str) -> list[str]:
    """Return the words that set these values; `__` stands for a dot."""
    return [word for name, value in values.items() for word in ("--set", f"{name.replace('__', '.')}={value}")]
