"""The hub's own database: a file of SQLite keeps a write-ahead log, and what is in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from quotas.home import SECRETS_VARIABLE, open_home
from spawners.hub_database import hub_database
from tests.platform import Platform


def mode_of(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def test_the_running_hub_s_database_keeps_a_write_ahead_log(platform: Platform) -> None:
    file = platform.home.hub / "jupyterhub.sqlite"
    assert mode_of(file) == "wal"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM roles").fetchone()[0] > 0


def test_a_database_of_before_keeps_what_is_in_it(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    home.make_folders()
    file = home.hub / "jupyterhub.sqlite"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE kept (number INTEGER)")
        connection.execute("INSERT INTO kept VALUES (7)")
    assert mode_of(file) == "delete"
    assert hub_database(home) == f"sqlite:///{file}"
    assert mode_of(file) == "wal"
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT number FROM kept").fetchall() == [(7,)]


def test_a_file_that_is_no_database_stays_as_it_is(tmp_path: Path) -> None:
    home = open_home(tmp_path)
    home.make_folders()
    file = home.hub / "jupyterhub.sqlite"
    file.write_text("this is no database, and somebody's file")
    assert hub_database(home) == f"sqlite:///{file}"
    assert file.read_text() == "this is no database, and somebody's file"


def test_a_database_server_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "secrets"
    given.mkdir()
    (given / "hub_database_url").write_text("postgresql+psycopg://hub:x@db/hub")
    monkeypatch.setenv(SECRETS_VARIABLE, str(given))
    home = open_home(tmp_path / "home")
    assert hub_database(home) == "postgresql+psycopg://hub:x@db/hub"
    assert not (home.hub / "jupyterhub.sqlite").exists()
