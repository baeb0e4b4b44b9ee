"""What every request of the portal meets: the home, the hub, the ledger, the templates, and who asks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from portal.bodies import form_fields
from portal.errors import FORGED, UNAUTHENTICATED, LoginNeeded, refusal
from portal.login import COOKIE, PREFIX, HubLogin, Session, bearer
from quotas.domain.people import Person, PlatformRole
from quotas.home import Home
from quotas.language import COOKIE as LANGUAGE_COOKIE
from quotas.language import NAMES, TEMPLATES, Translator, of_stranger, translator
from quotas.services import notebooks, people
from quotas.store.database import Database

CSRF_FIELD = "_csrf"


@dataclass
class Portal:
    """The portal's parts."""

    home: Home
    database: Database
    login: HubLogin
    clock: Callable[[], float] = time.time
    templates: Environment = field(init=False)

    def __post_init__(self) -> None:
        self.templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    @property
    def now(self) -> int:
        return int(self.clock())

    def page(self, name: str, visitor: Visitor | None, language: str, status: int = 200, **shown: Any) -> HTMLResponse:
        """Return the page of a template; its frame is that of the hub's pages."""
        words = {"_": translator(language), "language": language, "languages": NAMES}
        frame = {
            "base_url": "/hub/",
            "portal_url": PREFIX,
            "static_url": lambda path: f"/hub/static/{path}",
            "logo_url": "/hub/home",
            "login_url": f"/hub/login?next={PREFIX}",
            "logout_url": "/hub/logout",
            "services": [{"name": "portal", "href": PREFIX}],
            "parsed_scopes": (),
            "evaluation": self.home.settings.evaluation,
            "announcement": "",
            "user": None if visitor is None else {"name": visitor.username},
            "csrf": "" if visitor is None else visitor.session.csrf,
            "csrf_field": CSRF_FIELD,
            "operates": visitor is not None and visitor.operates,
        }
        text = self.templates.get_template(f"portal/{name}.html").render(words | frame | shown)
        return HTMLResponse(text, status)


@dataclass(frozen=True)
class Visitor:
    """A person who came by a browser; `person` is None for one whom the ledger does not know."""

    session: Session
    person: Person | None
    language: str

    @property
    def username(self) -> str:
        return self.session.username

    @property
    def translate(self) -> Translator:
        return translator(self.language)

    @property
    def operates(self) -> bool:
        """Whether the pages for operators are offered."""
        return self.person is not None and PlatformRole.OPERATOR in self.person.platform_roles


def portal_of(request: Request) -> Portal:
    found: Portal = request.app.state.portal
    return found


async def session_of(request: Request) -> Session:
    """Return the session of a page's request. Raises LoginNeeded."""
    found = await portal_of(request).login.session(request.cookies.get(COOKIE, ""))
    if found is None:
        raise LoginNeeded(request.url.path if request.method == "GET" else PREFIX)
    return found


def visitor_of(request: Request, session: Annotated[Session, Depends(session_of)]) -> Visitor:
    """Return who is looking at a page."""
    portal = portal_of(request)
    person = people.person(portal.database, session.username)
    language = person.language if person else stranger_language(request)
    request.state.language = language
    return Visitor(session, person, language)


async def own_form(request: Request, session: Annotated[Session, Depends(session_of)]) -> dict[str, str]:
    """Return the fields of a form that one of the portal's pages sent. Raises Problem for any other."""
    fields = await form_fields(request)
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        raise FORGED()
    session.check_form(fields.pop(CSRF_FIELD, ""))
    return fields


async def holder_of(request: Request) -> str:
    """Return whose token an API request carries. Raises Problem."""
    name = await portal_of(request).login.username(bearer(request.headers.get("authorization", "")))
    if name is None:
        raise UNAUTHENTICATED()
    return name


def language_of_holder(request: Request, username: Annotated[str, Depends(holder_of)]) -> str:
    """Return whose token it is; errors are then told in that person's language."""
    person = people.person(portal_of(request).database, username)
    if person is not None:
        request.state.language = person.language
    return username


def stranger_language(request: Request) -> str:
    """Return the language for someone whom nobody knows."""
    accepted = request.headers.get("accept-language", "")
    return of_stranger(request.cookies.get(LANGUAGE_COOKIE), accepted, portal_of(request).home.settings.language)


def require_schedule(portal: Portal, username: str, project: str) -> None:
    """The person may schedule in the project. Raises Problem."""
    refused = notebooks.may_schedule(portal.database, username, project)
    if refused is not None:
        raise refusal(refused)


def require_see(portal: Portal, username: str, project: str) -> None:
    """The person may see the project's schedules and runs. Raises Problem."""
    refused = notebooks.may_see(portal.database, username, project)
    if refused is not None:
        raise refusal(refused)


AtPortal = Annotated[Portal, Depends(portal_of)]
AVisitor = Annotated[Visitor, Depends(visitor_of)]
OwnForm = Annotated[dict[str, str], Depends(own_form)]
Holder = Annotated[str, Depends(language_of_holder)]
