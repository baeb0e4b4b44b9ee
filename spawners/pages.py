"""What the hub's pages show from the ledger, given to the templates as `JupyterHub.template_vars`.

The hub calls each of these with its user, in its event loop, at every page. So none of them waits: the language comes
from memory, and `home` is handed over as a coroutine function, that the pages which need it call. (The hub renders
pages with Jinja's async environment, which awaits it; its error pages, rendered without, do not ask.)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from quotas.domain.policy import Policy
from quotas.domain.queue import DOOR as QUEUE
from quotas.domain.units import DAY_SECONDS, show_instant
from quotas.services import queue_texts, queue_views, time_left
from quotas.services.offers import ProjectOffer, offers
from quotas.services.queue_texts import Shown
from quotas.settings import Settings
from quotas.store import notices as notices_store
from quotas.store import runs as runs_store
from quotas.store.database import Database, DatabaseAway, Row
from spawners import cards
from spawners.form import is_server
from spawners.language import N_, Translator, of_person, translator, words
from spawners.progress import Phase, message

ANSWER_SECONDS = 10
"""How long a page waits for the ledger before it is shown without it."""
NOTICE_DAYS = 7
NOTICES = 5
"""So many of the newest unread notices of so many days are on the home page; the portal has them all."""

STEPS = (
    (Phase.ASKED, N_("Your rights and the budget are checked")),
    (Phase.HELD, N_("It waits for its turn")),
    (Phase.PREPARING, N_("The project's folder is prepared")),
    (Phase.STARTING, N_("The server is started")),
    (Phase.ANSWERING, N_("The notebook gives its first answer")),
    (Phase.READY, N_("Ready")),
)
"""The phases of a start as the page lists them; each begins at its share of the whole, in percent."""

DatabaseOf = Callable[[], Database]
_threads = ThreadPoolExecutor(4, "pages")  # not the hub's own: a ledger that hangs keeps only pages waiting
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Server:
    """One server of the person. `state` is the hub's: ready, spawn, stop, or settling when only the ledger has it."""

    project: str
    title: str
    profile: str | None
    state: str
    remaining: cards.Remaining | None
    started: str | None


@dataclass(frozen=True)
class Notice:
    """One notice: when, and what."""

    at: str
    text: str


@dataclass(frozen=True)
class Home:
    """What a person has now. `away` says that the ledger did not answer: then only the hub's own servers are known."""

    away: bool
    asked: str
    servers: tuple[Server, ...]
    projects: tuple[cards.ProjectCard, ...]
    notices: tuple[Notice, ...]
    places: tuple[Shown, ...] = ()

    def project(self, code: str) -> cards.ProjectCard | None:
        """Return the person's project of that code, or None."""
        return next((project for project in self.projects if project.code == code), None)


@dataclass(frozen=True)
class Step:
    """One phase of a start; `state` is done, now or later."""

    text: str
    state: str
    begins_percent: int


@dataclass(frozen=True)
class Start:
    """How far a start is, as the page says it before any event came, and to those without JavaScript."""

    percent: int
    message: str
    steps: tuple[Step, ...]


def template_vars(database: DatabaseOf, settings: Settings) -> dict[str, object]:
    """Return `JupyterHub.template_vars`: functions and plain values only, as the hub's settings are copied."""
    default, policy = settings.language, settings.policy()

    def language_of(user: Any) -> str:
        return default if user is None else of_person(user.name, default)

    def home_of(user: Any) -> Callable[[], Any]:
        async def home() -> Home:
            if user is None:
                return away({}, int(time.time()))
            states = {spawner.name: spawner.pending or "ready" for spawner in user.spawners.values() if spawner.active}
            return await read(database, user.name, states, translator(language_of(user)), policy)

        return home

    return {
        **{name: _of_language(name, language_of) for name in words(default)},
        "home": home_of,
        "start_of": lambda user: lambda spawner: start(spawner, translator(language_of(user))),
        "now": lambda _user: show_instant(int(time.time())),
        "show_utc": lambda _user: _show_utc,
        "evaluation": settings.evaluation,
    }


