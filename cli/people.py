"""`mudeung people`: who may log in, and their passwords where the platform keeps them."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated

import typer

from cli.confirmation import Yes, confirm
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, show
from quotas.domain.people import LANGUAGES, Organisation, PlatformRole
from quotas.services import identities, people

LIST = (
    Column("username", "username", "사용자"),
    Column("display_name", "name", "이름"),
    Column("organisation", "organisation", "기관"),
    Column("language", "language", "언어"),
    Column("roles", "platform roles", "플랫폼 역할"),
)
REMOVED = (*LIST[:2], Column("removed_at", "removed", "삭제 시각", Kind.INSTANT))
PASSWORD_BYTES = 12
Username = Annotated[str, typer.Argument(show_default=False)]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Persons and their passwords.", no_args_is_help=True)
    command(group, "list", example="mudeung people list")(list_people)
    command(group, "add", example='mudeung people add minji --name "Kim Minji" --organisation jnu')(add)
    command(group, "remove", example="mudeung people remove minji")(remove)
    command(group, "restore", example="mudeung people restore minji")(restore)
    command(group, "unlink", example="mudeung people unlink minji")(unlink)
    command(group, "password", example="mudeung people password minji --generate")(set_password)
    command(
        group,
        "add-organisation",
        example='mudeung people add-organisation jnu --name-ko "전남대학교" --name-en "Chonnam National University"',
    )(add_organisation)
    app.add_typer(group, name="people")


def list_people(
    session: Session,
    *,
    removed: Annotated[bool, typer.Option("--removed", help="Those who were removed, instead.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """List all persons."""
    if removed:
        show(session, REMOVED, [each._asdict() for each in people.removed(session.database)], output)
        return
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


def remove(session: Session, username: Username, *, yes: Yes = False) -> None:
    """Remove a person: no login, no project, no role; what runs of theirs is stopped. Their runs and charges stay."""
    confirm(
        session,
        f"Remove {username} from every project and role, and stop what runs of theirs?",
        f"{username}을(를) 모든 과제와 역할에서 빼고 실행 중인 것을 중지할까요?",
        yes=yes,
    )
    people.remove_person(session.database, username, actor=session.actor, now=session.now)
    session.say(f"Removed {username}.", f"{username} 삭제됨.")


def restore(session: Session, username: Username) -> None:
    """Let a person who was removed log in again. Projects and roles are given anew."""
    people.restore_person(session.database, username, actor=session.actor, now=session.now)
    session.say(f"Restored {username}.", f"{username} 복구됨.")


def unlink(session: Session, username: Username) -> None:
    """Forget which account at the identity provider is the person's: the next one of that name will be."""
    count = identities.unlink(session.database, username, actor=session.actor, now=session.now)
    if count:
        session.say(f"Unlinked the account of {username}.", f"{username}의 계정 연결이 해제되었습니다.")
    else:
        session.say(f"{username} had no account.", f"{username}에게 연결된 계정이 없습니다.")


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
    username: Username,
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
