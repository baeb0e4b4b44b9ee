"""Reservations for the holder of a hub's token: checked, asked for, decided, changed and watched."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from portal.api import Sent
from portal.bodies import checked
from portal.door import AtPortal, Holder, Portal
from portal.errors import not_found
from portal.login import PREFIX
from portal.reservation_bodies import (
    ApprovalBody,
    CancelBody,
    RejectionBody,
    ReservationBody,
    RosterBody,
    asked_of_body,
    claim_json,
    fit_json,
    reservation_json,
    roster_json,
    window_json,
)
from portal.reservations import Number, Project, changeable, decidable, noting, require, seen
from quotas.domain.reservations import Asked
from quotas.domain.rosters import each_once
from quotas.services import reservation_views as views
from quotas.services import reservations, rosters
from quotas.services.reservation_views import ReservationView
from quotas.services.reservations import Approval

router = APIRouter(prefix=f"{PREFIX}api")
_SCHEMA = {"content": {"application/json": {"schema": ReservationBody.model_json_schema()}}, "required": True}


@router.get("/projects/{project}/reservations")
def of_project(portal: AtPortal, holder: Holder, project: Project) -> list[dict[str, Any]]:
    """Return the project's reservations, the newest first."""
    require(reservations.may_see(portal.database, holder, project))
    return [reservation_json(each) for each in views.latest(portal.database, project)]


@router.get("/reservations")
def of_all(portal: AtPortal, holder: Holder) -> list[dict[str, Any]]:
    """Return all reservations, the newest first, to an operator."""
    if not reservations.may_decide(portal.database, holder):
        raise not_found("path")
    return [reservation_json(each) for each in views.latest(portal.database)]


@router.post("/projects/{project}/reservations/check", openapi_extra={"requestBody": _SCHEMA})
def check(portal: AtPortal, holder: Holder, project: Project, sent: Sent) -> dict[str, Any]:
    """Return how a reservation would fit, and what would instead; nothing is stored."""
    policy = portal.home.settings.policy()
    with noting(portal, holder, project):
        asked = _asked(portal, holder, project, sent)
        return fit_json(reservations.check(portal.database, asked, now=portal.now, policy=policy))


@router.post("/projects/{project}/reservations", status_code=201, openapi_extra={"requestBody": _SCHEMA})
def ask(portal: AtPortal, holder: Holder, project: Project, sent: Sent) -> dict[str, Any]:
    """Ask for a reservation; return it, and how it fits as things stand."""
    policy = portal.home.settings.policy()
    with noting(portal, holder, project):
        asked = _asked(portal, holder, project, sent)
        made, found = reservations.request(portal.database, asked, by=holder, now=portal.now, policy=policy)
    return {**reservation_json(made), "fit": fit_json(found)}


@router.get("/reservations/{number}")
def show(portal: AtPortal, holder: Holder, number: Number) -> dict[str, Any]:
    """Return a reservation with its windows; to its instructors also who claimed seats."""
    return _whole(portal, holder, seen(portal, holder, number))


@router.post("/reservations/{number}/cancel")
def cancel(portal: AtPortal, holder: Holder, number: Number, sent: Sent) -> dict[str, Any]:
    """Cancel a reservation, or one window of it; return it."""
    changeable(portal, holder, number)
    with noting(portal, holder, f"reservation:{number}"):
        body = checked(CancelBody, sent)
        by = {"reason": body.reason, "actor": holder}
        if body.window is None:
            found = reservations.cancel(portal.database, number, **by, now=portal.now)
        else:
            found = reservations.cancel_window(portal.database, number, body.window, **by, now=portal.now)
    return _whole(portal, holder, found)


@router.post("/reservations/{number}/approve")
def approve(portal: AtPortal, holder: Holder, number: Number, sent: Sent) -> dict[str, Any]:
    """Approve a reservation as an operator; return it, and how it fits."""
    decidable(portal, holder, number)
    with noting(portal, holder, f"reservation:{number}"):
        body = checked(ApprovalBody, sent)
        approval = Approval(body.seats, body.pool, body.leave_out, body.reason)
        policy = portal.home.settings.policy()
        made, found = reservations.approve(
            portal.database, number, approval, actor=holder, now=portal.now, policy=policy
        )
    return {**_whole(portal, holder, made), "fit": fit_json(found)}


@router.post("/reservations/{number}/reject")
def reject(portal: AtPortal, holder: Holder, number: Number, sent: Sent) -> dict[str, Any]:
    """Reject a reservation as an operator; return it."""
    decidable(portal, holder, number)
    with noting(portal, holder, f"reservation:{number}"):
        reason = checked(RejectionBody, sent).reason
        found = reservations.reject(portal.database, number, reason=reason, actor=holder, now=portal.now)
    return _whole(portal, holder, found)


@router.get("/reservations/{number}/roster")
def show_roster(portal: AtPortal, holder: Holder, number: Number) -> list[dict[str, Any]]:
    """Return who is on the roster as of now, to those who may change it."""
    changeable(portal, holder, number)
    return roster_json(views.roster(portal.database, number))


@router.put("/reservations/{number}/roster")
def change_roster(portal: AtPortal, holder: Holder, number: Number, sent: Sent) -> dict[str, Any]:
    """Make the roster these names, or all members; return what that changed, or with `dry_run` would change."""
    changeable(portal, holder, number)
    with noting(portal, holder, f"reservation:{number}"):
        body = checked(RosterBody, sent)
        if body.names is None:
            if not body.dry_run:
                rosters.use_members(portal.database, number, actor=holder, now=portal.now)
            return {"on_roster": len(views.roster(portal.database, number))}
        names = each_once(body.names)
        if body.dry_run:
            change = rosters.preview(portal.database, number, names)
        else:
            change = rosters.replace(portal.database, number, names, actor=holder, now=portal.now)
    return {
        "added": list(change.added),
        "removed": list(change.removed),
        "strangers": list(change.strangers),
        "twice": list(change.twice),
        "on_roster": change.on_roster,
        "seats": change.seats,
    }


def _asked(portal: Portal, holder: str, project: str, sent: dict[str, Any]) -> Asked:
    require(reservations.may_ask(portal.database, holder, project))
    return asked_of_body(checked(ReservationBody, sent), project)


def _whole(portal: Portal, holder: str, found: ReservationView) -> dict[str, Any]:
    answer = {**reservation_json(found), "windows": [window_json(each) for each in found.windows]}
    may_change = reservations.may_ask(portal.database, holder, found.project) is None
    if may_change or reservations.may_decide(portal.database, holder):
        answer["claims"] = [claim_json(each) for each in views.claims(portal.database, found.number)]
    return answer
