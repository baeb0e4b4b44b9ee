"""What `mudeung up` refuses to start, before any process runs; and what its first start makes."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.session import Session
from cli.supervision import lock, preparation
from cli.supervision.lock import Standing
from quotas.home import open_home
from quotas.services import people, projects
from quotas.store.database import Database
from tests.centre import Centre
from tests.cli.conftest import Ended
from tests.cli.engine import EmptyEngine

Invoke = Callable[..., Ended]


def session(home: Path) -> Session:
    return Session(home, "en", 1_795_000_000)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "example.org"])  # noqa: S104 - to be refused
def test_beyond_loopback_is_refused_with_evaluation_accounts(invoke: Invoke, tmp_path: Path, host: str) -> None:
    ended = invoke("up", "--host", host, "--port", "0")
    assert ended.code == 2
    assert "evaluation" in ended.errors
    assert not (tmp_path / "home" / "ledger.sqlite").exists()


def test_a_taken_port_is_named(invoke: Invoke, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = invoke("up", "--port", port)
    assert ended.code == 1
    assert f"port: cannot listen on 127.0.0.1:{port}" in ended.errors
    assert not (tmp_path / "home" / "ledger.sqlite").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prot = 8000", "prot: unknown key"),
        ('port = "8000"', "port = '8000'"),
        ("evaluation = 1", "evaluation = 1"),
        ("host =", "not a TOML file"),
        ("extend_below_seconds = 1", "extend_below_seconds must be above stop_margin_seconds"),
    ],
)
def test_settings_that_cannot_be_taken_are_refused(invoke: Invoke, tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "mudeung.toml").write_text(text + "\n")
    ended = invoke("up")
    assert ended.code == 2
    assert expected in ended.errors
    assert "mudeung.toml" in ended.errors


def test_a_second_up_of_a_home_is_refused(invoke: Invoke, home: Path) -> None:
    with lock.alone(home) as held:
        held.write(Standing(4711, 0))
        ended = invoke("up", "--port", "0")
    assert ended.code == 1
    assert f"another `mudeung up` (process 4711) works in {home}" in ended.errors
    assert lock.standing(home) is None


def test_an_engine_that_is_away_is_told(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    ended = invoke("up", "--backend", "docker", "--port", "0")
    assert ended.code == 1
    assert ended.errors.startswith("Error: the backend does not answer: docker:")


def test_a_missing_image_is_named_with_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmptyEngine(home / "engine.sock") as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        place = open_home(home, backend="docker")
        database = place.database()
        preparation.ledger(open_home(home), session(home))
        with pytest.raises(preparation.Problem, match="mudeung/notebook:latest is not on this machine; `make image`"):
            preparation.check_images(place, database, 1_795_000_000)


def test_the_first_start_loads_the_example_and_keeps_its_accounts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = open_home(tmp_path / "home")
    (home.path / "ledger.sqlite.new").write_text("what a start that was cut off left behind")
    database = preparation.ledger(home, session(home.path))
    kept = (home.path / "accounts.txt").read_text()
    assert stat.S_IMODE((home.path / "accounts.txt").stat().st_mode) == 0o600
    assert stat.S_IMODE((home.path / "ledger.sqlite").stat().st_mode) == 0o600
    accounts = dict(line.split()[:2] for line in kept.splitlines())
    printed = capsys.readouterr().out
    assert all(name in printed and password in printed for name, password in accounts.items())
    assert people.password_matches(database, "member", accounts["member"])
    assert (home.projects / "vision-drive" / "train_digits.ipynb").exists()
    assert list(home.path.glob("ledger.sqlite.new*")) == []

    (home.projects / "vision-drive" / "train_digits.ipynb").write_text("a person's own work")
    preparation.ledger(home, session(home.path))
    assert capsys.readouterr().out == ""
    assert (home.path / "accounts.txt").read_text() == kept
    assert (home.projects / "vision-drive" / "train_digits.ipynb").read_text() == "a person's own work"


def test_an_empty_ledger_gets_the_example_and_one_with_data_never(centre: Centre, tmp_path: Path) -> None:
    home = tmp_path / "home"
    preparation.ledger(open_home(home), session(home))
    assert [view.code for view in projects.list_projects(centre.database, centre.now)] == [centre.project]
    assert not (home / "accounts.txt").exists()

    empty = open_home(tmp_path / "empty")
    preparation.ledger(open_home(tmp_path / "empty", evaluation=False), session(empty.path))
    assert people.people(empty.database()) == []
    preparation.ledger(empty, session(empty.path))
    assert len(people.people(Database(f"sqlite:///{empty.path / 'ledger.sqlite'}"))) > 10
    assert os.access(empty.path / "accounts.txt", os.R_OK)
