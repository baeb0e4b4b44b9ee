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


def typed_code(session: Session, code: str) -> str:
    """Return what the person at the terminal types when asked for the project's code."""
    words = f"This cannot be undone. Type {code} to go on", f"되돌릴 수 없습니다. 계속하려면 {code}을(를) 입력하세요"
    return str(typer.prompt(session.text(*words), default="", show_default=False, err=True)).strip()
