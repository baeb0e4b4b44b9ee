"""The pages of a login at an identity provider: the way there and back, the logout, and what went wrong in words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.utils import url_path_join
from oauthenticator.oauth2 import STATE_COOKIE_NAME, OAuthCallbackHandler, OAuthLoginHandler, OAuthLogoutHandler
from tornado.web import HTTPError

from quotas.domain.identities import Denial, Denied
from spawners import language
from spawners.handlers import page_language
from spawners.language import N_
from spawners.login import LEDGER_AWAY
from spawners.provider import ProviderAway

STATE_DAYS = 1 / 24
AGAIN_SECONDS = 60


class Trouble(StrEnum):
    """Why a login comes to nothing whoever it is."""

    NOT_BEGUN = "not_begun"
    SAID_NO = "said_no"
    NOT_CONFIRMED = "not_confirmed"
    AWAY = "away"
    NOT_UNDERSTOOD = "not_understood"
    LEDGER_AWAY = "ledger_away"


@dataclass(frozen=True)
class Words:
    """What a page says: the status, what is wrong, what to do, and whether another account could help."""

    status: int
    what: str
    then: str
    another: bool = False


_BEGIN = N_("Log in again.")
_OPERATOR = N_("Tell the operator, with the time at which you saw this.")
_NOT_UNDERSTOOD = N_("The identity provider and this platform do not understand each other, so nobody can log in.")
_MINUTE = N_("Try again in a minute.")
TABLE: dict[Trouble | Denial, Words] = {
    Trouble.NOT_BEGUN: Words(400, N_("This login was not begun in this browser, or too long ago."), _BEGIN),
    Trouble.SAID_NO: Words(403, N_("The identity provider did not log you in ({name})."), _BEGIN, another=True),
    Trouble.NOT_CONFIRMED: Words(400, N_("The identity provider did not confirm this login."), _BEGIN),
    Trouble.AWAY: Words(
        503, N_("The identity provider does not answer, so nobody can log in. Running servers go on."), _MINUTE
    ),
    Trouble.NOT_UNDERSTOOD: Words(502, _NOT_UNDERSTOOD, _OPERATOR),
    Trouble.LEDGER_AWAY: Words(503, LEDGER_AWAY, _MINUTE),
    Denial.NO_SUBJECT: Words(502, _NOT_UNDERSTOOD, _OPERATOR),
    Denial.NO_CLAIM: Words(
        403,
        N_("The identity provider does not say the name of your account."),
        N_("Ask the operator: the platform must be allowed to read the claim that is set as the name."),
        another=True,
    ),
    Denial.NO_NAME: Words(
        403,
        N_("The name of your account, “{name}”, cannot be a name here: 1 to 63 of a-z, 0-9, . _ -, a letter first."),
        N_("Ask the operator which account to use, or which claim is your name."),
        another=True,
    ),
    Denial.UNKNOWN: Words(
        403,
        N_("Your account “{name}” is not known on this platform."),
        N_("Ask your project's PI or the operator to enter you under this name, or log in with another account."),
        another=True,
    ),
    Denial.REMOVED: Words(
        403,
        N_("“{name}” has no access to this platform any more."),
        N_("If that is a mistake, ask the operator."),
        another=True,
    ),
    Denial.OTHER_ACCOUNT: Words(
        403,
        N_("The name “{name}” belongs to another account of the identity provider."),
        N_("If that account was yours and this one took its place, ask the operator to link this one."),
        another=True,
    ),
}
"""Every way in which a login ends without one."""


class LoginFailed(Exception):  # noqa: N818 - what it is, as DatabaseAway is
    """A login comes to nothing: `why` is a row of `TABLE`, and `name` what the row's text names."""

    def __init__(self, why: Trouble | Denial, name: str = "") -> None:
        super().__init__(why.value)
        self.why = why
        self.name = name

    @classmethod
    def of(cls, denied: Denied) -> LoginFailed:
        return cls(denied.denial, denied.name)


