"""A database of the platform as a file of one moment, and a database from such a file.

SQLite copies itself while others write (its online backup). For PostgreSQL the server's own `pg_dump` and `pg_restore`
do the work; what is counted for the manifest is of the very snapshot that is dumped.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy.engine import make_url

from cli.session import Problem
from quotas.store.database import DatabaseAway

CONNECT_SECONDS = 10
LOCK_SECONDS = 60
DUMP_SECONDS = 24 * 3600
"""How long a dump or its loading may take: a ledger of many years."""
SUFFIXES = {"sqlite": "sqlite", "postgresql": "dump"}
OCCUPIED_BY = ("people", "projects", "transfers")
"""A ledger with a row in one of these is somebody's."""
_DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Dump:
    """What a file of a database is: of which `kind`, at which `revision`, with how many `rows` in each table.

    `schema` is PostgreSQL's, and `version` the major one of the server, and in a backup of the program that wrote it.
    """

    kind: str
    revision: str | None
    rows: dict[str, int]
    schema: str = ""
    version: int = 0

    def member(self, name: str) -> str:
        """Return the file's name, for the database `name`."""
        return f"{name}.{SUFFIXES[self.kind]}"


def kind_of(url: str) -> str:
    """Return "sqlite" or "postgresql"."""
    return make_url(url).get_backend_name()


