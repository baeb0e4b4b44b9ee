"""A running server's view of itself: for its own processes with the run's token, for its person with a hub's token.

The run's token opens these addresses and no others: how the run stands, extending it, and what it says of itself. What
a container can reach of the portal is only this (see :func:`only_sessions`).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from portal.api import Sent
from portal.bodies import NoBody, Strict, checked
from portal.door import AtPortal, Holder, Portal, portal_of
from portal.errors import Problem, not_found
from portal.login import PREFIX, bearer
from portal.views import instant
from quotas.domain import sessions as domain
from quotas.domain.sessions import API_PATH, WARN_SECONDS, Activity, Facts, run_of
from quotas.domain.units import LARGEST, show_instant
from quotas.services import sessions
from quotas.services.sessions import Extended

MOST_RUNS = 20_000
"""Of how many runs it is remembered how much they asked lately."""
BURST, REFILL_SECONDS = 20, 2.0
"""A run may ask so often at once, and then once in so many seconds. Extending counts five times."""
EXTENDING_COSTS = 5

router = APIRouter(prefix=f"{PREFIX}api")


@dataclass
class Pace:
    """How much each run asks: a bucket of `BURST` that fills again by one every `REFILL_SECONDS`."""

    clock: Callable[[], float] = time.monotonic
    buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, run: str, cost: float = 1) -> None:
        """The run has asked. Raises Problem for one that asks too often."""
        now = self.clock()
        left, at = self.buckets.pop(run, (float(BURST), now))
        left = min(left + (now - at) / REFILL_SECONDS, float(BURST))
        while len(self.buckets) >= MOST_RUNS:
            self.buckets.popitem(last=False)
        self.buckets[run] = (left - cost if left >= cost else left, now)
        if left < cost:
            raise Problem(
                429,
                "too_often",
                "This run asks too often; ask again in a few seconds.",
                "요청이 너무 잦습니다. 몇 초 후 다시 시도하세요.",
                next_en="Once a minute is enough; every ten seconds near the end.",
                next_ko="1분에 한 번이면 충분합니다. 종료가 가까우면 10초에 한 번으로 하세요.",
            )


class ActivityBody(Strict):
    """What a server says of itself: kernels that compute now, and when one of its kernels or terminals was active."""

    busy_kernels: Annotated[int, Field(ge=0, le=domain.MOST_KERNELS)]
    active_at: Annotated[int, Field(ge=0, le=LARGEST)] | None = None


def run_of_token(request: Request) -> str:
    """Return the run whose token the request carries. Raises Problem."""
    portal = portal_of(request)
    token = bearer(request.headers.get("authorization", ""))
    found = run_of(portal.home.secret("session_key"), token)
    if found is None:
        raise Problem(
            401,
            "unauthenticated",
            "The token of a run is needed: Authorization: Bearer …",
            "실행 토큰이 필요합니다. Authorization: Bearer …",
            "Authorization",
        )
    return found


OwnRun = Annotated[str, Depends(run_of_token)]


@router.get("/session")
def show(portal: AtPortal, request: Request, run: OwnRun) -> dict[str, Any]:
    """Return how the run stands whose token this is."""
    _take(request, run)
    return session_json(_facts(portal, request, run))


@router.post("/session/extend")
def extend(portal: AtPortal, request: Request, run: OwnRun, sent: Sent) -> dict[str, Any]:
    """Extend the run whose token this is, as far as it may be; return how it stands, and whether that gained time."""
    return _extended(portal, request, run, sent)


@router.post("/session/activity", status_code=204)
def activity(portal: AtPortal, request: Request, run: OwnRun, sent: Sent) -> None:
    """The server whose token this is says what its kernels and terminals do."""
    _take(request, run)
    body = checked(ActivityBody, sent)
    said = Activity(body.busy_kernels, body.active_at)
    if not sessions.note_activity(portal.database, run, said, portal.now):
        raise _ended()


@router.get("/runs/{run}/session")
def show_to_person(portal: AtPortal, request: Request, holder: Holder, run: str) -> dict[str, Any]:
    """Return how a running server or batch run stands, to its person and the PIs of its project."""
    _owner(portal, holder, run)
    _take(request, run)
    return session_json(_facts(portal, request, run))


@router.post("/runs/{run}/session/extend")
def extend_by_person(portal: AtPortal, request: Request, holder: Holder, run: str, sent: Sent) -> dict[str, Any]:
    """Extend a server of one's own, as far as it may be; return how it stands, and whether that gained time."""
    if _owner(portal, holder, run) != holder:
        raise Problem(
            403,
            "not_yours",
            "Only its person may extend a server.",
            "서버의 사용자만 연장할 수 있습니다.",
            "run",
        )
    return _extended(portal, request, run, sent)


