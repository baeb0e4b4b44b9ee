"""Who may log in at an identity provider: persons of the ledger, as long as both the ledger and the provider agree."""

from __future__ import annotations

import asyncio
import json
import re
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable as AnyCallable
from dataclasses import dataclass
from typing import Any

import jwt
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.utils import get_browser_protocol, url_path_join
from oauthenticator.generic import GenericOAuthenticator
from tornado.httpclient import HTTPClientError
from tornado.web import HTTPError
from traitlets import Bool, Callable, Integer, Unicode, default

from quotas.domain.identities import Account, Denied, account
from quotas.domain.people import Person
from quotas.services import identities, people
from quotas.store.database import Database, DatabaseAway
from spawners import language, login_pages
from spawners.handlers import handlers
from spawners.login import in_a_thread, say_how
from spawners.login_pages import LoginFailed, Trouble
from spawners.provider import CONNECT_SECONDS, REQUEST_SECONDS, TROUBLE, Metadata, Provider, ProviderAway

EARLY_SECONDS = 5
"""An access token that ends so soon is renewed, not tried."""
LEEWAY_SECONDS = 60
MOST_KEPT = 20_000
ACTIVITY = re.compile(r".*/hub/api/users/[^/]+/activity")


@dataclass(frozen=True)
class Word:
    """What the provider said of a login at `at`: of its access token, and of the one that came in its place."""

    tokens: frozenset[str]
    at: float
    good: bool


