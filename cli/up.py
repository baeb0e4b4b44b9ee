"""`mudeung up`: all of the platform in the foreground, from its first check to the end of its last process."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import httpx
import typer

from cli.session import FAILED, Session, command
from cli.supervision import leftovers, lock, preparation, runs
from cli.supervision.lock import Lock, Standing
from cli.supervision.programs import Program, programs
from cli.supervision.supervisor import State, Supervisor, SupervisorGone
from quotas.backends.port import BackendAway
from quotas.home import Home, open_home
from quotas.store.database import Database, DatabaseAway

NEEDED = ("hub", "proxy")
"""Without these there is no platform; the others may come up later."""
READY_SECONDS = 120.0
FAILING_SECONDS = 10.0
"""How long they may end and be started again before that counts as a start that failed."""
PORTAL_SECONDS = 30.0
PROGRESS_SECONDS = 5.0
POLL_SECONDS = 0.25
WATCH_SECONDS = 2.0
RETRY_SECONDS = 60.0
"""After so long a program that was given up is tried again."""
LAUNCHES, LAUNCH_SECONDS = 3, 600.0
"""How often supervisord may end in so long a time before all is ended."""
CALL_SECONDS = 5.0
SUPERVISOR_SECONDS = 30.0
AGAIN_SECONDS = 0.5
"""One Ctrl-C can arrive twice, from the terminal and from a program around this one; sooner is no second one."""
TAIL_LINES = 15


class Backend(StrEnum):
    """Where servers and batch runs are started."""

    LOCAL = "local"
    DOCKER = "docker"


def register(app: typer.Typer) -> None:
    command(app, "up", example="mudeung up --port 8000")(up)


def up(
    session: Session,
    backend: Annotated[
        Backend | None, typer.Option(help="Where servers run.", show_default="as in the settings: local")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="0 takes a free one.", min=0, max=65535, show_default="as in the settings: 8000")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="as in the settings: 127.0.0.1")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the address in a browser.")] = False,
) -> None:
    """Run all of the platform in the foreground; Ctrl-C ends all of it, a second one ends it faster."""
    overrides: dict[str, object] = {"backend": backend and backend.value, "port": port, "host": host}
    home = open_home(session.path, **overrides)
    logging.basicConfig(filename=home.log / "up.log", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with lock.alone(home.path) as held, _stopping() as stop:
        if home.settings.port == 0:
            overrides["port"] = preparation.free_port(home.settings.host)
            home = open_home(session.path, **overrides)
        platform = Platform(session, home, overrides, stop, held)
        platform.prepare()
        if open_page:
            platform.when_ready = lambda: webbrowser.open(platform.url)
        if not platform.run():
            raise typer.Exit(FAILED)


@dataclass
class Stop:
    """What Ctrl-C, SIGTERM and a closed terminal ask for; the second time, without giving anything time to end."""

    requested: threading.Event = field(default_factory=threading.Event)
    hastened: threading.Event = field(default_factory=threading.Event)
    asked_at: float = 0.0

    def ask(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.requested.is_set():
            self.asked_at = now
            self.requested.set()
        elif now - self.asked_at > AGAIN_SECONDS:
            self.hastened.set()


@contextmanager
def _stopping() -> Iterator[Stop]:
    stop = Stop()
    before = {each: signal.signal(each, stop.ask) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            # Once it was asked to end, this process has nothing left to do that another Ctrl-C should cut off.
            signal.signal(number, signal.SIG_IGN if stop.requested.is_set() else handler)


class Platform:
    """One platform, from `prepare` over `run` to its end."""

    def __init__(self, session: Session, home: Home, overrides: dict[str, object], stop: Stop, held: Lock) -> None:
        self.session = session
        self.home = home
        self.overrides = overrides
        self.stop = stop
        self.lock = held
        self.supervisor = Supervisor(home)
        self.standing = Standing(os.getpid(), session.now, home.settings.backend)
        self.when_ready: Callable[[], object] = lambda: None
        self.database: Database
        self.programs: tuple[Program, ...] = ()
        self._states: dict[str, State] = {}
        self._given_up: dict[str, float] = {}
        self._launches: list[float] = []

    @property
    def url(self) -> str:
        """The address to open; one that stands for every address of the machine is reached on loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.home.settings.host, self.home.settings.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.home.settings.port}"

    def say(self, english: str, korean: str) -> None:
        """Print it where there is still someone to read it: a closed terminal must not keep the end from coming."""
        try:
            self.session.say(english, korean)
        except (OSError, ValueError):
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - as long as this process lasts

    def prepare(self) -> None:
        """Everything is in place to start. Raises Problem, SettingsError, DatabaseAway or BackendAway."""
        self.lock.write(self.standing)
        left = leftovers.end(self.home.path)
        if left:
            self.say(f"Ended {left} processes of an earlier start.", f"이전 실행의 프로세스 {left}개를 종료했습니다.")
        settings = self.home.settings
        preparation.check_port(settings.host, settings.port)
        preparation.check_engine(self.home)
        self.programs = programs(self.home)
        self.database = preparation.ledger(self.home, self.session)
        self._end_runs_of_another_backend()
        preparation.check_images(self.home, self.database, self.session.now)

    def _end_runs_of_another_backend(self) -> None:
        """What an `up` with another backend left when it was killed has ended; this one could not see it."""
        kept = self.home.hub / "backend"
        before = kept.read_text().strip() if kept.exists() else self.home.settings.backend
        if before != self.home.settings.backend:
            earlier = open_home(self.home.path, **(self.overrides | {"backend": before}))
            self._stop_runs(earlier)
        kept.write_text(self.home.settings.backend)

    def run(self) -> bool:
        """Start, watch until it is asked to stop, and end everything; return whether it came up and all of it ended."""
        came_up = False
        if self.stop.requested.is_set():
            return True
        try:
            self.supervisor.launch(self.programs, self.overrides)
            self.standing = replace(self.standing, url=self.url, socket=self.supervisor.socket)
            self.lock.write(self.standing)
            came_up = self._wait_until_ready()
            if came_up and not self.stop.requested.is_set():
                self._greet()
                self._watch()
        except SupervisorGone as gone:
            came_up = False
            self.say(f"The watching process ended: {gone}", f"감시 프로세스가 종료되었습니다: {gone}")
        finally:
            ended = self._end()
        return came_up and ended

    def _wait_until_ready(self) -> bool:
        """Return whether the hub answers through the proxy, or it was asked to stop meanwhile."""
        began = told = time.monotonic()
        while not self.stop.requested.wait(POLL_SECONDS):
            if self._answers("/hub/health"):
                return self._wait_for_portal()
            waited = time.monotonic() - began
            states = self.supervisor.states()
            failed = [name for name in NEEDED if states[name].failing and waited > FAILING_SECONDS]
            if failed or waited > READY_SECONDS:
                for name in failed or NEEDED:
                    self._show_log(name)
                return False
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                self.say(f"  starting … {waited:.0f} s", f"  시작하는 중 … {waited:.0f}초")
        return True

    def _wait_for_portal(self) -> bool:
        """The portal answers too, or is left to come up later: servers do without it."""
        deadline = time.monotonic() + PORTAL_SECONDS
        while not self._answers("/services/portal/health") and time.monotonic() < deadline:
            if self.stop.requested.wait(2 * POLL_SECONDS):
                break
        return True

    def _answers(self, path: str) -> bool:
        try:
            return httpx.get(self.url + path, timeout=CALL_SECONDS, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _greet(self) -> None:
        self.standing = replace(self.standing, ready=True)
        self.lock.write(self.standing)
        accounts = self.home.path / preparation.ACCOUNTS
        self.say(f"\nThe platform runs: {self.url}", f"\n플랫폼 실행 중: {self.url}")
        if self.home.settings.evaluation and accounts.exists():
            self.say(f"Log in with an account of {accounts}.", f"로그인: {accounts}의 계정.")
        self.say("Ctrl-C ends all of it.", "종료: Ctrl-C.")
        self.when_ready()

    def _watch(self) -> None:
        """Tell of what ended and was started again, until it is asked to stop. Raises SupervisorGone."""
        self._states = self.supervisor.states()
        while not self.stop.requested.wait(WATCH_SECONDS):
            if not self.supervisor.lives():
                self._launch_again()
                continue
            try:
                states = self.supervisor.states()
            except SupervisorGone:
                continue  # busy; if it has ended the next look says so
            for name, state in states.items():
                self._notice(self._states.get(name, state), state)
            self._states = states

    def _launch_again(self) -> None:
        """supervisord runs again, with all programs; servers went on. Raises SupervisorGone when it ends too often."""
        now = time.monotonic()
        self._launches = [at for at in self._launches if now - at < LAUNCH_SECONDS] + [now]
        if len(self._launches) > LAUNCHES:
            raise SupervisorGone(f"{len(self._launches)} times in {LAUNCH_SECONDS / 60:.0f} min")
        self.say("The watching process ended; all are started again.", "감시 프로세스 종료. 모두 다시 시작합니다.")
        leftovers.end(self.home.path)
        self.supervisor.launch(self.programs, self.overrides)
        self._states = self.supervisor.states()

    def _notice(self, before: State, state: State) -> None:
        name, log = state.name, self.home.log / f"{state.name}.log"
        if state.given_up:
            if name not in self._given_up:
                self.say(f"{name} does not start; see {log}", f"{name} 시작 실패. {log} 참조")
            since = self._given_up.setdefault(name, time.monotonic())
            if time.monotonic() - since >= RETRY_SECONDS:
                self._given_up[name] = time.monotonic()
                self.supervisor.start(name)
        elif state.alive and before.pid != state.pid and state.started_at >= before.started_at:
            self._given_up.pop(name, None)
            self.say(f"{name} ended and was started again; see {log}", f"{name} 종료 후 다시 시작됨. {log} 참조")

    def _show_log(self, name: str) -> None:
        path = self.home.log / f"{name}.log"
        self.say(f"{name} did not start. End of {path}:", f"{name} 시작 실패. {path}의 끝:")
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        self.say("\n".join(lines[-TAIL_LINES:]), "\n".join(lines[-TAIL_LINES:]))

    def _end(self) -> bool:
        """Nothing of the platform runs: first the doors, then the runs, each charged, then the proxy."""
        self.say("\nStopping …", "\n중지하는 중 …")
        try:
            doors = [each for each in self.programs if each.name != "proxy"][::-1]
            self._stop_programs(doors, max((each.stop_seconds for each in doors), default=0))
            ended = self._stop_runs(self.home)
            # It would wait for open connections, at whose other side nobody is left.
            self._stop_programs([each for each in self.programs if each.name == "proxy"], 0)
        finally:
            self.supervisor.terminate(CALL_SECONDS if self.stop.hastened.is_set() else SUPERVISOR_SECONDS)
            leftovers.end(self.home.path)
            self.database.close()
        if ended:
            self.say("Everything has ended.", "모두 종료되었습니다.")
        return ended

    def _stop_programs(self, stopping: list[Program], seconds: float) -> None:
        """The programs have ended; they are killed when they take longer, or when there is no time."""
        names = [each.name for each in stopping]
        deadline = time.monotonic() + seconds
        last = deadline + 2 * CALL_SECONDS
        try:
            self.supervisor.tell_to_stop(*names)
            while time.monotonic() < last and any(self.supervisor.states()[name].alive for name in names):
                if self.stop.hastened.is_set() or time.monotonic() > deadline:
                    self.supervisor.kill(*names)
                time.sleep(POLL_SECONDS / 2)
        except (SupervisorGone, KeyError):
            return  # its programs end with it

    def _stop_runs(self, home: Home) -> bool:
        """No server and no batch run is left running; return whether all of them could be stopped and charged."""
        try:
            servers, batch = runs.open_runs(self.database)
            if servers or batch:
                what = f"{_count(servers, 'server')}, {_count(batch, 'batch run')}"
                self.say(f"  stopping {what}", f"  서버 {servers}개, 배치 실행 {batch}개 중지")
            stopped = runs.stop_all(home, self.database, self.stop.hastened, self._tell_progress)
        except (DatabaseAway, BackendAway) as away:
            self.say(f"Runs were left as they are: {away}", f"실행을 중지하지 못했습니다: {away}")
            return False
        if stopped.left:
            ids = ", ".join(stopped.left)
            self.say(f"Left for the next start: {ids}", f"다음 시작에서 정리할 실행: {ids}")
        return not stopped.left

    def _tell_progress(self, done: int, total: int) -> None:
        self.say(f"  {done} of {total} stopped and charged", f"  {total}개 중 {done}개 중지 및 정산")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
