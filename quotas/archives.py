"""A folder as a gzipped tar, made while it is sent: whatever its size, a few blocks of it are in memory.

The platform may be root while a project's members write the folder. Every file is opened below the one folder that
was opened before it, links are never followed, and nothing outside the folder is read. A link is kept where it leads
to something inside; whoever unpacks the archive is led nowhere else by it.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

BLOCK_BYTES = 256 * 1024
DEEPEST = 100
"""Folders below folders that are read: each one takes a descriptor while it is."""
MOST_TOLD = 1000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_END = b"\0" * (2 * tarfile.BLOCKSIZE)


@dataclass
class Archive:
    """The archive of the folder `root`, whose members stand below `name`; iterate over it once for its bytes.

    `left_out` has what is not in it, by path: devices, sockets, what could not be read, links that lead out. The
    archive says so itself, in a text beside the folder.
    """

    root: Path
    name: str
    left_out: list[str] = field(default_factory=list)
    files: int = 0

    def __iter__(self) -> Iterator[bytes]:
        """Raises OSError where the folder itself cannot be opened; only that one may be reached over a link."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        deflate = zlib.compressobj(level=1, wbits=31)
        for part in self._plain(descriptor):
            packed = deflate.compress(part)
            if packed:
                yield packed
        yield deflate.flush()

    def _plain(self, descriptor: int) -> Iterator[bytes]:
        yield from self._folder(descriptor, PurePosixPath(), self.name)
        if self.left_out:
            shown = [each.encode("utf-8", "backslashreplace").decode() for each in self.left_out[:MOST_TOLD]]
            more = len(self.left_out) - len(shown)
            text = "\n".join([*shown, *([f"… {more}"] if more else []), ""]).encode()
            about = tarfile.TarInfo(f"{self.name}.left-out.txt")
            about.size = len(text)
            yield about.tobuf(tarfile.PAX_FORMAT)
            yield text + _padding(len(text))
        yield _END

    def _folder(self, descriptor: int, path: PurePosixPath, shown: str) -> Iterator[bytes]:
        """Yield the open folder, which is closed at the end, and all in it; `path` is its own below the root."""
        try:
            yield _header(shown, os.fstat(descriptor), tarfile.DIRTYPE)
            with os.scandir(descriptor) as entries:
                names = sorted(entry.name for entry in entries)
            for name in names:
                try:
                    yield from self._member(descriptor, name, path / name)
                except OSError:
                    self.left_out.append(str(path / name))
        finally:
            os.close(descriptor)

    def _member(self, folder: int, name: str, path: PurePosixPath) -> Iterator[bytes]:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        shown = f"{self.name}/{path}"
        if stat.S_ISDIR(facts.st_mode) and len(path.parts) < DEEPEST:
            yield from self._folder(os.open(name, _FOLDER, dir_fd=folder), path, shown)
        elif stat.S_ISREG(facts.st_mode):
            yield from self._file(os.open(name, _FILE, dir_fd=folder), shown, path)
        elif stat.S_ISLNK(facts.st_mode) and leads_inside(path, target := os.readlink(name, dir_fd=folder)):
            yield _header(shown, facts, tarfile.SYMTYPE, target)
        else:
            self.left_out.append(str(path))

    def _file(self, descriptor: int, shown: str, path: PurePosixPath) -> Iterator[bytes]:
        """Yield the file as long as it was when it was opened: who writes it meanwhile must not break the archive."""
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                self.left_out.append(str(path))
                return
            self.files += 1
            yield _header(shown, facts, tarfile.REGTYPE)
            left = facts.st_size
            while left:
                block = file.read(min(left, BLOCK_BYTES)) or b"\0" * min(left, BLOCK_BYTES)
                left -= len(block)
                yield block
            yield _padding(facts.st_size)


def leads_inside(path: PurePosixPath, target: str) -> bool:
    """Return whether a link at `path` leads to something below the root, whatever links are on the way.

    It may go up first, as far as it stands deep, and then only down: a `..` behind a name could be that of a link.
    """
    parts = PurePosixPath(target).parts
    ups = 0
    while ups < len(parts) and parts[ups] == "..":
        ups += 1
    return not target.startswith("/") and ".." not in parts[ups:] and ups < len(path.parts)


def _header(name: str, facts: os.stat_result, kind: bytes, target: str = "") -> bytes:
    """Return a member's header; its owner stays here, and what it may do that others must not is left out."""
    member = tarfile.TarInfo(name)
    member.type = kind
    member.mode = stat.S_IMODE(facts.st_mode) & 0o777
    member.mtime = int(facts.st_mtime)
    member.linkname = target
    if kind == tarfile.REGTYPE:
        member.size = facts.st_size
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padding(size: int) -> bytes:
    return b"\0" * (-size % tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class Size:
    """What a folder holds: plain files and their bytes, links and folders not counted."""

    files: int
    bytes: int


def measure(root: Path) -> Size:
    """Return what the folder holds, 0 where there is none; links are not followed."""
    files = size = 0
    for _, _, names, descriptor in os.fwalk(root) if root.is_dir() else ():
        for name in names:
            try:
                facts = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISREG(facts.st_mode):
                files += 1
                size += facts.st_size
    return Size(files, size)