def dump(url: str, folder: Path, name: str) -> Dump | None:
    """The database is a file in `folder`; return what it is, None where there is no database yet.

    Raises DatabaseAway, and Problem where PostgreSQL's programs are missing or too old.
    """
    if kind_of(url) == "sqlite":
        return _dump_sqlite(sqlite_path(url), folder / f"{name}.sqlite")
    with _connection(url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        snapshot, schema = _one(connection, "SELECT pg_export_snapshot(), current_schema()")
        found = _facts(connection, str(schema))
        if not found.rows:
            return None
        version, program = _program("pg_dump", found.version)
        words = [program, "--format=custom", f"--snapshot={snapshot}", f'--schema="{found.schema}"']
        _run(url, [*words, f"--lock-wait-timeout={LOCK_SECONDS}s", f"--file={folder / found.member(name)}"])
    return replace(found, version=version)


def facts(url: str) -> Dump | None:
    """Return what is in the database, None where it has no table. Raises DatabaseAway."""
    if kind_of(url) == "sqlite":
        path = sqlite_path(url)
        if not path.exists():
            return None
        with _file(path) as connection:
            found = _facts_of_file(connection)
    else:
        with _connection(url) as connection:
            (schema,) = _one(connection, "SELECT current_schema()")
            found = _facts(connection, str(schema))
    return found if found.rows else None


def is_occupied(found: Dump | None) -> bool:
    """Return whether the ledger is somebody's."""
    return found is not None and any(found.rows.get(each) for each in OCCUPIED_BY)


def programs_connected(url: str) -> int:
    """Return how many others are connected to a PostgreSQL database as its user; 0 for SQLite."""
    if kind_of(url) == "sqlite":
        return 0
    with _connection(url) as connection:
        (count,) = _one(
            connection,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user"
            " AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )
    return int(count)


def load(url: str, file: Path, wanted: Dump, aside: Path) -> None:
    """The database is as the file has it, and as `wanted` says. What was in it is gone; an SQLite file is in `aside`.

    Raises DatabaseAway, and Problem where it could not be loaded or came to something else.
    """
    if wanted.kind == "sqlite":
        path = sqlite_path(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob(f"{path.name}*"):
            shutil.move(old, aside / old.name)
        new = path.with_name(f"{path.name}.restored")
        shutil.copyfile(file, new)
        new.chmod(0o600)
        new.replace(path)
    else:
        _load_postgresql(url, file, wanted)
    found = facts(url)
    if found is None or (found.rows, found.revision) != (wanted.rows, wanted.revision):
        raise Problem(f"{file.name}: other rows came out than went in", f"{file.name}: 행 수가 백업과 다릅니다")


def sqlite_path(url: str) -> Path:
    """Return the file of an SQLite database."""
    return Path(make_url(url).database or "")


def _dump_sqlite(source: Path, target: Path) -> Dump | None:
    if not source.exists():
        return None
    with _file(source) as connection, closing(sqlite3.connect(target)) as copy:
        connection.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
        (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            raise Problem(f"{source}: the file is damaged: {verdict}", f"{source}: 파일이 손상되었습니다: {verdict}")
        found = _facts_of_file(copy)
    return found if found.rows else None


@contextmanager
def _file(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=15)) as connection:
            yield connection
    except sqlite3.OperationalError as error:
        raise DatabaseAway(f"{path}: {error}") from error


def _facts_of_file(connection: sqlite3.Connection) -> Dump:
    select = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    names = [name for (name,) in connection.execute(select)]
    rows = {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}  # noqa: S608
    revision = None
    if "alembic_version" in rows:
        (revision,) = connection.execute("SELECT max(version_num) FROM alembic_version").fetchone()
    return Dump("sqlite", revision, rows)


@contextmanager
def _connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    try:
        with psycopg.connect(
            _address(url), password=make_url(url).password, connect_timeout=CONNECT_SECONDS
        ) as connection:
            yield connection
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise DatabaseAway(str(error)) from error


def _address(url: str) -> str:
    """Return the URL as PostgreSQL's own programs take it, without the password, which others could see."""
    parsed = make_url(url).set(drivername="postgresql")
    return parsed._replace(password=None).render_as_string()


def _one(connection: psycopg.Connection[Any], statement: str) -> tuple[Any, ...]:
    row = connection.execute(statement.encode()).fetchone()
    if row is None:
        raise DatabaseAway("the server gave no row")
    return tuple(row)


def _facts(connection: psycopg.Connection[Any], schema: str) -> Dump:
    select = "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY tablename"
    names = [name for (name,) in connection.execute(select, (schema,)).fetchall()]
    rows = {
        name: int(_one(connection, f'SELECT count(*) FROM "{schema}"."{name}"')[0])  # noqa: S608 - names of its own
        for name in names
    }
    version = None
    if "alembic_version" in rows:
        (version,) = _one(connection, f'SELECT max(version_num) FROM "{schema}".alembic_version')  # noqa: S608
    return Dump("postgresql", version, rows, schema, connection.info.server_version // 10_000)


_CLEAR = """
SELECT CASE relkind WHEN 'S' THEN 2 ELSE 1 END AS turn, format('DROP %%s IF EXISTS %%s CASCADE',
    CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
    oid::regclass)
FROM pg_class WHERE relnamespace = %(schema)s::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
UNION ALL SELECT 3, format('DROP ROUTINE IF EXISTS %%s CASCADE', oid::regprocedure)
FROM pg_proc WHERE pronamespace = %(schema)s::regnamespace
AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid AND deptype = 'e')
UNION ALL SELECT 4, format('DROP TYPE IF EXISTS %%s CASCADE', oid::regtype)
FROM pg_type WHERE typnamespace = %(schema)s::regnamespace AND typtype IN ('e', 'd')
ORDER BY turn
"""
"""What takes away everything in a schema that the platform may have made there, and leaves extensions alone."""


def _load_postgresql(url: str, file: Path, wanted: Dump) -> None:
    with _connection(url) as connection:
        (schema,) = _one(connection, "SELECT current_schema()")
        if schema != wanted.schema:
            raise Problem(
                f"the backup is of the schema {wanted.schema}, the database's is {schema}",
                f"백업의 스키마는 {wanted.schema}, 데이터베이스의 스키마는 {schema}입니다",
            )
        connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        for _, statement in connection.execute(_CLEAR, {"schema": schema}).fetchall():
            connection.execute(statement)
    _, program = _program("pg_restore", wanted.version)
    _run(url, [program, "--single-transaction", "--exit-on-error", f"--schema={schema}"], file)


def _program(name: str, major: int) -> tuple[int, str]:
    """Return the oldest program of that name that knows this major version, and its own. Raises Problem."""
    paths = [folder / name for folder in sorted(_DEBIAN.glob("*/bin"))]
    on_path = shutil.which(name)
    paths += [Path(on_path)] if on_path else []
    found: dict[int, str] = {}
    for path in paths:
        if path.exists():
            said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False).stdout
            version = re.search(r"\(PostgreSQL\) (\d+)", said)
            if version:
                found.setdefault(int(version[1]), str(path))
    enough = [version for version in sorted(found) if version >= major]
    if enough:
        return enough[0], found[enough[0]]
    there = ", ".join(map(str, sorted(found)))
    raise Problem(
        f"{name} of PostgreSQL {major} or newer is needed here; "
        + (f"there is only {there}" if there else "there is none (Debian: apt install postgresql-client)"),
        f"PostgreSQL {major} 이상의 {name}이(가) 필요합니다. "
        + (f"설치된 것: {there}" if there else "설치되어 있지 않습니다 (Debian: apt install postgresql-client)"),
    )


def _run(url: str, words: list[str], *files: Path) -> None:
    """Run one of PostgreSQL's programs on the database. Raises Problem with what it said."""
    more = ["--no-owner", "--no-privileges", "--no-password", f"--dbname={_address(url)}", *map(str, files)]
    password = make_url(url).password
    environment = {**os.environ, **({"PGPASSWORD": password} if password else {})}
    done = subprocess.run(
        [*words, *more], capture_output=True, text=True, env=environment, timeout=DUMP_SECONDS, check=False
    )
    if done.returncode != 0:
        name, said = Path(words[0]).name, done.stderr.strip()[-2000:]
        raise Problem(f"{name} failed: {said}", f"{name} 실패: {said}")
