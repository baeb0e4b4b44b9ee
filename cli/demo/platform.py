"""A platform of its own for the demonstration: `mudeung up` as a subprocess, in a temporary home on a free port."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

from cli.demo.story import Differs
from cli.supervision import leftovers, lock
from cli.supervision.preparation import ACCOUNTS
from cli.supervision.programs import ROOT
from quotas.backends.port import BackendAway
from quotas.home import open_home

READY_SECONDS = 240.0
END_SECONDS = 120.0
CALL_SECONDS = 60.0
POLL_SECONDS = 0.1
TAIL_LINES = 30


class Platform(Protocol):
    """What the round needs of a platform: where it answers, the accounts of its example centre, and its commands."""

    url: str

    @property
    def language(self) -> str:
        """Return the language of what its commands print."""

    def password(self, username: str) -> str:
        """Return the person's password. Raises Differs when there is none."""

    def command(self, *words: str) -> tuple[int, str]:
        """Run `mudeung` as its operator; return the exit code and what it printed."""

    def read(self, *words: str) -> Any:
        """Run `mudeung` with JSON as its output. Raises Differs when it fails."""


class OwnPlatform:
    """`mudeung up` with a home that nobody else has: a temporary one, unless `home` is given."""

    def __init__(self, backend: str, language: str, home: Path | None = None) -> None:
        self.backend = backend
        self.language = language
        self.home = (home or Path(tempfile.mkdtemp(prefix="mudeung-demo-"))).resolve()
        self.output = self.home / "up.out"
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """The platform runs and answers at `url`. Raises Differs when it does not come up."""
        process = self.launch()
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise Differs("a platform that comes up", f"exit {process.returncode}: {self.printed()}")
            standing = lock.standing(self.home)
            if standing is not None and standing.ready:
                self.url = standing.url
                return
            time.sleep(POLL_SECONDS)
        raise Differs(f"a platform within {READY_SECONDS:.0f} s", self.printed())

    def launch(self) -> subprocess.Popen[bytes]:
        """Return the process of `mudeung up`, which has just begun."""
        words = ["up", "--home", str(self.home), "--backend", self.backend, "--port", "0", "--lang", self.language]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli", *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=ROOT,
                start_new_session=True,
            )
        return self.process

    def password(self, username: str) -> str:
        """Return the person's password, as the first start wrote it down."""
        return password_of(username, (self.home / ACCOUNTS).read_text(encoding="utf-8"))

    def command(self, *words: str) -> tuple[int, str]:
        """Run `mudeung` on this home; return its exit code and what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "cli", *words, "--home", str(self.home), "--lang", self.language],
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            env=self._environment(),
            cwd=ROOT,
            check=False,
        )
        return done.returncode, (done.stdout + done.stderr).rstrip()

    def read(self, *words: str) -> Any:
        """Run `mudeung` with JSON as its output. Raises Differs when it fails."""
        code, output = self.command(*words, "-o", "json")
        if code != 0:
            raise Differs(f"mudeung {' '.join(words)} to succeed", f"exit {code}: {output}")
        return json.loads(output)

    def stop(self) -> int:
        """End it as Ctrl-C would; return its exit code, negative when it had to be killed."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(CALL_SECONDS)
            return -signal.SIGKILL

    def left(self) -> list[str]:
        """Return what of the platform still runs, in words: its own processes, servers and batch runs."""
        programs = [f"process {each.pid} {each.name()}" for each in leftovers.living(self.home)]
        runs = open_home(self.home, backend=self.backend).backend().list_runs()
        return programs + [f"run {seen.run_id}" for seen in runs if seen.running]

    def remove(self, *, keep: bool) -> None:
        """Nothing of it runs, and its home is gone unless it is to be kept."""
        self.stop()
        leftovers.end(self.home)
        home = open_home(self.home, backend=self.backend)
        with contextlib.suppress(BackendAway):  # an engine that is away started nothing
            backend = home.backend()
            for seen in backend.list_runs():
                backend.stop(seen.run_id, 0)
                backend.remove(seen.run_id)
            if self.backend == "docker" and not keep:
                from quotas import network  # noqa: PLC0415 - the Docker client loads slowly

                network.remove(home)
        if not keep:
            shutil.rmtree(self.home, ignore_errors=True)

    def printed(self) -> str:
        return _tail(self.output)

    def logs(self) -> str:
        """Return the end of each log."""
        logs = [self.output, *sorted((self.home / "log").glob("*.log"))]
        return "\n".join(f"--- {path.name}\n{_tail(path)}" for path in logs if path.exists() and path.stat().st_size)

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MUDEUNG_")}
        return {**kept, "PYTHONUNBUFFERED": "1"}


def password_of(username: str, accounts: str) -> str:
    """Return the person's password from the text of a file of accounts. Raises Differs when there is none."""
    for line in accounts.splitlines():
        name, password, *_ = line.split()
        if name == username:
            return password
    raise Differs(f"an account of {username}", "none")


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])
