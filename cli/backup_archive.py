"""The archive of a backup: a tar with a manifest, the databases, the home's files, and the sums of all of them.

Its last member is `SHA256SUMS`, as `sha256sum --check` reads it, so that one that was cut off is known as such. The
platform may be root while members write their projects' folders: each file is opened below the folder that was opened
before it, links are kept as they are and never followed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from cli.session import Problem

MANIFEST, SUMS, FILES = "manifest.json", "SHA256SUMS", "files"
BLOCK_BYTES = 256 * 1024
MANIFEST_BYTES = 16 * 2**20
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _Summing(io.RawIOBase):
    """A file as long as it was said to be, with the sum of what was read of it: others may write it meanwhile."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._left = size
        self._sum = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        block = b""
        while len(block) < wanted:
            # What was cut off meanwhile is zeros, as its length stands in the archive already.
            block += os.read(self._descriptor, wanted - len(block)) or b"\0" * (wanted - len(block))
        self._left -= len(block)
        self._sum.update(block)
        return block

    @property
    def sum(self) -> str:
        return self._sum.hexdigest()


@dataclass
class Writer:
    """Writes an archive to `to`. `left_out` has what is not in it, by path: sockets, devices, what cannot be read."""

    to: IO[bytes]
    files: int = 0
    bytes: int = 0
    left_out: list[str] = field(default_factory=list)
    _sums: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tar = tarfile.open(fileobj=self.to, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by `end`

    def text(self, name: str, text: str) -> None:
        """A member of this text."""
        content = text.encode("utf-8", "surrogateescape")
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o600
        self._tar.addfile(member, io.BytesIO(content))
        if name != SUMS:
            self._sums.append((name, hashlib.sha256(content).hexdigest()))

    def file(self, name: str, path: Path) -> None:
        """A member with what is in the file."""
        self._add(name, os.open(path, _FILE))

    def folder(self, root: Path, left_out: frozenset[str]) -> None:
        """Members with all that is in the folder, below `FILES`, but for the paths `left_out`."""
        for name, facts, parent in _walk(root, left_out, self.left_out):
            entry = PurePosixPath(name).name
            try:
                if stat.S_ISREG(facts.st_mode):
                    self._add(f"{FILES}/{name}", os.open(entry, _FILE, dir_fd=parent))
                    continue
                member = _member(f"{FILES}/{name}", facts)
                if stat.S_ISLNK(facts.st_mode):
                    member.type, member.linkname = tarfile.SYMTYPE, os.readlink(entry, dir_fd=parent)
                elif stat.S_ISDIR(facts.st_mode):
                    member.type = tarfile.DIRTYPE
                else:
                    self.left_out.append(name)
                    continue
                self._tar.addfile(member)
            except FileNotFoundError:
                continue  # gone while this was made, so that it is not missed
            except PermissionError:
                self.left_out.append(name)

    def end(self) -> None:
        """The archive is whole."""
        self.text(SUMS, "".join(_line(name, each) for name, each in self._sums))
        self._tar.close()

    def _add(self, name: str, descriptor: int) -> None:
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                self.left_out.append(name)
                return
            member = _member(name, facts)
            member.size = facts.st_size
            reader = _Summing(descriptor, facts.st_size)
            self._tar.addfile(member, reader)
            self._sums.append((name, reader.sum))
            self.files += 1
            self.bytes += facts.st_size
        finally:
            os.close(descriptor)


def _walk(root: Path, left_out: frozenset[str], unread: list[str]) -> Iterator[tuple[str, os.stat_result, int]]:
    """Yield the path below the root, the facts and the open folder of each entry; a folder before what is in it."""

    def failed(error: OSError) -> None:
        unread.append(str(error.filename))

    for folder, folders, names, descriptor in os.fwalk(root, onerror=failed, follow_symlinks=False):
        below = PurePosixPath(os.path.relpath(folder, root))
        folders[:] = sorted(each for each in folders if str(below / each) not in left_out)
        for name in sorted([*names, *folders]):
            path = str(below / name)
            if path in left_out:
                continue
            with suppress(FileNotFoundError):
                yield path, os.stat(name, dir_fd=descriptor, follow_symlinks=False), descriptor


def _member(name: str, facts: os.stat_result) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.mtime = stat.S_IMODE(facts.st_mode), int(facts.st_mtime)
    member.uid, member.gid = facts.st_uid, facts.st_gid
    return member


def _line(name: str, digest: str) -> str:
    """Return a line of `sha256sum`, which has a sign of its own before a name that it had to write differently."""
    shown = name.replace("\\", "\\\\").replace("\n", "\\n")
    return f"{'' if shown == name else chr(92)}{digest}  {shown}\n"


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of an archive that is whole: every sum was computed. Raises Problem."""
    sums: dict[str, str] = {}
    manifest: dict[str, Any] = {}
    listed: str | None = None
    try:
        with tarfile.open(path, "r|") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None:
                    continue
                if member.name == SUMS:
                    listed = content.read().decode("utf-8", "surrogateescape")
                    continue
                sums[member.name], kept = _sum(content, keep=member.name == MANIFEST)
                manifest = json.loads(kept) if kept else manifest
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        raise Problem(f"{path}: no whole backup: {error}", f"{path}: 온전한 백업이 아닙니다: {error}") from None
    if listed is None or not manifest:
        raise Problem(f"{path}: no whole backup: its end is missing", f"{path}: 백업의 끝이 잘려 있습니다")
    if listed != "".join(_line(name, digest) for name, digest in sums.items()):
        raise Problem(f"{path}: its content has changed since it was made", f"{path}: 백업 후 내용이 변경되었습니다")
    return manifest


def _sum(content: IO[bytes], *, keep: bool) -> tuple[str, bytes]:
    digest, kept = hashlib.sha256(), b""
    while block := content.read(BLOCK_BYTES):
        digest.update(block)
        if keep and len(kept) < MANIFEST_BYTES:
            kept += block
    return digest.hexdigest(), kept


def text_of(path: Path, name: str) -> str | None:
    """Return a member's text, None where the archive has no such file."""
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            if member.name == name and member.isreg():
                content = tar.extractfile(member)
                return content.read(MANIFEST_BYTES).decode() if content else None
    return None


def unpack(path: Path, databases: Path, home: Path, left_out: frozenset[str]) -> int:
    """The members for databases are in the one folder, the files in the other but for `left_out`; return how many.

    Owners are kept where this is root. Links come last, so that nothing is written through one. Raises Problem for a
    member that no backup has.
    """
    links: list[tarfile.TarInfo] = []
    folders: list[tarfile.TarInfo] = []
    files = 0
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            place = PurePosixPath(member.name)
            if place.is_absolute() or ".." in place.parts or not (member.isreg() or member.isdir() or member.issym()):
                raise Problem(f"{path}: it has {member.name!r}", f"{path}: 잘못된 항목 {member.name!r}")
            inside = PurePosixPath(*place.parts[1:])
            if place.parts[0] != FILES:
                target = databases / place.name
            elif str(inside) in left_out:
                continue
            else:
                target = home / inside
            if member.isdir():
                target.mkdir(exist_ok=True)
                folders.append(member)
            elif member.issym():
                links.append(member)
            else:
                content = tar.extractfile(member)
                if content is not None:
                    _write(target, content, member)
                    files += place.parts[0] == FILES
    for member in links:
        target = home / PurePosixPath(*PurePosixPath(member.name).parts[1:])
        target.symlink_to(member.linkname)
        _give(target, member)
    for member in reversed(folders):
        target = home / PurePosixPath(*PurePosixPath(member.name).parts[1:])
        _give(target, member)
        with suppress(PermissionError):  # a folder that others have made stays theirs
            target.chmod(member.mode)
            os.utime(target, (member.mtime, member.mtime))
    return files


def _write(target: Path, content: IO[bytes], member: tarfile.TarInfo) -> None:
    with os.fdopen(os.open(target, _NEW, 0o600), "wb") as file:
        while block := content.read(BLOCK_BYTES):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    _give(target, member)
    target.chmod(member.mode)
    os.utime(target, (member.mtime, member.mtime))


def _give(target: Path, member: tarfile.TarInfo) -> None:
    if os.geteuid() == 0:
        os.chown(target, member.uid, member.gid, follow_symlinks=False)
