"""Reservations of a project: asked for with a check before, decided by an operator, watched while a class runs.

The pages; the API is in :mod:`portal.reservation_api`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse, RedirectResponse

from portal.api import LARGEST_ID
from portal.bodies import ZONE, checked
from portal.door import AtPortal, AVisitor, OwnForm, Portal, Visitor
from portal.errors import Problem, invalid, not_found, refusal
from portal.login import PREFIX
from portal.reservation_bodies import (
    DAYS,
    ApprovalForm,
    CancelForm,
    RejectionBody,
    RosterForm,
    asked_of_form,
)
from portal.reservation_shapes import fit, listed, shown_windows, window
from quotas.domain.refusals import Refused
from quotas.domain.reservations import ReservationState
from quotas.domain.rosters import read
from quotas.domain.units import InvalidValue, show_duration, show_instant
from quotas.services import profiles, projects, reservations, rosters
from quotas.services import reservation_views as views
from quotas.services.reservation_fit import Assessment
from quotas.services.reservation_texts import when
from quotas.services.reservation_views import ReservationView
from quotas.services.reservations import Approval

DEFAULTS = {"when": "once", "length": "3h", "timezone": ZONE, "charge_idle": "yes", "seats": "20"}
router = APIRouter(prefix=PREFIX.rstrip("/"), default_response_class=HTMLResponse, include_in_schema=False)
Project = Annotated[str, Path(max_length=80)]
Number = Annotated[int, Path(ge=1, le=LARGEST_ID)]


@router.get("/projects/{project}/reservations")
def of_project(portal: AtPortal, visitor: AVisitor, project: Project) -> HTMLResponse:
    """The project's reservations, the newest first."""
    require(reservations.may_see(portal.database, visitor.username, project))
    return portal.page(
        "reservations",
        visitor,
        visitor.language,
        project=project,
        title=_title(portal, visitor, project),
        reservations=[listed(each, visitor.language) for each in views.latest(portal.database, project)],
        may_ask=reservations.may_ask(portal.database, visitor.username, project) is None,
    )


@router.get("/reservations")
def of_all(portal: AtPortal, visitor: AVisitor) -> HTMLResponse:
    """Every project's reservations for the operator, those that wait for a decision first."""
    if not reservations.may_decide(portal.database, visitor.username):
        raise not_found("path")
    found = views.latest(portal.database)
    found.sort(key=lambda each: each.state is not ReservationState.REQUESTED)
    return portal.page(
        "reservations",
        visitor,
        visitor.language,
        project=None,
        title=visitor.translate("Reservations"),
        reservations=[listed(each, visitor.language) for each in found],
        may_ask=False,
    )


@router.get("/projects/{project}/reservations/new")
def new_form(portal: AtPortal, visitor: AVisitor, project: Project) -> HTMLResponse:
    """The form to ask for a reservation."""
    require(reservations.may_ask(portal.database, visitor.username, project))
    return _form(portal, visitor, project, DEFAULTS)


@router.post("/projects/{project}/reservations")
def ask(portal: AtPortal, visitor: AVisitor, project: Project, fields: OwnForm) -> Any:
    """It is checked how it would fit, or asked for; or the form comes back with what was wrong."""
    policy, problem, found = portal.home.settings.policy(), None, None
    with noting(portal, visitor.username, project):
        require(reservations.may_ask(portal.database, visitor.username, project))
    try:
        with noting(portal, visitor.username, project):
            asked, only_checked = asked_of_form(fields, project)
            if not only_checked:
                made, _ = reservations.request(
                    portal.database, asked, by=visitor.username, now=portal.now, policy=policy
                )
                return RedirectResponse(f"{PREFIX}reservations/{made.number}", 303)
            found = reservations.check(portal.database, asked, now=portal.now, policy=policy)
    except (InvalidValue, Problem) as error:
        problem = invalid(error) if isinstance(error, InvalidValue) else error
    return _form(portal, visitor, project, fields, problem, found)


@router.get("/reservations/{number}")
def show(portal: AtPortal, visitor: AVisitor, number: Number) -> HTMLResponse:
    """One reservation: its windows and seats; to its instructors also who claimed one, and the roster."""
    return _page(portal, visitor, seen(portal, visitor.username, number))


