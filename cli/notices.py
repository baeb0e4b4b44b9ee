"""`mudeung notices`: what people were told, and what of it they have read."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, show
from quotas.domain.units import InvalidValue
from quotas.services import notices
from quotas.services.notices import Notice

LIST = (
    Column("id", "no.", "번호", Kind.NUMBER),
    Column("at", "at", "시각", Kind.INSTANT),
    Column("person", "person", "사용자"),
    Column("kind", "kind", "종류"),
    Column("read_at", "read", "읽음", Kind.INSTANT),
    Column("text", "notice", "알림"),
)
OF_JSON = (*LIST[:-1], Column("about", "about", "대상"), Column("text_ko", "ko", "ko"), Column("text_en", "en", "en"))


def register(app: typer.Typer) -> None:
    command(app, "notices", example="mudeung notices minji -o json")(list_notices)


def list_notices(
    session: Session,
    person: Annotated[str | None, typer.Argument(help="Username; without it everyone's.", show_default=False)] = None,
    unread: Annotated[bool, typer.Option("--unread", help="Only what the person has not read.")] = False,
    mark_read: Annotated[bool, typer.Option("--mark-read", help="Mark what is listed as read by the person.")] = False,
    limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1, max=notices.MOST_LISTED)] = 50,
    output: FormatOption = Format.TABLE,
) -> None:
    """List what a person was told, or everyone, the newest first."""
    if person is None and (unread or mark_read):
        raise InvalidValue("person", "--unread and --mark-read need one", "--unread와 --mark-read에는 필요합니다")
    if person is None:
        found = notices.latest(session.database, limit=limit)
    else:
        found = notices.of_person(session.database, person, limit=limit, unread=unread)
    show(session, OF_JSON if output is Format.JSON else LIST, [_row(session, each) for each in found], output)
    if person is not None and mark_read:
        for each in found:
            notices.mark_read(session.database, person, each.id, now=session.now)


def _row(session: Session, notice: Notice) -> dict[str, Any]:
    return {
        "id": notice.id,
        "at": notice.at,
        "person": notice.person,
        "kind": notice.kind,
        "read_at": notice.read_at,
        "about": notice.about,
        "text": notice.text(session.language),
        "text_ko": notice.text_ko,
        "text_en": notice.text_en,
    }