class ProviderLogin(GenericOAuthenticator):
    """Lets in whom the identity provider vouches for and the ledger knows; nobody becomes a hub admin.

    Both are asked again every `auth_refresh_age` seconds. Who was removed from the ledger, or whose login at the
    provider has ended, is logged out, and their tokens are refused, but for a running server's word that it is alive.
    While the ledger or the provider does not answer, logins stay.
    """

    database: AnyCallable[[], Database] = Callable(
        help="Returns the ledger's database (a function, as settings are copied and a database cannot be)."
    ).tag(config=True)
    default_language = Unicode("ko", help="Language of pages for those whose language is not known.").tag(config=True)
    issuer = Unicode(help="Address of the provider, as its discovery document says it.").tag(config=True)
    admit_unknown = Bool(False, help="Whether someone unknown is entered into the ledger.").tag(config=True)
    end_session = Bool(False, help="Whether a logout here is one at the provider.").tag(config=True)
    ca = Unicode(help="File with the certificates that the provider is trusted by.").tag(config=True)
    public_address = Unicode(help="Address at which people reach the platform.").tag(config=True)

    trusted_seconds = Integer(
        30, help="How long the provider's word on a login is taken, also by requests that came at the same time."
    ).tag(config=True)
    silent_seconds = Integer(
        30, help="How long logins stay without another question after one that was not answered."
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        limits = {"connect_timeout": CONNECT_SECONDS, "request_timeout": REQUEST_SECONDS, "follow_redirects": False}
        self.http_request_kwargs = {**limits, **({"ca_certs": self.ca} if self.ca else {})}
        self.provider = Provider(self.issuer, lambda address: self.httpfetch(address, "reading the discovery document"))
        self._words: OrderedDict[str, Word] = OrderedDict()
        self._asking: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._silent_until = 0.0
        self._greeting: asyncio.Task[None] | None = None

    @default("allow_all")
    def _allow_all(self) -> bool:
        return True  # whoever `authenticate` returns is in the ledger

    @default("auto_login")
    def _auto_login(self) -> bool:
        return True

    @default("enable_auth_state")
    def _enable_auth_state(self) -> bool:
        return True

    @default("auth_refresh_age")
    def _auth_refresh_age(self) -> int:
        return 60

    @default("auth_refresh_strict")
    def _auth_refresh_strict(self) -> bool:
        return True  # else a token would outlive the login of its person

    @default("refresh_pre_spawn")
    def _refresh_pre_spawn(self) -> bool:
        return False  # a server whose turn came at night starts while its person sleeps; the gate asks the ledger

    def get_handlers(self, app: Any) -> list[tuple[str, type[BaseHandler], dict[str, Any]]]:
        """Return the handlers of the login beside those that every platform has; the provider is asked who it is."""
        del app
        try:
            self._greeting = asyncio.get_running_loop().create_task(self._greet())
        except RuntimeError:  # a look at the settings, without a hub
            self._greeting = None
        return [*login_pages.handlers(self.default_language), *handlers(self.database, self.default_language)]

    async def _greet(self) -> None:
        try:
            await self.ready()
        except ProviderAway as error:
            self.log.error("Nobody can log in: the identity provider is away. %s", error)
        else:
            self.log.info("People log in at %s", self.issuer)

    async def ready(self) -> Metadata:
        """The provider's addresses are known; return them. Raises ProviderAway."""
        known = await self.provider.metadata()
        self.authorize_url, self.token_url, self.userdata_url = known.authorize, known.token, known.userinfo
        return known

    def address(self, handler: BaseHandler) -> str:
        """Return the hub's address as browsers know it."""
        base = self.public_address.rstrip("/")
        if not base:
            base = f"{get_browser_protocol(handler.request)}://{handler.request.host}"
        return f"{base}{handler.hub.base_url}"

    def get_callback_url(self, handler: BaseHandler | None = None) -> str:
        """Return the address that the provider sends people back to."""
        if handler is None:
            raise ValueError("the address depends on the request")
        return str(url_path_join(self.address(handler), "oauth_callback"))

    # A login.

    async def authenticate(self, handler: BaseHandler, data: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Return the person, with the tokens of the login. Raises LoginFailed."""
        try:
            await self.ready()
            model: dict[str, Any] = await super().authenticate(handler, data, **kwargs)
        except LoginFailed:
            raise
        except (ProviderAway, HTTPClientError, OSError) as error:
            self.log.error("The identity provider, at a login: %s", error)
            raise LoginFailed(_trouble(error)) from None
        except (HTTPError, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            self.log.error("The identity provider's answer to a login is not understood: %s", error)
            raise LoginFailed(Trouble.NOT_UNDERSTOOD) from None
        return model

    async def get_token_info(self, handler: BaseHandler | None, params: dict[str, Any]) -> dict[str, Any]:
        """Return the provider's tokens, and when the access token ends. Raises what `TROUBLE` lists, and others."""
        info: dict[str, Any] = await super().get_token_info(handler, params)
        if params["grant_type"] == "authorization_code" or "id_token" in info:
            # It comes from the provider itself, by a way that nobody else can answer on: OpenID Connect asks for no
            # signature then. Who it is for, and of when it is, is looked at all the same.
            checks = {"verify_signature": False, "verify_aud": True, "verify_iss": True, "verify_exp": True}
            claims = jwt.decode(
                info["id_token"],
                audience=self.client_id,
                issuer=(await self.ready()).issuer,
                leeway=LEEWAY_SECONDS,
                options={**checks, "require": ["iss", "aud", "exp", "sub"]},
            )
            info["subject"] = claims["sub"]
        seconds = info.get("expires_in")
        info["ends_at"] = int(time.time()) + seconds if isinstance(seconds, int) else None
        return info

    async def token_to_user(self, token_info: dict[str, Any]) -> dict[str, Any]:
        """Return the claims of the login's account. Raises ValueError for claims about another one."""
        claims: dict[str, Any] = await super().token_to_user(token_info)
        if claims["sub"] != token_info.get("subject", claims["sub"]):
            raise ValueError("the claims are those of another account than the id token's")
        return claims

    def user_info_to_username(self, user_info: dict[str, Any]) -> str:
        """Return the claim as it is; `update_auth_model` makes a name of it."""
        return str(user_info.get(self.username_claim, ""))

    async def update_auth_model(self, auth_model: dict[str, Any]) -> dict[str, Any]:
        """Return the model of the person whose account it is. Raises LoginFailed."""
        claims = auth_model["auth_state"][self.user_auth_state_key]
        found = account(claims, self.issuer, self.username_claim)
        if isinstance(found, Account):
            found = await self._log_in(found)
        if isinstance(found, Denied):
            raise LoginFailed.of(found)
        language.note(found.username, found.language)
        self._words.pop(found.username, None)
        return {**auth_model, "name": found.username, "admin": False}

    async def _log_in(self, found: Account) -> Person | Denied:
        settings = {"admit": self.admit_unknown, "language": self.default_language, "now": int(time.time())}
        try:
            return await in_a_thread(lambda: identities.log_in(self.database(), found, **settings))
        except (DatabaseAway, TimeoutError) as error:
            self.log.error("The ledger did not answer a login: %s", error)
            raise LoginFailed(Trouble.LEDGER_AWAY) from None

    # A login that goes on.

    async def refresh_user(self, user: Any, handler: BaseHandler | None = None, **kwargs: Any) -> bool | dict[str, Any]:
        """Return whether the login goes on, or with which tokens; False logs the person out and refuses their tokens.

        A running server may still say that it is alive, as work in it is nobody's login.
        """
        del kwargs
        say_how(handler)
        goes_on = await self._goes_on(user)
        if goes_on is False and handler is not None and _says_alive(handler):
            # True alone would make the person's other tokens good again for a while.
            asyncio.get_running_loop().call_soon(_not_refreshed, user)
            return True
        return goes_on

    async def _goes_on(self, user: Any) -> bool | dict[str, Any]:
        try:
            person = await in_a_thread(lambda: people.person(self.database(), user.name))
        except (DatabaseAway, TimeoutError):
            self.log.warning("The ledger did not answer; the login of %s stays", user.name)
            return True
        if person is None:
            return False
        language.note(person.username, person.language)
        lock = self._asking.setdefault(user.name, asyncio.Lock())
        async with lock:  # a refresh token may be good for one use only
            return await self._provider_agrees(user)

    async def _provider_agrees(self, user: Any) -> bool | dict[str, Any]:
        state = await user.get_auth_state() or {}
        token = state.get("access_token")
        if not token:
            return False
        now = time.monotonic()
        said = self._words.get(user.name)
        if said is not None and token in said.tokens and now - said.at < self.trusted_seconds:
            return said.good
        if now < self._silent_until:
            return True
        try:
            answer = await self._asked(user, state)
        except (*TROUBLE, ProviderAway, DatabaseAway, HTTPError, KeyError, TypeError, jwt.PyJWTError) as error:
            self.log.error("The login of %s stays, as the provider's word on it is not known: %s", user.name, error)
            self._silent_until = now + self.silent_seconds
            return True
        tokens = {token, answer["auth_state"]["access_token"]} if isinstance(answer, dict) else {token}
        self._words[user.name] = Word(frozenset(tokens), time.monotonic(), bool(answer))
        self._words.move_to_end(user.name)
        while len(self._words) > MOST_KEPT:
            self._words.popitem(last=False)
        return answer

    async def _asked(self, user: Any, state: dict[str, Any]) -> bool | dict[str, Any]:
        """Return the provider's word: by the access token, or by a new one if that has ended."""
        await self.ready()
        info = state["token_response"]
        ends_at = info.get("ends_at")
        if ends_at is None or time.time() < ends_at - EARLY_SECONDS:
            try:
                return await self._still(user, info)
            except HTTPClientError as error:
                if error.code not in {400, 401, 403}:
                    raise
        renewing = state.get("refresh_token")
        if not renewing:
            return False
        try:
            new = await self.get_token_info(None, self.build_refresh_token_request_params(renewing))
        except HTTPClientError as error:
            if error.code == 400 and _says(error) == "invalid_grant":
                return False
            raise
        kept = {name: info[name] for name in ("refresh_token", "id_token", "subject") if name in info}
        return await self._still(user, {**kept, **new})

    async def _still(self, user: Any, info: dict[str, Any]) -> bool | dict[str, Any]:
        """Return the login's model, when the account is still that of the person."""
        claims = await self.token_to_user(info)
        subject = str(claims["sub"])
        if not await in_a_thread(lambda: identities.is_of(self.database(), self.issuer, subject, user.name)):
            return False
        return {"name": user.name, "auth_state": self.build_auth_state_dict(info, claims)}


def _trouble(error: Exception) -> Trouble:
    if not isinstance(error, HTTPClientError) or error.code >= 500 or error.code in {404, 408, 429}:
        return Trouble.AWAY
    return Trouble.NOT_CONFIRMED if _says(error) == "invalid_grant" else Trouble.NOT_UNDERSTOOD


def _says(error: HTTPClientError) -> str:
    """Return the word for what is wrong in a provider's answer, or an empty text."""
    try:
        said = json.loads(error.response.body) if error.response is not None else {}
    except ValueError:
        return ""
    return str(said.get("error", "")) if isinstance(said, dict) else ""


def _says_alive(handler: BaseHandler) -> bool:
    """Return whether the request says no more than when a server was active."""
    return bool(handler.request.method == "POST" and ACTIVITY.fullmatch(handler.request.path))


def _not_refreshed(user: Any) -> None:
    user._auth_refreshed = None  # noqa: SLF001 - the hub has no other way to be asked again
