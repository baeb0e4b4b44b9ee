"""``python -m batch``: the batch door's processes."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from batch.scheduler import Scheduler, leading
from quotas import home as homes
from quotas.settings import SettingsError

BUSY = 75
"""Exit code: another scheduler holds the home's lock; to be tried again."""
ONCE_WAIT_SECONDS = 5.0

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Scheduled notebooks.")


@app.callback()
def main() -> None:
    """Scheduled notebooks."""


@app.command()
def scheduler(
    once: Annotated[bool, typer.Option("--once", help="Carry what is due now to its end, then leave.")] = False,
    home: Annotated[Path | None, typer.Option(help=f"The home folder; without it ${homes.VARIABLE}.")] = None,
) -> None:
    """Claim due schedules and carry them to their ends. SIGTERM ends it; the runs go on and are taken up again."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        place = homes.open_home(home) if home is not None else homes.from_environment()
    except (SettingsError, KeyError) as error:
        why = f"set {homes.VARIABLE} or give --home" if isinstance(error, KeyError) else str(error)
        sys.stderr.write(f"{why}\n")
        raise typer.Exit(2) from None
    working = Scheduler(place, place.database(), place.backend())

    _when_told_to_end(working.stop)
    with leading(place, working.stopping, ONCE_WAIT_SECONDS if once else None) as is_leader:
        if is_leader and once:
            working.run_once()
        elif is_leader:
            working.run()
        elif not working.stopping.is_set():
            sys.stderr.write(f"another scheduler works in {place.path}\n")
            raise typer.Exit(BUSY)


def _when_told_to_end(stop: Callable[[], None]) -> None:
    """SIGTERM and SIGINT call `stop`, in a thread that waits for them.

    In a handler it could meet the very lock that the interrupted code holds.
    """
    numbers = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def wait() -> None:
        signal.sigwait(numbers)
        stop()

    threading.Thread(target=wait, name="signals", daemon=True).start()


if __name__ == "__main__":
    app()
