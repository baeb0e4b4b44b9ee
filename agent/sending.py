"""Reports go to the platform in their order, one POST each, and again until it has them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from agent.buffer import Buffer, Pending
from agent.options import InvalidOption, Options
from agent.wire import read_answer
from quotas.domain.node_reports import Answer

if TYPE_CHECKING:
    import httpx

CALL_SECONDS = 15
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0
DENIED_SECONDS = 60.0
SAY_AGAIN_SECONDS = 600
SENDS_PER_SECOND = 20
ANSWER_LIMIT_BYTES = 256 * 1024
NEVER_TAKEN = frozenset({400, 413, 422})
DENIED = frozenset({401, 403})

log = logging.getLogger("agent.sending")


class Outcome(Enum):
    """What became of a report."""

    TAKEN = "taken"
    REFUSED = "refused"
    DENIED = "denied"
    AWAY = "away"


@dataclass
class _Trouble:
    """Why nothing goes through, told once and then every ten minutes."""

    what: str = ""
    told_at: float = 0.0

    def tell(self, what: str, waiting: int) -> None:
        now = time.monotonic()
        if what != self.what or now - self.told_at >= SAY_AGAIN_SECONDS:
            log.warning("%s; %d reports wait", what, waiting)
            self.what, self.told_at = what, now

    def end(self, waiting: int) -> None:
        if self.what:
            log.info("the platform takes reports again; %d wait", waiting)
        self.what = ""


class Sender:
    """Sends what is in the buffer; `heed` is told each answer, and whether the report was the newest one."""

    def __init__(self, buffer: Buffer, options: Options, heed: Callable[[Answer, bool], None]) -> None:
        self._buffer = buffer
        self._options = options
        self._heed = heed
        self._client: httpx.Client | None = None
        self._trouble = _Trouble()

    def run(self, stop: threading.Event) -> None:
        """Reports are sent as they come, until `stop` is set."""
        wait = FIRST_WAIT_SECONDS
        while not stop.is_set():
            pending = self._buffer.oldest()
            if pending is None:
                self._buffer.added.wait(1.0)
                continue
            outcome = self.send(pending)
            if outcome in {Outcome.TAKEN, Outcome.REFUSED}:
                wait = FIRST_WAIT_SECONDS
                stop.wait(1 / SENDS_PER_SECOND)
            elif outcome is Outcome.DENIED:
                stop.wait(DENIED_SECONDS)
            else:
                # Machines that lost the platform together should not come back to it together.
                stop.wait(wait * random.uniform(0.75, 1.0))  # noqa: S311 - no secret
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def drain(self) -> bool:
        """Send all that waits, once; return whether the platform has it."""
        whole = True
        while (pending := self._buffer.oldest()) is not None:
            outcome = self.send(pending)
            if outcome in {Outcome.DENIED, Outcome.AWAY}:
                return False
            whole = whole and outcome is Outcome.TAKEN
            time.sleep(1 / SENDS_PER_SECOND)
        return whole

    def send(self, pending: Pending) -> Outcome:
        """Send it once; what was answered is done."""
        import httpx  # noqa: PLC0415 - what only prints the inventory does without it

        try:
            token = self._options.token()
            status, body = self._post(httpx, pending.body, token)
        except InvalidOption as no_token:
            self._trouble.tell(str(no_token), len(self._buffer))
            return Outcome.DENIED
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            self._trouble.tell(f"the platform is away ({type(error).__name__}: {error})", len(self._buffer))
            return Outcome.AWAY
        return self._answered(pending, status, body)

    def _post(self, httpx: object, body: bytes, token: str) -> tuple[int, bytes]:
        if self._client is None:
            self._client = httpx.Client(timeout=CALL_SECONDS)  # type: ignore[attr-defined]
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        request = self._client.build_request("POST", self._options.report_url, content=body, headers=headers)
        response = self._client.send(request, stream=True)
        try:
            read = b""
            for piece in response.iter_bytes():
                read += piece
                if len(read) > ANSWER_LIMIT_BYTES:
                    break
            return response.status_code, read
        finally:
            response.close()

    def _answered(self, pending: Pending, status: int, body: bytes) -> Outcome:
        if status in DENIED:
            what = f"the platform does not take this machine's token (HTTP {status}): ask its operator for a new one"
            self._trouble.tell(what, len(self._buffer))
            return Outcome.DENIED
        if status in NEVER_TAKEN:
            log.error("report %d was refused (HTTP %d) and put aside: %.300r", pending.sequence, status, body)
            self._buffer.refuse(pending.sequence, f"HTTP {status}\n{body.decode(errors='replace')}")
            return Outcome.REFUSED
        if status != 200:
            self._trouble.tell(f"the platform answers HTTP {status} at {self._options.report_url}", len(self._buffer))
            return Outcome.AWAY
        try:
            answer = read_answer(body)
        except ValueError as error:
            self._trouble.tell(f"{error}: is {self._options.url} the platform?", len(self._buffer))
            return Outcome.AWAY
        if answer.accepted < pending.sequence:
            what = f"the platform has taken reports up to {answer.accepted} only, not {pending.sequence}"
            self._trouble.tell(what, len(self._buffer))
            return Outcome.AWAY
        newest = self._buffer.newest
        if answer.accepted > newest:
            log.warning("the platform has report %d of this stream, the buffer was at %d", answer.accepted, newest)
        self._buffer.acknowledge(answer.accepted)
        self._trouble.end(len(self._buffer))
        self._heed(answer, pending.sequence == newest)
        return Outcome.TAKEN

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
