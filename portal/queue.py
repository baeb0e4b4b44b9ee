"""Where a person waits for devices: their place, when to expect their turn, and what they can do. Pages and API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import Field

from portal.api import Sent
from portal.bodies import NoBody, Strict, Wish, checked
from portal.door import AtPortal, AVisitor, Holder, OwnForm, Portal
from portal.errors import not_found, refusal
from portal.login import PREFIX
from portal.views import instant
from quotas.domain.admission import Request
from quotas.domain.priorities import Priority
from quotas.domain.queue import Mode
from quotas.domain.refusals import Refused
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import InvalidValue
from quotas.services import notebooks, queue, queue_texts, queue_views
from quotas.services.queue_views import Place

pages = APIRouter(prefix=PREFIX.rstrip("/"), default_response_class=HTMLResponse, include_in_schema=False)
api = APIRouter(prefix=f"{PREFIX}api")
RunId = Annotated[str, Path(pattern=r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
_JOIN = {"profile": "gpu-h100", "project": "vision", "wish": "guaranteed", "mode": "offer"}


class JoinBody(Strict):
    """What to wait for, how firmly it is asked for, and whether the server is started or offered at the turn."""

    project: Annotated[str, Field(min_length=1, max_length=80)]
    profile: Annotated[str, Field(min_length=1, max_length=40)]
    wish: Wish = "guaranteed"
    mode: Literal["start", "offer"] = "offer"


_JOIN_SCHEMA = {
    "requestBody": {
        "content": {"application/json": {"schema": JoinBody.model_json_schema(), "example": _JOIN}},
        "required": True,
    }
}


@pages.get("/queue")
def show_queue(portal: AtPortal, visitor: AVisitor) -> HTMLResponse:
    """Where the person waits, servers and batch runs alike."""
    policy = portal.home.settings.policy()
    found = queue_views.of_person(portal.database, visitor.username, portal.now)
    places = [queue_texts.shown(place, visitor.language, portal.now, policy) for place in found]
    return portal.page("queue", visitor, visitor.language, places=places)


@pages.post("/queue/{run}/{act}")
def act_on_page(
    portal: AtPortal, visitor: AVisitor, run: RunId, act: Literal["cancel", "take"], fields: OwnForm
) -> RedirectResponse:
    """The person waits no more, or takes an offer: then the platform starts the server."""
    checked(NoBody, fields)
    _act(portal, visitor.username, run, act)
    return RedirectResponse(f"{PREFIX}queue", 303)


@api.get("/queue")
def list_places(portal: AtPortal, holder: Holder) -> list[dict[str, Any]]:
    """Return where the holder waits or has a turn, those who came first before."""
    return [_json(place, portal.now) for place in queue_views.of_person(portal.database, holder, portal.now)]


@api.post("/queue", status_code=201, openapi_extra=_JOIN_SCHEMA)
def join(portal: AtPortal, holder: Holder, sent: Sent) -> dict[str, Any]:
    """Wait for a server; return the place. Repeated for the same project and profile, it is the same place."""
    body = checked(JoinBody, sent)
    settings = portal.home.settings
    wish, mode = Priority(body.wish), Mode(body.mode)
    request = Request(new_run_id(), RunKind.NOTEBOOK, holder, body.project, body.profile, wish=wish)
    joined = queue.join(portal.database, request, mode, portal.now, settings.policy(), settings.queue_limits())
    if isinstance(joined, Refused):
        notebooks.note_refusal(portal.database, holder, body.project, joined.code.value, portal.now)
        raise refusal(joined)
    return _json(_own(portal, holder, joined.run_id), portal.now)


@api.get("/queue/{run}")
def show_place(portal: AtPortal, holder: Holder, run: RunId) -> dict[str, Any]:
    """Return one of the holder's entries, also one that has ended."""
    return _json(_own(portal, holder, run), portal.now)


@api.delete("/queue/{run}", status_code=204)
def cancel(portal: AtPortal, holder: Holder, run: RunId) -> Response:
    """Wait no more; what was held for a turn is given back."""
    _act(portal, holder, run, "cancel")
    return Response(status_code=204)


@api.post("/queue/{run}/take")
def take(portal: AtPortal, holder: Holder, run: RunId, sent: Sent) -> dict[str, Any]:
    """Have the server started in its turn: an offer is taken by it."""
    checked(NoBody, sent)
    _act(portal, holder, run, "take")
    return _json(_own(portal, holder, run), portal.now)


def _own(portal: Portal, person: str, run: str) -> Place:
    """Return the person's entry. Raises Problem, the same for another's and for one that there is not."""
    found = queue_views.one(portal.database, run, portal.now)
    if found is None or found.entry.person != person:
        raise not_found("entry")
    return found


def _act(portal: Portal, person: str, run: str, act: Literal["cancel", "take"]) -> None:
    _own(portal, person, run)
    try:
        if act == "cancel":
            queue.cancel(portal.database, run, actor=person, person=person, now=portal.now)
        else:
            queue.take(portal.database, run, person=person, now=portal.now)
    except InvalidValue as error:
        notebooks.note_refusal(portal.database, person, run, error.field, portal.now)
        raise


def _json(place: Place, now: int) -> dict[str, Any]:
    entry, estimate = place.entry, place.estimate
    return {
        "run": entry.run_id,
        "kind": entry.kind.value,
        "project": entry.project,
        "profile": entry.profile,
        "device_model": entry.device_model,
        "device_count": entry.device_count,
        "wish": entry.wish.value,
        "mode": entry.mode.value,
        "state": entry.state.value,
        "position": place.position,
        "waiting": place.waiting,
        "expected_at": None if estimate is None else instant(estimate.at),
        "estimated_ko": None if estimate is None else estimate.sentence("ko", now),
        "estimated_en": None if estimate is None else estimate.sentence("en", now),
        "passed_over_ko": place.passed_over("ko"),
        "passed_over_en": place.passed_over("en"),
        "joined_at": instant(entry.joined_at),
        "turn_at": instant(entry.turn_at),
        "turn_until": instant(entry.turn_until),
        "ended_at": instant(entry.ended_at),
        "reason_ko": entry.reason_ko,
        "reason_en": entry.reason_en,
    }
