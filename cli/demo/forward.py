"""A port of this machine that leads to a service of the cluster, opened again whenever it breaks."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence

import httpx

from cli.demo.story import Differs
from quotas.ports import free_ports

HOST = "127.0.0.1"
LOOK_SECONDS = 0.5
ASK_SECONDS, ASK_LIMIT_SECONDS = 5.0, 10.0
SILENT = 3
"""After so many questions without an answer it counts as broken, though its process lives."""
MOST_STARTS = 200
END_SECONDS = 10.0
TAIL_BYTES = 2_000


class Forward:
    """`kubectl port-forward` with these words before the ports; `path` answers while all is well."""

    def __init__(self, words: Sequence[str], port: int, path: str) -> None:
        self.words = tuple(words)
        self.port = port
        self.path = path
        self.own_port = free_ports(1, HOST)[0]
        self.url = f"http://{HOST}:{self.own_port}"
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - as long as this object lasts
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self, seconds: float, broken: Callable[[], None]) -> None:
        """The address answers. `broken` is called in between, to raise when nothing is to be waited for any more."""
        self._start()
        self._thread = threading.Thread(target=self._watch, name="port-forward", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + seconds
        while not self._answers():
            broken()
            if time.monotonic() > deadline:
                raise Differs(f"{self.url}{self.path} to answer within {seconds:.0f} s", self.printed())
            time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """The port leads nowhere any more."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(END_SECONDS + ASK_LIMIT_SECONDS)
        self._end()
        self._printed.close()

    def printed(self) -> str:
        """Return the end of what its processes printed."""
        if self._printed.closed:
            return ""
        # Read without moving the place at which the processes go on writing.
        descriptor = self._printed.fileno()
        begins = max(os.fstat(descriptor).st_size - TAIL_BYTES, 0)
        return os.pread(descriptor, TAIL_BYTES, begins).decode("utf-8", "replace").strip()

    def _start(self) -> None:
        self._end()
        self.starts += 1
        words = [*self.words, f"--address={HOST}", f"{self.own_port}:{self.port}"]
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._printed,
            start_new_session=True,  # Ctrl-C is this program's to hear, which ends it when it is time
        )

    def _watch(self) -> None:
        silent, asked = 0, time.monotonic()
        while not self._ended.wait(LOOK_SECONDS) and self.starts < MOST_STARTS:
            if self.process is None or self.process.poll() is not None:
                self._start()
                silent = 0
            elif time.monotonic() - asked >= ASK_SECONDS:
                silent = 0 if self._answers() else silent + 1
                asked = time.monotonic()
                if silent >= SILENT:
                    self._start()
                    silent = 0

    def _answers(self) -> bool:
        try:
            answer = httpx.get(self.url + self.path, timeout=ASK_LIMIT_SECONDS, trust_env=False)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    def _end(self) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(END_SECONDS)
