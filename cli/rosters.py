"""`mudeung reservations roster`: who may claim the seats of a reservation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, show
from quotas.domain.rosters import MOST_BYTES, Names, read
from quotas.domain.units import InvalidValue
from quotas.services import reservation_views as views
from quotas.services import rosters

LIST = (
    Column("username", "username", "사용자"),
    Column("display_name", "name", "이름"),
    Column("role", "role in the project", "과제 역할"),
)
CHANGE = (
    Column("username", "username", "사용자"),
    Column("change", "change", "변경"),
)
Number = Annotated[int, typer.Argument(help="Number of the reservation.", show_default=False, min=1, max=2**31 - 1)]
Username = Annotated[str, typer.Argument(show_default=False)]
RosterFile = Annotated[
    Path,
    typer.Argument(help="CSV with a column `username`, or a name on each line; - is the input.", show_default=False),
]
RosterOption = Annotated[
    Path | None,
    typer.Option(
        help="CSV with a column `username`, or a name on each line; - is the input.",
        show_default="all members of the project",
        metavar="FILE",
    ),
]


def register(group: typer.Typer) -> None:
    roster = typer.Typer(help="Who may claim the seats.", no_args_is_help=True)
    command(roster, "list", example="mudeung reservations roster list 3")(list_roster)
    command(roster, "import", example="mudeung reservations roster import 3 class.csv --dry-run")(import_roster)
    command(roster, "add", example="mudeung reservations roster add 3 minji")(add)
    command(roster, "remove", example="mudeung reservations roster remove 3 minji")(remove)
    command(roster, "all-members", example="mudeung reservations roster all-members 3")(use_members)
    group.add_typer(roster, name="roster")


def names(path: Path | None) -> tuple[str, ...] | None:
    """Return the names in the file, or None where none is given. Raises InvalidValue."""
    return None if path is None else _read(path).names


def _read(path: Path) -> Names:
    try:
        if str(path) == "-":
            return read(sys.stdin.buffer.read(MOST_BYTES + 1))
        with path.open("rb") as file:
            return read(file.read(MOST_BYTES + 1))
    except OSError as error:
        raise InvalidValue("roster", f"{path}: {error.strerror}", f"{path}: {error.strerror}") from None


def list_roster(session: Session, number: Number, output: FormatOption = Format.TABLE) -> None:
    """List who is on the roster as of now."""
    rows = [
        {"username": each.username, "display_name": each.display_name, "role": each.role}
        for each in views.roster(session.database, number)
    ]
    show(session, LIST, rows, output)


def import_roster(
    session: Session,
    number: Number,
    file: RosterFile,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would change.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Make the roster a list that is read from a file; those who are not in it are taken off."""
    given = _read(file)
    if dry_run:
        change = rosters.preview(session.database, number, given)
    else:
        change = rosters.replace(session.database, number, given, actor=session.actor, now=session.now)
    kinds = (
        (change.added, ("added", "추가")),
        (change.removed, ("removed", "제외")),
        (change.strangers, ("no member of the project", "과제 구성원이 아님")),
        (change.twice, ("given more than once", "중복")),
    )
    show(
        session,
        CHANGE,
        [{"username": name, "change": session.text(*texts)} for found, texts in kinds for name in found],
        output,
    )
    if output is not Format.TABLE:
        return
    total, seats = change.on_roster, change.seats
    session.say(f"{total} on the roster for {seats} seats.", f"명단 {total}명, 좌석 {seats}석.")
    if dry_run:
        session.say("Nothing was changed.", "변경된 내용은 없습니다.")


def add(session: Session, number: Number, username: Username) -> None:
    """Put a member of the project on the roster."""
    if rosters.add(session.database, number, username, actor=session.actor, now=session.now):
        session.say(f"{username} is on the roster.", f"{username}: 명단에 추가됨.")
    else:
        session.say(f"{username} was on the roster already.", f"{username}: 이미 명단에 있음.")


def remove(session: Session, number: Number, username: Username) -> None:
    """Take a person off the roster; a seat that they have they keep to its end."""
    rosters.remove(session.database, number, username, actor=session.actor, now=session.now)
    session.say(f"{username} is not on the roster any more.", f"{username}: 명단에서 제외됨.")


def use_members(session: Session, number: Number) -> None:
    """Put all members of the project on the roster, those who come later too."""
    rosters.use_members(session.database, number, actor=session.actor, now=session.now)
    session.say("All members of the project are on the roster.", "과제의 모든 구성원이 명단에 있습니다.")