def _take(request: Request, run: str, cost: float = 1) -> None:
    pace: Pace = request.app.state.session_pace
    pace.take(run, cost)


def _owner(portal: Portal, holder: str, run: str) -> str:
    """Return whose run it is. Raises Problem, the same for one that there is not and one not to be seen."""
    found = sessions.owner(portal.database, holder, run) if len(run) <= domain.LONGEST_RUN else None
    if found is None:
        raise not_found("run")
    return found


def _extended(portal: Portal, request: Request, run: str, sent: dict[str, Any]) -> dict[str, Any]:
    _take(request, run, EXTENDING_COSTS)
    checked(NoBody, sent)
    found = sessions.extend(portal.database, run, portal.now, portal.home.settings.policy())
    if found is None:
        raise _ended()
    request.state.language = found.facts.language
    return {**session_json(found.facts), "extended": found.extended, **_said(found)}


def _said(found: Extended) -> dict[str, str]:
    """Return what to tell the person who asked to extend."""
    remaining = found.facts.remaining
    if not found.extended:
        return {f"message_{each}": found.facts.extending.sentence(each) for each in ("en", "ko")}
    stop = show_instant(remaining.stop_at)
    return {
        "message_en": f"Extended: it goes on until {stop} ({remaining.name('en')}).",
        "message_ko": f"연장되었습니다. {stop}까지 실행됩니다 ({remaining.name('ko')}).",
    }


def _facts(portal: Portal, request: Request, run: str) -> Facts:
    found = sessions.facts(portal.database, run, portal.now, portal.home.settings.policy())
    if found is None:
        raise _ended()
    request.state.language = found.language
    return found


def _ended() -> Problem:
    return Problem(410, "run_ended", "This run has ended.", "이 실행은 종료되었습니다.", "run")


def session_json(found: Facts) -> dict[str, Any]:
    """Return a run's facts as the API answers them. Amounts are GFLOPS·s, shares parts per million, times seconds."""
    remaining, extending = found.remaining, found.extending
    return {
        "run": found.run,
        "kind": found.kind.value,
        "person": found.person,
        "language": found.language,
        "project": found.project,
        "profile": found.profile,
        "profile_en": found.profile_en,
        "profile_ko": found.profile_ko,
        "now": found.now,
        "started_at": instant(found.started_at),
        "seconds_left": found.seconds_left,
        "stop_at": instant(remaining.stop_at),
        "stop_at_seconds": remaining.stop_at,
        "limit": remaining.limit.value,
        "limit_en": remaining.name("en"),
        "limit_ko": remaining.name("ko"),
        "why_en": remaining.why("en"),
        "why_ko": remaining.why("ko"),
        "can_extend": extending.possible,
        "extending_en": extending.sentence("en"),
        "extending_ko": extending.sentence("ko"),
        "warn_seconds": list(WARN_SECONDS),
        "device": _device_json(found),
        "budget": {
            "left_gflops_seconds": found.budget_left,
            "left_seconds": found.budget_seconds,
            "charged_gflops_seconds": found.charged,
            "gflops": found.gflops,
        },
        "paused": None
        if found.paused_since is None
        else {"since": instant(found.paused_since), "why": found.paused_why},
        "activity": {
            "busy_kernels": found.busy_kernels,
            "active_at": instant(found.active_at),
            "kept_at": instant(found.kept_at),
            "idle_limit_seconds": found.idle_seconds,
            "session_limit_seconds": found.session_seconds,
        },
        "notices": [
            {"id": each.id, "at": instant(each.at), "text_en": each.text_en, "text_ko": each.text_ko}
            for each in found.notices
        ],
    }


def _device_json(found: Facts) -> dict[str, Any] | None:
    if found.device_model is None:
        return None
    return {
        "model": found.device_model,
        "count": found.device_count,
        "simulated": found.simulated,
        "names": [each.name for each in found.devices],
        "lost": any(each.state == "lost" for each in found.devices),
        "busy_ppm": found.busy_ppm,
        "read_at": instant(found.read_at),
    }


def only_sessions(app: ASGIApp) -> ASGIApp:
    """Return the same application, of which nothing but what a run's own token opens is to be reached."""

    async def narrowed(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "lifespan" or path == API_PATH or path.startswith(f"{API_PATH}/"):
            await app(scope, receive, send)
            return
        await asyncio.wait_for(JSONResponse(not_found("path").body("en"), 404)(scope, receive, send), 10)

    return narrowed
