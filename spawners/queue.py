"""What the hub has no page for: joining and leaving the waiting queue, by forms of the start page and the home page.

Both cost nothing by themselves. But one who waits has their server started in their turn, so that a link must not be
enough: the hub checks its XSRF token on every POST.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.scopes import needs_scope
from jupyterhub.utils import url_path_join
from tornado.web import authenticated

from quotas.domain.refusals import Code, Refused
from quotas.store.database import DatabaseAway
from spawners import language, options
from spawners.door import Door
from spawners.refused import PolicyRefused

LEDGER_SECONDS = 15
"""How long a button waits for the ledger."""
MOST_FIELDS = 10
Result = TypeVar("Result")


class _OfTheQueue(BaseHandler):
    """A button of the queue: done for the person whose address it is, by whoever may start and stop their servers."""

    @authenticated
    async def post(self, user_name: str, server_name: str) -> None:
        await self.do(user_name=user_name, server_name=server_name)
        self.redirect(url_path_join(self.hub.base_url, "home"), status=303)

    @abstractmethod
    async def do(self, *, user_name: str, server_name: str) -> None:
        """What the button does."""

    def door_of(self, user_name: str) -> Door:
        """Return the door of the hub's servers. Raises HTTPError for someone whom the hub does not know."""
        user = self.find_user(user_name)
        if user is None:
            raise PolicyRefused(Refused(Code.PERSON_UNKNOWN, {"person": user_name[:80]}), "en")
        door: Door = user.spawner.door
        return door

    async def ask(self, door: Door, user_name: str, call: Callable[..., Result], *arguments: object) -> Result:
        """Return what the ledger answers. Raises PolicyRefused when it does not."""
        try:
            return await asyncio.wait_for(door.ask_ledger(call, *arguments), LEDGER_SECONDS)
        except (DatabaseAway, TimeoutError) as error:
            self.log.warning("The ledger did not answer a form of the queue of %s: %s", user_name, error)
            raise PolicyRefused(
                Refused(Code.LEDGER_AWAY), language.of_person(user_name, door.settings.language)
            ) from error


class JoinQueue(_OfTheQueue):
    """Takes the posted `profile`, `wish` and `mode`; the home page shows the place in the queue."""

    @needs_scope("start:servers")
    async def do(self, *, user_name: str, server_name: str) -> None:
        door = self.door_of(user_name)
        sent = self.request.body_arguments
        form: dict[str, Any] = {name: self.get_body_arguments(name) for name in list(sent)[:MOST_FIELDS]}
        refused = options.waiting_of_form(form)
        now = int(time.time())
        if isinstance(refused, Refused):
            speaks = await self.ask(door, user_name, door.note_refusal, user_name, server_name, refused, now)
            raise PolicyRefused(refused, speaks)
        choice, mode = refused
        answer = await self.ask(door, user_name, door.join, user_name, server_name, choice, mode, now)
        if answer is not None:
            speaks = await self.ask(door, user_name, door.note_refusal, user_name, server_name, answer, now)
            raise PolicyRefused(answer, speaks)


class LeaveQueue(_OfTheQueue):
    """The person waits no more for a server on the project; what was held for their turn is given back."""

    @needs_scope("delete:servers")
    async def do(self, *, user_name: str, server_name: str) -> None:
        door = self.door_of(user_name)
        await self.ask(door, user_name, door.leave, user_name, server_name, int(time.time()))


HANDLERS: list[tuple[str, type[BaseHandler], dict[str, Any]]] = [
    (r"/queue/([^/]+)/([^/]+)", JoinQueue, {}),
    (r"/queue/([^/]+)/([^/]+)/cancel", LeaveQueue, {}),
]
