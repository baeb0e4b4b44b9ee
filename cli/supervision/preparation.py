"""What is done before the first process starts: the ledger, the example centre, the checks of ports and images."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence

from cli.session import Problem, Session
from cli.supervision.programs import ROOT
from cli.tables import Column, show
from quotas.home import Home
from quotas.ports import free_ports
from quotas.services import example, profiles
from quotas.services.example_centre import DEMO_PROJECT
from quotas.store import people as people_store
from quotas.store.database import Database
from quotas.store.migrate import migrate

ACCOUNTS = "accounts.txt"
NOTEBOOKS = ROOT / "examples" / "notebooks"
COLUMNS = (
    Column("username", "username", "사용자"),
    Column("password", "password", "비밀번호"),
    Column("role", "role", "역할"),
)


def ledger(home: Home, session: Session) -> Database:
    """Return the ledger at its newest schema; for evaluation, an empty one has the example centre.

    A new SQLite file takes its name when all is in it, so that a first start which is cut off is simply made again.
    """
    path = home.path / "ledger.sqlite"
    database = home.database()
    is_own_file = database.is_sqlite and not home.settings.database_url
    if home.settings.evaluation and is_own_file and not path.exists():
        for old in home.path.glob("ledger.sqlite.new*"):
            old.unlink()
        new = home.path / "ledger.sqlite.new"
        database = Database(f"sqlite:///{new}")
        migrate(database)
        accounts = example.load(database, now=session.now)
        database.close()
        _keep(home, accounts)
        new.chmod(0o600)
        new.rename(path)
        _tell(home, session, accounts)
        return home.database()
    migrate(database)
    with database.read() as transaction:
        is_empty = not people_store.anyone(transaction)
    if home.settings.evaluation and is_empty:
        accounts = example.load(database, now=session.now)
        _keep(home, accounts)
        _tell(home, session, accounts)
    return database


def _keep(home: Home, accounts: Sequence[example.Account]) -> None:
    """The accounts are in a file of the owner's, and the example notebooks in the folder of the project to try."""
    text = "".join(f"{each.username:12} {each.password:16} {each.role_text}\n" for each in accounts)
    path = home.path / ACCOUNTS
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    folder = home.project_folder(DEMO_PROJECT)
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not (folder / notebook.name).exists():
            shutil.copyfile(notebook, folder / notebook.name)
    if home.settings.backend == "docker":
        from quotas.backends.docker import prepare_project_folder  # noqa: PLC0415 - the Docker client loads slowly

        prepare_project_folder(folder)


def _tell(home: Home, session: Session, accounts: Sequence[example.Account]) -> None:
    session.say(
        "An example centre was loaded. Its accounts, for this machine only:",
        "예시 센터를 불러왔습니다. 이 장비에서만 쓰는 계정입니다.",
    )
    rows = [{"username": each.username, "password": each.password, "role": each.role_text} for each in accounts]
    show(session, COLUMNS, rows)
    path = home.path / ACCOUNTS
    session.say(f"They are kept in {path}, which only you can read.\n", f"{path}에 저장되며 본인만 읽을 수 있습니다.\n")


def check_port(host: str, port: int) -> None:
    """Raise Problem when the address cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise Problem(
                f"port: cannot listen on {host}:{port}: {error}; --port names another, --port 0 takes a free one",
                f"port: {host}:{port}에서 수신할 수 없습니다 ({error}). --port로 다른 포트를, --port 0으로 빈 포트를"
                " 지정하세요",
            ) from None


def free_port(host: str) -> int:
    """Return a port of the address that is free now. Raises Problem for an address that is not this machine's."""
    try:
        return free_ports(1, host)[0]
    except OSError as error:
        raise Problem(
            f"host: cannot listen on {host}: {error}", f"host: {host}에서 수신할 수 없습니다: {error}"
        ) from None


def check_engine(home: Home) -> None:
    """The Docker engine answers. Raises BackendAway."""
    if home.settings.backend == "docker":
        from quotas.backends.docker import DockerBackend  # noqa: PLC0415 - as above

        engine = DockerBackend()
        engine.list_runs()
        engine.close()


def check_images(home: Home, database: Database, now: int) -> None:
    """Every profile's image is on this machine, where the backend needs one. Raises Problem."""
    if home.settings.backend != "docker":
        return
    from quotas.backends.docker import DockerBackend  # noqa: PLC0415 - as above

    engine = DockerBackend()
    wanted = sorted({view.profile.image for view in profiles.list_profiles(database, now)})
    missing = [each for each in wanted if not engine.image_exists(each)]
    engine.close()
    if missing:
        names = ", ".join(missing)
        raise Problem(
            f"image: {names} is not on this machine; `make image` builds it",
            f"image: {names} 없음. `make image`로 만드세요",
        )
