"""`mudeung backup` and `restore`: one file with all that a platform remembers, and the platform from such a file."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from cli import backup_archive, backup_databases, ledger
from cli.backup_databases import Dump
from cli.session import FAILED, Problem, Session, command
from cli.supervision.lock import FILE_NAME as LOCK_FILE
from cli.supervision.lock import alone
from cli.tables import show
from quotas import settings as settings_file
from quotas.domain.units import show_instant
from quotas.home import Home, open_home
from quotas.services import check, reports
from quotas.store import migrate
from quotas.store import runs as runs_store

FORMAT = 1
STREAM = "-"
DATABASES = ("hub", "ledger")
"""In the order in which they are dumped, before the files: what the hub knows is held in the ledger, and what the
ledger names is among the files."""
REPLACED = "replaced-"
NOT_OURS = ("log", "lost+found", "hub/up.lock", LOCK_FILE)
"""What a home folder holds that is nobody's memory."""
FILES_OF = ("projects", "batch")
FOLDERS = (*FILES_OF, "hub", "runs")

BackupFile = Annotated[str, typer.Argument(help="The file; - is the standard stream.", show_default=False)]


def register(app: typer.Typer) -> None:
    command(app, "backup", example="mudeung backup /backup/mudeung-2026-11-21.tar")(backup)
    command(app, "restore", example="mudeung restore /backup/mudeung-2026-11-21.tar --home /srv/mudeung")(restore)


def backup(
    session: Session,
    file: BackupFile,
    databases_only: Annotated[
        bool, typer.Option("--databases-only", help="Leave out the files: their storage has backups of its own.")
    ] = False,
) -> None:
    """Write ledger, hub's database and files into one archive, each database as of one moment, while all runs on."""
    home = session.home
    urls = {"hub": home.hub_database_url(), "ledger": session.database.url}
    with _output(file) as to, tempfile.TemporaryDirectory(dir=home.path, prefix=".backup-") as folder:
        dumped = {name: backup_databases.dump(url, Path(folder), name) for name, url in urls.items()}
        writer = backup_archive.Writer(to)
        writer.text(backup_archive.MANIFEST, json.dumps(_manifest(session, dumped, files=not databases_only), indent=1))
        for name, each in dumped.items():
            if each is not None:
                writer.file(each.member(name), Path(folder) / each.member(name))
        if not databases_only:
            writer.folder(home.path, _left_out(home, Path(folder).name))
        writer.end()
    for path in writer.left_out[:20]:
        _tell(session, f"left out: {path}", f"제외됨: {path}")
    size, count, without = f"{writer.bytes / 2**20:.1f} MiB", writer.files, len(writer.left_out)
    _tell(
        session,
        f"{file}: {count} files, {size}; {without} left out. Whoever reads it can act as the platform.",
        f"{file}: 파일 {count}개, {size}, 제외 {without}개. 읽을 수 있는 사람은 플랫폼처럼 행동할 수 있습니다.",
    )


def restore(
    session: Session,
    file: BackupFile,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of what is there; files are put aside, not removed.")
    ] = False,
    keep_schema: Annotated[
        bool, typer.Option("--keep-schema", help="Leave the ledger at the archive's own schema, for an older program.")
    ] = False,
) -> None:
    """Make the platform as it was when the archive was written; the platform must not run meanwhile.

    The archive is read to its end first, and nothing is changed if it is not whole, or a newer program's.
    """
    session.path.mkdir(parents=True, exist_ok=True)
    with _input(session.path, file) as archive:
        manifest = backup_archive.read_manifest(archive)
        dumps = _dumps(manifest)
        home = _home(session, archive)
        with alone(home.path):
            _refuse(home, dumps, manifest, replace=replace)
            _put_in_place(home, dumps, archive, with_files=bool(manifest["files"]))
    session.home = open_home(session.path)
    if keep_schema:
        revision = dumps["ledger"].revision
        session.say(
            f"The ledger is at revision {revision}. Take the program that it belongs to, and run `mudeung check`.",
            f"원장 버전은 {revision}입니다. 해당 버전의 프로그램으로 `mudeung check`를 실행하세요.",
        )
        return
    with closing(session.any_database()) as database:
        migrate.migrate(database)
    _tell_restored(session, manifest)


