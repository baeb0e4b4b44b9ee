"""`mudeung agent`: this machine's accelerators and their use are reported to the platform."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agent import starting
from agent.options import DEFAULT_STATE, TOKEN_VARIABLE, Options
from cli.session import USAGE, Problem, Session, command


class Printed(StrEnum):
    """How what the machine has is printed."""

    TABLE = "table"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """The command is in the program."""
    command(
        app,
        "agent",
        example="mudeung agent --url https://notebooks.example.org --token-file /etc/mudeung/agent.token",
    )(agent)


def agent(  # noqa: PLR0913, PLR0917 - they are its options
    session: Session,
    url: Annotated[str | None, typer.Option(help="The platform's address; needed unless --print.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help=f"This machine's token; without it ${TOKEN_VARIABLE}.", metavar="FILE")
    ] = None,
    state: Annotated[Path, typer.Option(help="What is not sent yet.", metavar="FOLDER")] = DEFAULT_STATE,
    interval: Annotated[int, typer.Option(help="Between two samples.", metavar="SECONDS")] = 10,
    buffer_hours: Annotated[int, typer.Option(help="How long reports are kept.", metavar="HOURS")] = 24,
    once: Annotated[bool, typer.Option("--once", help="Sample once, send all that waits, and end.")] = False,
    printed: Annotated[
        bool, typer.Option("--print", help="Print what the machine has, and end; nothing is sent.")
    ] = False,
    output: Annotated[Printed, typer.Option("--output", "-o", help="How to print.")] = Printed.TABLE,
    no_nvml: Annotated[bool, typer.Option("--no-nvml", help="Do not look for NVIDIA's GPUs.")] = False,
    scrub_command: Annotated[
        str, typer.Option(help="Scrubs what CUDA cannot; $MUDEUNG_DEVICE_UUID and …_PATHS say what.", metavar="LINE")
    ] = "",
    root: Annotated[Path, typer.Option(help="Where /dev, /sys and /etc are.", metavar="FOLDER")] = Path("/"),
    proc: Annotated[Path, typer.Option(help="Where /proc is.", metavar="FOLDER")] = Path("/proc"),
    pod_resources: Annotated[
        Path | None, typer.Option(help="Of the kubelet, which says which pod has which device.", metavar="SOCKET")
    ] = None,
) -> None:
    """Report this machine's accelerators and their use to the platform, until it is told to end."""
    if printed:
        code = starting.print_inventory(root, proc, nvml=not no_nvml, output=output.value, language=session.language)
        raise typer.Exit(code)
    if url is None:
        raise Problem("--url is needed: the platform's address", "--url이 필요합니다: 플랫폼 주소", USAGE)
    options = Options(
        url=url,
        state=state,
        token_file=token_file,
        interval_seconds=interval,
        buffer_hours=buffer_hours,
        once=once,
        nvml=not no_nvml,
        scrub_command=scrub_command,
        root=root,
        proc=proc,
        pod_resources=pod_resources,
    )
    raise typer.Exit(starting.start(options, session.language))
