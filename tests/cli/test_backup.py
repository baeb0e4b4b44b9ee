"""A backup gives back what was there, and a restore harms nothing that nobody said may go."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cli import backup_databases
from cli.backup_archive import Writer
from cli.session import FAILED
from cli.supervision.lock import alone
from quotas.backends.local import LocalBackend
from quotas.domain.admission import Admitted
from quotas.domain.policy import Policy
from quotas.domain.runs import Outcome, RunState
from quotas.services import admission, runs
from quotas.services.reconciliation import Reconciler
from quotas.store import migrate
from quotas.store.database import Database
from tests import centre as small
from tests.centre import Centre
from tests.cli.conftest import Ended
from tests.databases import without_constraints
from tests.services.test_probes import NoHub

Invoke = Callable[..., Ended]
ROOT = Path(__file__).resolve().parents[2]
RUN_SECONDS = 600


def held(centre: Centre) -> str:
    """Return the run of a server that has begun `RUN_SECONDS` before the centre's moment, and was seen at it last."""
    began = centre.now - RUN_SECONDS
    decision = small.start(replace(centre, now=began))
    assert isinstance(decision, Admitted)
    [run] = [each.id for each in runs.runs(centre.database) if each.state is RunState.HELD]
    admission.started(centre.database, run, began)
    admission.seen(centre.database, run, centre.now)
    return run


@pytest.fixture
def filled(centre: Centre, tmp_path: Path) -> Centre:
    """The centre with a charged run, one that runs, files of many kinds and a secret."""
    earlier = replace(centre, now=centre.now - RUN_SECONDS)
    ended = admission.Ended(earlier.now - RUN_SECONDS, earlier.now, Outcome.STOPPED)
    admission.settle(centre.database, held(earlier), ended, earlier.now)
    held(centre)
    folder = tmp_path / "home" / "projects" / centre.project
    (folder / "자료 1.csv").write_text("a,b\n1,2\n")
    (folder / "line\nbreak\\").write_text("x")
    (folder / "big").write_bytes(os.urandom(3_000_001))
    (folder / "script.sh").write_text("true")
    (folder / "script.sh").chmod(0o750)
    (folder / "link").symlink_to("자료 1.csv")
    (folder / "outward").symlink_to("/etc/passwd")
    (folder / "empty").mkdir(mode=0o2770)
    os.mkfifo(folder / "pipe")
    (tmp_path / "home" / "hub" / "cookie_secret").write_text("5ec7e7")
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        os.chdir(folder)
        listening.bind("socket")
    os.chdir(tmp_path)
    return centre