def _urls(home: Home) -> dict[str, str]:
    with closing(home.database()) as database:
        return {"hub": home.hub_database_url(), "ledger": database.url}


def _manifest(session: Session, dumped: dict[str, Dump | None], *, files: bool) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "program": version("mudeung"),
        "taken_at": session.now,
        "taken": show_instant(session.now),
        "backend": session.home.settings.backend,
        "files": files,
        "databases": {name: asdict(each) if each else None for name, each in dumped.items()},
    }


def _left_out(home: Home, *more: str) -> frozenset[str]:
    """Return the paths below the home that are no files of a backup: databases, locks, what was put aside."""
    inside = [backup_databases.sqlite_path(url) for url in _urls(home).values() if url.startswith("sqlite")]
    databases = {
        str(each.resolve().relative_to(home.path)) for each in inside if each.resolve().is_relative_to(home.path)
    }
    beside = {f"{each}{suffix}" for each in databases for suffix in ("-wal", "-shm", "-journal")}
    aside = {each.name for each in home.path.iterdir() if each.name.startswith((REPLACED, ".backup-", ".restore-"))}
    return frozenset({*NOT_OURS, *databases, *beside, *aside, *more})


@contextmanager
def _output(file: str) -> Iterator[IO[bytes]]:
    """Open the archive to write; a file has its name once it is whole, and only its owner reads it."""
    if file == STREAM:
        if sys.stdout.isatty():
            raise Problem("the standard output is a terminal: send it into a file", "표준 출력이 터미널입니다")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(file)
    if path.exists():
        raise Problem(f"{path} is there already", f"{path}이(가) 이미 있습니다")
    if not path.absolute().parent.is_dir():
        raise Problem(f"there is no folder {path.parent}", f"{path.parent} 폴더가 없습니다")
    part = path.with_name(f"{path.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as to:
            yield to
            to.flush()
            os.fsync(to.fileno())
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _input(folder: Path, file: str) -> Iterator[Path]:
    """Give the archive as a file, which is read several times."""
    if file != STREAM:
        if not Path(file).is_file():
            raise Problem(f"there is no file {file}", f"{file} 파일이 없습니다")
        yield Path(file)
        return
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".restore-") as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept, backup_archive.BLOCK_BYTES)
        kept.flush()
        yield Path(kept.name)


def _dumps(manifest: dict[str, Any]) -> dict[str, Dump]:
    """Return the archive's databases. Raises Problem for what this program cannot read, or would not know."""
    if manifest.get("format") != FORMAT:
        raise Problem(
            f"the backup's format is {manifest.get('format')}, this program reads {FORMAT}",
            f"백업 형식은 {manifest.get('format')}, 이 프로그램이 읽는 형식은 {FORMAT}입니다",
        )
    dumps = {name: Dump(**each) for name, each in manifest["databases"].items() if each is not None}
    if dumps["ledger"].revision not in migrate.revisions():
        raise migrate.UnknownRevision(str(dumps["ledger"].revision))
    return dumps


def _home(session: Session, archive: Path) -> Home:
    """Return the home to restore into: with the settings that are there, else with the archive's."""
    path = session.path.resolve()
    named = os.environ.get(settings_file.FILE_VARIABLE) or (path / settings_file.FILE_NAME).exists()
    text = None if named else backup_archive.text_of(archive, f"{backup_archive.FILES}/{settings_file.FILE_NAME}")
    if text is None:
        return Home(path, session.settings)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, settings_file.FILE_NAME).write_text(text, encoding="utf-8")
        return Home(path, settings_file.read(Path(folder)))