@router.post("/reservations/{number}/cancel")
def cancel(portal: AtPortal, visitor: AVisitor, number: Number, fields: OwnForm) -> Any:
    """The reservation, or one window of it, is cancelled."""
    found = changeable(portal, visitor.username, number)

    def do() -> None:
        form = checked(CancelForm, fields)
        by = {"reason": form.reason, "actor": visitor.username}
        if form.window:
            reservations.cancel_window(portal.database, number, int(form.window), **by, now=portal.now)
        else:
            reservations.cancel(portal.database, number, **by, now=portal.now)

    return _done(portal, visitor, found, do)


@router.post("/reservations/{number}/approve")
def approve(portal: AtPortal, visitor: AVisitor, number: Number, fields: OwnForm) -> Any:
    """The operator approves it, or reads what does not fit."""
    found = decidable(portal, visitor.username, number)

    def do() -> None:
        form = checked(ApprovalForm, fields)
        approval = Approval(
            int(form.seats) if form.seats else None, form.pool or None, form.leave_out == "on", form.reason
        )
        reservations.approve(
            portal.database,
            number,
            approval,
            actor=visitor.username,
            now=portal.now,
            policy=portal.home.settings.policy(),
        )

    return _done(portal, visitor, found, do)


@router.post("/reservations/{number}/reject")
def reject(portal: AtPortal, visitor: AVisitor, number: Number, fields: OwnForm) -> Any:
    """The operator rejects it."""
    found = decidable(portal, visitor.username, number)

    def do() -> None:
        reason = checked(RejectionBody, fields).reason
        reservations.reject(portal.database, number, reason=reason, actor=visitor.username, now=portal.now)

    return _done(portal, visitor, found, do)


@router.post("/reservations/{number}/roster")
def change_roster(portal: AtPortal, visitor: AVisitor, number: Number, fields: OwnForm) -> Any:
    """The roster is changed, or it is shown what a list would change."""
    found = changeable(portal, visitor.username, number)
    previewed: list[rosters.Change] = []

    def do() -> None:
        form, actor, now = checked(RosterForm, fields), visitor.username, portal.now
        if form.act == "add":
            rosters.add(portal.database, number, form.username.strip(), actor=actor, now=now)
        elif form.act == "remove":
            rosters.remove(portal.database, number, form.username.strip(), actor=actor, now=now)
        elif form.act == "members":
            rosters.use_members(portal.database, number, actor=actor, now=now)
        elif form.act == "preview":
            previewed.append(rosters.preview(portal.database, number, read(form.names.encode())))
        else:
            rosters.replace(portal.database, number, read(form.names.encode()), actor=actor, now=now)

    answer = _done(portal, visitor, found, do)
    if previewed:
        return _page(portal, visitor, found, change=previewed[0], names=fields.get("names", ""))
    return answer


def _done(portal: Portal, visitor: Visitor, found: ReservationView, do: Any) -> Any:
    """Do it and go back to the reservation's page, or show the page with what was wrong."""
    try:
        with noting(portal, visitor.username, f"reservation:{found.number}"):
            do()
    except (InvalidValue, Problem) as error:
        problem = invalid(error) if isinstance(error, InvalidValue) else error
        return _page(portal, visitor, found, problem)
    return RedirectResponse(f"{PREFIX}reservations/{found.number}", 303)


def has_reservations(portal: Portal, person: str, project: str) -> bool:
    """Return whether there is anything about reservations for the person to see or to do in their project."""
    if reservations.may_ask(portal.database, person, project) is None:
        return True
    return bool(views.latest(portal.database, project, 1))


def require(refused: Refused | None) -> None:
    """Nothing is refused. Raises Problem."""
    if refused is not None:
        raise refusal(refused)


def seen(portal: Portal, person: str, number: int) -> ReservationView:
    """Return a reservation that the person may see. Raises Problem, the same for one that there is not."""
    try:
        found = views.show(portal.database, number)
    except InvalidValue:
        raise not_found("reservation") from None
    if reservations.may_see(portal.database, person, found.project) is not None:
        raise not_found("reservation")
    return found


