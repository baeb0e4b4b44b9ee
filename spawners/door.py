"""What all servers of one hub share, and what the gate asks of the ledger and the backend: calls that block.

The hub is one event loop, so nothing here is called in it: `Door.ask_ledger` and `Door.ask_backend` run a call in a
thread. Each has its own threads, as an engine that hangs must not keep a start of someone else from the ledger, nor
the other way round.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from quotas.backends.port import Backend, BackendAway
from quotas.domain.admission import Admitted, Decision, Request
from quotas.domain.inventory import AssignedDevice
from quotas.domain.launch import Seen, ended_as
from quotas.domain.profiles import Profile
from quotas.domain.queue import WAITABLE, Mode
from quotas.domain.refusals import Code, Refused
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.domain.units import InvalidValue
from quotas.home import Home
from quotas.services import admission, assignment, doors, offers, people, profiles, queue, queue_views
from quotas.services.admission import Ended
from quotas.services.queue_views import Place, Wait
from quotas.store import audit
from quotas.store.database import Database, DatabaseAway
from spawners import language
from spawners.form import StartPage
from spawners.options import Choice
from spawners.pace import Pace

log = logging.getLogger("mudeung.door")

LEDGER_THREADS = 8
BACKEND_THREADS = 32
STOP_GRACE_SECONDS = 10
Result = TypeVar("Result")


CURED_BY_DEVICES = WAITABLE | {Code.CEILING}
"""Refusals of a start for which a person may wait, or borrow what is idle."""


@dataclass(frozen=True)
class Answer:
    """What the ledger said to a request: in whose language to speak, the decision, and the admitted profile."""

    language: str
    decision: Decision
    profile: Profile | None = None


class Door:
    """The hub's way to the ledger and to its backend. `instance` is this hub's id in the ledger."""

    def __init__(self, home: Home, database: Database, backend: Backend, instance: str) -> None:
        self.home = home
        self.database = database
        self.backend = backend
        self.instance = instance
        self.settings = home.settings
        self.policy = home.settings.policy()
        self.pace = Pace(home.settings.slots())
        self.ledger_threads = ThreadPoolExecutor(LEDGER_THREADS, "ledger")
        self.backend_threads = ThreadPoolExecutor(BACKEND_THREADS, "backend")
        self.clean_ups: dict[tuple[str, str], asyncio.Task[None]] = {}
        """Starts that were given up and are still being taken back, by (person, project)."""
        self.last_form: dict[str, str] = {}
        """The project whose form a person sent last: the hub shows an error on the form of no project."""

    def ask_ledger(self, call: Callable[..., Result], *arguments: object) -> asyncio.Future[Result]:
        """Return the future of a call in one of the ledger's threads."""
        return asyncio.get_running_loop().run_in_executor(self.ledger_threads, partial(call, *arguments))

    def ask_backend(self, call: Callable[..., Result], *arguments: object) -> asyncio.Future[Result]:
        """Return the future of a call in one of the backend's threads."""
        return asyncio.get_running_loop().run_in_executor(self.backend_threads, partial(call, *arguments))

    def forget_clean_up(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        """The clean-up is over, unless a newer one of the same server has taken its place."""
        if self.clean_ups.get(key) is task:
            del self.clean_ups[key]

    # What follows blocks.

    def language_of(self, person: str) -> str:
        """Return the person's language, or the one last known while the ledger is away."""
        try:
            found = people.person(self.database, person)
        except DatabaseAway:
            found = None
        return found.language if found else language.of_person(person, self.settings.language)

    def reserve(self, request: Request, now: int, turn_only: bool = False) -> Answer:
        """Ask for the hold, or take the person's turn. A refusal names what would fit instead, and when, if known."""
        speaks = self.language_of(request.person)
        profile = profiles.profile(self.database, request.profile)
        decision = queue.start(self.database, request, now, self.policy, turn_only=turn_only)
        if not isinstance(decision, Refused):
            return Answer(speaks, decision, profile)
        try:
            decision = offers.with_what_fits(self.database, request, decision, now, self.policy)
            decision = queue_views.with_known_time(self.database, request, decision, now)
        except DatabaseAway:
            log.warning("the ledger went away while the refusal of %s was explained", request.person)
        return Answer(speaks, decision)

    def start_page(self, person: str, now: int) -> StartPage:
        """Return what the start page shows, or what to say where the ledger does not answer."""
        speaks = self.language_of(person)
        try:
            found = offers.offers(self.database, person, now, self.policy)
            places = queue_views.of_person(self.database, person, now)
            waits = {offer.code: self._waits(person, offer, now) for offer in found}
        except DatabaseAway:
            return StartPage(speaks, now, self.policy, error=Refused(Code.LEDGER_AWAY))
        return StartPage(speaks, now, self.policy, tuple(found), tuple(places), waits)

    def _waits(self, person: str, offer: offers.ProjectOffer, now: int) -> tuple[Wait, ...]:
        refused = [
            each.code
            for each in offer.profiles
            if isinstance(each.decision, Refused) and each.decision.code in CURED_BY_DEVICES
        ]
        if not refused:
            return ()
        return queue_views.waits(self.database, person, offer.code, refused, now, self.policy)

    def join(self, person: str, project: str, choice: Choice, mode: Mode, now: int) -> Refused | None:
        """The person waits, as they chose; return why not, if not."""
        request = Request(new_run_id(), RunKind.NOTEBOOK, person, project, choice.profile, wish=choice.wish)
        limits = self.settings.queue_limits()
        joined = queue.join(self.database, request, mode, now, self.policy, limits)
        return joined if isinstance(joined, Refused) else None

    def leave(self, person: str, project: str, now: int) -> bool:
        """The person waits no more for a server on the project; return whether they did."""
        place = self.place(person, project, now)
        if place is None:
            return False
        try:
            queue.cancel(self.database, place.entry.run_id, actor=person, person=person, now=now)
        except InvalidValue:  # it has just ended by itself
            return False
        return True

    def place(self, person: str, project: str, now: int) -> Place | None:
        """Return where the person waits for a server on the project, or has a turn; None where they do not."""
        places = queue_views.of_person(self.database, person, now)
        of_project = (each for each in places if each.entry.project == project)
        return next((each for each in of_project if each.entry.kind is RunKind.NOTEBOOK), None)

    def note_refusal(self, person: str, project: str, refused: Refused, now: int) -> str:
        """The refusal, that the ledger had no part in, is in the audit; return the person's language."""
        field = refused.numbers.get("field")
        detail = {"code": refused.code.value, **({"field": field} if field is not None else {})}
        try:
            with self.database.write() as transaction:
                audit.record(transaction, now, person, "start refused", project, detail)
        except DatabaseAway as away:
            log.warning("a refusal of %s is not in the audit: %s", person, away)
        return self.language_of(person)

    def devices_for(self, admitted: Admitted) -> tuple[AssignedDevice, ...]:
        """Return the devices that the run is to be given, free of what has ended. Raises InvalidValue."""
        return assignment.devices_for(self.database, self.backend, admitted, int(time.time()))

    def started(self, seen: Seen) -> None:
        """The ledger knows since when the run runs, by its backend."""
        if seen.started_at is not None:
            admission.started(self.database, seen.run_id, seen.started_at)

    def tell_of_turn(self, run_id: str, refused: Refused | None) -> None:
        """Who waited for the server, and left its start to the platform, knows that it runs, or why it does not."""
        now = int(time.time())
        try:
            if refused is None:
                queue.started(self.database, run_id, now)
            else:
                queue.failed(self.database, run_id, refused, now)
        except DatabaseAway as away:
            log.warning("who waited for run %s was not told of its start: %s", run_id, away)

    def conclude(self, run_id: str, stopped: Outcome, ended: Outcome = Outcome.EXITED) -> None:
        """Nothing of the run runs, it is charged for what its backend says that it ran, and the backend forgets it.

        Its outcome is `stopped` when it had to be stopped, `ended` when it had ended. Raises BackendAway when it may
        still run, DatabaseAway when it is not charged yet: its record is then left for the reconciling loop.
        """
        seen = self.backend.inspect(run_id)
        outcome = ended
        if seen is not None and seen.running:
            self.backend.stop(run_id, STOP_GRACE_SECONDS)
            seen, outcome = self.backend.inspect(run_id), stopped
        self.settle(run_id, seen, outcome)

    def settle(self, run_id: str, seen: Seen | None, outcome: Outcome) -> None:
        """The ended run is charged, or its hold released when it never ran, and the backend forgets it."""
        ended = Ended(None, None, Outcome.FAILED_TO_START)
        if seen is not None and seen.started_at is not None:
            outcome = ended_as(seen, outcome)
            ended = Ended(seen.started_at, seen.finished_at, outcome, seen.exit_code)
        charge = admission.settle(self.database, run_id, ended, int(time.time()))
        log.info("run %s: %s, %s", run_id, outcome.value, charge)
        if seen is not None:
            try:
                self.backend.remove(run_id)
            except (BackendAway, ValueError) as error:
                log.warning("run %s is settled and not removed yet: %s", run_id, error)


def open_door(home: Home, database: Database) -> Door:
    """Return the door of a hub that starts now; its instance is in the ledger. Raises DatabaseAway."""
    return Door(home, database, home.backend(), doors.boot(database, "hub", int(time.time())))
