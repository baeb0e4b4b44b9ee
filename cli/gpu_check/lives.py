"""When each run's process or container began and ended, as the system itself has it, seen from outside the platform."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from cli.demo.platform import OwnPlatform
from cli.demo.story import Differs
from quotas.backends.port import BackendAway
from quotas.domain.launch import RUN_VARIABLE
from quotas.home import open_home

POLL_SECONDS = 0.2
MOST_POLLS = 500_000
END_SECONDS = 30.0


@dataclass(frozen=True)
class Life:
    """From when to when a run lived, seconds UTC; `ended_at` is None while it does."""

    began_at: float
    ended_at: float | None = None

    @property
    def seconds(self) -> float:
        return 0.0 if self.ended_at is None else self.ended_at - self.began_at


@dataclass
class Lives:
    """Looks at the machine's processes, or asks the Docker engine, in a thread of its own until it is ended."""

    platform: OwnPlatform
    found: dict[str, Life] = field(default_factory=dict)
    _processes: dict[int, tuple[str, psutil.Process]] = field(default_factory=dict, repr=False)
    _seen: set[tuple[int, float]] = field(default_factory=set, repr=False)
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)
    _thread: threading.Thread | None = field(default=None, repr=False)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="lives", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(END_SECONDS)
            self._thread = None

    def of(self, run: str) -> Life:
        """Return the life of a run that has ended. Raises Differs where it was not seen."""
        life = self.found.get(run)
        if life is None or life.ended_at is None:
            raise Differs(f"the whole life of run {run}", life)
        return life

    def _run(self) -> None:
        look = self._ask_engine if self.platform.backend == "docker" else self._look
        for _ in range(MOST_POLLS):
            look()
            if self._ended.wait(POLL_SECONDS):
                return

    def _look(self) -> None:
        """A run's first process is its keeper, which lives as long as the run."""
        for pid, (run, process) in list(self._processes.items()):
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                self.found[run] = replace(self.found[run], ended_at=time.time())
                del self._processes[pid]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                self._meet(process)

    def _meet(self, process: psutil.Process) -> None:
        key = process.pid, process.create_time()
        if key in self._seen:
            return
        variables = process.environ()
        self._seen.add(key)
        run = variables.get(RUN_VARIABLE)
        if run is None or run in self.found:
            return
        self.found[run] = Life(_began(process.pid))
        self._processes[process.pid] = run, process

    def _ask_engine(self) -> None:
        with contextlib.suppress(BackendAway):
            seen = {each.run_id: each for each in open_home(self.platform.home, backend="docker").backend().list_runs()}
            for run, each in seen.items():
                if each.started_at is not None:
                    self.found[run] = Life(each.started_at, each.finished_at)
            for run, life in self.found.items():
                if run not in seen and life.ended_at is None:
                    self.found[run] = replace(life, ended_at=time.time())


def _began(pid: int) -> float:
    """Return when the process began, to a hundredth of a second: `psutil` knows it by the second of the boot only."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    ticks = int(after_name[19])  # field 22, counted from the second one after the name
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age
