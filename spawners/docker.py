"""Servers as containers: DockerSpawner behind the gate.

Of DockerSpawner this takes how a container is made and where it answers. What else it does is not taken: one thread for
all calls of all users, an engine's 500 as proof that a container is gone, old containers started again. Each run has a
container of its own, which the gate looks at, stops and removes through the backend, as batch runs have.
"""

from __future__ import annotations

from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import docker.errors
from dockerspawner import DockerSpawner
from traitlets import default

from quotas.backends.docker import IMAGE_UID, DockerBackend, answering, device_trouble, prepare_project_folder
from quotas.backends.port import BackendAway
from quotas.domain.launch import Launch, Seen
from quotas.domain.profiles import Profile
from quotas.domain.runs import RunKind
from quotas.domain.terms_docker import (
    PROJECT_FOLDER,
    container_name,
    for_dockerspawner,
)
from quotas.domain.units import InvalidValue
from quotas.network import network_name
from quotas.session_variables import session_variables
from spawners.attempt import Devices
from spawners.gate import Gate

ENGINE_SECONDS = 20


class DockerServer(Gate, DockerSpawner):
    """A person's server on a project, as a container with the project's folder in it."""

    will_resume = False
    """Each start has a container, and a token, of its own: the hub is to forget the old token."""

    @default("cmd")
    def _single_user_server(self) -> list[str]:
        return ["jupyterhub-singleuser"]

    @default("default_url")
    def _lab(self) -> str:
        return "/lab"

    @default("notebook_dir")
    def _project_folder(self) -> str:
        return PROJECT_FOLDER

    @default("network_name")
    def _network_of_the_home(self) -> str:
        return network_name(self.door.home)

    @default("pull_policy")
    def _nothing_is_pulled(self) -> str:
        return "never"  # minutes of waiting, and what it would bring is not what the operator tested

    @default("client_kwargs")
    def _limit_of_each_call(self) -> dict[str, Any]:
        return {"timeout": ENGINE_SECONDS}

    @property
    def executor(self) -> ThreadPoolExecutor:
        """The door's threads, in place of DockerSpawner's only one."""
        return self.door.backend_threads

    def docker(self, method: str, *arguments: Any, **named: Any) -> Awaitable[Any]:
        """Return a call to the engine. Raises BackendAway for whatever leaves open what the engine knows."""
        return self.in_backend(partial(self._answered, method, *arguments, **named))

    def _answered(self, method: str, *arguments: Any, **named: Any) -> Any:
        with answering():
            return self._docker(method, *arguments, **named)

    async def get_object(self) -> Any:
        """Return what the engine has under the container's name; only its 404 is None."""
        try:
            found = await self.docker("inspect_container", self.object_name)
        except docker.errors.NotFound:
            return None
        self.object_id = found[self.object_id_key]
        return found

    def prepare(self, person: str, project: str) -> str:
        """Return the project's folder, which the container's user can write."""
        folder = Path(super().prepare(person, project))
        if folder.stat().st_uid != IMAGE_UID:
            prepare_project_folder(folder)
        return str(folder)

    def launch_terms(self, run_id: str, profile: Profile, folder: str, devices: Devices) -> Launch:
        """Return the launch; the hub's part of its environment is added by DockerSpawner."""
        return Launch(
            run_id=run_id,
            kind=RunKind.NOTEBOOK,
            person=self.user.name,
            project=self.name,
            profile=profile,
            command=(),
            project_folder=folder,
            environment=session_variables(self.door.home, run_id),
            devices=devices,
        )

    async def launch(self, launch: Launch) -> tuple[str, int, Seen]:
        """Create and start the container; return its address. Raises InvalidValue for a missing image or device.

        Raises BackendAway also when it has vanished meanwhile.
        """
        self.image = launch.profile.image
        self.object_name, self.object_id = container_name(launch.run_id), ""
        backend = self.door.backend
        if not isinstance(backend, DockerBackend):
            raise TypeError(f"servers in containers need the Docker backend, not {backend.name}")
        self.extra_create_kwargs = for_dockerspawner(backend.create_kwargs(launch))
        self.extra_host_config = for_dockerspawner(await self.in_backend(backend.host_config, launch))
        self._starting = launch
        try:
            ip, port = await DockerSpawner.start(self)
        except docker.errors.ImageNotFound as error:
            raise InvalidValue("image", str(error), str(error)) from error
        seen = await self.in_backend(backend.inspect, launch.run_id)
        if seen is None:
            raise BackendAway(f"docker: the container of {launch.run_id} vanished")
        return ip, port, seen

    async def start_object(self) -> None:
        """Start the created container, once no other one has a device of its run. Raises InvalidValue."""
        await self.in_backend(self._start_alone, self.door.backend, self._starting)

    def _start_alone(self, backend: DockerBackend, launch: Launch) -> None:
        backend.check_alone(launch)
        with answering(), device_trouble(launch):
            self._docker("start", self.container_id)

    def clear_state(self) -> None:
        super().clear_state()
        self.object_id = ""
