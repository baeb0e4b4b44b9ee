"""Character devices for tests that have no accelerator: harmless ones, which a container may not open by itself.

They have the number of `fuse`, which Docker's own device rules leave out, under names of the test's own in `/dev`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NUMBER = os.makedev(10, 229)
GROUP = 44
"""A group that owns them, and that no process of a container is in by itself."""


@contextlib.contextmanager
def character_devices() -> Iterator[Callable[[str], str]]:
    """Yield what makes a device file, with a name like the one given, and returns its path; all go in the end."""
    made: list[Path] = []

    def make(name: str) -> str:
        path = Path("/dev") / f"{name}-{secrets.token_hex(4)}"
        try:
            os.mknod(path, stat.S_IFCHR | 0o660, NUMBER)
        except PermissionError as error:
            pytest.skip(f"no device can be made here: {error}")
        made.append(path)
        os.chown(path, 0, GROUP)
        path.chmod(0o660)
        return str(path)

    try:
        yield make
    finally:
        for path in made:
            path.unlink(missing_ok=True)
