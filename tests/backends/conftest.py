"""The Docker engine of this machine, a backend on it, and launches of shell lines whose containers go in the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from quotas.backends.docker import DockerBackend, prepare_project_folder
from quotas.domain import terms_docker
from quotas.domain.launch import Launch
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind, new_run_id

IMAGES = ("mudeung/notebook:latest", "debian-python:bookworm")


@pytest.fixture(scope="module")
def engine() -> Iterator[docker.APIClient]:
    """The engine of this machine, spoken to without the backend."""
    try:
        client = docker.APIClient(version="auto", timeout=30)
        client.ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"no Docker engine answers: {error}")
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(engine: docker.APIClient) -> str:
    for reference in IMAGES:
        if engine.images(name=reference):
            return reference
    pytest.skip(f"none of these images is here: {IMAGES}")


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[DockerBackend]:
    made = DockerBackend(client_timeout=30, home=str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def launch_of(engine: docker.APIClient, image: str, tmp_path: Path) -> Iterator[Callable[..., Launch]]:
    """Makes launches of a shell line in a project folder, and removes their containers in the end."""
    folder = tmp_path / "project: {folder}"
    prepare_project_folder(folder)
    tmp_path.chmod(0o755)
    made: list[Launch] = []

    def make(line: str, **changes: Any) -> Launch:
        profile = Profile("cpu-small", "CPU 소형", "Small CPU", image, 500, 64 * 2**20, 2**30)
        command = ("sh", "-c", line)
        launch = Launch(new_run_id(), RunKind.BATCH, "kim {x}", "vision", profile, command, str(folder))
        made.append(replace(launch, **changes))
        return made[-1]

    yield make
    for launch in made:
        with suppress(docker.errors.NotFound):
            engine.remove_container(terms_docker.container_name(launch.run_id), v=True, force=True)
