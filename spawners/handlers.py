"""What the hub has no page for: a login page in the visitor's language, the language switch, stop without JavaScript.

They reach the hub through the authenticator's `get_handlers`, and stand before the hub's own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.login import LoginHandler
from jupyterhub.scopes import needs_scope
from jupyterhub.utils import url_path_join
from tornado.web import HTTPError, authenticated

from quotas.domain.people import LANGUAGES
from quotas.domain.units import InvalidValue
from quotas.services import people
from quotas.store.database import Database, DatabaseAway
from spawners import language, queue

LEDGER_SECONDS = 10
"""How long a switch of language waits for the ledger."""
CANCEL_SECONDS = 5
"""How long the stop button waits for a pending start to give up."""
COOKIE_DAYS = 365

DatabaseOf = Callable[[], Database]


def handlers(database: DatabaseOf, default_language: str) -> list[tuple[str, type[BaseHandler], dict[str, Any]]]:
    """Return the handlers for an authenticator's `get_handlers`."""
    options = {"database": database, "default_language": default_language}
    return [
        (r"/login", LoginPage, options),
        (r"/language", LanguageSwitch, options),
        (r"/stop/([^/]+)/([^/]+)", StopButton, {}),
        *queue.HANDLERS,
    ]


def page_language(handler: BaseHandler, default: str) -> str:
    """Return the language of the answer to a request: the person's, else the cookie's, the browser's, the default."""
    user = getattr(handler, "_jupyterhub_user", None)
    if user is not None:
        return language.of_person(user.name, default)
    return language.of_stranger(
        handler.get_cookie(language.COOKIE), handler.request.headers.get("Accept-Language", ""), default
    )


class LoginPage(LoginHandler):
    """The hub's login page in the language of the visitor, who is not known yet."""

    def initialize(self, database: DatabaseOf, default_language: str) -> None:
        del database
        self.default_language = default_language

    @property
    def template_namespace(self) -> dict[str, Any]:
        namespace = super().template_namespace
        return namespace | language.words(page_language(self, self.default_language))


class LanguageSwitch(BaseHandler):
    """Takes the posted `language`, for the person if one is logged in, and goes back to where the switch was used."""

    def initialize(self, database: DatabaseOf, default_language: str) -> None:
        self.database = database
        self.default_language = default_language

    async def post(self) -> None:
        chosen = self.get_body_argument("language", "")
        if chosen not in LANGUAGES:
            raise HTTPError(400, f"language: must be one of {', '.join(LANGUAGES)}")
        self.set_cookie(
            language.COOKIE, chosen, path=self.hub.base_url, expires_days=COOKIE_DAYS, httponly=True, samesite="Lax"
        )
        user = self.current_user
        if user is not None:
            language.note(user.name, chosen)
            try:
                await asyncio.wait_for(asyncio.to_thread(self._keep, user.name, chosen), LEDGER_SECONDS)
            except (DatabaseAway, TimeoutError, InvalidValue) as error:
                self.log.warning("The language of %s was not kept: %s", user.name, error)
        self.redirect(self._way_back(), status=303)

    def _keep(self, username: str, chosen: str) -> None:
        people.set_language(self.database(), username, chosen, now=int(time.time()))

    def _way_back(self) -> str:
        """Return the page that the switch stood on, without what must not be asked for by a link."""
        home = url_path_join(self.hub.base_url, "home" if self.current_user else "login")
        path = self._validate_next_url(self.request.headers.get("Referer", ""))
        parts = urlsplit(path)
        if not path or parts.path.rstrip("/") == url_path_join(self.hub.base_url, "language"):
            return home
        query = urlencode([pair for pair in parse_qsl(parts.query) if pair[0] in ("next", "username")])
        return f"{parts.path}?{query}" if query else parts.path


class StopButton(BaseHandler):
    """Stops a server, also one that is starting, and goes to the home page, which shows how far that is."""

    @authenticated
    async def post(self, user_name: str, server_name: str) -> None:
        await self._stop(user_name=user_name, server_name=server_name)
        self.redirect(url_path_join(self.hub.base_url, "home"), status=303)

    @needs_scope("delete:servers")
    async def _stop(self, user_name: str, server_name: str) -> None:
        user = self.find_user(user_name)
        if user is None or server_name not in user.orm_spawners:
            raise HTTPError(404, f"{user_name} has no server {server_name}")
        spawner = user.spawners[server_name]
        if spawner.pending == "spawn" and spawner._spawn_future:  # noqa: SLF001 - as the hub's own API does it
            spawn = spawner._spawn_future  # noqa: SLF001
            spawn.cancel()
            await asyncio.wait([spawn], timeout=CANCEL_SECONDS)
        if spawner.active and not spawner.pending:
            await self.stop_single_user(user, server_name)
