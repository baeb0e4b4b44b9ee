"""The server extension: the platform's word on this server for its pages, and this server's word for the platform.

The run's token stays in the server: a page asks ``mudeung/session`` here. Answers are kept for a moment, so that many
pages cost the platform no more than one; while it is away the last one is given, with its age.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse
from tornado.web import authenticated

from mudeung_session.platform import LONGEST_ANSWER_BYTES, Away, Platform, Refused, answer_of, from_environment

KEPT_SECONDS = 15.0
"""How long an answer is given again without asking."""
AWAY_SECONDS = 5.0
"""How long a platform that did not answer is left alone."""
CONNECT_SECONDS, ANSWER_SECONDS = 3.0, 8.0
REPORT_SECONDS = 60.0
FIRST_REPORT_SECONDS = 5.0
LOST = (OSError, HTTPClientError, asyncio.TimeoutError)
"""How a connection that does not come about, breaks or takes too long is told."""


@dataclass
class Session:
    """What is known of this server. `facts` is the platform's last answer, `None` before the first."""

    platform: Platform
    facts: dict[str, Any] | None = None
    is_away: bool = False
    problem: Refused | None = None
    _facts_at: float = 0.0
    _asked_at: float = float("-inf")
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _client: AsyncHTTPClient | None = None

    async def look(self) -> dict[str, Any]:
        """Return how the server stands, asked of the platform if that was not just done."""
        async with self._asking:
            pause = AWAY_SECONDS if self.is_away else KEPT_SECONDS
            if time.monotonic() - self._asked_at >= pause:
                with contextlib.suppress(Away, Refused):
                    self._keep(await self._ask("GET", ""))
        return self.told()

    async def extend(self) -> dict[str, Any]:
        """Return how the server stands after the platform was asked to extend it, and what it said to that."""
        async with self._asking:
            try:
                answer = await self._ask("POST", "/extend", {})
            except Refused as refused:
                said = {"extended": False, "message_en": refused.message_en, "message_ko": refused.message_ko}
            except Away:
                said = {"extended": False}
            else:
                said = {name: answer.pop(name, None) for name in ("extended", "message_en", "message_ko")}
                self._keep(answer)
        return {**self.told(), **said}

    async def report(self, busy_kernels: int, active_at: int | None) -> None:
        """The platform knows what the kernels and terminals do. Raises Away, Refused."""
        await self._ask("POST", "/activity", {"busy_kernels": busy_kernels, "active_at": active_at})

    def told(self) -> dict[str, Any]:
        """Return what a page is told."""
        age = int(time.monotonic() - self._facts_at)
        return {
            "facts": self.facts,
            "age_seconds": age if self.facts is not None else None,
            "away": self.is_away,
            "problem": None if self.problem is None else self.problem.status,
        }

    def _keep(self, facts: dict[str, Any]) -> None:
        self.facts, self._facts_at = facts, time.monotonic()

    async def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Return the platform's answer. Raises Away, Refused."""
        request = HTTPRequest(
            self.platform.url + path,
            method,
            headers=self.platform.headers,
            body=None if body is None else json.dumps(body),
            connect_timeout=CONNECT_SECONDS,
            request_timeout=ANSWER_SECONDS,
            follow_redirects=False,  # the token is for this address only
        )
        if path != "/activity":
            self._asked_at = time.monotonic()
        try:
            if self._client is None:
                self._client = AsyncHTTPClient(force_instance=True, max_body_size=LONGEST_ANSWER_BYTES)
            response = await self._client.fetch(request, raise_error=False)
            answer: dict[str, Any] = answer_of(response.code, _body(response))
        except LOST as error:
            self.is_away = True
            raise Away(str(error)) from error
        except Away:
            self.is_away = True
            raise
        except Refused as refused:
            self.is_away, self.problem = False, refused
            raise
        self.is_away, self.problem = False, None
        return answer


class SessionHandler(APIHandler):
    """``GET mudeung/session``: how this server stands."""

    auth_resource = "mudeung_session"
    _track_activity = False  # an open page asks every minute, and that is no work

    def initialize(self, session: Session) -> None:
        self.session = session

    @authenticated
    @authorized
    async def get(self) -> None:
        self.finish(json.dumps(await self.session.look()))


class ExtendHandler(SessionHandler):
    """``POST mudeung/session/extend``: its person needs this server."""

    @authenticated
    @authorized
    async def get(self) -> None:
        self.set_status(405)
        self.finish(json.dumps({"message": "POST it"}))

    @authenticated
    @authorized
    async def post(self) -> None:
        self.finish(json.dumps(await self.session.extend()))


def load(serverapp: Any) -> None:
    """The addresses are there, where a platform started this server."""
    platform = from_environment()
    if platform is None:
        serverapp.log.info("mudeung_session: no platform started this server")
        return
    session = serverapp.web_app.settings["mudeung_session"] = Session(platform)
    base = serverapp.web_app.settings["base_url"]
    known = {"session": session}
    handlers = [
        (url_path_join(base, "mudeung", "session"), SessionHandler, known),
        (url_path_join(base, "mudeung", "session", "extend"), ExtendHandler, known),
    ]
    serverapp.web_app.add_handlers(".*$", handlers)


def start(serverapp: Any) -> None:
    """What the kernels and terminals do is told every minute."""
    session = serverapp.web_app.settings.get("mudeung_session")
    if session is not None:
        task = asyncio.get_running_loop().create_task(_report_on(serverapp, session))
        serverapp.web_app.settings["mudeung_session_reports"] = task  # or it might be collected


async def _report_on(serverapp: Any, session: Session) -> None:
    await asyncio.sleep(FIRST_REPORT_SECONDS)  # a server that starts has other things to do
    while True:
        try:
            await session.report(*activity(serverapp))
        except Refused as refused:
            serverapp.log.info("mudeung_session: the platform does not take what kernels do: %s", refused)
            if refused.is_final:
                return
        except Away as away:
            serverapp.log.debug("mudeung_session: %s", away)
        except Exception:  # whatever it is, the next minute may be better
            serverapp.log.warning("mudeung_session: the activity could not be told", exc_info=True)
        await asyncio.sleep(REPORT_SECONDS)


def activity(serverapp: Any) -> tuple[int, int | None]:
    """Return how many kernels compute, and when a kernel or terminal last did something (seconds UTC).

    Open pages and their requests are none of that.
    """
    kernels = list(serverapp.kernel_manager.list_kernels())
    terminals = serverapp.web_app.settings.get("terminal_manager")
    seen = [*kernels, *(terminals.list() if terminals is not None else [])]
    instants = [instant for each in seen if (instant := _instant(each.get("last_activity"))) is not None]
    busy = sum(each.get("execution_state") == "busy" for each in kernels)
    return busy, max(instants, default=None)


def _instant(text: object) -> int | None:
    """Return Jupyter's way to write an instant, as in ``2026-11-21T00:00:00.000000Z``, as whole seconds UTC."""
    try:
        return int(datetime.fromisoformat(str(text)).timestamp())
    except ValueError:
        return None


def _body(response: HTTPResponse) -> bytes:
    """Return what was answered. Raises the error of a connection that did not come about (tornado's code 599)."""
    if response.code == 599 and response.error is not None:
        raise response.error
    return response.body or b""
