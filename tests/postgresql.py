"""A PostgreSQL server for the tests: the one that `MUDEUNG_TEST_POSTGRESQL` names, or a scratch cluster.

A cluster lives in a folder of its own, is reached through a socket in it only, and ends with the process that started
it, however that ends: its keeper (`python -m tests.postgresql BIN FOLDER SETTING …`) waits for the end of its input.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
from sqlalchemy.engine import make_url

VARIABLE = "MUDEUNG_TEST_POSTGRESQL"
"""The environment variable with the URL of a server whose user may make databases; without it one is started."""
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
"""For tests that no durability concerns: a cluster of theirs is thrown away."""
SETTINGS = ("listen_addresses=", "max_connections=120", "shared_buffers=64MB", "autovacuum=off", "log_timezone=UTC")
START_SECONDS = 60.0
_UNIX_USER = "postgres"
_UNTIL_PARENT_ENDS = ["setpriv", "--pdeathsig", "INT"]


def programs() -> Path | None:
    """Return the folder with the newest server's programs, or None where none is installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    on_path = shutil.which("initdb")
    folders += [Path(on_path).resolve().parent] if on_path else []
    return next((each for each in folders if (each / "initdb").exists() and (each / "postgres").exists()), None)


def missing() -> str | None:
    """Return why no server can be had, or None where one can."""
    if os.environ.get(VARIABLE) or programs() is not None:
        return None
    return f"no PostgreSQL: neither {VARIABLE} nor a server's programs (Debian: apt install postgresql)"


class Server:
    """A server of which the tests may make databases, at `url` (of the database `postgres`)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._names = (f"mudeung_test_{os.getpid()}_{number}" for number in itertools.count(1))

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement outside of a transaction, as the server's own user; return its rows."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=10) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, template: str | None = None) -> str:
        """Return the URL of a new database: empty, or with all that is in the database at the URL `template`."""
        name, source = next(self._names), make_url(template).database if template else "template0"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {source} ENCODING 'UTF8' LOCALE 'C'")
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        """The database at `url` is gone, whoever is connected."""
        self.execute(f"DROP DATABASE IF EXISTS {make_url(url).database} WITH (FORCE)")


class Cluster(Server):
    """A scratch cluster, running from `start()` to `remove()`."""

    def __init__(self, *settings: str) -> None:
        found = programs()
        if found is None:
            raise RuntimeError("no PostgreSQL programs")
        self._programs = found
        self._settings = settings
        self.folder = Path(tempfile.mkdtemp(prefix="mudeung-pg-"))
        self._keeper: subprocess.Popen[str] | None = None
        super().__init__(f"postgresql://{_UNIX_USER}@/postgres?host={self.folder}")
        if os.geteuid() == 0:  # initdb and postgres refuse root
            shutil.chown(self.folder, _UNIX_USER)
        self.folder.chmod(0o700)
        words = [*_as_user(), str(found / "initdb"), "-D", str(self.folder / "data"), "-U", _UNIX_USER]
        words += ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(words, check=True, capture_output=True, timeout=120, cwd="/")

    def start(self) -> None:
        """The server answers."""
        words = [sys.executable, "-m", "tests.postgresql", str(self._programs), str(self.folder), *self._settings]
        root = Path(__file__).parents[1]
        self._keeper = subprocess.Popen(words, stdin=subprocess.PIPE, text=True, cwd=root, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._keeper.poll() is not None:
                    log = self.folder / "log"
                    raise RuntimeError(log.read_text()[-2000:] if log.exists() else "no PostgreSQL") from None
                time.sleep(0.05)
            else:
                return

    def processes(self) -> list[psutil.Process]:
        """Return the server's process and those of its connections."""
        path = self.folder / "data" / "postmaster.pid"
        return _family(int(path.read_text().split()[0])) if path.exists() else []

    def kill(self) -> None:
        """The server's power is cut: every process ends at once, and none can say goodbye."""
        self._signal(signal.SIGKILL)
        self._wait()

    def freeze(self) -> None:
        """The server does nothing, and keeps its connections."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """The server is shut down in order; who is connected is sent away."""
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()
        self._wait()

    def remove(self) -> None:
        """The server has ended and nothing of it is left."""
        self.thaw()
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal(self, number: int) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _wait(self) -> None:
        if self._keeper is not None:
            self._keeper.wait(START_SECONDS)
            if self._keeper.stdin is not None:
                self._keeper.stdin.close()
            self._keeper = None


@contextlib.contextmanager
def server(*settings: str) -> Iterator[Server]:
    """Give the server that is named, else a cluster with these settings for as long as the block lasts."""
    named = os.environ.get(VARIABLE)
    if named:
        yield Server(named)
        return
    cluster = Cluster(*settings)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children()]
    except psutil.NoSuchProcess:
        return []


def _as_user() -> list[str]:
    """Return the words before a command that runs as the server's user, with a signal at its parent's end."""
    if os.geteuid() == 0:
        return [*_UNTIL_PARENT_ENDS, "--reuid", _UNIX_USER, "--regid", _UNIX_USER, "--clear-groups"]
    return _UNTIL_PARENT_ENDS if shutil.which("setpriv") else []


def _keep(found: str, folder: str, *settings: str) -> None:
    """Run the server until the input ends; a server whose starter is gone leaves nothing behind."""
    words = [*_as_user(), f"{found}/postgres", "-D", f"{folder}/data", "-k", folder]
    words += [word for setting in (*SETTINGS, *settings) for word in ("-c", setting)]
    with Path(folder, "log").open("ab") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
    starter = os.getppid()
    while process.poll() is None and not select.select([sys.stdin], [], [], 0.5)[0]:
        pass
    for each in _family(process.pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.resume()  # one that is frozen could not end
    process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        for each in _family(process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait(20)
    if os.getppid() != starter:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _keep(*sys.argv[1:])
