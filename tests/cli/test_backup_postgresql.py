"""The backup of a platform whose two databases are on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cli import backup_databases
from cli.session import FAILED
from quotas.domain.admission import Admitted
from quotas.home import SECRETS_VARIABLE
from quotas.store.database import Database
from tests import centre as small
from tests.centre import Centre
from tests.cli.conftest import Ended
from tests.cli.test_backup import held
from tests.databases import Databases
from tests.postgresql import Server

pytestmark = pytest.mark.postgresql

Invoke = Callable[..., Ended]


@pytest.fixture
def databases(postgresql_databases: Databases) -> Databases:
    return postgresql_databases


@pytest.fixture
def on_server(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return what makes a home on two databases: the ledger's, with the small centre, and the hub's."""
    monkeypatch.setenv(SECRETS_VARIABLE, str(tmp_path / "secrets"))
    (tmp_path / "secrets").mkdir()
    made: list[Database] = []

    def use(ledger: Database) -> tuple[Database, Database]:
        made.extend((ledger, databases.empty()))
        for name, database in zip(("database_url", "hub_database_url"), made[-2:], strict=True):
            (tmp_path / "secrets" / name).write_text(database.url)
        return made[-2], made[-1]

    yield use
    for each in made:
        databases.drop(each)


def test_both_databases_come_back(databases: Databases, on_server: Any, tmp_path: Path, invoke: Invoke) -> None:
    ledger, hub = on_server(databases.with_centre())
    centre = Centre(ledger)
    held(centre)
    with psycopg.connect(hub.url) as connection:
        connection.execute("CREATE TYPE state AS ENUM ('up', 'down')")
        connection.execute("CREATE TABLE servers (id serial PRIMARY KEY, state state)")
        connection.execute("INSERT INTO servers (state) VALUES ('up'), ('down')")
    (tmp_path / "home" / "projects" / "vision").mkdir(parents=True)
    (tmp_path / "home" / "projects" / "vision" / "a.txt").write_text("a")
    before = invoke("ledger", "--balances", "-o", "json").output
    assert invoke("backup", "out.tar").code == 0

    # One that is migrated, as an installation leaves it, and one that is empty.
    for number, new in enumerate((databases.migrated(), databases.empty())):
        _, hub = on_server(new)
        ended = invoke("restore", "out.tar", "--home", f"again-{number}")
        assert (ended.code, ended.errors) == (0, "")
        assert invoke("ledger", "--balances", "-o", "json", "--home", f"again-{number}").output == before
        assert (tmp_path / f"again-{number}" / "projects" / "vision" / "a.txt").read_text() == "a"
        with psycopg.connect(hub.url) as connection:
            assert connection.execute("INSERT INTO servers (state) VALUES ('up') RETURNING id").fetchone() == (3,)
        refused = invoke("restore", "out.tar", "--home", f"again-{number}")
        assert "with --replace the backup takes its place" in refused.errors
        assert invoke("restore", "out.tar", "--home", f"again-{number}", "--replace").code == 0
        assert isinstance(small.start(replace(centre, database=new), person=centre.pi), Admitted)


def test_a_program_that_is_connected_stops_it(
    databases: Databases, on_server: Any, tmp_path: Path, invoke: Invoke
) -> None:
    ledger, _ = on_server(databases.with_centre())
    (tmp_path / "home").mkdir()
    assert invoke("backup", "out.tar").code == 0
    with psycopg.connect(ledger.url):
        refused = invoke("restore", "out.tar", "--home", "again", "--replace")
    assert refused.code == FAILED
    assert "ledger: 1 connections of the platform are open" in refused.errors


def test_a_backup_of_the_other_kind_is_refused(
    centre: Centre, databases: Databases, on_server: Any, tmp_path: Path, invoke: Invoke
) -> None:
    del centre
    (tmp_path / "mudeung.toml").touch()
    (tmp_path / "empty").mkdir()
    with pytest.MonkeyPatch.context() as without:
        without.delenv(SECRETS_VARIABLE, raising=False)
        assert invoke("backup", "out.tar").code == 0
    on_server(databases.empty())
    refused = invoke("restore", "out.tar", "--home", "again")
    assert "ledger: the backup is of sqlite, this home's database is postgresql" in refused.errors


def test_programs_that_are_missing_or_too_old_are_told(
    databases: Databases,
    on_server: Any,
    postgresql_server: Server,
    tmp_path: Path,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_server(databases.with_centre())
    [(number,)] = postgresql_server.execute("SHOW server_version_num")
    major = int(str(number)) // 10_000
    monkeypatch.setattr(backup_databases, "_DEBIAN", tmp_path / "nowhere")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "home").mkdir()
    ended = invoke("backup", "out.tar")
    assert ended.code == FAILED
    assert f"pg_dump of PostgreSQL {major} or newer is needed here; there is none" in ended.errors
    old = tmp_path / "bin" / "pg_dump"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6'\n")
    old.chmod(0o755)
    assert "there is only 9" in invoke("backup", "out.tar").errors
    assert not (tmp_path / "out.tar").exists()
    assert not (tmp_path / "out.tar.part").exists()
