"""Who may log in: persons of the ledger, with the passwords of an evaluation platform."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable as AnyCallable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from jupyterhub.auth import Authenticator
from jupyterhub.handlers.base import BaseHandler
from tornado.web import HTTPError
from traitlets import Bool, Callable, Unicode, default

from quotas.domain.passwords import LONGEST
from quotas.domain.units import show_instant
from quotas.services import people
from quotas.store.database import Database, DatabaseAway
from spawners import language
from spawners.handlers import handlers, page_language
from spawners.language import N_

ANSWER_SECONDS = 20
"""How long a login waits for the ledger and for the password's hash."""

Result = TypeVar("Result")
_threads = ThreadPoolExecutor(4, "login")  # not the hub's own: a ledger that hangs keeps only logins waiting

LEDGER_AWAY = N_("The ledger does not answer, so nobody can log in. Try again in a minute; running servers go on.")
_OFF = N_("This platform has no accounts with passwords.")
_INCOMPLETE = N_("Write a username and a password.")
_TOO_OFTEN = N_("Too many failed tries. Try again after {time}.")


class FailedTries:
    """Counts tries of the last `window_seconds` that did not succeed, each key on its own; holds at most `keys`."""

    def __init__(self, most: int, window_seconds: int = 300, keys: int = 10_000) -> None:
        self.most = most
        self.window_seconds = window_seconds
        self.keys = keys
        self._tries: OrderedDict[str, deque[int]] = OrderedDict()

    def blocked_until(self, key: str, now: int) -> int | None:
        """Return the instant from which the key may try again, or None when it may now."""
        tries = self._tries.get(key)
        while tries and tries[0] <= now - self.window_seconds:
            tries.popleft()
        if not tries:
            self._tries.pop(key, None)
            return None
        return tries[0] + self.window_seconds if len(tries) >= self.most else None

    def begin(self, key: str, now: int) -> None:
        """A try counts from its beginning, so that many at once are no way around the limit.

        The key that tried longest ago is forgotten when there are too many.
        """
        self._tries.setdefault(key, deque(maxlen=self.most)).append(now)
        self._tries.move_to_end(key)
        while len(self._tries) > self.keys:
            self._tries.popitem(last=False)

    def take_back(self, key: str) -> None:
        """The key's last try does not count: it was no failure."""
        tries = self._tries.get(key)
        if tries:
            tries.pop()


Limits = tuple[tuple[FailedTries, str], ...]


class LedgerAuthenticator(Authenticator):
    """Lets in persons of the ledger who give their password, while `passwords` is on; nobody becomes a hub admin.

    A person who is taken out of the ledger is logged out within `auth_refresh_age` seconds.
    """

    database: AnyCallable[[], Database] = Callable(
        help="Returns the ledger's database (a function, as settings are copied and a database cannot be)."
    ).tag(config=True)
    passwords = Bool(False, help="Whether the accounts of an evaluation platform may log in.").tag(config=True)
    default_language = Unicode("ko", help="Language of pages for those whose language is not known.").tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._by_person_and_address = FailedTries(most=5)
        self._by_person = FailedTries(most=50)  # addresses can be many, or invented

    @default("allow_all")
    def _allow_all(self) -> bool:
        return True  # whoever `authenticate` returns is in the ledger

    @default("auth_refresh_age")
    def _auth_refresh_age(self) -> int:
        return 60

    def get_handlers(self, app: Any) -> list[tuple[str, type[BaseHandler], dict[str, Any]]]:
        """Return the login page in the visitor's language, the language switch and the stop button's address."""
        del app
        return handlers(self.database, self.default_language)

    async def authenticate(self, handler: BaseHandler, data: dict[str, str]) -> dict[str, Any] | None:
        """Return the person's name when the password is theirs; None when it is not.

        Raises HTTPError 400 for an incomplete form, 403 where no passwords are used, 429 after too many failed tries
        and 503 when the ledger does not answer.
        """
        translate = language.translator(page_language(handler, self.default_language))
        if not self.passwords:
            raise _refusal(403, translate(_OFF))
        name = self.normalize_username(data.get("username", "").strip())
        password = data.get("password", "")
        if not name or not password:
            raise _refusal(400, translate(_INCOMPLETE))
        limits = (self._by_person_and_address, f"{name[:64]} {handler.request.remote_ip}"), (self._by_person, name[:64])
        self._count(limits, translate)
        try:
            reads = await in_a_thread(lambda: self._language_if_matching(name, password))
        except (DatabaseAway, TimeoutError) as error:
            self.log.error("The ledger did not answer a login: %s", error)
            _take_back(limits)
            raise _refusal(503, translate(LEDGER_AWAY), {"Retry-After": "60"}) from None
        if reads is None:
            return None
        _take_back(limits)
        language.note(name, reads)
        return {"name": name, "admin": False}

    def _count(self, limits: Limits, translate: language.Translator) -> None:
        now = int(time.time())
        for tries, key in limits:
            until = tries.blocked_until(key, now)
            if until is not None:
                text = translate(_TOO_OFTEN).format(time=show_instant(until + 59))
                raise _refusal(429, text, {"Retry-After": str(until - now)})
        for tries, key in limits:
            tries.begin(key, now)

    def _language_if_matching(self, name: str, password: str) -> str | None:
        if len(password) > LONGEST or not people.password_matches(self.database(), name, password):
            return None
        person = people.person(self.database(), name)
        return None if person is None else person.language

    async def refresh_user(self, user: Any, handler: BaseHandler | None = None) -> bool:
        """Return False, which logs the person out, when the ledger knows them no more.

        While the ledger does not answer, logins stay: nothing can be started without it anyhow.
        """
        say_how(handler)
        try:
            person = await in_a_thread(lambda: people.person(self.database(), user.name))
        except (DatabaseAway, TimeoutError):
            self.log.warning("The ledger did not answer; the login of %s stays", user.name)
            return True
        if person is None:
            return False
        language.note(person.username, person.language)
        return True


def say_how(handler: BaseHandler | None) -> None:
    """The request knows whether it came with a token: without one the hub asks for what it never noted, and logs that.

    (Its class has no such attribute for pages, and a login that has ended would be an error with a trace.)
    """
    if handler is not None and not hasattr(handler, "_token_authenticated"):
        handler._token_authenticated = False  # noqa: SLF001 - as above


async def in_a_thread(call: AnyCallable[[], Result]) -> Result:
    """Return what the call to the ledger returns. Raises TimeoutError after `ANSWER_SECONDS`, and what it raises."""
    answer = asyncio.get_running_loop().run_in_executor(_threads, call)
    return await asyncio.wait_for(answer, ANSWER_SECONDS)


def _take_back(limits: Limits) -> None:
    for tries, key in limits:
        tries.take_back(key)


def _refusal(status: int, text: str, headers: dict[str, str] | None = None) -> HTTPError:
    error = HTTPError(status, text)
    error.jupyterhub_message = text  # what the hub shows
    error.headers = headers or {}
    return error
