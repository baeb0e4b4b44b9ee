"""Who is asking: a person logged in at the hub over OAuth, kept in a session here, or the holder of a hub's token.

Sessions are kept in memory, so that no token leaves for the browser; after a restart the hub logs a person in again
without a question. Who someone is, is asked of the hub; what someone may do, is asked of the ledger at every request.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from jupyterhub.services.auth import HubOAuth
from tornado.web import HTTPError

from portal.errors import FORBIDDEN, FORGED, away
from quotas.home import Home

NAME = "portal"
PREFIX = f"/services/{NAME}/"
COOKIE = "mudeung-portal"
STATE_COOKIE = "mudeung-portal-state-"
SCOPE = f"access:services!service={NAME}"
SESSION_SECONDS = 12 * 3600
STATE_SECONDS = 600
MOST_KEPT = 10_000
"""How many sessions, and how many logins under way, are kept; the oldest give way."""
HUB_SECONDS = 10
TRUST_SECONDS = 10
"""How long the hub's word on a token is taken without asking again: so soon does a logout there count here."""


@dataclass(frozen=True)
class Session:
    """A person who logged in by a browser. `csrf` stands in every form of theirs."""

    username: str
    token: str
    csrf: str
    began: float

    def check_form(self, given: str) -> None:
        """The form was one of this session's. Raises Problem."""
        if not hmac.compare_digest(given.encode(), self.csrf.encode()):
            raise FORGED()


@dataclass(frozen=True)
class Pending:
    """A login under way: PKCE's secret, and where the person wanted to go."""

    verifier: str
    next_url: str
    began: float


Item = TypeVar("Item")


@dataclass
class Kept(Generic[Item]):
    """Items by key, each for `seconds` and not more than `MOST_KEPT` of them."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    items: OrderedDict[str, tuple[float, Item]] = field(default_factory=OrderedDict)

    def put(self, item: Item) -> str:
        """Return the new key of the item, which cannot be guessed."""
        while self.items and (len(self.items) >= MOST_KEPT or self._is_over(next(iter(self.items)))):
            self.items.popitem(last=False)
        key = secrets.token_urlsafe(32)
        self.items[key] = (self.clock(), item)
        return key

    def get(self, key: str) -> Item | None:
        if key not in self.items or self._is_over(key):
            return None
        return self.items[key][1]

    def take(self, key: str) -> Item | None:
        """Return the item, which is then kept no longer."""
        found = self.get(key)
        self.items.pop(key, None)
        return found

    def _is_over(self, key: str) -> bool:
        return self.clock() - self.items[key][0] > self.seconds


class HubLogin:
    """The hub as the portal asks it. Every question ends within `HUB_SECONDS`; Problem 503 where it does not answer."""

    def __init__(self, home: Home) -> None:
        self.auth = HubOAuth(
            api_url=home.hub_api_url(),
            api_token=home.secret("portal_token"),
            base_url=PREFIX,
            hub_host="",
            hub_prefix="/hub/",
            oauth_client_id=f"service-{NAME}",
            oauth_redirect_uri=f"{PREFIX}oauth_callback",
            cache_max_age=TRUST_SECONDS,
        )
        self.sessions: Kept[Session] = Kept(SESSION_SECONDS)
        self.pending: Kept[Pending] = Kept(STATE_SECONDS)

    def begin(self, next_url: str) -> tuple[str, str]:
        """Return the hub's address at which the person logs in, and the login's state, which a cookie is to hold."""
        verifier, challenge, method = self.auth.generate_pkce_code_challenge()
        state = self.pending.put(Pending(verifier, inside(next_url), time.monotonic()))
        fields = {
            "client_id": self.auth.oauth_client_id,
            "redirect_uri": self.auth.oauth_redirect_uri,
            "response_type": "code",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": method,
        }
        return f"{self.auth.oauth_authorization_url}?{urlencode(fields)}", state

    async def finish(self, code: str, state: str, cookie: str) -> tuple[str, str]:
        """Return the new session's key and where the person wanted to go. Raises Problem for a login not begun here."""
        begun = self.pending.take(state)
        if begun is None or not hmac.compare_digest(state.encode(), cookie.encode()):
            raise FORGED()
        try:
            asked = self.auth.token_for_code(code, code_verifier=begun.verifier, sync=False)
            token = await asyncio.wait_for(asked, HUB_SECONDS)
        except TimeoutError as error:
            raise away("hub") from error
        except HTTPError as error:
            # The hub's refusal of a code that is old or was used comes as a 500 as well; only its text tells.
            raise (
                away("hub") if "connect" in str(error.log_message) or error.status_code == 502 else FORGED()
            ) from error
        username = await self.username(token, use_cache=False)
        if username is None:
            raise FORBIDDEN()
        session = Session(username, token, secrets.token_urlsafe(24), time.monotonic())
        return self.sessions.put(session), begun.next_url

    async def session(self, key: str) -> Session | None:
        """Return the session, while the hub still knows its token, or None."""
        found = self.sessions.get(key)
        if found is None:
            return None
        if await self.username(found.token) != found.username:
            self.sessions.take(key)
            return None
        return found

    async def username(self, token: str, *, use_cache: bool = True) -> str | None:
        """Return the name of the person whose token it is; None for no token of a person.

        Raises Problem for one that may not come here, and while the hub does not answer.
        """
        if not token.isascii() or not 0 < len(token) <= 500:
            return None
        try:
            asked = self.auth.user_for_token(token, use_cache=use_cache, sync=False)
            model: dict[str, Any] | None = await asyncio.wait_for(asked, HUB_SECONDS)
        except (HTTPError, TimeoutError) as error:
            raise away("hub") from error
        if not model or model.get("kind") != "user":
            return None
        if not self.auth.check_scopes({SCOPE}, model):
            raise FORBIDDEN()
        return str(model["name"])


def inside(url: str) -> str:
    """Return `url` if it is a plain path of the portal, else the portal's first page: no login leads elsewhere."""
    plain = url.startswith(PREFIX) and "//" not in url and "\\" not in url and url.isprintable() and len(url) < 500
    return url if plain else PREFIX


def bearer(header: str) -> str:
    """Return the token of an Authorization header, or an empty string."""
    kind, _, token = header.partition(" ")
    return token.strip() if kind.lower() in {"token", "bearer"} else ""
