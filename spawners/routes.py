"""The proxy as the hub sees it: one that was started anew is told everyone's routes within seconds.

The proxy is a program of its own, and knows its routes by itself only. The hub compares them with its own every few
minutes; until then nobody would reach anything. So the last route that it is told is a mark, and the hub asks for that
one every second: a proxy without it is to be told all of them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
from jupyterhub.httpclient import fetch
from jupyterhub.proxy import ConfigurableHTTPProxy
from jupyterhub.utils import url_path_join
from traitlets import Float

log = logging.getLogger("mudeung.routes")

MARK = "/hub/routes-are-told"
"""It leads to the hub, as all below /hub/ does. The hub leaves routes alone that do not say that they are its own."""
ANSWER_SECONDS = 5.0
"""How long the proxy may take to answer before it is asked again."""


class Proxy(ConfigurableHTTPProxy):
    """The proxy, looked at from when the hub has first told it its routes."""

    look_seconds = Float(1.0, help="Pause between two looks whether the proxy has its routes.").tag(config=True)
    _looking: asyncio.Task[None] | None = None

    async def check_routes(
        self, user_dict: dict[Any, Any], service_dict: dict[str, Any], routes: dict[str, Any] | None = None
    ) -> None:
        """The proxy has the routes of every server that is ready, of the services and of the hub, and the mark."""
        await super().check_routes(user_dict, service_dict, routes)
        await self.api_request(MARK, method="POST", body={"target": self.hub.host})
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(user_dict, service_dict))

    async def _look(self, user_dict: dict[Any, Any], service_dict: dict[str, Any]) -> None:
        """Goes on for as long as the hub does."""
        while True:
            await asyncio.sleep(self.look_seconds)
            try:
                if await self._is_new():
                    log.warning("the proxy was started anew; it is told its routes")
                    await self.check_routes(user_dict, service_dict)
            except Exception:
                log.exception("the proxy could not be told its routes; it is tried again")

    async def _is_new(self) -> bool:
        """Return whether the proxy says that it has no mark. One that says nothing may have it."""
        url = url_path_join(self.api_url, "api/routes", MARK)
        headers = {"Authorization": f"token {self.auth_token}"}
        limit = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            response = await fetch(url, headers=headers, raise_for_status=False, timeout=limit)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        response.release()
        return bool(response.status == 404)
