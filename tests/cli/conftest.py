"""A home with a small centre in it, and the command run on it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
from typer.testing import CliRunner

from cli.main import app
from quotas.domain.units import DAY_SECONDS
from quotas.home import open_home
from quotas.store.migrate import migrate
from tests import centre as small
from tests.centre import Centre


@dataclass(frozen=True)
class Ended:
    """How the command ended."""

    code: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Run `mudeung` with these words on a home of the test's own, in English."""
    for name in ("MUDEUNG_HOME", "MUDEUNG_OVERRIDES", "LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    monkeypatch.chdir(tmp_path)

    def run(*words: object, given: str = "") -> Ended:
        done = CliRunner().invoke(app, [str(word) for word in words], input=given)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ended(done.exit_code, done.stdout, done.stderr)

    return run


@pytest.fixture
def home(tmp_path: Path, invoke: Callable[..., Ended]) -> Path:
    """The default home folder with an empty ledger."""
    assert invoke("migrate").code == 0
    return tmp_path / "home"


@pytest.fixture(scope="session")
def centre_template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Centre, Path]:
    """A home with the small centre as of now; its project's folder has a notebook with parameters."""
    home = open_home(tmp_path_factory.mktemp("centre") / "home")
    database = home.database()
    migrate(database)
    now = int(time.time())
    found = Centre(database, now=now, starts_at=now - DAY_SECONDS, ends_at=now + 29 * DAY_SECONDS)
    small._add_people(found)
    small._add_supply(found)
    small._add_project(found)
    database.close()
    declared = nbformat.v4.new_code_cell("epochs: int = 1\nname: str = 'a'", metadata={"tags": ["parameters"]})
    folder = home.project_folder(found.project)
    nbformat.write(nbformat.v4.new_notebook(cells=[declared]), folder / "train.ipynb")
    (folder / "broken.ipynb").write_text("no notebook")
    (folder / "outside.ipynb").symlink_to("../../mudeung.toml")
    (home.path / "mudeung.toml").touch()
    return found, home.path


@pytest.fixture
def centre(centre_template: tuple[Centre, Path], tmp_path: Path, invoke: Callable[..., Ended]) -> Centre:
    """The small centre, in the default home folder of the test; `now` is when the test begins, not the template."""
    del invoke  # its folder is the default one
    found, template = centre_template
    shutil.copytree(template, tmp_path / "home", symlinks=True)
    return replace(found, database=open_home(tmp_path / "home").database(), now=int(time.time()))
