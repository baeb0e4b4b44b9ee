"""The idle culler as a process of its own: `python -m spawners.idleness`, with `MUDEUNG_HOME` set.

It is jupyterhub-idle-culler's `IdleCuller`, which lists the hub's servers at its own pace and stops those that it is
told to stop. What it is told is ours: its arbiter asks the ledger (:mod:`quotas.services.idleness`), which knows the
devices, the kernels and the profile's limit, warns first, and sets the end. It outlives the hub and the ledger: whom it
cannot ask in one round it asks in the next, and nobody is stopped meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from jupyterhub_idle_culler import IdleCuller

from quotas.backends.port import BackendAway
from quotas.domain.idleness import Then
from quotas.home import VARIABLE, Home, from_environment
from quotas.services import idleness
from quotas.settings import SettingsError
from quotas.store.database import Database, DatabaseAway
from spawners.servers import hub_url

log = logging.getLogger("mudeung.idleness")

PAGE_USERS = 200
LEDGER_THREADS = 2
AWAY_SECONDS = 15
"""For so long a ledger that did not answer is not asked again: a round over many servers would wait for each."""
SAYS = {
    Then.MARK: "idle; its end is set, and its person is told",
    Then.CLEAR: "not idle any more",
    Then.STOP: "idle, and its end has come",
}


class Arbiter:
    """Whether a server of the hub is to be stopped now. It is asked in the culler's event loop, and never raises."""

    def __init__(self, home: Home, database: Database) -> None:
        self.policy = home.settings.policy()
        self.database = database
        self.threads = ThreadPoolExecutor(LEDGER_THREADS, "ledger")
        self.asks_again_at = 0.0

    async def __call__(self, *, inactive: timedelta | None, server: dict[str, Any], **_more: object) -> bool:
        """Return whether the end of the server, as the hub's API shows it, has come; unknown is no.

        `inactive` is for how long the hub has not seen it active.
        """
        return await asyncio.get_running_loop().run_in_executor(self.threads, self.decide, inactive, server)

    def decide(self, inactive: timedelta | None, server: dict[str, Any]) -> bool:
        """Do what `__call__` says; blocks."""
        if time.monotonic() < self.asks_again_at:
            return False
        name = str(server.get("full_name"))
        now = int(time.time())
        try:
            person, _, project = name.rpartition("/")
            seen_at = None if inactive is None else now - max(int(inactive.total_seconds()), 0)
            then = idleness.look(self.database, person, project, seen_at, now, self.policy)
        except DatabaseAway as away:
            self.asks_again_at = time.monotonic() + AWAY_SECONDS
            log.warning("the ledger is away: %s", away)
            return False
        except Exception:
            log.exception("%s: not looked at in this round", name)
            return False
        if then in SAYS:
            log.info("%s: %s", name, SAYS[then])
        return then is Then.STOP


class OneLine(logging.Filter):
    """A hub that is away fails a whole round of the culler: one line says so, not the way through its code."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            record.msg, record.args = "not done in this round: %s: %s", (type(error).__name__, error)
            record.exc_info = record.exc_text = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


def culler(home: Home) -> IdleCuller:
    """Return the culler for `home`. Raises BackendAway when not even the hub's address is known."""
    return IdleCuller(
        log=log,
        config_file="",  # the settings are the platform's
        url=f"{hub_url(home)}/hub/api",
        api_page_size=PAGE_USERS,
        cull_every=home.settings.idleness_seconds,
        cull_default_servers=False,  # there are none
        cull_named_servers=True,
        cull_users=False,
        remove_named_servers=False,
        max_age=0,  # a server's longest time is its profile's, and can be extended
        cull_arbiter_hook=Arbiter(home, home.database()),
    )


def rounds(home: Home) -> None:
    """Go round until the process is ended, as soon as the hub's address is known."""
    while True:
        try:
            application = culler(home)
            break
        except BackendAway as away:
            log.warning("%s", away)
            time.sleep(home.settings.idleness_seconds)
    os.environ["JUPYTERHUB_API_TOKEN"] = home.secret("idleness_token")  # which is where the culler looks for it
    log.info("looking for idle servers every %d s", home.settings.idleness_seconds)
    application.start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal ends it."""
    parser = argparse.ArgumentParser(prog="python -m spawners.idleness", description=__doc__.split(":")[0] + ".")
    parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for name in ("tornado.application", log.name):
        logging.getLogger(name).addFilter(OneLine())
    if VARIABLE not in os.environ:
        parser.error(f"{VARIABLE} must name the home folder")
    try:
        home = from_environment()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))  # as process 1 it would not be ended by it
    rounds(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
