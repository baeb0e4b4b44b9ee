"""`mudeung gpu-check`: the command itself, which ends everything however the check went."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import httpx
import typer
from websockets.exceptions import WebSocketException

from cli.demo.platform import OwnPlatform
from cli.demo.story import Differs, NotDone, Story
from cli.gpu_check import report
from cli.gpu_check.report import COMPLETE, DIFFERS, INCOMPLETE
from cli.gpu_check.round import Check, Options
from cli.session import Problem, Session, command
from cli.up import Backend
from quotas.backends.port import BackendAway

EXPECTED = (
    Differs,
    BackendAway,
    httpx.HTTPError,
    WebSocketException,
    subprocess.SubprocessError,
    OSError,
    LookupError,
    ValueError,
)
"""What a step may end with that differs from what should be."""


def register(app: typer.Typer) -> None:
    """The command is in the program."""
    command(app, "gpu-check", example="mudeung gpu-check --write docs/gpu_check_h100.md")(gpu_check)


def gpu_check(  # noqa: PLR0913, PLR0917 - they are its options
    session: Session,
    backend: Annotated[Backend, typer.Option(help="Where servers run.")] = Backend.LOCAL,
    seconds: Annotated[float, typer.Option(help="How long to train.", min=1, max=3600)] = 60.0,
    interval: Annotated[int, typer.Option(help="Seconds between two samples of the agent.", min=1, max=60)] = 10,
    model: Annotated[
        str | None, typer.Option(help="Device model to check.", show_default="that of most devices", metavar="CODE")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="Keep the report here, as Markdown.", metavar="FILE")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the temporary home.")] = False,
) -> None:
    """Show on this machine's GPUs that the platform works, on a platform of its own.

    Inventory, capacity, a server that sees exactly its device, a training
    metered beside NVML, a scheduled run, charges, release of the device.

    Exit 0: all of it; 1: a step differs; 3: incomplete, without a GPU or CUDA.
    """
    if write is not None and not write.parent.is_dir():
        raise Problem(f"write: there is no folder {write.parent}", f"write: {write.parent} 폴더가 없습니다")
    home = Path(tempfile.mkdtemp(prefix="mudeung-gpu-check-"))
    platform = OwnPlatform(backend.value, session.language, home)
    check = Check(platform, Story(session), Options(seconds, interval, model))
    try:
        status = _go(session, check)
    finally:
        check.end()
        platform.remove(keep=keep)
        if keep:
            session.say(f"Its home was kept: {platform.home}", f"홈 폴더를 남겼습니다: {platform.home}")
    text = report.write(check, status, session.now)
    session.say(f"\nThe report:\n\n{text}", f"\n보고서:\n\n{text}")
    if write is not None:
        write.write_text(text, encoding="utf-8")
        session.say(f"It was written to {write}.", f"{write}에 저장했습니다.")
    session.say(*report.RESULTS[status])
    if status != COMPLETE:
        raise typer.Exit(status)


def _go(session: Session, check: Check) -> int:
    """Return the exit status that the check came to."""
    try:
        check.go()
    except NotDone:
        return INCOMPLETE
    except EXPECTED:
        session.say("\nThe check failed. Ends of the logs:", "\n점검이 실패했습니다. 로그의 끝:")
        print(check.platform.logs(), flush=True)
        print(check.agent.printed()[-3000:], flush=True)
        return DIFFERS
    return INCOMPLETE if check.undone else COMPLETE
