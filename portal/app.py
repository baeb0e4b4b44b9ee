"""The portal's application: pages and API below ``/services/portal/``, put together here."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from portal import (
    api,
    files,
    fleet,
    metrics,
    nodes,
    notices,
    pages,
    queue,
    reservation_api,
    reservations,
    sessions,
    usage,
)
from portal.door import Portal, portal_of, stranger_language
from portal.errors import FORGED, UNEXPECTED, LoginNeeded, Problem, away, invalid, malformed
from portal.guards import BodyLimit, Headers
from portal.login import COOKIE, PREFIX, SESSION_SECONDS, STATE_COOKIE, STATE_SECONDS, HubLogin
from quotas.domain.units import InvalidValue
from quotas.home import Home
from quotas.store.database import DatabaseAway

log = logging.getLogger("mudeung.portal")

API = f"{PREFIX}api/"


def create_app(home: Home) -> ASGIApp:
    """Return the portal of a home. It connects to nothing before the first request."""
    app = FastAPI(title="Mudeung", docs_url=None, redoc_url=None, openapi_url=f"{API}openapi.json")
    app.state.portal = Portal(home, home.database(), HubLogin(home))
    app.include_router(api.router)
    app.include_router(pages.router)
    app.include_router(notices.api)
    app.include_router(notices.pages)
    app.include_router(nodes.router)
    app.include_router(queue.api)
    app.include_router(queue.pages)
    app.include_router(files.api)
    app.include_router(files.pages)
    app.include_router(reservation_api.router)
    app.include_router(reservations.router)
    app.state.session_pace = sessions.Pace()
    app.include_router(sessions.router)
    app.include_router(usage.router)
    app.include_router(fleet.router)
    app.state.metrics = metrics.registry(app.state.portal)
    app.include_router(metrics.router)
    app.add_api_route(f"{PREFIX}health", health, include_in_schema=False)
    app.add_api_route(f"{PREFIX}oauth_callback", oauth_callback, include_in_schema=False)
    app.add_exception_handler(LoginNeeded, _log_in)
    for kind, problem in _PROBLEMS.items():
        app.add_exception_handler(kind, _answering(problem))
    return Headers(BodyLimit(app))


async def health() -> PlainTextResponse:
    """The portal answers; whether hub and ledger do, is theirs to say."""
    return PlainTextResponse("ok")


async def oauth_callback(request: Request, code: str = "", state: str = "") -> Response:
    """The hub sent the person back: a session begins, under a new name, and goes where the person wanted to go."""
    cookie = _state_cookie(state)
    held = request.cookies.get(cookie, "")
    if not (code and state and held) or max(len(code), len(state)) > 500:
        raise FORGED()
    key, next_url = await portal_of(request).login.finish(code, state, held)
    answer = RedirectResponse(next_url, 303)
    answer.delete_cookie(cookie, path=PREFIX)
    _set_cookie(request, answer, COOKIE, key, SESSION_SECONDS)
    return answer


async def _log_in(request: Request, error: Exception) -> Response:
    next_url = error.next_url if isinstance(error, LoginNeeded) else PREFIX
    address, state = portal_of(request).login.begin(next_url)
    answer = RedirectResponse(address, 303)
    _set_cookie(request, answer, _state_cookie(state), state, STATE_SECONDS)
    return answer


def _state_cookie(state: str) -> str:
    """Return the cookie's name of one login: several may be under way in one browser."""
    return STATE_COOKIE + "".join(each for each in state[:12] if each.isalnum() and each.isascii())


def _set_cookie(request: Request, answer: Response, name: str, value: str, seconds: int) -> None:
    secure = request.headers.get("x-forwarded-proto", "").split(",")[0] == "https"
    answer.set_cookie(name, value, seconds, path=PREFIX, secure=secure, httponly=True, samesite="lax")


def _of_http(error: Exception) -> Problem:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == HTTPStatus.NOT_FOUND:
        return Problem(404, "not_found", "There is no such page.", "없는 페이지입니다.", "path")
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return Problem(405, "method_not_allowed", "Not in this way.", "이 방법으로는 할 수 없습니다.", "method")
    return Problem(status, "refused", "The request cannot be taken.", "받아들일 수 없는 요청입니다.")


def _unexpected(error: Exception) -> Problem:
    log.error("a request failed", exc_info=error)
    return UNEXPECTED()


_PROBLEMS: dict[type[Exception], Any] = {
    Problem: lambda error: error,
    InvalidValue: invalid,
    RequestValidationError: lambda error: malformed(error.errors()),
    DatabaseAway: lambda _error: away("ledger"),
    HTTPException: _of_http,
    Exception: _unexpected,
}


def _answering(problem_of: Any) -> Any:
    async def handle(request: Request, error: Exception) -> Response:
        problem: Problem = problem_of(error)
        language = getattr(request.state, "language", None) or stranger_language(request)
        if request.url.path.startswith(API):
            return JSONResponse(problem.body(language), problem.status)
        return portal_of(request).page("problem", None, language, problem.status, problem=problem)

    return handle