def changeable(portal: Portal, person: str, number: int) -> ReservationView:
    """Return a reservation that the person may change. Raises Problem."""
    found = seen(portal, person, number)
    if not reservations.may_decide(portal.database, person):
        with noting(portal, person, f"reservation:{number}"):
            require(reservations.may_ask(portal.database, person, found.project))
    return found


def decidable(portal: Portal, person: str, number: int) -> ReservationView:
    """Return a reservation that the person may decide. Raises Problem."""
    found = seen(portal, person, number)
    if not reservations.may_decide(portal.database, person):
        with noting(portal, person, f"reservation:{number}"):
            raise Problem(403, "not_an_operator", "Only an operator decides.", "운영자만 결정할 수 있습니다.")
    return found


@contextmanager
def noting(portal: Portal, person: str, subject: str) -> Iterator[None]:
    """What is refused inside leaves an audit event that names the field, or the rule."""
    try:
        yield
    except (InvalidValue, Problem) as error:
        field = error.field or getattr(error, "code", "")
        reservations.note_refusal(portal.database, person, subject, field, portal.now)
        raise


def _title(portal: Portal, visitor: Visitor, project: str) -> str:
    view = projects.show(portal.database, project, portal.now)
    return view.title(visitor.language) if view else project


def _form(
    portal: Portal,
    visitor: Visitor,
    project: str,
    values: Mapping[str, str],
    problem: Problem | None = None,
    found: Assessment | None = None,
) -> HTMLResponse:
    view = projects.show(portal.database, project, portal.now)
    offered = set(view.profiles) if view else set()
    return portal.page(
        "reservation_form",
        visitor,
        visitor.language,
        200 if problem is None else problem.status,
        project=project,
        title=view.title(visitor.language) if view else project,
        profiles=[
            {"code": each.profile.code, "name": each.profile.name(visitor.language)}
            for each in profiles.list_profiles(portal.database, portal.now)
            if each.profile.code in offered and each.profile.device_model and each.rate_gflops
        ],
        values=values,
        days=DAYS,
        zones=(ZONE, "UTC", "Asia/Tokyo", "Europe/Berlin", "America/New_York"),
        problem=problem,
        fit=None if found is None else fit(found, visitor.language),
    )


def _page(
    portal: Portal,
    visitor: Visitor,
    found: ReservationView,
    problem: Problem | None = None,
    *,
    change: rosters.Change | None = None,
    names: str = "",
) -> HTMLResponse:
    person, current = visitor.username, found.current
    operator = reservations.may_decide(portal.database, person)
    leads = operator or reservations.may_ask(portal.database, person, found.project) is None
    waits = found.state is ReservationState.REQUESTED
    claims = views.claims(portal.database, found.number, current.id) if leads and current else []
    return portal.page(
        "reservation",
        visitor,
        visitor.language,
        200 if problem is None else problem.status,
        found=found,
        title=found.title(visitor.language),
        first=when(found.starts_at, found.starts_at + found.seconds, found.zone),
        length=show_duration(found.seconds, visitor.language),
        requested=show_instant(found.requested_at),
        decided=show_instant(found.decided_at) if found.decided_at else None,
        current=None if current is None else window(current, found.zone),
        windows=[window(each, found.zone) for each in shown_windows(found)],
        claims=[
            {
                "name": each.display_name,
                "username": each.username,
                "at": show_instant(each.claimed_at, ZoneInfo(found.zone)),
                "open": each.is_open,
            }
            for each in claims
        ],
        roster=views.roster(portal.database, found.number) if leads else [],
        leads=leads,
        operator=operator,
        waits=waits,
        lives=found.state in {ReservationState.REQUESTED, ReservationState.APPROVED},
        fit=_fit_or_none(portal, found, visitor) if waits else None,
        change=change,
        names=names,
        problem=problem,
    )


def _fit_or_none(portal: Portal, found: ReservationView, visitor: Visitor) -> dict[str, Any] | None:
    try:
        policy = portal.home.settings.policy()
        assessment = reservations.reassess(portal.database, found.number, Approval(), now=portal.now, policy=policy)
    except InvalidValue:
        return None  # its award or its windows are over: the operator is told when deciding
    return fit(assessment, visitor.language)
