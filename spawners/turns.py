"""The loop of the waiting queue, beside the reconciling one: whose turn it is, and servers asked for in their turn.

It runs in a thread of its own: a round of the reconciling loop that stops many servers takes long, and a device that
comes free is wanted within seconds. What the hub does not take now, it is asked for again, as long as the turn lasts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from quotas.home import Home
from quotas.services import queue_steps
from quotas.services.queue_entries import Entry
from quotas.store.database import Database, DatabaseAway
from spawners.hub_door import Hub

log = logging.getLogger("mudeung.queue")

AT_ONCE = 8
"""How many servers the hub is asked for at the same time; each answer takes as long as a start, up to ten seconds."""
IN_HAND = 32
"""How many may be asked for, or be about to be, before more are taken."""
QUIET = frozenset({"waits", "blocked", "gone"})
"""What a step does to most entries, and does not say."""


@dataclass
class Turns:
    """The loop over one home's queue."""

    home: Home
    database: Database
    hub: Hub
    stopping: threading.Event = field(default_factory=threading.Event)
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(AT_ONCE, "turns"))
    _asking: set[Future[None]] = field(default_factory=set)

    def run(self) -> None:
        """Look at the queue every `queue_seconds`, until `stopping`; whatever fails is tried again."""
        while not self.stopping.is_set():
            try:
                self.once(int(time.time()))
            except DatabaseAway as away:
                log.warning("the ledger is away: %s", away)
            except Exception:
                log.exception("this look at the queue was not finished; the next one begins anew")
            self.stopping.wait(self.home.settings.queue_seconds)

    def once(self, now: int) -> Counter[str]:
        """One step was made, and the hub is being asked for the servers whose turn it is. Raises DatabaseAway.

        The answers are not waited for: asking took place, and is repeated after a while where it did not help.
        """
        settings = self.home.settings
        done = queue_steps.step(self.database, now, settings.policy(), settings.queue_limits())
        self._asking = {each for each in self._asking if not each.done()}
        for entry in queue_steps.to_start(self.database, now, IN_HAND - len(self._asking)):
            done["asked"] += 1
            self._asking.add(self._threads.submit(self._ask, entry))
        told = Counter({action: count for action, count in done.items() if action not in QUIET})
        if told:
            log.info("%s", ", ".join(f"{action}: {count}" for action, count in sorted(told.items())))
        return done

    def _ask(self, entry: Entry) -> None:
        if self.hub.start_server(entry.person, entry.project, entry.profile, entry.run_id):
            log.info("run %s of %s on %s: the hub was asked to start it", entry.run_id, entry.person, entry.project)
