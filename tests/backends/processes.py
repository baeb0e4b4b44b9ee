"""What the tests of both backends wait for, and the processes that they look at without the backend."""

from __future__ import annotations

import contextlib
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import psutil

from quotas.domain.launch import RUN_VARIABLE


def python(source: str) -> tuple[str, ...]:
    return (sys.executable, "-c", textwrap.dedent(source))


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Return the first true value of the condition; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not come to be in time")


def of_run(run_id: str) -> list[psutil.Process]:
    """All living processes with the run's variable, found without the backend."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.environ().get(RUN_VARIABLE) == run_id and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found