def _show_utc(moment: datetime) -> str:
    """Write one of the hub's own times, that are UTC and do not say so."""
    return show_instant(int(moment.replace(tzinfo=UTC).timestamp()))


def _of_language(name: str, language_of: Callable[[Any], str]) -> Callable[[Any], object]:
    return lambda user: words(language_of(user))[name]


def start(spawner: Any, translate: Translator) -> Start:
    """Return how far the start of a spawner is (:class:`spawners.gate.Gate`)."""
    moment = spawner.moment()
    if moment.phase is Phase.ENDED:  # the page came before the start's first step, or just as it was taken back
        moment = replace(moment, phase=Phase.ASKED)
    percent = int(moment.phase)
    begun = [phase for phase, _ in STEPS if phase <= moment.phase] or [Phase.ASKED]
    steps = tuple(
        Step(translate(text), "now" if phase is begun[-1] else "done" if phase in begun else "later", int(phase))
        for phase, text in STEPS
    )
    return Start(percent, message(moment, translate.language), steps)


async def read(
    database: DatabaseOf, person: str, states: Mapping[str, str], translate: Translator, policy: Policy
) -> Home:
    """Return the person's home as it is now; without the ledger's part if it does not answer in time."""
    now = int(time.time())
    try:
        loop = asyncio.get_running_loop()
        viewed = loop.run_in_executor(_threads, lambda: view(database(), person, states, translate, now, policy))
        return await asyncio.wait_for(viewed, ANSWER_SECONDS)
    except (DatabaseAway, TimeoutError) as error:
        _log.warning("The ledger did not answer a page of %s: %s", person, error)
        return away(states, now)


def away(states: Mapping[str, str], now: int) -> Home:
    """Return the home without the ledger: the servers that the hub itself knows."""
    servers = tuple(Server(code, code, None, state, None, None) for code, state in sorted(states.items()) if code)
    return Home(True, show_instant(now), servers, (), ())


def view(
    database: Database, person: str, states: Mapping[str, str], translate: Translator, now: int, policy: Policy
) -> Home:
    """Return the person's home; `states` are the hub's servers by project code. Raises DatabaseAway."""
    found = offers(database, person, now, policy)
    with database.read() as transaction:
        rows = {
            offer.code: row
            for offer in found
            if offer.open_run and (row := runs_store.one(transaction, offer.open_run)) is not None and row.door != QUEUE
        }
        told = notices_store.of_person(transaction, person, now - NOTICE_DAYS * DAY_SECONDS, NOTICES, unread=True)
    places = [place for place in queue_views.of_person(database, person, now) if is_server(place)]
    ko = translate.language == "ko"
    return Home(
        away=False,
        asked=show_instant(now),
        servers=tuple(_servers(found, rows, states, translate, now, policy)),
        projects=tuple(cards.project_card(offer, translate) for offer in found),
        notices=tuple(Notice(show_instant(row.at), row.text_ko if ko else row.text_en) for row in told),
        places=tuple(queue_texts.shown(place, translate.language, now, policy) for place in places),
    )


def _servers(
    found: list[ProjectOffer],
    rows: Mapping[str, Row],
    states: Mapping[str, str],
    translate: Translator,
    now: int,
    policy: Policy,
) -> list[Server]:
    servers = []
    by_code = {offer.code: offer for offer in found}
    for code in sorted({*rows, *(name for name in states if name)}):
        offer, row = by_code.get(code), rows.get(code)
        title = code if offer is None else offer.title_ko if translate.language == "ko" else offer.title_en
        servers.append(
            Server(
                project=code,
                title=title,
                profile=None if offer is None else _profile_name(offer, translate),
                state=states.get(code, "settling"),
                remaining=None if row is None else cards.remaining(time_left.of_run(row, now, policy), now, translate),
                started=None if row is None or row.started_at is None else show_instant(row.started_at),
            )
        )
    return servers


def _profile_name(offer: ProjectOffer, translate: Translator) -> str | None:
    for profile in offer.profiles:
        if profile.code == offer.open_profile:
            return profile.name_ko if translate.language == "ko" else profile.name_en
    return offer.open_profile
