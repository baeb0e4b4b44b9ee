"""A scheduler that is killed at one moment of its work: ``python -m tests.batch.dying HOME MOMENT``.

Its backend is the real one; only the moment of the kill is chosen, by the call that the scheduler makes just then.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from batch.scheduler import Scheduler
from quotas.backends.local import LocalBackend
from quotas.domain.launch import Launch, Seen
from quotas.home import open_home

MOMENTS = ("claimed", "reserved", "launched", "running", "ended", "settled", "finished")


class Dying(LocalBackend):
    """The local backend, whose caller dies at `moment`."""

    def __init__(self, state_folder: Path, moment: str) -> None:
        super().__init__(state_folder)
        self.moment = moment
        self.launched = False

    def inspect(self, run_id: str) -> Seen | None:
        self._die_at("claimed")
        seen = super().inspect(run_id)
        if self.launched and seen is not None:
            self._die_at("running" if seen.running else "ended")
        return seen

    def launch(self, launch: Launch) -> Seen:
        self._die_at("reserved")
        seen = super().launch(launch)
        self._die_at("launched")
        self.launched = True
        return seen

    def log(self, run_id: str, limit_bytes: int) -> str:
        self._die_at("settled")
        return super().log(run_id, limit_bytes)

    def remove(self, run_id: str) -> None:
        self._die_at("finished")
        super().remove(run_id)

    def _die_at(self, moment: str) -> None:
        if moment == self.moment:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    home = open_home(Path(sys.argv[1]))
    Scheduler(home, home.database(), Dying(home.runs, sys.argv[2])).run_once()
