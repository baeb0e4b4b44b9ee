"""Moments at which a hub of a test kills itself, as `kill -9` or a loss of power would."""

from __future__ import annotations

import os
import signal
from typing import Any

from quotas.domain.launch import Seen
from spawners.gate import Gate

MOMENTS = ("before launch", "after launch", "before save", "before stop", "after stop")


def now() -> None:
    """The process is gone at once, with nothing said to anyone."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(moment: str, server: type[Gate]) -> type[Gate]:
    """Return the server's class, whose hub is killed at `moment`."""
    if moment not in MOMENTS:
        raise ValueError(f"no moment {moment!r}")

    class Killed(server):  # type: ignore[valid-type, misc]
        async def launch(self, launch: Any) -> tuple[str, int, Seen]:
            if moment == "before launch":
                now()
            launched: tuple[str, int, Seen] = await super().launch(launch)
            if moment == "after launch":
                now()
            return launched

        async def start(self) -> tuple[str, int]:
            address: tuple[str, int] = await super().start()
            if moment == "before save":
                now()
            return address

        async def stop(self, now: bool = False) -> None:
            if moment == "before stop":
                kill()
            if moment == "after stop":
                run = self.run
                await self.door.ask_backend(self.door.backend.stop, run.run_id, 10)
                kill()
            await super().stop(now)

    return Killed


kill = now
