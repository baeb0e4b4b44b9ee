"""The files of projects that are over: `mudeung projects kept`, `files` and `close`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from cli.confirmation import typed_code
from cli.session import Problem, Session, command
from cli.tables import Column, Format, FormatOption, Kind, show
from quotas.archives import Archive
from quotas.domain.units import InvalidValue, show_instant
from quotas.services import projects, storage
from quotas.services.storage import Closing

LIST = (
    Column("project", "project", "과제"),
    Column("title", "title", "제목"),
    Column("storage_until", "files kept until", "파일 보관 기한", Kind.INSTANT),
    Column("may_be_closed", "may be closed", "폐쇄 가능"),
)
Code = Annotated[str, typer.Argument(help="Code of the project.", show_default=False)]


def register(group: typer.Typer) -> None:
    command(group, "kept", example="mudeung projects kept")(list_kept)
    command(group, "files", example="mudeung projects files vision-lab -o vision-lab.tar.gz")(fetch)
    command(group, "close", example="mudeung projects close vision-lab --remove")(close)


def list_kept(session: Session, output: FormatOption = Format.TABLE) -> None:
    """List the projects that are over, with until when their files are kept."""
    rows = [
        {
            "project": each.project,
            "title": each.title_ko if session.language == "ko" else each.title_en,
            "storage_until": each.storage_until,
            "may_be_closed": "yes" if each.storage_until <= session.now else "no",
        }
        for each in storage.kept(session.database, session.now)
    ]
    show(session, LIST, rows, output)


def fetch(
    session: Session,
    code: Code,
    output: Annotated[Path, typer.Option("--output", "-o", help="The new archive, a .tar.gz.", show_default=False)],
) -> None:
    """Write a project's files as a gzipped tar; links that lead out of it are left out."""
    folder = _folder(session, code)
    if not folder.is_dir():
        raise InvalidValue("project", f"{code} has no files", f"{code} 과제에는 파일이 없습니다")
    if output.exists():
        raise InvalidValue("output", f"{output} is there already", f"{output}이(가) 이미 있습니다")
    part = output.with_name(f".{output.name}.{secrets.token_hex(4)}.part")
    archive = Archive(folder, code)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for block in archive:
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        part.rename(output)
    except OSError as error:
        raise InvalidValue(
            "output", f"cannot be written: {error.strerror}", f"쓸 수 없습니다: {error.strerror}"
        ) from None
    finally:
        part.unlink(missing_ok=True)
    storage.note_fetched(session.database, session.actor, code, session.now)
    left = len(archive.left_out)
    session.say(
        f"{output}: {archive.files} files, {left} left out.", f"{output}: 파일 {archive.files}개, 제외 {left}개."
    )


def close(
    session: Session,
    code: Code,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Remove the files; without it, only show what.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also before the files' keeping ends.")] = False,
    confirm: Annotated[
        str | None, typer.Option(help="For --force: the project's code once more, or it is asked for.", metavar="CODE")
    ] = None,
) -> None:
    """Close a project that is over for good, and remove its files; a dry run unless --remove is given."""
    folder = _folder(session, code)
    planned = storage.preview(session.database, folder, code, now=session.now, force=force)
    if not remove:
        _say(session, planned)
        session.say("Nothing was done; --remove removes them.", "아무것도 하지 않았습니다. --remove를 쓰면 삭제합니다.")
        return
    confirmed = confirm or (typed_code(session, code) if force else "")
    try:
        done = storage.close(
            session.database,
            folder,
            code,
            actor=session.actor,
            now=session.now,
            force=force,
            confirm=confirmed,
        )
    except OSError as error:
        raise Problem(
            f"{code} is closed, but not all files could be removed: {error}; run the command again",
            f"{code} 과제는 폐쇄되었지만 일부 파일을 삭제하지 못했습니다: {error}. 명령을 다시 실행하세요",
        ) from None
    _say(session, done)


def _folder(session: Session, code: str) -> Path:
    """Return the folder of a project that there is: a code is a name, never a path."""
    if projects.show(session.database, code, session.now) is None:
        raise InvalidValue("project", f"there is no project {code!r:.60}", f"과제 {code!r:.60}이(가) 없습니다")
    return session.home.projects / code


def _say(session: Session, closing: Closing) -> None:
    size = closing.size
    until = "-" if closing.storage_until is None else show_instant(closing.storage_until)
    what = f"{size.files:,}", f"{size.bytes:,}"
    if closing.is_done:
        session.say(
            f"{closing.project} is closed; {what[0]} files ({what[1]} bytes) were removed.",
            f"{closing.project} 과제를 폐쇄했습니다. 파일 {what[0]}개({what[1]}바이트)를 삭제했습니다.",
        )
    else:
        session.say(
            f"{closing.project} has {what[0]} files ({what[1]} bytes), kept until {until}.",
            f"{closing.project}: 파일 {what[0]}개({what[1]}바이트), 보관 기한 {until}.",
        )
