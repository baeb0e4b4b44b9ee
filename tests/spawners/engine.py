"""A door in front of the Docker engine, which a test can shut: it then answers 500, or not at all, or is not there."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import docker
import docker.errors
import pytest

from tests.platform import IMAGE

ENGINE = "/var/run/docker.sock"
BAD = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n"
BAD += b'{"message": "out of order"}'


class Mode(StrEnum):
    """What the door does with those who come."""

    OPEN = "open"
    ANSWERS_500 = "answers 500"
    SAYS_NOTHING = "says nothing"
    HANGS_UP = "hangs up"


class EngineDoor:
    """Listens at `path`; what comes in goes to the engine while `mode` is OPEN. Connections are cut at each change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mode = Mode.OPEN
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(128)
        threading.Thread(target=self._serve, daemon=True).start()

    def become(self, mode: Mode) -> None:
        self.mode = mode
        for each in list(self._open):
            _hang_up(each)

    def close(self) -> None:
        self.become(Mode.HANGS_UP)
        _hang_up(self._listener)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(client)
            threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        try:
            if self.mode is Mode.OPEN:
                self._pass_on(client)
            elif self.mode is Mode.ANSWERS_500:
                client.recv(65536)
                client.sendall(BAD)
            elif self.mode is Mode.SAYS_NOTHING:
                while client.recv(65536):
                    pass
        except OSError:
            pass
        finally:
            self._open.discard(client)
            _hang_up(client)

    def _pass_on(self, client: socket.socket) -> None:
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as engine:
            engine.connect(ENGINE)
            self._open.add(engine)
            back = threading.Thread(target=_copy, args=(engine, client), daemon=True)
            back.start()
            _copy(client, engine)
            back.join()
            self._open.discard(engine)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        _hang_up(source)
        _hang_up(target)


def _hang_up(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextlib.contextmanager
def engine_door(folder: Path) -> Iterator[EngineDoor]:
    """Yield an open door; a process goes through it with `DOCKER_HOST` set to it."""
    door = EngineDoor(folder / "engine.sock")
    try:
        yield door
    finally:
        door.close()


def skip_without_engine() -> None:
    """Skip the test where there is no engine, or no notebook image in it."""
    try:
        with contextlib.closing(docker.from_env(timeout=20)) as client:
            client.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        pytest.skip(f"the engine has no image {IMAGE}")
    except (docker.errors.DockerException, OSError) as error:
        pytest.skip(f"no Docker engine: {error}")


def through(door: EngineDoor) -> dict[str, str]:
    """The environment of a process that goes through the door."""
    return {"DOCKER_HOST": f"unix://{os.fspath(door.path)}"}