class Translated(BaseHandler):
    """A handler whose pages are in the language of the visitor, who is not known yet."""

    def initialize(self, default_language: str) -> None:
        self.default_language = default_language

    @property
    def template_namespace(self) -> dict[str, Any]:
        return super().template_namespace | language.words(page_language(self, self.default_language))

    async def show(self, failed: LoginFailed) -> None:
        """The page says why nobody was logged in, and what to do."""
        words = TABLE[failed.why]
        self.log.warning("A login failed: %s %r", failed.why.value, failed.name)
        self.set_status(words.status)
        self.set_header("Cache-Control", "no-store")
        if words.status == 503:
            self.set_header("Retry-After", str(AGAIN_SECONDS))
        html = await self.render_template("login_failed.html", words=words, why=failed.why.value, account=failed.name)
        self.finish(html)


class ToProvider(Translated, OAuthLoginHandler):
    """Sends the visitor to the provider; with `?another` it asks for an account although it knows one."""

    async def get(self) -> None:
        try:
            await self.authenticator.ready()
        except ProviderAway as error:
            self.log.error("The identity provider is away: %s", error)
            await self.show(LoginFailed(Trouble.AWAY))
            return
        super().get()

    def authorize_redirect(self, *arguments: Any, **named: Any) -> None:
        more = named["extra_params"]
        more["ui_locales"] = page_language(self, self.default_language)
        if self.get_argument("another", None) is not None:
            more["prompt"] = "login"
        super().authorize_redirect(*arguments, **named)

    def set_state_cookie(self, state_cookie_value: str) -> None:
        self._set_cookie(STATE_COOKIE_NAME, state_cookie_value, expires_days=STATE_DAYS, httponly=True, samesite="Lax")


class FromProvider(Translated, OAuthCallbackHandler):
    """Where the provider sends the visitor back to: logged in, or with a page that says why not."""

    async def get(self) -> None:
        try:
            self.check_arguments()
            user = await self.login_user()
        except LoginFailed as failed:
            await self.show(failed)
            return
        if user is None:  # the library's own last word, which ours never comes to
            await self.show(LoginFailed(Trouble.NOT_CONFIRMED))
            return
        self.redirect(self.get_next_url(user))

    def check_arguments(self) -> None:
        """The login was begun in this browser and the provider has agreed. Raises LoginFailed."""
        self.check_state()  # before all else: only what the provider said is shown
        error = self.get_argument("error", "")
        if error:
            plain = error.isascii() and error.replace("_", "").isalpha() and len(error) < 60
            raise LoginFailed(Trouble.SAID_NO, error if plain else "error")
        if not self.get_argument("code", ""):
            raise LoginFailed(Trouble.NOT_BEGUN)

    def check_state(self) -> None:
        try:
            super().check_state()
        except (HTTPError, ValueError, TypeError, AttributeError, RecursionError) as error:
            # A state that somebody made up can be anything that decodes, or does not.
            self.log.warning("A login came back that was not begun here: %s", error)
            raise LoginFailed(Trouble.NOT_BEGUN) from None


class Logout(Translated, OAuthLogoutHandler):
    """Logs out here and, where that is set, at the provider, which sends the visitor back to the page of the logout."""

    _away_to = ""

    async def handle_logout(self) -> None:
        await super().handle_logout()
        user = self.current_user
        if user is None or not self.authenticator.end_session:
            return
        state = await user.get_auth_state() or {}
        try:
            end = (await self.authenticator.ready()).end_session
        except ProviderAway as error:
            self.log.warning("%s was not logged out at the identity provider: %s", user.name, error)
            return
        if end:
            back = url_path_join(self.authenticator.address(self), "logout")
            fields = {"client_id": self.authenticator.client_id, "post_logout_redirect_uri": back}
            fields |= {"id_token_hint": state["id_token"]} if state.get("id_token") else {}
            self._away_to = f"{end}{'&' if '?' in end else '?'}{urlencode(fields)}"

    async def render_logout_page(self) -> None:
        if self._away_to:
            self.redirect(self._away_to)
        else:
            self.finish(await self.render_template("logout.html"))


def handlers(default_language: str) -> list[tuple[str, type[BaseHandler], dict[str, Any]]]:
    """Return the handlers of logins at a provider, for an authenticator's `get_handlers`."""
    options = {"default_language": default_language}
    return [
        (r"/oauth_login", ToProvider, options),
        (r"/oauth_callback", FromProvider, options),
        (r"/logout", Logout, options),
    ]
