"""How late a process's event loop is: a small task in it asks to be woken every `PERIOD_SECONDS`, and notes how late.

A hub answers nobody while its loop is busy. Its configuration begins the task; what it notes is read by whoever
measures, for any span of time, as both have the machine's one monotonic clock.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Sequence
from pathlib import Path

PERIOD_SECONDS = 0.02
WRITTEN_EVERY = 50
_NOTE = struct.Struct("<dd")
_tasks: list[asyncio.Task[None]] = []


def watch(path: str) -> None:
    """From now on the running loop's delays are noted in the file at `path`."""
    _tasks.append(asyncio.get_running_loop().create_task(_note_delays(Path(path))))


async def _note_delays(path: Path) -> None:
    noted: list[bytes] = []
    with path.open("ab") as file:
        while True:
            due = time.monotonic() + PERIOD_SECONDS
            await asyncio.sleep(PERIOD_SECONDS)
            now = time.monotonic()
            noted.append(_NOTE.pack(now, max(now - due, 0.0)))
            if len(noted) == WRITTEN_EVERY:
                file.write(b"".join(noted))
                file.flush()
                noted.clear()


def delays(path: Path, since: float, until: float) -> list[float]:
    """Return the delays in seconds that were noted between two instants of the monotonic clock, shortest first."""
    content = path.read_bytes()
    whole = content[: len(content) - len(content) % _NOTE.size]
    return sorted(delay for at, delay in _NOTE.iter_unpack(whole) if since <= at <= until)


def share(ordered: Sequence[float], part: float) -> float:
    """Return the value below which this part of the ordered values lies. Raises ValueError for none."""
    if not ordered:
        raise ValueError("nothing was noted")
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)]
