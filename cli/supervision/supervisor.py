"""supervisord over the platform's programs: its configuration, and what is asked of it over its socket.

It starts again what ends, with a pause that grows and a limit, and keeps the logs, a few files of each.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.supervision import child, programs
from cli.supervision.child import MARK
from cli.supervision.programs import Program
from quotas.home import Home

CALL_SECONDS = 10.0
UP_SECONDS = 20.0
LONGEST_SOCKET_PATH = 100
RETRIES = 8
"""How often a program that ends within `SETTLED_SECONDS` is started again, after 1, 2, … seconds, before it is given
up until `Supervisor.start` is called."""
SETTLED_SECONDS = 10
LOG_BYTES = "10MB"
LOG_FILES = 3
CONFIGURATION = "supervisord.conf"
FAULTS = (OSError, http.client.HTTPException, xmlrpc.client.Error)
"""What a call can fail with while supervisord starts or ends."""


class SupervisorGone(Exception):  # noqa: N818 - it says where supervisord is
    """supervisord does not answer."""


@dataclass(frozen=True)
class State:
    """A program as supervisord sees it: `state` is one of its own words, as RUNNING, STARTING, BACKOFF, FATAL."""

    name: str
    state: str
    pid: int
    started_at: int
    description: str

    @property
    def given_up(self) -> bool:
        return self.state == "FATAL"

    @property
    def failing(self) -> bool:
        return self.state in {"BACKOFF", "FATAL"}

    @property
    def alive(self) -> bool:
        return self.state in {"STARTING", "RUNNING", "STOPPING"}


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CALL_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CALL_SECONDS)
        try:
            self.sock.connect(self.path)
        except OSError:
            self.close()
            raise


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _Connection(self.path)
        self._connection = host, connection  # which `close` closes
        return connection


class Supervisor:
    """supervisord of one home; `launch` starts it in a session of its own, so that Ctrl-C reaches us alone."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None
        self.socket = str(home.hub / "supervisor.sock")
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def launch(self, listed: tuple[Program, ...], overrides: Mapping[str, object]) -> None:
        """supervisord runs and answers, and starts the programs. Raises SupervisorGone when it does not."""
        if len(self.socket) > LONGEST_SOCKET_PATH:
            # $TMPDIR may be as long as the home.
            near = "/tmp" if len(tempfile.gettempdir()) > LONGEST_SOCKET_PATH // 2 else None  # noqa: S108
            self._folder = tempfile.TemporaryDirectory(prefix="mudeung-", dir=near)
            self.socket = str(Path(self._folder.name, "supervisor.sock"))
        configuration = self.home.hub / CONFIGURATION
        configuration.write_text(configure(listed, self.socket))
        own = Program("supervisor", (sys.executable, "-m", "supervisor.supervisord", "-n", "-c", CONFIGURATION))
        programs.write(self.home.hub / child.FILE_NAME, (*listed, own))
        with (self.home.log / "supervisord.out").open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.supervision.child", own.name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=programs.environment(self.home, overrides) | {MARK: own.name},
                cwd=self.home.hub,
                start_new_session=True,
            )
        deadline = time.monotonic() + UP_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SupervisorGone(f"see {self.home.log / 'supervisord.out'}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Return whether supervisord takes calls."""
        try:
            return str(self._call("getState")["statename"]) == "RUNNING"
        except FAULTS:
            return False

    def lives(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def states(self) -> dict[str, State]:
        """Return every program's state by name. Raises SupervisorGone."""
        try:
            found = self._call("getAllProcessInfo")
        except FAULTS as error:
            raise SupervisorGone(str(error)) from error
        return {
            each["name"]: State(each["name"], each["statename"], each["pid"], each["start"], each["description"])
            for each in found
        }

    def start(self, name: str) -> None:
        """The program that was given up is tried again; what cannot be started now stays as it is."""
        try:
            self._call("startProcess", name, False)
        except xmlrpc.client.Fault:
            return
        except FAULTS as error:
            raise SupervisorGone(str(error)) from error

    def tell_to_stop(self, *names: str) -> None:
        """The programs were told to end, all at once; what has ended already stays so."""
        for name in names:
            try:
                self._call("stopProcess", name, False)
            except xmlrpc.client.Fault:
                continue
            except FAULTS as error:
                raise SupervisorGone(str(error)) from error

    def kill(self, *names: str) -> None:
        """The programs were sent SIGKILL."""
        for name in names:
            try:
                self._call("signalProcess", name, "KILL")
            except FAULTS:
                continue

    def terminate(self, seconds: float) -> None:
        """supervisord has ended, and with it everything that it watched."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(CALL_SECONDS)
        if self._folder is not None:
            self._folder.cleanup()

    def _call(self, method: str, *arguments: object) -> Any:
        with xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(self.socket)) as server:
            return getattr(server.supervisor, method)(*arguments)


def configure(listed: tuple[Program, ...], socket_path: str) -> str:
    """Return the text of supervisord.conf in the home's `hub` folder.

    Its paths are relative to that folder, in which supervisord runs: a blank, a percent sign or a semicolon in the
    home's name would change their meaning.
    """
    short = "supervisor.sock" if Path(socket_path).parent.name == "hub" else socket_path
    head = [
        "[supervisord]",
        "nodaemon = true",
        "silent = true",
        "strip_ansi = true",
        "logfile = ../log/supervisord.log",
        f"logfile_maxbytes = {LOG_BYTES}",
        f"logfile_backups = {LOG_FILES}",
        "pidfile = supervisord.pid",
        "childlogdir = ../log",
        *(["user = root"] if os.getuid() == 0 else []),
        "",
        "[unix_http_server]",
        f"file = {short}",
        "chmod = 0600",
        "",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
    ]
    return "\n".join([*head, *(line for place, each in enumerate(listed) for line in _section(place, each)), ""])


def _section(place: int, program: Program) -> list[str]:
    return [
        "",
        f"[program:{program.name}]",
        f'command = "%(ENV_MUDEUNG_PYTHON)s" -m cli.supervision.child {program.name}',
        f'environment = {MARK}="{program.name}"',
        f"priority = {place + 1}",
        "autostart = true",
        "autorestart = true",
        f"startsecs = {SETTLED_SECONDS}",
        f"startretries = {RETRIES}",
        f"stopwaitsecs = {program.stop_seconds}",
        "stopsignal = TERM",
        "stopasgroup = false",
        "killasgroup = false",
        "redirect_stderr = true",
        f"stdout_logfile = ../log/{program.name}.log",
        f"stdout_logfile_maxbytes = {LOG_BYTES}",
        f"stdout_logfile_backups = {LOG_FILES}",
    ]