def _refuse(home: Home, dumps: dict[str, Dump], manifest: dict[str, Any], *, replace: bool) -> None:
    """Raise Problem where the archive does not fit the home, or something is there that nobody said may go."""
    for name, url in _urls(home).items():
        wanted, here = dumps.get(name), backup_databases.kind_of(url)
        if wanted is not None and wanted.kind != here:
            raise Problem(
                f"{name}: the backup is of {wanted.kind}, this home's database is {here}; set database_url",
                f"{name}: 백업은 {wanted.kind}, 이 홈의 데이터베이스는 {here}입니다. database_url을 설정하세요",
            )
        others = backup_databases.programs_connected(url)
        if others:
            raise Problem(
                f"{name}: {others} connections of the platform are open; stop all of its programs first",
                f"{name}: 플랫폼의 연결 {others}개가 열려 있습니다. 모든 프로그램을 먼저 중지하세요",
            )
    if replace:
        return
    if backup_databases.is_occupied(backup_databases.facts(_urls(home)["ledger"])):
        raise Problem(
            "the ledger here has people or projects in it; with --replace the backup takes its place",
            "이 원장에는 이미 사람이나 과제가 있습니다. --replace를 주면 백업으로 바꿉니다",
        )
    taken = [each for each in FILES_OF if manifest["files"] and any((home.path / each).glob("*"))]
    if taken:
        raise Problem(
            f"there are files in {home.path / taken[0]}; with --replace they are put aside",
            f"{home.path / taken[0]}에 파일이 있습니다. --replace를 주면 옆으로 옮깁니다",
        )


def _put_in_place(home: Home, dumps: dict[str, Dump], archive: Path, *, with_files: bool) -> None:
    """Databases and files are the archive's; what was there is in a folder of the home, named by the moment."""
    leaving = _leaving(home.path) if with_files else []
    aside = home.path / f"{REPLACED}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    aside.mkdir()
    with tempfile.TemporaryDirectory(dir=home.path, prefix=".restore-") as folder:
        for each in leaving:
            each.rename(aside / each.name)
        own = settings_file.FILE_NAME
        skipped = frozenset({own} if (home.path / own).exists() else ())
        backup_archive.unpack(archive, Path(folder), home.path, skipped)
        for name, url in _urls(home).items():
            if name in dumps:
                backup_databases.load(url, Path(folder) / dumps[name].member(name), dumps[name], aside)
    if not any(each.is_file() for each in aside.rglob("*")):
        shutil.rmtree(aside)


def _leaving(folder: Path) -> list[Path]:
    """Return what is to be put aside of a home. Raises Problem for a folder of the platform's that cannot be."""
    kept = {LOCK_FILE, settings_file.FILE_NAME, "log", "lost+found"}
    found = [
        each
        for each in sorted(folder.iterdir())
        if each.name not in kept and not each.name.startswith((REPLACED, ".backup-", ".restore-"))
    ]
    # Only who may write a folder moves it into another one. What else lies on a volume stays where it is.
    fixed = [each for each in found if each.is_dir() and not each.is_symlink() and not os.access(each, os.W_OK)]
    for each in fixed:
        if each.name in FOLDERS:
            raise Problem(
                f"{each} belongs to another user: put it elsewhere first",
                f"{each}은(는) 다른 사용자의 것입니다. 먼저 다른 곳으로 옮기세요",
            )
    return [each for each in found if each not in fixed]


def _tell_restored(session: Session, manifest: dict[str, Any]) -> None:
    """Say what came back: each project's balance, what ran, and whether every invariant holds."""
    suffix = "_gflops_seconds"
    balances = [
        {key if key == "project" else f"{key}{suffix}": value for key, value in asdict(each).items()}
        for each in reports.balances(session.database)
    ]
    show(session, ledger.BALANCES, balances)
    with session.database.read() as transaction:
        running = len(runs_store.open_runs(transaction))
    session.say(
        f"As of {show_instant(manifest['taken_at'])}. {running} runs were open then; once the platform is up, those"
        " that are gone are charged until they were last seen.",
        f"{show_instant(manifest['taken_at'])} 시점입니다. 당시 실행 {running}건이 열려 있었습니다. 플랫폼이 시작되면"
        " 사라진 실행은 마지막으로 확인된 시각까지 과금됩니다.",
    )
    findings = check.findings(session.database, session.now)
    if findings:
        show(session, ledger.FINDINGS, map(asdict, findings))
        raise typer.Exit(FAILED)
    session.say("Every invariant holds.", "모든 불변식이 성립합니다.")


def _tell(session: Session, english: str, korean: str) -> None:
    """Say it on the error stream: the other one may be the archive."""
    print(session.text(english, korean), file=sys.stderr, flush=True)
