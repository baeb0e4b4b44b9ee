"""Reports that the platform has not acknowledged, as files: each is on the disk before it is sent.

A file is named by its report's sequence and written whole or not at all. It holds a line of our own and then the
body, byte for byte as it is sent: what is sent again is what was sent before. The newest file is kept even when it
was acknowledged (its ending is then ``.sent``), as it carries the stream, the sequence, and what `Carried` says; so
none of these is lost, whenever the program or the machine dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent.wire import Contents, encode, parts
from quotas.domain.node_reports import Report

PENDING, SENT = ".report", ".sent"
DIGITS = 12
REFUSED_KEPT = 100


class BufferInUse(Exception):  # noqa: N818 - it says what is the case
    """Another agent uses this folder."""


@dataclass(frozen=True)
class Carried:
    """What an agent that starts needs of the one before: until when devices were sampled, which are there and lost."""

    sampled_until_ms: int = 0
    present: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pending:
    """A report that is to be sent, as it is to be sent."""

    sequence: int
    body: bytes


class Buffer:
    """The folder's reports; threads may share it. Raises BufferInUse when another agent has the folder, or OSError."""

    def __init__(self, folder: Path, keep_seconds: int) -> None:
        self._folder = folder / "reports"
        self._refused = folder / "refused"
        self._keep_seconds = keep_seconds
        self._lock = threading.Lock()
        self.added = threading.Event()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for each in (self._folder, self._refused):
            each.mkdir(exist_ok=True, mode=0o700)
        self._hold(folder / "lock")
        self.stream = str(uuid.uuid4())
        self.newest = 0
        self.carried = Carried()
        self._pending: deque[int] = deque()
        self._read()

    def _hold(self, path: Path) -> None:
        self._held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._held)
            raise BufferInUse(f"another agent uses {path.parent}") from None

    def close(self) -> None:
        """The folder is another agent's to take."""
        os.close(self._held)

    def _read(self) -> None:
        """Take up where the last agent was, by the newest file that can be read."""
        numbers: dict[int, Path] = {}
        for path in self._folder.iterdir():
            if path.suffix in {PENDING, SENT} and path.stem.isdigit():
                numbers[int(path.stem)] = path
            elif path.suffix == ".new":
                path.unlink()  # cut off while it was written: it has never been sent
        for number in sorted(numbers, reverse=True):
            try:
                header, report = (json.loads(line) for line in numbers[number].read_bytes().split(b"\n", 1))
                stream, carried = str(uuid.UUID(report["stream"])), _carried(header)
            except (ValueError, KeyError, TypeError):
                numbers.pop(number).replace(self._refused / f"{number:0{DIGITS}}.unreadable")
                self.newest = max(self.newest, number)
                continue
            self.newest = max(self.newest, number)
            self.stream, self.carried = stream, carried
            break
        self._pending = deque(sorted(number for number, path in numbers.items() if path.suffix == PENDING))
        if self._pending:
            self.added.set()

    def _path(self, sequence: int, suffix: str = PENDING) -> Path:
        return self._folder / f"{sequence:0{DIGITS}}{suffix}"

    def add(self, contents: Contents, empty: Report, carried: Carried) -> int:
        """The contents are on the disk, in one report or several; return the last one's sequence. Raises OSError.

        `empty` has what stands in every report but the stream and the number. After an error those reports that were
        written are there and will be sent.
        """
        with self._lock:
            for report in parts(contents, replace(empty, stream=self.stream, sequence=10**DIGITS - 1)):
                numbered = replace(report, sequence=self.newest + 1)
                self._write(numbered, carried)
                self.newest += 1
                self.carried = carried
                self._pending.append(self.newest)
                self._path(self.newest - 1, SENT).unlink(missing_ok=True)
            self.added.set()
            return self.newest

    def _write(self, report: Report, carried: Carried) -> None:
        path = self._path(report.sequence)
        fresh = path.with_suffix(".new")
        header = json.dumps(vars(carried)).encode()
        try:
            with fresh.open("wb") as file:
                file.write(header + b"\n" + encode(report))
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
            self._sync_folder()
        except OSError:
            fresh.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def oldest(self) -> Pending | None:
        """Return the report that is to be sent next, or None when all are acknowledged."""
        with self._lock:
            while self._pending:
                sequence = self._pending[0]
                try:
                    _, body = self._path(sequence).read_bytes().split(b"\n", 1)
                except (OSError, ValueError):
                    self._pending.popleft()  # someone took the file away
                    continue
                return Pending(sequence, body)
            self.added.clear()
            return None

    def __len__(self) -> int:
        return len(self._pending)

    def acknowledge(self, accepted: int) -> None:
        """The platform has all reports up to `accepted`: they are sent no more."""
        with self._lock:
            while self._pending and self._pending[0] <= accepted:
                self._settle(self._pending.popleft())
            # A platform that is ahead of this folder (one restored from a copy) would take what follows for known.
            self.newest = max(self.newest, accepted)

    def _settle(self, sequence: int) -> None:
        if sequence == self.newest:
            self._path(sequence).replace(self._path(sequence, SENT))
        else:
            self._path(sequence).unlink(missing_ok=True)

    def refuse(self, sequence: int, why: str) -> None:
        """The platform will never take this report: it is put aside with what was answered, and the next is due."""
        with self._lock:
            if not self._pending or self._pending[0] != sequence:
                return
            name = f"{self.stream}-{sequence:0{DIGITS}}"
            (self._refused / f"{name}.json").write_bytes(self._path(sequence).read_bytes().split(b"\n", 1)[1])
            (self._refused / f"{name}.answer").write_text(why, encoding="utf-8")
            self._settle(self._pending.popleft())
            kept = sorted(self._refused.iterdir(), key=lambda path: path.stat().st_mtime)
            for path in kept[: -2 * REFUSED_KEPT]:
                path.unlink(missing_ok=True)

    def drop_old(self) -> int:
        """No report is older than it may be; return how many were dropped."""
        dropped = 0
        with self._lock:
            while self._pending and self._is_old(self._pending[0]):
                self._settle(self._pending.popleft())
                dropped += 1
        return dropped

    def _is_old(self, sequence: int) -> bool:
        try:
            written = self._path(sequence).stat().st_mtime
        except FileNotFoundError:
            return True
        return time.time() - written > self._keep_seconds


def _carried(header: dict[str, Any]) -> Carried:
    return Carried(int(header["sampled_until_ms"]), tuple(header["present"]), tuple(header["lost"]))
