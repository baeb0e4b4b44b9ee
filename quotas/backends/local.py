"""The local backend: a run is a process group of this machine, and a folder of records that outlives the platform.

``state_folder/<run>/`` holds `started`, `exit` and `log`, all written by the run's keeper (`keeper.sh`), so that the
start and end are known whoever was away meanwhile; a run with devices has their UUIDs in `devices` there. What is alive
is asked of the system: a process belongs to a run when its environment says so, or when it descends from one that does.

All runs are of the platform's own user: this backend separates nothing, and is for one's own machine.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from quotas.backends import devices
from quotas.backends.port import BackendAway
from quotas.domain.launch import RUN_VARIABLE, Launch, Seen
from quotas.domain.terms_local import device_files, environment, not_attachable

FOLDER_VARIABLE = "MUDEUNG_RUNS_FOLDER"
"""Names the platform that a process belongs to: several of them may share a machine, and none may touch another's."""
INHERITED = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV"),
    "LD_LIBRARY_PATH",  # by which some machines find the driver's libraries
)
"""What a run gets of the platform's environment. The rest may hold the platform's own secrets."""
KEEPER = Path(__file__).with_name("keeper.sh")
START_SECONDS = 10
KILL_SECONDS = 10
KEEPER_SECONDS = 1.0
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")
_RESET_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)


