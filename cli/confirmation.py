"""What cannot be undone is asked for first."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.session import Problem, Session

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def confirm(session: Session, english: str, korean: str, *, yes: bool) -> None:
    """Go on only if `yes`, or if the person at the terminal says so; the question is on the error stream."""
    if not yes and not typer.confirm(session.text(english, korean), err=True):
        raise Problem("nothing was done", "아무것도 하지 않았습니다")
