"""`mudeung`: everything that can be asked of a platform from its machine."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from cli import (
    agent,
    awards,
    backup,
    copayments,
    explain,
    images,
    ledger,
    migrations,
    nodes,
    notices,
    outcomes,
    people,
    pools,
    profiles,
    projects,
    queue,
    rates,
    recalls,
    renewals,
    reports,
    reservations,
    runs,
    schedules,
    settings,
    status,
    up,
    usage,
)
from cli.demo import command as demo
from cli.gpu_check import command as gpu_check
from cli.session import LanguageOption, RootHomeOption

app = typer.Typer(
    name="mudeung",
    help="Run a notebook platform, and see and steer who may use what of it.",
    epilog="Example: mudeung up, then open the printed address",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (
    up,
    demo,
    gpu_check,
    status,
    migrations,
    backup,
    projects,
    awards,
    renewals,
    outcomes,
    people,
    images,
    profiles,
    pools,
    nodes,
    rates,
    reservations,
    explain,
    ledger,
    copayments,
    reports,
    schedules,
    runs,
    queue,
    notices,
    recalls,
    usage,
    settings,
    agent,
):
    part.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mudeung {version('mudeung')}")
        raise typer.Exit


@app.callback()
def main(
    home: RootHomeOption = None,
    lang: LanguageOption = None,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run a notebook platform, and see and steer who may use what of it."""
