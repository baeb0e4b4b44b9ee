"""A browser without a screen: cookies, forms with their tokens, the stream of a start, a Jupyter server's API."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from cli.demo import pages
from cli.demo.pages import Form
from cli.demo.story import Differs

CALL_SECONDS = 60.0
STREAM_SECONDS = 120.0
CONNECT_TRIES, READ_TRIES, AGAIN_SECONDS = 5, 3, 2.0
"""More than one, as a forwarded port that broke is open again after a moment."""


@dataclass(frozen=True)
class Page:
    """An answer: its status, where it came from in the end, and its source."""

    status: int
    url: str
    html: str

    @property
    def text(self) -> str:
        return pages.text(self.html)

    def form(self, ending: str) -> Form:
        """Return the form whose address ends so. Raises Differs when the page has none."""
        found = [each for each in pages.forms(self.html) if urlsplit(each.action).path.endswith(ending)]
        if not found:
            actions = [each.action for each in pages.forms(self.html)]
            raise Differs(f"a form for …{ending} on {self.url}", f"forms for {actions}: {self.text[:300]}")
        return found[0]


class Browser:
    """One person's browser on the platform at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = _client(url, follow_redirects=True)

    def close(self) -> None:
        self.client.close()

    def open(self, path: str) -> Page:
        """Go to a page."""
        return _page(self.client.get(path))

    def submit(self, page: Page, form: Form, **changes: str) -> Page:
        """Send the form with some fields filled in."""
        address = urljoin(page.url, form.action) if form.action else page.url
        return _page(self.client.post(address, data={**form.fields, **changes}))

    def log_in(self, username: str, password: str) -> Page:
        """Log in by the login page's form; return the page that follows."""
        page = self.open("/hub/login")
        return self.submit(page, page.form("/hub/login"), username=username, password=password)

    def follow(self, page: Page) -> Iterator[dict[str, Any]]:
        """Yield the events of the start that the page follows, until it is ready or has failed."""
        found = re.search(r"new EventSource\(\"([^\"]+)\"\)", page.html)
        if found is None:
            raise Differs(f"a page that follows the start, at {page.url}", page.text[:300])
        yield from self.stream(urljoin(page.url, json.loads(f'"{found[1]}"').replace("&amp;", "&")))

    def stream(self, address: str) -> Iterator[dict[str, Any]]:
        """Yield the events of a start, until it is ready or has failed."""
        deadline = time.monotonic() + STREAM_SECONDS
        with self.client.stream("GET", address, headers={"Accept": "text/event-stream"}) as stream:
            if stream.status_code != httpx.codes.OK:
                raise Differs("a stream of the start", f"{stream.status_code}: {stream.read()[:300]!r}")
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    event = json.loads(line[5:])
                    yield event
                    if event.get("ready") or event.get("failed"):
                        return
                if time.monotonic() > deadline:
                    raise Differs(f"a server within {STREAM_SECONDS:.0f} s", "a start that goes on")

    def call(self, method: str, path: str, body: object = None, *, token: str | None = None) -> Any:
        """Call an API as a page's script does, with its cookies and token against forgery; return the JSON answer."""
        answer = self.answer(method, path, body, token=token)
        if answer.is_error:
            raise Differs(f"{method} {path} to be taken", f"{answer.status_code}: {answer.text[:500]}")
        return answer.json() if answer.content else None

    def answer(self, method: str, path: str, body: object = None, *, token: str | None = None) -> httpx.Response:
        """Call an API; return the answer whatever its status."""
        if token is not None:
            headers = {"Authorization": f"token {token}"}
            with _client(self.url) as client:  # without the cookies
                return client.request(method, path, json=body, headers=headers)
        headers = {"X-XSRFToken": self.xsrf(path), "Referer": self.url + path}
        return self.client.request(method, path, json=body, headers=headers)

    def xsrf(self, path: str) -> str:
        """Return the token that the cookies hold for this path: the hub and each server have one of their own."""
        found = [
            cookie
            for cookie in self.client.cookies.jar
            if cookie.name == "_xsrf" and cookie.value and path.startswith(cookie.path.rstrip("/") or "/")
        ]
        best = max(found, key=lambda cookie: len(cookie.path), default=None)
        return "" if best is None else str(best.value)

    def cookies_for(self, path: str) -> str:
        """Return the Cookie header that a browser would send to this path."""
        return str(self.client.build_request("GET", path).headers.get("Cookie", ""))


class Patient(httpx.HTTPTransport):
    """A way over which what only reads is asked again, when it broke before an answer came."""

    def __init__(self) -> None:
        super().__init__(retries=CONNECT_TRIES - 1)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(READ_TRIES - 1 if request.method == "GET" else 0):
            try:
                return super().handle_request(request)
            except (httpx.ReadError, httpx.RemoteProtocolError):
                time.sleep(AGAIN_SECONDS)
        return super().handle_request(request)


def _client(url: str, *, follow_redirects: bool = False) -> httpx.Client:
    return httpx.Client(
        base_url=url,
        follow_redirects=follow_redirects,
        timeout=CALL_SECONDS,
        trust_env=False,
        transport=Patient(),
    )


def _page(answer: httpx.Response) -> Page:
    return Page(answer.status_code, str(answer.url), answer.text)
