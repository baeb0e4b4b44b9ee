"""The Docker backend: a run is a container of its own, known by its name and its label.

Only the engine's 404 means that something is not there. An engine that is away, hangs or answers 5xx raises
BackendAway, as nothing may be concluded from it.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests
import urllib3
from docker.utils import kwargs_from_env

from quotas.backends import docker_devices
from quotas.backends.port import BackendAway
from quotas.domain.launch import RUN_LABEL, Launch, Seen
from quotas.domain.terms_docker import container_name, create_kwargs, host_config
from quotas.domain.units import InvalidValue

IMAGE_UID, IMAGE_GID = 1000, 100
"""The user of the notebook image, as in the Jupyter stacks (jovyan, users)."""
HOME_LABEL = "mudeung.home"
"""Names the platform that a container belongs to: several of them may share an engine, and none may touch another's."""
START_SECONDS = 5.0
KILL_SECONDS = 10.0
_NEVER = re.compile(r"0001-01-01T")
_FRACTION = re.compile(r"(\.\d{1,6})\d*")


class DockerBackend:
    """Runs as containers of the engine that ``DOCKER_HOST`` names, or the local one.

    They are those of the platform whose home folder is `home`. Nothing is asked of the engine before the first call.
    Each request waits at most `client_timeout` seconds, a stop its grace more.
    """

    name = "docker"
    chooses_devices = False

    def __init__(self, client_timeout: int = 20, home: str = "") -> None:
        self.client_timeout = client_timeout
        self.home = home
        self._connected: docker.APIClient | None = None
        self._connecting = threading.Lock()

    def list_runs(self) -> list[Seen]:
        """Return every run of this platform with a container here, running or not."""
        own = [RUN_LABEL, f"{HOME_LABEL}={self.home}"]
        with answering():
            found = self._client().containers(all=True, quiet=True, filters={"label": own})
        states = (self._state(each["Id"]) for each in found)
        return [seen for state in states if state and (seen := _seen(state))]

    def inspect(self, run_id: str) -> Seen | None:
        """Return what the engine knows of the run, or None when it has no container of it."""
        state = self._state(container_name(run_id))
        seen = _seen(state) if state else None
        return seen if seen and seen.run_id == run_id else None

    def launch(self, launch: Launch) -> Seen:
        """Create and start the run's container. A second call finds the first one's; an ended one never runs again.

        A container that the engine could not start is returned as not running, never started, with an exit code;
        `log` says why. Raises InvalidValue for an image or device that is not there and for terms that the engine
        refuses; what was created is then removed again.
        """
        with answering():
            client = self._client()
            kwargs = self.create_kwargs(launch)
            kwargs["host_config"] = client.create_host_config(**self.host_config(launch))
            created = True
            try:
                client.create_container(launch.profile.image, list(launch.command) or None, **kwargs)
            except docker.errors.APIError as error:
                if error.status_code != 409:
                    raise _refused(error, launch) from error
                created = False
            if created or not self._started_by_another(launch.run_id):
                self._start(launch)
        seen = self.inspect(launch.run_id)
        if seen is None:
            raise BackendAway(f"docker: the container of {launch.run_id} vanished")
        return seen

    def create_kwargs(self, launch: Launch) -> dict[str, Any]:
        """Return the terms of a container of this platform, for whoever creates it himself."""
        kwargs = create_kwargs(launch, container_user())
        kwargs["labels"] = {**kwargs["labels"], HOME_LABEL: self.home}
        return kwargs

    def host_config(self, launch: Launch) -> dict[str, Any]:
        """Return the terms of its host, for whoever creates it himself. Raises InvalidValue for a missing device."""
        return host_config(launch, docker_devices.host_side(launch))

    def check_alone(self, launch: Launch) -> None:
        """Raise InvalidValue of `devices` where another container has one of them and has not ended.

        To be asked when the own container is created and not started yet: of two that come at once each then sees
        the other, and at most one goes on.
        """
        with answering():
            uuids = {device.uuid for device in launch.devices}
            found = docker_devices.with_one_of(self._client(), uuids)
            own = f"/{container_name(launch.run_id)}"
            others = [each["Names"][0].lstrip("/") for each in found if own not in each["Names"]]
        if others:
            raise docker_devices.in_use(", ".join(others))

    def holders(self, uuids: Sequence[str]) -> tuple[str, ...]:
        """Return the runs of this platform with a container that has one of these devices and has not ended."""
        with answering():
            found = list(docker_devices.with_one_of(self._client(), uuids))
        return tuple(each["Labels"].get(RUN_LABEL, "") for each in found if each["Labels"].get(HOME_LABEL) == self.home)

    def lacks(self, run_id: str, paths: Sequence[str]) -> tuple[str, ...]:
        """Return those of the device files that cannot be opened in the run's container; it must be running."""
        state = self._state(container_name(run_id))
        if state is None or not state["State"]["Running"]:
            raise BackendAway(f"docker: the container of {run_id} does not run")
        with answering():
            return docker_devices.unopenable(self._client(), state, paths)

    def stop(self, run_id: str, grace_seconds: int) -> None:
        """End the container: its stop signal, after `grace_seconds` SIGKILL. Raises BackendAway if it runs on."""
        deadline = time.monotonic() + grace_seconds + KILL_SECONDS
        seen = self.inspect(run_id)
        while seen and seen.running:
            if time.monotonic() > deadline:
                raise BackendAway(f"docker: the container of {run_id} does not end")
            # 404 and 409 here: it ended by itself meanwhile.
            with answering(), _passing_over_4xx():
                self._client().stop(seen.ref, timeout=grace_seconds)
            grace_seconds = 0
            seen = self.inspect(run_id)
            if seen and seen.running:
                time.sleep(0.1)

    def remove(self, run_id: str) -> None:
        """Remove an ended container with its anonymous volumes. Raises ValueError for a running one."""
        seen = self.inspect(run_id)
        if seen is None:
            return
        if seen.running:
            raise ValueError(f"run {run_id} is running")
        with answering():
            try:
                self._client().remove_container(seen.ref, v=True)
            except docker.errors.APIError as error:
                # 404: gone meanwhile. 409: another one is removing it, or it was started meanwhile and must stay.
                if error.status_code not in (404, 409):
                    raise
                state = self._state(seen.ref)
                if state and state["State"]["Running"]:
                    raise ValueError(f"run {run_id} is running") from error

    def log(self, run_id: str, limit_bytes: int) -> str:
        """Return the last `limit_bytes` that the container printed; for one that never started, the engine's reason."""
        state = self._state(container_name(run_id))
        if state is None or limit_bytes <= 0:
            return ""
        if _instant(state["State"]["StartedAt"]) is None:
            return str(state["State"].get("Error", ""))[-limit_bytes:]
        with answering():
            # A line has a byte at least, so that so many lines hold the last bytes; the log itself has a limit (see
            # `host_config`). It is not streamed: docker-py would take the time limit off the connection.
            printed: bytes = self._client().logs(state["Id"], tail=limit_bytes)
        return printed[-limit_bytes:].decode("utf-8", "replace")

    def image_exists(self, reference: str) -> bool:
        """Return whether the engine has the image. Nothing is pulled."""
        if not reference:
            return False
        with answering():
            try:
                self._client().inspect_image(reference)  # type: ignore[no-untyped-call]
            except docker.errors.APIError as error:
                if error.status_code in (400, 404):
                    return False
                raise
        return True

    def close(self) -> None:
        """Give the connections back. The next call connects anew."""
        with self._connecting:
            if self._connected is not None:
                self._connected.close()
                self._connected = None

    def _client(self) -> docker.APIClient:
        with self._connecting:
            if self._connected is None:
                settings = kwargs_from_env()
                self._connected = docker.APIClient(version="auto", timeout=self.client_timeout, **settings)
            return self._connected

    def _state(self, reference: str) -> Mapping[str, Any] | None:
        """Return the engine's description of a container, or None when it answers that there is none."""
        with answering():
            try:
                state: Mapping[str, Any] = self._client().inspect_container(reference)
            except docker.errors.NotFound:
                return None
        return state

    def _start(self, launch: Launch) -> None:
        """Start the created container; the engine keeps the reason of a start that failed in the container's state."""
        name = container_name(launch.run_id)
        try:
            self.check_alone(launch)
            with _passing_over_4xx(), device_trouble(launch):
                self._client().start(name)
        except InvalidValue:
            with _passing_over_4xx():
                self._client().remove_container(name, v=True)
            raise

    def _started_by_another(self, run_id: str) -> bool:
        """Return whether the container has come to run, after giving whoever created it time to start it.

        Starting it without waiting could run a short command again that has just ended. The engine takes the name
        before it shows the container.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            seen = self.inspect(run_id)
            if seen and (seen.started_at is not None or seen.exit_code is not None):
                return True
            if time.monotonic() > deadline:
                return seen is None
            time.sleep(0.1)


def container_user() -> str | None:
    """Return ``uid:gid`` of the platform, so that containers can write its project folders.

    None, which stands for the image's own user, when the platform is root: see `prepare_project_folder`.
    """
    return None if os.getuid() == 0 else f"{os.getuid()}:{os.getgid()}"


def prepare_project_folder(path: Path) -> None:
    """Make sure that the folder is there and that its containers can write all that it holds.

    Links are not followed: they belong to the project and may point anywhere.
    """
    path.mkdir(parents=True, exist_ok=True)
    if os.getuid() != 0:
        return
    for folder, folders, files in os.walk(path):
        for name in (folder, *folders, *files):
            entry = Path(folder, name)
            if entry.lstat().st_uid != IMAGE_UID:
                os.chown(entry, IMAGE_UID, IMAGE_GID, follow_symlinks=False)


def _seen(state: Mapping[str, Any]) -> Seen | None:
    """Read a run out of the engine's description; None for a container that only wears the label, as an image can."""
    run_id = (state["Config"].get("Labels") or {}).get(RUN_LABEL)
    if not run_id or state["Name"] != f"/{container_name(run_id)}":
        return None
    now = state["State"]
    running = bool(now["Running"])
    started_at = _instant(now["StartedAt"])
    finished_at = None if running else _instant(now["FinishedAt"])
    if started_at is not None and finished_at is not None:
        finished_at = max(started_at, finished_at)  # the engine takes the two of a very short run out of order
    # Created and never started: the engine then says 0, which would read as a success, or how the start failed.
    ended = not running and (started_at is not None or bool(now["Error"]))
    return Seen(
        run_id=run_id,
        running=running,
        ref=state["Id"],
        started_at=started_at,
        finished_at=finished_at,
        exit_code=int(now["ExitCode"]) if ended else None,
        out_of_memory=bool(now.get("OOMKilled")),
    )


