"""The reconciling loop as a process of its own: `python -m spawners.reconciler`, with `MUDEUNG_HOME` set.

It goes round at its own pace, not in reaction to events, and outlives the hub, the ledger and the backend: what it
cannot do in one round it does in the next. What a round does is in `quotas.services.reconciliation`. Beside it, and
sooner, it goes through the waiting queue (:mod:`spawners.turns`).
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import FrameType

from quotas.backends.port import BackendAway
from quotas.home import VARIABLE, Home, beat, from_environment
from quotas.services import periodic
from quotas.services.reconciliation import Reconciler
from quotas.settings import SettingsError
from quotas.store.database import DatabaseAway
from spawners.hub_door import Hub
from spawners.servers import hub_url
from spawners.turns import Turns

log = logging.getLogger("mudeung.reconciler")

START_MARGIN_SECONDS = 120
"""How much longer than a start may take a run may be held without a process: the hub itself ends it before."""
QUIET = frozenset({"wait", "kept", "closed"})
"""What a round does to most runs, and does not say."""


def reconciler(home: Home) -> Reconciler:
    """Return the loop's memory for `home`. Raises BackendAway when not even the hub's address is known."""
    settings = home.settings
    return Reconciler(
        database=home.database(),
        backend=home.backend(),
        hub=Hub(hub_url(home), home.secret("reconciler_token")),
        policy=settings.policy(),
        start_limit_seconds=settings.start_timeout_seconds + START_MARGIN_SECONDS,
    )


def once(loop: Reconciler, jobs: tuple[periodic.Job, ...]) -> bool:
    """Every open run was looked at once, and of the jobs that are due a piece was done.

    Return False when the ledger did not answer, or something unforeseen came, even if the rest was done.
    """
    try:
        now = int(time.time())
        done = loop.tick(now)
        periodic.run(loop.database, jobs, now)
    except DatabaseAway as away:
        log.warning("the ledger is away: %s", away)
        return False
    except Exception:
        log.exception("this round was not finished; the next one begins anew")
        return False
    told = Counter({action: count for action, count in done.items() if action not in QUIET})
    if told:
        log.info("%s", ", ".join(f"{action}: {count}" for action, count in sorted(told.items())))
    return not done["failed"]


def watch_the_queue(home: Home) -> None:
    """Go through the waiting queue for ever, as soon as the hub's address is known."""
    while True:
        try:
            hub = Hub(hub_url(home), home.secret("reconciler_token"))
        except BackendAway as away:
            log.warning("the queue waits: %s", away)
            time.sleep(home.settings.reconcile_seconds)
        else:
            Turns(home, home.database(), hub).run()


def rounds(home: Home) -> None:
    """Go round for ever; each round begins `reconcile_seconds` after the last has ended."""
    threading.Thread(target=watch_the_queue, args=(home,), name="queue", daemon=True).start()
    loop: Reconciler | None = None
    jobs = periodic.jobs(home.settings.recalls())
    while True:
        try:
            loop = loop or reconciler(home)
        except BackendAway as away:
            log.warning("%s", away)
        else:
            once(loop, jobs)
        beat()
        time.sleep(home.settings.reconcile_seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal says to end; with ``--once`` for one round, whose failure is status 1."""
    parser = argparse.ArgumentParser(prog="python -m spawners.reconciler", description=__doc__.split(":")[0] + ".")
    parser.add_argument("--once", action="store_true", help="go round once and end")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if VARIABLE not in os.environ:
        parser.error(f"{VARIABLE} must name the home folder")
    try:
        home = from_environment()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    if asked.once:
        try:
            return 0 if once(reconciler(home), periodic.jobs(home.settings.recalls())) else 1
        except BackendAway as away:
            log.warning("%s", away)
            return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    log.info("going round every %d s", home.settings.reconcile_seconds)
    rounds(home)
    return 0


def _end(_number: int, _frame: FrameType | None) -> None:
    """End now, in the middle of whatever is being stopped: what a round was about to do, the next one does again."""
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
