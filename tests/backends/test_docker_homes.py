"""Platforms that share an engine: none sees, and so none stops, the containers of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quotas.backends.docker import DockerBackend
from quotas.backends.port import BackendAway
from quotas.domain.launch import Launch
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind, new_run_id

IMAGE = "mudeung/notebook:latest"
PROFILE = Profile("cpu", "CPU", "CPU", IMAGE, 1000, 2**29, 2**29)

pytestmark = pytest.mark.docker


@pytest.fixture
def backends() -> Iterator[tuple[DockerBackend, DockerBackend]]:
    both = DockerBackend(home="/srv/one"), DockerBackend(home="/srv/two")
    try:
        if not both[0].image_exists(IMAGE):
            pytest.skip(f"the engine has no image {IMAGE}")
    except BackendAway as away:
        pytest.skip(f"no Docker engine: {away}")
    yield both
    for backend in both:
        for seen in backend.list_runs():
            backend.stop(seen.run_id, 0)
            backend.remove(seen.run_id)
        backend.close()


def test_each_lists_its_own(backends: tuple[DockerBackend, DockerBackend], tmp_path: Path) -> None:
    one, two = backends
    run_id = new_run_id()
    launch = Launch(run_id, RunKind.BATCH, "ada", "vision", PROFILE, ("sleep", "60"), str(tmp_path))
    one.launch(launch)
    assert [seen.run_id for seen in one.list_runs()] == [run_id]
    assert two.list_runs() == []