def _instant(text: str) -> float | None:
    """Read the engine's time, of nanoseconds; its zero date, in the year 1, is None."""
    if not text or _NEVER.match(text):
        return None
    return datetime.fromisoformat(_FRACTION.sub(r"\1", text)).timestamp()


def _refused(error: docker.errors.APIError, launch: Launch) -> Exception:
    """Return what to raise for a container that could not be created."""
    if error.is_server_error():
        return error
    reason = str(error.explanation or error)[:300]
    if error.status_code == 404:
        image = launch.profile.image
        return InvalidValue(
            "image", f"{image} is not on this machine: {reason}", f"이 서버에 이미지 {image}이(가) 없습니다: {reason}"
        )
    return InvalidValue(
        "profile", f"Docker refuses the container: {reason}", f"Docker가 컨테이너를 거부했습니다: {reason}"
    )


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Raise BackendAway for everything that leaves open what the engine knows."""
    try:
        yield
    except docker.errors.APIError as error:
        if error.status_code is None or error.status_code >= 500:
            raise BackendAway(f"docker: {error}") from error
        raise
    except (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise BackendAway(f"docker: {error}") from error


@contextlib.contextmanager
def device_trouble(launch: Launch) -> Iterator[None]:
    """Raise InvalidValue of `devices` where the engine says that it cannot attach what the launch names."""
    try:
        yield
    except docker.errors.APIError as error:
        refusal = docker_devices.refusal(error) if launch.devices else None
        if refusal is None:
            raise
        raise refusal from error


@contextlib.contextmanager
def _passing_over_4xx() -> Iterator[None]:
    """Pass over the engine's word that it cannot do this now; what is so, is asked afterwards."""
    try:
        yield
    except docker.errors.APIError as error:
        if not error.is_client_error():
            raise
