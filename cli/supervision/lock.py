"""One `mudeung up` at a time for each home, and what the others can read of it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from cli.session import Problem

FILE_NAME = "up.lock"


@dataclass(frozen=True)
class Standing:
    """The `up` that works in a home, by its process id; `url` and `socket` are empty until they are known."""

    pid: int
    started_at: int
    backend: str = ""
    url: str = ""
    socket: str = ""
    ready: bool = False


class Lock:
    """The lock that is held, with the file that says by whom."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, standing: Standing) -> None:
        """The file says how it stands now."""
        text = json.dumps(asdict(standing)).encode()
        os.pwrite(self._descriptor, text, 0)
        os.ftruncate(self._descriptor, len(text))


@contextmanager
def alone(folder: Path) -> Iterator[Lock]:
    """Hold the lock in `folder`; it ends with this process, however that ends. Raises Problem when another has it."""
    descriptor = os.open(folder / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = _read(folder)
            who = f" (process {found.pid})" if found else ""
            raise Problem(
                f"home: another `mudeung up`{who} works in {folder}; stop it first, or give another --home",
                f"home: 다른 `mudeung up`{who}이(가) {folder}에서 실행 중입니다. 먼저 중지하거나 다른 --home을"
                " 지정하세요",
            ) from None
        yield Lock(descriptor)
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def standing(folder: Path) -> Standing | None:
    """Return the `up` that holds the lock in `folder` now, or None."""
    try:
        descriptor = os.open(folder / FILE_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(folder)
    finally:
        os.close(descriptor)
    return None


def _read(folder: Path) -> Standing | None:
    try:
        return Standing(**json.loads((folder / FILE_NAME).read_text()))
    except (OSError, ValueError, TypeError):
        return None
