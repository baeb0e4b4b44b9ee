"""Processes of a home's platform that outlived its head: found by their environment, and ended."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import psutil

from cli.supervision.child import MARK
from quotas.home import VARIABLE

TERM_SECONDS = 10.0
KILL_SECONDS = 5.0


def living(home: Path) -> list[psutil.Process]:
    """Return the processes of this home's platform, without this one; servers and batch runs are not among them."""
    found = []
    for pid in psutil.pids():
        # Another user's process, or one that ends just now, is none of ours.
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            variables = process.environ()
            mine = MARK in variables and variables.get(VARIABLE) == str(home)
            if mine and pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end(home: Path, term_seconds: float = TERM_SECONDS) -> int:
    """Nothing of the platform of this home runs; return how many processes had to be told to end."""
    found = living(home)
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(found, timeout=term_seconds)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=KILL_SECONDS)
    return len(found)
