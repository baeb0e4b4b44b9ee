"""Device files of this machine: what is asked of them before a run is given one, and while it has it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from quotas.domain.terms_local import not_attachable

TAKEN = frozenset({errno.EPERM, errno.ENXIO, errno.ENODEV, errno.EIO})
"""What opening a device file says when there is no device behind it, or one may not have it. Not that it is busy: some
devices are opened by one process at a time, and that one is the run's own."""


def owners(paths: Iterable[str]) -> tuple[int, ...]:
    """Return the groups that may open the device files; none for those that anyone may.

    Raises InvalidValue of `devices` for what is not there, or is no device.
    """
    groups = set()
    for path in paths:
        try:
            found = Path(path).lstat()
        except OSError as error:
            raise not_attachable(
                f"this machine has no {path}: {error.strerror}", f"이 장비에 {path}이(가) 없습니다: {error.strerror}"
            ) from error
        if not stat.S_ISCHR(found.st_mode):
            raise not_attachable(f"{path} is no character device", f"{path}은(는) 문자 장치가 아닙니다")
        if found.st_mode & 0o006 != 0o006:
            groups.add(found.st_gid)
    return tuple(sorted(groups))


def unopenable(paths: Iterable[str]) -> tuple[str, ...]:
    """Return those of the device files that this process cannot open for reading, as the device was taken from it.

    What is not there at all is not among them: that the machine has lost it, its agent tells.
    """
    return tuple(path for path in paths if _errno_of_opening(path) in TAKEN)


def _errno_of_opening(path: str) -> int:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno or 0
    return 0
