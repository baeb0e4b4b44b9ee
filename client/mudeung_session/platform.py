"""Where the platform answers this server's questions about itself, and the token that opens it: from the environment.

The token is of this run alone, and opens nothing but what it may know and extend.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

TOKEN_VARIABLE = "MUDEUNG_SESSION_TOKEN"  # noqa: S105 - the name of a variable
URL_VARIABLE = "MUDEUNG_SESSION_URL"
LONGEST_ANSWER_BYTES = 256 * 1024


class Away(Exception):  # noqa: N818 - it says where the platform is
    """The platform does not answer, or not in a way that can be read."""


class Refused(Exception):  # noqa: N818 - it is an answer
    """The platform answers with a problem: `status`, and its message in both languages."""

    def __init__(self, status: int, message_en: str, message_ko: str) -> None:
        super().__init__(message_en)
        self.status = status
        self.message_en = message_en
        self.message_ko = message_ko

    @property
    def is_final(self) -> bool:
        """Whether it will not be otherwise: the run has ended, or the token is none of the platform's."""
        return self.status in (401, 403, 404, 410)


@dataclass(frozen=True)
class Platform:
    """The address of this run's session, and the run's token."""

    url: str
    token: str

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/json",
            "Content-Type": "application/json",
        }


def from_environment(environment: Mapping[str, str] = os.environ) -> Platform | None:
    """Return the platform that started this server, or None where none did."""
    url, token = environment.get(URL_VARIABLE, ""), environment.get(TOKEN_VARIABLE, "")
    if not token or urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        return None
    return Platform(url.rstrip("/"), token)


def answer_of(status: int, body: bytes) -> dict[str, object]:
    """Return what the platform answered. Raises Refused, and Away for what is no answer of it."""
    import json  # noqa: PLC0415 - a shell waits for the command: nothing is loaded before it is needed

    if status == 204:
        return {}
    try:
        found = json.loads(body)
    except ValueError:
        raise Away(f"HTTP {status} without an answer") from None
    if status == 200 and isinstance(found, dict):
        return found
    error = found.get("error") if isinstance(found, dict) else None
    if status >= 500 or not isinstance(error, dict):
        raise Away(f"HTTP {status}")
    english = str(error.get("message_en", f"HTTP {status}"))
    raise Refused(status, english, str(error.get("message_ko", english)))
