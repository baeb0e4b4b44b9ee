"""What holds for every request and answer, as ASGI: the size of what is sent, and the headers of what is answered."""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from portal.errors import TOO_LARGE

LARGEST_BODY_BYTES = 64 * 1024
DRAINED_BODY_BYTES = 4 * 1024 * 1024
BODY_SECONDS = 30
HEADERS = {
    # Scripts are the hub's own for light and dark; styles stand in the page. The hub's styles name a font, which
    # browsers may fetch before anything needs it.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; img-src 'self' data:;"
        " font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Headers:
    """Every answer has the headers above."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        await self.app(scope, receive, with_headers)


class BodyLimit:
    """A request is passed on with its whole body, or answered when that is too large or does not come.

    Its length need not be told, so that the body is read here first.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(_body(receive), BODY_SECONDS)
        except (TimeoutError, _TooLarge):
            problem = TOO_LARGE()
            answer = JSONResponse(problem.body("ko"), problem.status, {"Connection": "close"})
            await answer(scope, receive, send)
            return
        passed_on = False

        async def replay() -> Message:
            nonlocal passed_on
            if passed_on:
                return await receive()
            passed_on = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)


class _TooLarge(Exception):  # noqa: N818 - named for what the body is
    pass


async def _body(receive: Receive) -> bytes:
    """Return the whole body. One that is too large is read on for a while, as proxies pass on no early answer."""
    parts: list[bytes] = []
    size = 0
    while size <= DRAINED_BODY_BYTES:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size <= LARGEST_BODY_BYTES:
            parts.append(part)
        if message["type"] != "http.request" or not message.get("more_body", False):
            break
    if size > LARGEST_BODY_BYTES:
        raise _TooLarge
    return b"".join(parts)
