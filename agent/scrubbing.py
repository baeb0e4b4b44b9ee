"""Devices are scrubbed as the platform asks, one after the other, beside everything else."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from agent.scrub import NO_LIBRARY_STATUS
from quotas.domain.node_reports import Cleaned, DeviceKind, FoundDevice

LIMIT_SECONDS = 120
SAID_BYTES = 4096
NO_WAY = "no way to scrub this device is known; release it by hand or use quarantine"
PACKAGE_FOLDER = Path(__file__).resolve().parent.parent

log = logging.getLogger("agent.scrubbing")


class Scrubber:
    """Scrubs what it is asked to, and hands each result to `done`.

    `find` and `users` say what a device is and which processes are on it; `command` is the operator's own.
    """

    def __init__(
        self,
        find: Callable[[str], FoundDevice | None],
        users: Callable[[str], list[int]],
        command: str,
        done: Callable[[Cleaned], None],
    ) -> None:
        self._find, self._users, self._command, self._done = find, users, shlex.split(command), done
        self._asked: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None

    def ask(self, uuids: tuple[str, ...]) -> None:
        """Each is scrubbed, once: one whose result has not been reported yet is not scrubbed again."""
        with self._lock:
            for uuid in uuids:
                if uuid not in self._busy:
                    self._busy.add(uuid)
                    self._asked.put(uuid)

    def reported(self, uuids: list[str]) -> None:
        """The platform has these results: when it asks again, it means it."""
        with self._lock:
            self._busy.difference_update(uuids)

    def run(self, stop: threading.Event) -> None:
        """What is asked for is scrubbed until `stop` is set."""
        while not stop.is_set():
            try:
                uuid = self._asked.get(timeout=0.5)
            except queue.Empty:
                continue
            problem = self.scrub(uuid)
            if stop.is_set():
                return  # cut off by the end of the agent: the platform asks again
            if problem:
                log.error("device %s was not scrubbed: %s", uuid, problem)
            self._done(Cleaned(uuid, round(time.time(), 3), problem))

    def end(self) -> None:
        """What scrubs now is ended."""
        child = self._child
        if child is not None:
            _kill(child)

    def scrub(self, uuid: str) -> str:
        """Scrub the device now; return the problem, or an empty string."""
        device = self._find(uuid)
        if device is None:
            return "the device is not on this machine"
        try:
            users = self._users(uuid)
        except OSError as error:
            return f"whether it is in use cannot be said: {error}"
        if users:
            return f"a process is on it: {', '.join(map(str, users[:5]))}"
        if device.kind is not DeviceKind.NPU:
            status, problem = self._through_cuda(uuid)
            if status != NO_LIBRARY_STATUS:
                return problem
        return self._by_command(device) if self._command else NO_WAY

    def _through_cuda(self, uuid: str) -> tuple[int, str]:
        paths = [str(PACKAGE_FOLDER), os.environ.get("PYTHONPATH", "")]
        own = {"CUDA_VISIBLE_DEVICES": uuid, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        status, said = self._run([sys.executable, "-m", "agent.scrub", uuid], own)
        try:
            result = json.loads(said.strip().splitlines()[-1])
            problem, overwritten = str(result.get("problem", "")), result.get("overwritten_bytes")
        except (ValueError, IndexError, AttributeError):
            problem, overwritten = said.strip()[-200:], None
        if status == 0 and isinstance(overwritten, int):
            log.info("device %s: %d bytes were overwritten", uuid, overwritten)
            return 0, ""
        return status, problem or f"scrubbing ended with status {status}"

    def _by_command(self, device: FoundDevice) -> str:
        own = {
            "MUDEUNG_DEVICE_UUID": device.uuid,
            "MUDEUNG_DEVICE_KIND": device.kind.value,
            "MUDEUNG_DEVICE_PATHS": os.pathsep.join(device.paths),
        }
        status, said = self._run(self._command, own)
        return "" if status == 0 else f"the scrub command ended with status {status}: {said.strip()[-200:]}"

    def _run(self, command: list[str], own: dict[str, str]) -> tuple[int, str]:
        """Return the program's status and the end of what it said; it is killed when it takes too long."""
        hidden = {"MUDEUNG_AGENT_TOKEN"}
        surroundings = {name: value for name, value in os.environ.items() if name not in hidden}
        try:
            child = subprocess.Popen(
                command,
                env={**surroundings, **own},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            return 1, str(error)
        self._child = child
        try:
            said, _ = child.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            _kill(child)
            return 1, f"it took longer than {LIMIT_SECONDS} s and was ended"
        finally:
            self._child = None
        return child.returncode, said[-SAID_BYTES:]


def _kill(child: subprocess.Popen[str]) -> None:
    """It and what it started have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(5)
