"""`mudeung images`: from which container image the servers and batch runs of a profile are started."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, show
from quotas.services import images, profiles

LIST = (
    Column("code", "code", "코드"),
    Column("reference", "reference", "참조"),
    Column("title_ko", "in Korean", "한국어"),
    Column("title_en", "in English", "영어"),
)
Code = Annotated[str, typer.Argument(help="Code by which profiles name it.", show_default=False)]
Reference = Annotated[str, typer.Argument(help="As a registry knows it: registry/name:tag.", show_default=False)]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        no_args_is_help=True, help="From which container image the servers and batch runs of a profile are started."
    )
    command(group, "list", example="mudeung images list -o json")(list_images)
    command(
        group,
        "add",
        example="mudeung images add scientific registry.example.org/mudeung/notebook:0.1.0 --name-ko '과학 계산'"
        " --name-en 'Scientific computing'",
    )(add)
    command(group, "change", example="mudeung images change scientific registry.example.org/mudeung/notebook:0.2.0")(
        change
    )
    app.add_typer(group, name="images")


def list_images(session: Session, output: FormatOption = Format.TABLE) -> None:
    """List all images."""
    show(session, LIST, [vars(each) for each in images.images(session.database)], output)


def add(
    session: Session,
    code: Code,
    reference: Reference,
    *,
    name_ko: Annotated[str, typer.Option(help="Name in Korean.", show_default=False)],
    name_en: Annotated[str, typer.Option(help="Name in English.", show_default=False)],
) -> None:
    """Add an image, so that profiles can name it."""
    profiles.add_image(session.database, code, reference, name_ko, name_en, actor=session.actor, now=session.now)
    session.say(f"Added: {code} is {reference}.", f"추가됨: {code} = {reference}.")


def change(session: Session, code: Code, reference: Reference) -> None:
    """Start servers from another reference from now on; those that run keep theirs."""
    images.change(session.database, code, reference, actor=session.actor, now=session.now)
    session.say(f"{code} is {reference} from now on.", f"이제부터 {code} = {reference}.")
