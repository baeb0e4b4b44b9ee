"""Files in a folder that others may write too: read and written without ever following a link out of it.

Every step of a path is opened below the one before it and must be a plain folder, so that a folder swapped for a link
between a check and its use leads nowhere. The platform may be root while a project's members write the folder.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def reading(root: Path, relative: str, limit_bytes: int) -> Iterator[BinaryIO]:
    """Open the plain file `relative` below `root`.

    Raises OSError when there is none, it is larger than the limit or no plain file, or a link is on the way.
    """
    path = PurePosixPath(relative)
    with _opened(root, path.parts[:-1], create=False) as folder:
        descriptor = os.open(path.name, _FILE, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise OSError(errno.EINVAL, "not a plain file", relative)
            if facts.st_size > limit_bytes:
                raise OSError(errno.EFBIG, f"larger than {limit_bytes} bytes", relative)
            yield file


def read(root: Path, relative: str, limit_bytes: int) -> bytes:
    """Return what the plain file `relative` below `root` holds. Raises OSError as `reading` does."""
    with reading(root, relative, limit_bytes) as file:
        return file.read(limit_bytes)


@contextmanager
def writing(root: Path, relative: str) -> Iterator[BinaryIO]:
    """The file `relative` below `root` has what was written when the block ends, and is as it was if that raises.

    Missing folders are made. All of it belongs to the owner of `root`. It is on the disk before it takes its name.
    Raises OSError when a folder on the way is a link or no folder, or the disk is full.
    """
    path = PurePosixPath(relative)
    with _opened(root, path.parts[:-1], create=True) as folder:
        part = f".{secrets.token_hex(8)}.part"
        descriptor = os.open(part, _NEW_FILE, 0o644, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o644)  # whatever this process's umask is
                _give(descriptor, root)
                yield file
                file.flush()
                os.fsync(descriptor)
            os.rename(part, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder)
            raise


def write(root: Path, relative: str, content: bytes) -> None:
    """The file `relative` below `root` holds `content`. Raises OSError as `writing` does."""
    with writing(root, relative) as file:
        file.write(content)


@contextmanager
def _opened(root: Path, parts: Sequence[str], *, create: bool) -> Iterator[int]:
    """Open the folder of `parts` below `root`. Only `root` itself may be reached over links."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            if part in {"/", ".."}:
                raise OSError(errno.EINVAL, "leads out of the folder", part)
            made = create and _made(part, descriptor)
            above, descriptor = descriptor, os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(above)
            if made:
                _give(descriptor, root)
        yield descriptor
    finally:
        os.close(descriptor)


def _made(name: str, folder: int) -> bool:
    try:
        os.mkdir(name, 0o755, dir_fd=folder)
    except FileExistsError:
        return False
    return True


def _give(descriptor: int, root: Path) -> None:
    """What was just made belongs to the owner of the folder; only root can give anything away."""
    if os.geteuid() == 0:
        owner = root.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
