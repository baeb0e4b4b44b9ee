"""The identity provider as the hub asks it: where its parts are, by its discovery document, and when it is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tornado.httpclient import HTTPClientError

from quotas.addresses import is_trustworthy

CONNECT_SECONDS, REQUEST_SECONDS = 5, 10
METADATA_SECONDS = 3600
"""So old may the discovery document become before it is read again."""
AGAIN_SECONDS = 60
"""A document that could not be read again is good for so much longer; without one each login asks."""
TROUBLE = (HTTPClientError, OSError, TimeoutError, ValueError)
"""What a request raises: an answer that says no, or none, or one that is not JSON."""

Fetch = Callable[[str], Awaitable[Any]]
_log = logging.getLogger(__name__)


class ProviderAway(Exception):  # noqa: N818 - what it is, as DatabaseAway is
    """The provider does not answer, or what answers is not the provider that the settings name."""


@dataclass(frozen=True)
class Metadata:
    """What the discovery document says; `end_session` is empty where the provider has no such thing."""

    issuer: str
    authorize: str
    token: str
    userinfo: str
    end_session: str


def metadata(document: object, issuer: str) -> Metadata:
    """Return what the discovery document of `issuer` says. Raises ProviderAway for one that is not its own."""
    if not isinstance(document, dict):
        raise ProviderAway("its discovery document is no JSON object")
    said = document.get("issuer")
    if not isinstance(said, str) or said.rstrip("/") != issuer.rstrip("/"):
        raise ProviderAway(f"its discovery document is that of {said!r:.200}, and oidc_issuer is {issuer!r}")
    needed = ("authorization_endpoint", "token_endpoint", "userinfo_endpoint")
    for name in (*needed, "end_session_endpoint"):
        address = document.get(name)
        if (address is not None or name in needed) and not (isinstance(address, str) and is_trustworthy(address)):
            raise ProviderAway(f"its {name} is {address!r:.200}, which is no https address")
    parts = (document[name] for name in needed)
    return Metadata(said, *parts, document.get("end_session_endpoint") or "")


class Provider:
    """The provider `issuer`; `fetch` returns the JSON at an address, within a time limit."""

    def __init__(self, issuer: str, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self.issuer = issuer
        self._fetch = fetch
        self._clock = clock
        self._known: Metadata | None = None
        self._good_until = 0.0
        self._reading = asyncio.Lock()

    async def metadata(self) -> Metadata:
        """Return where the provider's parts are. Raises ProviderAway where that was never known, nor is now."""
        if self._known is not None and self._clock() < self._good_until:
            return self._known
        async with self._reading:
            if self._known is None or self._clock() >= self._good_until:
                await self._read()
        return self._known

    async def _read(self) -> None:
        address = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        try:
            self._known = metadata(await self._fetch(address), self.issuer)
            self._good_until = self._clock() + METADATA_SECONDS
        except (*TROUBLE, ProviderAway) as error:
            reason = str(error) or type(error).__name__
            if self._known is None:
                raise ProviderAway(f"{address}: {reason}") from None
            _log.warning("%s could not be read again: %s", address, reason)
            self._good_until = self._clock() + AGAIN_SECONDS
