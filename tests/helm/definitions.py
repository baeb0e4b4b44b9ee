"""Kinds of object that others than Kubernetes define, as their makers publish them, on a cluster for a while.

They come by the programming language that they are written in: a Go module of a pinned version, whose sum is known and
whose copy Go keeps. Where there is neither Go nor a network nor a copy, a test skips itself.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helm.conftest import Tools
from tests.kubernetes.cluster import until

FETCH_SECONDS = 300


@dataclass(frozen=True)
class Module:
    """A published module: its sum as Go writes it, and in which of its files which kinds are defined."""

    path: str
    version: str
    sum: str
    file: str
    group: str
    kinds: tuple[str, ...]


KUEUE = tuple(
    Module(
        "sigs.k8s.io/kueue",
        version,
        sum_,
        "config/components/crd/bases/{group}_{kind}.yaml",
        "kueue.x-k8s.io",
        ("topologies", "resourceflavors", "clusterqueues", "localqueues"),
    )
    for version, sum_ in (
        ("v0.15.0", "h1:9Khzc2ne6/eWuZx5o+R4KlVBzh3kZkTIMzpPC2e8Spg="),
        ("v0.18.2", "h1:hnONSDkjUN1kp+Yxc+SzjmwNb57RjFYF7qQmkn9ijxA="),
    )
)
"""The oldest that the chart's objects are for, and a new one."""
PROMETHEUS = Module(
    "github.com/prometheus-operator/prometheus-operator",
    "v0.94.1",
    "h1:QEIb2wenPH+SdMN1xMf8l4Pmj00YYXXI6HlbLlQWkww=",
    "example/prometheus-operator-crd/{group}_{kind}.yaml",
    "monitoring.coreos.com",
    ("servicemonitors",),
)


def fetched(module: Module) -> Path:
    """Return the folder of the module. Its sum has to be the one that is known."""
    if shutil.which("go") is None:
        pytest.skip("go is not installed, by which published definitions come")
    words = ("go", "mod", "download", "-json", f"{module.path}@{module.version}")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    found = json.loads(done.stdout or "{}")
    if "Dir" not in found:
        pytest.skip(f"{module.path} {module.version} cannot be had: {found.get('Error', done.stderr):.300}")
    assert found["Sum"] == module.sum
    return Path(found["Dir"])


@contextlib.contextmanager
def defined(cluster: Tools, module: Module) -> Iterator[None]:
    """The cluster knows the module's kinds; those that it did not know before it forgets again, with all of them."""
    folder = fetched(module)
    made: list[str] = []
    try:
        for kind in module.kinds:
            name = f"{kind}.{module.group}"
            if cluster.run("kubectl", "get", "crd", name).returncode == 0:
                continue  # somebody's own, in use
            made.append(name)
            cluster.kubectl("create", "-f", str(folder / module.file.format(group=module.group, kind=kind)))
        for kind in module.kinds:
            until(lambda kind=kind: _established(cluster.get("crd", f"{kind}.{module.group}")))
        yield
    finally:
        if made:
            cluster.kubectl("delete", "crd", *made, "--ignore-not-found", "--timeout=60s")


def _established(definition: dict[str, Any]) -> bool:
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