def files(folder: Path) -> dict[str, object]:
    """Return what is below the folder: text, target or mode, by path. What is no file of a backup is left out."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_dir():
            found[name] = oct(path.stat().st_mode)
        elif path.is_file() and not name.startswith(("ledger.sqlite", "hub/jupyterhub.sqlite", "up.lock")):
            found[name] = path.read_bytes(), oct(path.stat().st_mode), int(path.stat().st_mtime)
    return {name: each for name, each in found.items() if not name.startswith("log")}


def test_a_restored_platform_has_each_balance_and_every_file(filled: Centre, tmp_path: Path, invoke: Invoke) -> None:
    del filled
    before = [invoke(*words).output for words in (["ledger", "-o", "json"], ["ledger", "--balances", "-o", "json"])]
    files_before = files(tmp_path / "home")
    written = invoke("backup", "out.tar")
    assert (written.code, written.output) == (0, "")
    assert "projects/vision/pipe" in written.errors
    assert "projects/vision/socket" in written.errors
    assert "2 left out" in written.errors
    assert oct((tmp_path / "out.tar").stat().st_mode)[-3:] == "600"

    ended = invoke("restore", "out.tar", "--home", "again")
    assert (ended.code, ended.errors) == (0, "")
    assert "vision" in ended.output
    assert "KST" in ended.output
    assert "1 runs were open then" in ended.output
    assert "Every invariant holds." in ended.output
    home = ["--home", "again"]
    after = [
        invoke(*words, *home).output for words in (["ledger", "-o", "json"], ["ledger", "--balances", "-o", "json"])
    ]
    assert after == before
    assert json.loads(before[1])[0]["spent_gflops_seconds"] != "0"
    assert files(tmp_path / "again") == files_before
    assert not list((tmp_path / "again").glob("replaced-*"))


def test_the_sums_are_those_of_the_usual_program(filled: Centre, tmp_path: Path, invoke: Invoke) -> None:
    del filled
    assert invoke("backup", "out.tar").code == 0
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "--extract", "--file", "out.tar", "--directory", "out"], check=True, timeout=60)
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=tmp_path / "out",
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["databases"]["ledger"]["revision"] == migrate.head()
    assert manifest["databases"]["ledger"]["rows"]["charges"] == 1
    assert manifest["databases"]["hub"] is None
    assert manifest["taken"].endswith("KST")


def test_a_run_that_went_with_the_machine_is_charged_until_it_was_seen(
    filled: Centre, tmp_path: Path, invoke: Invoke
) -> None:
    assert invoke("backup", "out.tar").code == 0
    assert invoke("restore", "out.tar", "--home", "again").code == 0
    with closing(Database(f"sqlite:///{tmp_path}/again/ledger.sqlite")) as database:
        loop = Reconciler(database, LocalBackend(tmp_path / "again" / "runs"), NoHub(), Policy(), 600)
        later = filled.now + 30 * 86_400
        loop.tick(later)
        [run] = [each for each in runs.runs(database) if each.outcome is Outcome.LOST]
        assert run.finished_at == filled.now
    assert invoke("check", "--home", "again").code == 0
    [balance] = invoke("ledger", "--balances", "--home", "again", "-o", "json").json
    assert balance["spent_gflops_seconds"] == str(2 * RUN_SECONDS * 50)
    assert balance["held_gflops_seconds"] == "0"


def test_a_backup_of_a_busy_ledger_is_one_moment_of_it(filled: Centre, invoke: Invoke) -> None:
    stop = threading.Event()
    centre = replace(filled, database=Database(filled.database.url))

    def work() -> None:
        while not stop.is_set():
            decision = small.start(centre, person=centre.pi)
            if isinstance(decision, Admitted):
                for each in runs.runs(centre.database):
                    if each.state is RunState.HELD:
                        ended = admission.Ended(None, None, Outcome.FAILED_TO_START)
                        admission.settle(centre.database, each.id, ended, centre.now)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for number in range(3):
            assert invoke("backup", f"{number}.tar").code == 0
            ended = invoke("restore", f"{number}.tar", "--home", f"again-{number}")
            assert (ended.code, ended.errors) == (0, "")
    finally:
        stop.set()
        worker.join(60)
        centre.database.close()


def test_what_is_there_goes_only_where_that_is_said(filled: Centre, tmp_path: Path, invoke: Invoke) -> None:
    assert invoke("backup", "out.tar").code == 0
    before = files(tmp_path / "home")
    refused = invoke("restore", "out.tar")
    assert refused.code == FAILED
    assert "the ledger here has people or projects in it; with --replace" in refused.errors
    assert files(tmp_path / "home") == before

    (tmp_path / "home" / "projects" / filled.project / "new.txt").write_text("since the backup")
    small.start(filled, person=filled.pi)
    assert invoke("restore", "out.tar", "--replace").code == 0
    [aside] = (tmp_path / "home").glob("replaced-*")
    assert (aside / "projects" / filled.project / "new.txt").read_text() == "since the backup"
    assert count(aside) == 3
    shutil.rmtree(aside)
    assert files(tmp_path / "home") == before
    assert count(tmp_path / "home") == 2


def count(folder: Path) -> int:
    """Return how many runs the ledger in the folder has."""
    with closing(Database(f"sqlite:///{folder}/ledger.sqlite")) as database:
        return len(runs.runs(database))


def test_files_without_a_ledger_are_not_overwritten_either(filled: Centre, tmp_path: Path, invoke: Invoke) -> None:
    assert invoke("backup", "out.tar").code == 0
    assert invoke("backup", "--databases-only", "ledger.tar").code == 0
    kept = tmp_path / "again" / "projects" / filled.project / "mine.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    refused = invoke("restore", "out.tar", "--home", "again")
    assert refused.code == FAILED
    assert "there are files in" in refused.errors
    assert not (tmp_path / "again" / "ledger.sqlite").exists()
    assert invoke("restore", "ledger.tar", "--home", "again").code == 0
    assert kept.read_text() == "mine"
    assert invoke("check", "--home", "again").code == 0


def test_a_platform_that_runs_is_left_alone(filled: Centre, tmp_path: Path, invoke: Invoke) -> None:
    del filled
    assert invoke("backup", "out.tar").code == 0
    with alone(tmp_path / "home"):
        refused = invoke("restore", "out.tar", "--replace")
    assert refused.code == FAILED
    assert "another `mudeung up`" in refused.errors


def cut(archive: Path) -> None:
    os.truncate(archive, archive.stat().st_size // 2)


def without_its_end(archive: Path) -> None:
    subprocess.run(["tar", "--delete", "--file", archive, "SHA256SUMS"], check=True, timeout=60)


def another_byte(archive: Path) -> None:
    content = bytearray(archive.read_bytes())
    at = content.index(b"a,b\n1,2\n")
    content[at] ^= 1
    archive.write_bytes(content)


def one_more(archive: Path) -> None:
    with tarfile.open(archive, "a") as tar:
        tar.add(__file__, "files/projects/vision/added.py")


def no_archive(archive: Path) -> None:
    archive.write_text("nothing")


@pytest.mark.parametrize("damage", [cut, without_its_end, another_byte, one_more, no_archive])
def test_an_archive_that_is_not_whole_changes_nothing(
    damage: Callable[[Path], None], filled: Centre, tmp_path: Path, invoke: Invoke
) -> None:
    del filled
    assert invoke("backup", "out.tar").code == 0
    damage(tmp_path / "out.tar")
    before = files(tmp_path / "home")
    ended = invoke("restore", "out.tar", "--replace")
    assert ended.code == FAILED
    assert "out.tar: no whole backup" in ended.errors or "its content has changed" in ended.errors
    assert files(tmp_path / "home") == before


def test_a_newer_program_s_backup_is_refused(filled: Centre, tmp_path: Path, invoke: Invoke) -> None:
    without_constraints(filled.database, "UPDATE alembic_version SET version_num = '9999'")
    assert invoke("backup", "out.tar").code == FAILED
    without_constraints(filled.database, f"UPDATE alembic_version SET version_num = '{migrate.head()}'")  # noqa: S608
    assert invoke("backup", "out.tar").code == 0
    renew(tmp_path / "out.tar", lambda text: text.replace(f'"revision": "{migrate.head()}"', '"revision": "9999"'))
    ended = invoke("restore", "out.tar", "--home", "again")
    assert ended.code == FAILED
    assert "revision 9999, which this program does not know" in ended.errors
    renew(tmp_path / "out.tar", lambda text: text.replace('"format": 1', '"format": 2'))
    assert "the backup's format is 2" in invoke("restore", "out.tar", "--home", "again").errors


def older_archive(archive: Path, ledger: Path) -> str:
    """The archive is that of a program one revision older; return the revision."""
    older = migrate.revisions()[-2]
    with closing(Database(f"sqlite:///{ledger}")) as database:
        migrate.upgrade(database, older)
    dumped = backup_databases.dump(f"sqlite:///{ledger}", ledger.parent, "dumped")
    assert dumped is not None
    manifest = {"format": 1, "taken_at": 1, "files": False, "databases": {"ledger": asdict(dumped), "hub": None}}
    with archive.open("wb") as to:
        writer = Writer(to)
        writer.text("manifest.json", json.dumps(manifest))
        writer.file("ledger.sqlite", ledger.parent / "dumped.sqlite")
        writer.end()
    return older


def test_an_older_backup_is_brought_up_to_date_unless_an_older_program_wants_it(
    filled: Centre, tmp_path: Path, invoke: Invoke
) -> None:
    filled.database.close()
    older = older_archive(tmp_path / "old.tar", tmp_path / "old.sqlite")
    assert invoke("restore", "old.tar", "--home", "again").code == 0
    assert invoke("migrate", "--home", "again").output == f"The ledger is at {migrate.head()} already.\n"
    kept = invoke("restore", "old.tar", "--replace", "--keep-schema")
    assert (kept.code, kept.errors) == (0, "")
    assert f"at revision {older}" in kept.output
    assert f"at revision {older}, this program needs {migrate.head()}" in invoke("check").errors


def renew(archive: Path, change: Callable[[str], str], *more: tarfile.TarInfo) -> None:
    """The archive has another manifest, and more members, with sums that are right."""
    with tarfile.open(archive) as tar:
        members = [(each, tar.extractfile(each)) for each in tar if each.isreg()]
        texts = {each.name: file.read() for each, file in members if file and each.name != "SHA256SUMS"}
    with archive.open("wb") as to:
        writer = Writer(to)
        for name, content in texts.items():
            text = content.decode("utf-8", "surrogateescape")
            writer.text(name, change(text) if name == "manifest.json" else text)
        for each in more:
            writer._tar.addfile(each)
        writer.end()


def test_no_archive_writes_outside_of_the_home(filled: Centre, tmp_path: Path, invoke: Invoke) -> None:
    """Whatever it holds: a path that leads out, a link and a file behind it, a device."""
    del filled
    assert invoke("backup", "out.tar").code == 0
    whole = (tmp_path / "out.tar").read_bytes()
    link = tarfile.TarInfo("files/projects/out")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    behind, upward, absolute, device = (
        tarfile.TarInfo(name)
        for name in ("files/projects/out/evil", "files/../../evil", f"{tmp_path}/evil", "files/projects/null")
    )
    device.type = tarfile.CHRTYPE
    for number, more in enumerate(([link, behind], [upward], [absolute], [device])):
        (tmp_path / "out.tar").write_bytes(whole)
        with tarfile.open(tmp_path / "out.tar", "a") as tar:
            for each in more:
                tar.addfile(each)
        assert invoke("restore", "out.tar", "--home", f"again-{number}").code == FAILED
    assert not list(tmp_path.rglob("evil"))


def test_an_archive_goes_through_a_pipe(filled: Centre, tmp_path: Path) -> None:
    del filled
    words = f"{sys.executable} -m cli --lang en"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = f"{words} backup - --home {tmp_path}/home | {words} restore - --home {tmp_path}/again"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Every invariant holds." in done.stdout
    assert not list(tmp_path.glob("*/.*"))


def test_a_file_that_is_there_is_not_written_over(filled: Centre, tmp_path: Path, invoke: Invoke) -> None:
    del filled
    (tmp_path / "out.tar").write_text("mine")
    assert "out.tar is there already" in invoke("backup", "out.tar").errors
    assert "there is no folder" in invoke("backup", "nowhere/out.tar").errors
    assert "there is no file" in invoke("restore", "nowhere.tar").errors
    assert (tmp_path / "out.tar").read_text() == "mine"
