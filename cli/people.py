"""`mudeung people`: who may log in, and their passwords where the platform keeps them."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated

import typer

from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, show
from quotas.domain.people import LANGUAGES, Organisation, PlatformRole
from quotas.services import people

LIST = (
    Column("username", "username", "사용자"),
    Column("display_name", "name", "이름"),
    Column("organisation", "organisation", "기관"),
    Column("language", "language", "언어"),
    Column("roles", "platform roles", "플랫폼 역할"),
)
PASSWORD_BYTES = 12


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Persons and their passwords.", no_args_is_help=True)
    command(group, "list", example="mudeung people list")(list_people)
    command(group, "add", example='mudeung people add minji --name "Kim Minji" --organisation jnu')(add)
    command(group, "password", example="mudeung people password minji --generate")(set_password)
    command(
        group,
        "add-organisation",
        example='mudeung people add-organisation jnu --name-ko "전남대학교" --name-en "Chonnam National University"',
    )(add_organisation)
    app.add_typer(group, name="people")


def list_people(session: Session, output: FormatOption = Format.TABLE) -> None:
    """List all persons."""
    rows = [
        {
            "username": each.username,
            "display_name": each.display_name,
            "organisation": each.organisation,
            "language": each.language,
            "roles": sorted(each.platform_roles),
        }
        for each in people.people(session.database)
    ]
    show(session, LIST, rows, output)


def add(
    session: Session,
    username: Annotated[str, typer.Argument(help="a-z, 0-9, '.', '_', '-'; a letter first.", show_default=False)],
    name: Annotated[str, typer.Option(help="Name to show.", show_default=False)],
    organisation: Annotated[str | None, typer.Option(help="Code of the organisation.")] = None,
    language: Annotated[str, typer.Option(help=f"Language of the pages: {' or '.join(LANGUAGES)}.")] = "ko",
    role: Annotated[list[PlatformRole] | None, typer.Option(help="A role on the whole platform; repeatable.")] = None,
) -> None:
    """Add a person. Membership in a project is given by `mudeung projects members add`."""
    added = people.add_person(
        session.database,
        username,
        name,
        organisation=organisation,
        language=language,
        platform_roles=frozenset(role or ()),
        actor=session.actor,
        now=session.now,
    )
    session.say(f"Added {added.username}.", f"{added.username} 추가됨.")


def add_organisation(
    session: Session,
    code: Annotated[str, typer.Argument(help="Short name: a-z, 0-9, '-', '.'.", show_default=False)],
    name_ko: Annotated[str, typer.Option(help="Name in Korean.", show_default=False)],
    name_en: Annotated[str, typer.Option(help="Name in English.", show_default=False)],
    kind: Annotated[str, typer.Option(help="As in startup, university, agency.")] = "university",
) -> None:
    """Add an organisation."""
    people.add_organisation(
        session.database, Organisation(code, name_ko, name_en, kind), actor=session.actor, now=session.now
    )
    session.say(f"Added {code}.", f"{code} 추가됨.")


def set_password(
    session: Session,
    username: Annotated[str, typer.Argument(show_default=False)],
    generate: Annotated[bool, typer.Option("--generate", help="Make one and print it.")] = False,
) -> None:
    """Set a person's password: asked for twice on a terminal, else read as one line from the input."""
    if generate:
        password = new_password()
    elif sys.stdin.isatty():
        prompt = session.text("New password", "새 비밀번호")
        password = str(typer.prompt(prompt, hide_input=True, confirmation_prompt=True))
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    people.set_password(session.database, username, password, actor=session.actor, now=session.now)
    shown = f": {password}" if generate else "."
    session.say(f"New password of {username}{shown}", f"{username}의 새 비밀번호 설정됨{shown}")


def new_password() -> str:
    """Return a password of 16 characters that nobody can guess."""
    return secrets.token_urlsafe(PASSWORD_BYTES)
