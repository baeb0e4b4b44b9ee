"""The cluster's API server, stopped for a while: its process goes on where it was, and nothing was said to anyone.

How it is stopped and let go on is said by ``MUDEUNG_KUBERNETES_STOP`` and ``MUDEUNG_KUBERNETES_START``, two commands of
a shell. Without them a process of this machine is, where it serves the address that ``KUBECONFIG`` has.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.helm.conftest import Tools
from tests.kubernetes.cluster import server

PROGRAM = "kube-apiserver"
WATCHDOG_SECONDS = 240
"""After so long it goes on, whatever became of the tests."""


@dataclass(frozen=True)
class Means:
    """Two commands of a shell."""

    stop: str
    start: str


def means() -> Means | str:
    """Return how the API server is stopped, or why it is not."""
    given = os.environ.get("MUDEUNG_KUBERNETES_STOP"), os.environ.get("MUDEUNG_KUBERNETES_START")
    if given[0] and given[1]:
        return Means(given[0], given[1])
    host, port = server()
    if not _is_own(host):
        return f"the API server at {host} is not of this machine, and MUDEUNG_KUBERNETES_STOP is not set"
    found = [pid for pid in _processes() if _serves(pid, port)]
    if len(found) != 1:
        return f"{len(found)} processes {PROGRAM} of this machine serve port {port}"
    return Means(f"kill -STOP {found[0]}", f"kill -CONT {found[0]}")


@contextlib.contextmanager
def stopped(how: Means, tools: Tools) -> Iterator[None]:
    """The API server says nothing as long as the block lasts, and answers after it."""
    watchdog = subprocess.Popen(["sh", "-c", f"sleep {WATCHDOG_SECONDS}; {how.start}"], start_new_session=True)
    try:
        subprocess.run(["sh", "-c", how.stop], check=True, timeout=30)
        assert not _answers(tools)
        yield
    finally:
        subprocess.run(["sh", "-c", how.start], check=True, timeout=30)
        os.killpg(watchdog.pid, 9)
        watchdog.wait(10)
    for _ in range(30):
        if _answers(tools):
            return
        time.sleep(1)
    raise AssertionError("the API server does not come back")


def _answers(tools: Tools) -> bool:
    return tools.run("kubectl", "get", "--raw", "/readyz", "--request-timeout=4s").returncode == 0


def _is_own(host: str) -> bool:
    try:
        address = socket.gethostbyname(host)
        with socket.socket() as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _processes() -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if (folder / "comm").read_text().strip() == PROGRAM:
                yield int(folder.name)


def _serves(pid: int, port: int) -> bool:
    """Return whether the process was told to listen on the port, and may be signalled."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    told = [*words, *(part for word in words for part in word.split("="))]
    ports = [told[at + 1] for at, word in enumerate(told[:-1]) if word == "--secure-port"] or ["6443"]
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False
    return str(port) in ports