class LocalBackend:
    """Runs as processes. Any number of these may work on one state folder, in one process or in several."""

    name = "local"
    chooses_devices = False

    def __init__(self, state_folder: Path) -> None:
        self.state_folder = state_folder.resolve()
        self._started_here: set[int] = set()
        self._reaping = threading.Lock()

    def keeper_command(self, run_id: str, command: Sequence[str], folder: str = "") -> list[str]:
        """Return the command that runs `command` under a keeper, for whoever starts the run's process himself.

        A second keeper of the same run ends at once with code 75 and starts nothing, and one whose record was removed
        with 70. `folder`, when given, is where the command runs.
        """
        self._record(run_id).mkdir(parents=True, exist_ok=True)
        marks = [f"{name}={value}" for name, value in self._marks(run_id).items()]
        return ["/usr/bin/env", *marks, *self._keeper(run_id, command, folder)]

    def list_runs(self) -> list[Seen]:
        """Return every run with a record or a living process here."""
        alive = self._processes()
        recorded = {path.name for path in self._records()}
        return [self._seen(run_id, alive.get(run_id, [])) for run_id in sorted(recorded | alive.keys())]

    def inspect(self, run_id: str) -> Seen | None:
        """Return what is known of the run, or None when there is neither a record nor a process of it."""
        record = self._record(run_id)
        if (record / "exit").exists():
            return self._seen(run_id, [])
        processes = self._processes().get(run_id, [])
        return self._seen(run_id, processes) if processes or record.is_dir() else None

    def launch(self, launch: Launch) -> Seen:
        """Start the run's keeper, detached, and return when it has begun; once only, however often it is called.

        Raises InvalidValue for devices that cannot be attached or are in use, BackendAway when the keeper cannot start.
        """
        variables = environment(launch)
        devices.owners(device_files(launch.devices))
        record = self._record(launch.run_id)
        try:
            record.mkdir(parents=True, exist_ok=True)
            if not (record / "started").exists():
                self._claim_devices(launch, record)
                self._wait_for_start(record, self._spawn(launch, variables))
                return self._just_started(launch.run_id)
        except OSError as error:
            raise BackendAway(f"local: cannot start a process: {error}") from error
        seen = self.inspect(launch.run_id)
        if seen is None:
            raise BackendAway(f"local: the record of {launch.run_id} vanished")
        return seen

    def stop(self, run_id: str, grace_seconds: int) -> None:
        """End the run: TERM to its command, after `grace_seconds` KILL to all that is left of it.

        Raises BackendAway when something does not even die of that.
        """
        record = self._record(run_id)
        processes = self._processes().get(run_id, [])
        if not processes:
            return
        if not (record / "exit").exists():
            _signal(_roots(processes), signal.SIGTERM)
            self._wait_for_end(run_id, record, processes, grace_seconds)
        self._kill(run_id)
        self._record_end(record)

    def remove(self, run_id: str) -> None:
        """Forget an ended run: its record is gone, and with it what its command left running in the background."""
        seen = self.inspect(run_id)
        if seen is None:
            return
        if seen.running:
            raise ValueError(f"run {run_id} is running")
        self._kill(run_id)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._record(run_id))

    def log(self, run_id: str, limit_bytes: int) -> str:
        """Return the last `limit_bytes` of what the run printed."""
        try:
            with (self._record(run_id) / "log").open("rb") as file:
                file.seek(max(os.fstat(file.fileno()).st_size - limit_bytes, 0))
                return file.read(limit_bytes).decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def holders(self, uuids: Sequence[str]) -> tuple[str, ...]:
        """Return the runs with one of these devices of which a process lives, or which have not begun yet."""
        wanted = set(uuids)
        named = [path.name for path in self._records() if not wanted.isdisjoint(_devices(path))] if wanted else []
        alive = self._processes() if named else {}
        return tuple(run_id for run_id in named if run_id in alive or not (self._record(run_id) / "started").exists())

    def lacks(self, run_id: str, paths: Sequence[str]) -> tuple[str, ...]:
        """Return those of the device files that cannot be opened here: processes see the machine's own."""
        del run_id
        return devices.unopenable(paths)

    def _claim_devices(self, launch: Launch, record: Path) -> None:
        """The record names the run's devices. Raises InvalidValue, and removes it, where another run has one here.

        Of two that claim a device at once each sees the other's claim, and at most one goes on.
        """
        if not launch.devices:
            return
        uuids = [device.uuid for device in launch.devices]
        (record / "devices").write_text("\n".join(uuids), "ascii")
        others = [run_id for run_id in self.holders(uuids) if run_id != launch.run_id]
        if others:
            shutil.rmtree(record)
            text = ", ".join(others)
            raise not_attachable(f"run {text} still has it", f"실행 {text}이(가) 아직 사용하고 있습니다")

    def _record(self, run_id: str) -> Path:
        if _RUN_ID.fullmatch(run_id) is None:
            raise ValueError(f"{run_id!r:.80} is not a run's id")
        return self.state_folder / run_id

    def _records(self) -> Iterable[Path]:
        try:
            return [path for path in self.state_folder.iterdir() if _RUN_ID.fullmatch(path.name) and path.is_dir()]
        except FileNotFoundError:
            return []

    def _marks(self, run_id: str) -> dict[str, str]:
        """Return the variables by which every process of the run is known."""
        return {RUN_VARIABLE: run_id, FOLDER_VARIABLE: str(self.state_folder)}

    def _keeper(self, run_id: str, command: Sequence[str], folder: str) -> list[str]:
        return ["/bin/sh", str(KEEPER), str(self._record(run_id)), folder, *_reset_interrupts(), *command]

    def _spawn(self, launch: Launch, variables: dict[str, str]) -> int:
        """Return the process id of a keeper in a session of its own.

        It is no `Popen`, whose object would have to live as long as the run.
        """
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        words = self._keeper(launch.run_id, launch.command, launch.project_folder)
        carried = {**inherited, **variables, **self._marks(launch.run_id)}
        pid = os.posix_spawn(words[0], words, carried, setsid=True, setsigmask=(), setsigdef=_RESET_SIGNALS)
        with self._reaping:
            self._started_here.add(pid)
        return pid

    def _reap(self) -> None:
        """Take the exit status of keepers that ended, as otherwise they would stay as zombies of this process."""
        with self._reaping:
            for pid in list(self._started_here):
                try:
                    ended, _ = os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    ended = pid
                if ended:
                    self._started_here.discard(pid)

    def _wait_for_start(self, record: Path, pid: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        pause = 0.001
        while not (record / "started").exists():
            self._reap()
            if pid not in self._started_here and not (record / "started").exists():
                raise BackendAway("local: the keeper ended before it began; is the disk full?")
            if time.monotonic() > deadline:
                raise BackendAway(f"local: the keeper did not begin within {START_SECONDS} s")
            time.sleep(pause)
            pause = min(pause * 2, 0.05)

    def _processes(self) -> dict[str, list[psutil.Process]]:
        """Return the living processes of each run, in one pass over the system's."""
        self._reap()
        owner: dict[int, str] = {}
        children: dict[int, list[psutil.Process]] = defaultdict(list)
        found: dict[str, list[psutil.Process]] = defaultdict(list)
        for pid in psutil.pids():  # not process_iter(): its cache can hold an earlier process of the same id
            # Another user's process, or one that ends just now, is none of ours.
            with contextlib.suppress(psutil.Error, OSError):
                process = psutil.Process(pid)
                children[process.ppid()].append(process)
                variables = process.environ()
                run_id = variables.get(RUN_VARIABLE, "")
                if variables.get(FOLDER_VARIABLE) == str(self.state_folder) and _RUN_ID.fullmatch(run_id):
                    owner[process.pid] = run_id
                    found[run_id].append(process)
        for run_id, processes in found.items():
            for process in processes:  # grows as descendants with a cleaned environment are found
                for child in children.get(process.pid, ()):
                    if child.pid not in owner:
                        owner[child.pid] = run_id
                        processes.append(child)
        return {run_id: living for run_id, all_of in found.items() if (living := list(filter(_lives, all_of)))}

    def _just_started(self, run_id: str) -> Seen:
        """Return the run whose keeper has begun this moment: it lives unless it has written its end already.

        The system's processes are not asked: with many of them that costs more than the start.
        """
        record = self._record(run_id)
        if (record / "exit").exists():
            return self._seen(run_id, [])
        return Seen(run_id, True, str(record), _instant(record / "started"))

    def _seen(self, run_id: str, processes: Sequence[psutil.Process]) -> Seen:
        """Put the record and the living processes together; the record of an end wins over what is left in the back."""
        record = self._record(run_id)
        started_at = _instant(record / "started")
        finished_at = _instant(record / "exit")  # asked after the processes: the keeper writes it before it goes
        if finished_at is not None:
            code = _exit_code(record / "exit")
            return Seen(run_id, False, str(record), started_at, finished_at, code)
        if processes and started_at is None:
            started_at = min(map(_created, processes))
        return Seen(run_id, bool(processes), str(record), started_at)

    def _wait_for_end(self, run_id: str, record: Path, processes: list[psutil.Process], seconds: float) -> None:
        """Return when nothing of the run lives, when its command has ended, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not (record / "exit").exists():
            if not any(map(_lives, processes)):
                processes = self._processes().get(run_id, [])
                if not processes:
                    return
            self._reap()
            time.sleep(min(0.02, max(deadline - time.monotonic(), 0)))

    def _kill(self, run_id: str) -> None:
        """Kill everything of the run but the keeper, which then has its moment to write the record; then it too."""
        began = time.monotonic()
        while processes := self._processes().get(run_id, []):
            waited = time.monotonic() - began
            if waited > KILL_SECONDS:
                raise BackendAway(f"local: process {processes[0].pid} of run {run_id} does not die")
            others = [process for process in processes if not _is_keeper(process)]
            _signal(others if others or waited < KEEPER_SECONDS else processes, signal.SIGKILL)
            time.sleep(0.02)

    def _record_end(self, record: Path) -> None:
        """Write down the end that was just brought about, without an exit code, where no keeper was left to do so."""
        if record.is_dir() and not (record / "exit").exists():
            with contextlib.suppress(OSError):
                (record / "exit.tmp").touch()
                (record / "exit.tmp").replace(record / "exit")


def _lives(process: psutil.Process) -> bool:
    """A zombie has ended already, whenever its parent may take notice."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _created(process: psutil.Process) -> float:
    try:
        return process.create_time()
    except psutil.Error:
        return time.time()


def _roots(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return those whose parent is not of the run: the keeper, which tells the command, or what is left without it."""
    pids = {process.pid for process in processes}
    roots = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.ppid() not in pids:
                roots.append(process)
    return roots


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send the signal; psutil sees to it that a process id used again meanwhile is left alone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _is_keeper(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[1:2] == [str(KEEPER)]
    except psutil.Error:
        return False


def _devices(record: Path) -> list[str]:
    try:
        return (record / "devices").read_text("ascii").split("\n")
    except FileNotFoundError:
        return []


def _instant(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _exit_code(path: Path) -> int | None:
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdigit() else None


@functools.cache
def _reset_interrupts() -> tuple[str, ...]:
    """Return the words before a command that let it be interrupted again, where this machine's `env` can do that."""
    words = ("/usr/bin/env", "--default-signal=INT,QUIT")
    try:
        tried = subprocess.run([*words, "true"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return words if tried.returncode == 0 else ()
