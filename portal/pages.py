"""The pages: a project's runs and schedules, the form of a schedule, one run. They show and ask; no rule is here."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse, RedirectResponse

from portal.api import LARGEST_ID, LISTED_RUNS, changeable, noting, seen_execution
from portal.bodies import PARAMETER, ZONE, NoBody, schedule_of_form
from portal.door import AtPortal, AVisitor, OwnForm, Portal, Visitor, require_schedule, require_see
from portal.errors import Problem, invalid, malformed
from portal.files import folder_to_fetch
from portal.login import PREFIX, inside
from portal.reservations import has_reservations
from portal.views import charge, duration, lab_link, output_of, row, rows
from quotas.domain.units import InvalidValue, show_budget, show_duration, show_instant
from quotas.notebooks import CheckedNotebook, check_notebook
from quotas.services import notebooks, offers, people, profiles, projects, queue_texts, runs, schedules
from quotas.services.reservations import may_decide
from quotas.services.schedules import Schedule

ZONES = ("Asia/Seoul", "UTC", "Asia/Tokyo", "Europe/Berlin", "America/New_York")
"""Offered in the form; any other IANA name may be typed."""
DEFAULTS = {"when": "cron", "cron": "30 2 * * 1-5", "timezone": ZONE, "timeout_minutes": "60"}

router = APIRouter(prefix=PREFIX.rstrip("/"), default_response_class=HTMLResponse, include_in_schema=False)
Project = Annotated[str, Path(max_length=80)]
ScheduleId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Chosen = Annotated[str, Query(max_length=400)]


@router.get("/")
def start(portal: AtPortal, visitor: AVisitor) -> HTMLResponse:
    """The person's projects, each with its page of runs and schedules."""
    found = offers.offers(portal.database, visitor.username, portal.now, portal.home.settings.policy())
    listed = [
        {
            "code": each.code,
            "title": each.title_ko if visitor.language == "ko" else each.title_en,
            "role": each.role,
            "seen": notebooks.may_see(portal.database, visitor.username, each.code) is None,
            "files": folder_to_fetch(portal, visitor.username, each.code) is not None,
            "reserved": has_reservations(portal, visitor.username, each.code),
        }
        for each in found
    ]
    shown = [each for each in listed if each["seen"] or each["files"] or each["reserved"]]
    decides = may_decide(portal.database, visitor.username)
    return portal.page("start", visitor, visitor.language, projects=shown, decides=decides)


@router.get("/projects/{project}")
def runs_and_schedules(portal: AtPortal, visitor: AVisitor, project: Project) -> HTMLResponse:
    """The project's last runs and its schedules."""
    require_see(portal, visitor.username, project)
    latest = schedules.executions(portal.database, project, LISTED_RUNS)
    listed = schedules.list_schedules(portal.database, project)
    view = projects.show(portal.database, project, portal.now)
    return portal.page(
        "project",
        visitor,
        visitor.language,
        project=project,
        title=view.title(visitor.language) if view else project,
        files=folder_to_fetch(portal, visitor.username, project) is not None,
        kept_until=show_instant(view.storage_until) if view and view.storage_until else None,
        runs=rows(portal.database, latest, visitor.translate, portal.now),
        schedules=[_schedule(each, visitor) for each in reversed(listed)],
        may_schedule=notebooks.may_schedule(portal.database, visitor.username, project) is None,
    )


@router.get("/projects/{project}/schedules/new")
def new_form(portal: AtPortal, visitor: AVisitor, project: Project, notebook: Chosen = "") -> HTMLResponse:
    """The form: first the notebook is chosen, then its parameters are known."""
    require_schedule(portal, visitor.username, project)
    if not notebook:
        return _choose(portal, visitor, project)
    try:
        declared = check_notebook(portal.home.project_folder(project), notebook)
    except InvalidValue as error:
        return _choose(portal, visitor, project, notebook, invalid(error))
    return _form(portal, visitor, project, declared, {**DEFAULTS, "notebook": notebook})


@router.post("/projects/{project}/schedules")
def create(portal: AtPortal, visitor: AVisitor, project: Project, fields: OwnForm) -> Any:
    """The notebook is scheduled, or the form comes back with what was wrong."""
    with noting(portal, visitor.username, project):
        require_schedule(portal, visitor.username, project)
    folder = portal.home.project_folder(project)
    try:
        with noting(portal, visitor.username, project):
            new, texts = schedule_of_form(fields, project, visitor.username)
        notebooks.schedule(portal.database, folder, new, texts, now=portal.now)
    except (InvalidValue, Problem) as error:
        problem = invalid(error) if isinstance(error, InvalidValue) else error
    else:
        return RedirectResponse(f"{PREFIX}projects/{project}", 303)
    try:
        declared = check_notebook(folder, fields.get("notebook", ""))
    except InvalidValue:
        return _choose(portal, visitor, project, fields.get("notebook", ""), problem)
    return _form(portal, visitor, project, declared, {**DEFAULTS, **fields}, problem)


@router.post("/projects/{project}/schedules/{schedule}/{act}")
def act(
    portal: AtPortal, visitor: AVisitor, project: Project, schedule: ScheduleId, act: str, fields: OwnForm
) -> RedirectResponse:
    """The schedule fires now, is paused or goes on."""
    found, _ = changeable(portal, visitor.username, project, schedule, NoBody, fields)
    actor, now = visitor.username, portal.now
    if act == "run":
        schedules.run_now(portal.database, found.id, actor=actor, now=now)
    elif act == "pause":
        schedules.pause(portal.database, found.id, reason=f"paused by {actor}", actor=actor, now=now)
    elif act == "resume":
        schedules.resume(portal.database, found.id, actor=actor, now=now)
    else:
        raise Problem(404, "not_found", "There is no such page.", "없는 페이지입니다.", "action")
    return RedirectResponse(f"{PREFIX}projects/{project}", 303)


@router.get("/runs/{run}")
def show_run(portal: AtPortal, visitor: AVisitor, run: str) -> HTMLResponse:
    """One run: its parameters, log, failing cell and output."""
    found = seen_execution(portal, visitor.username, run)
    ledger = runs.run(portal.database, found.run_id)
    return portal.page(
        "run",
        visitor,
        visitor.language,
        run=found,
        row=row(portal.database, found, ledger, visitor.translate, portal.now),
        scheduled_for=show_instant(found.scheduled_for),
        started=show_instant(ledger.started_at) if ledger and ledger.started_at else None,
        finished=show_instant(found.finished_at) if found.finished_at else None,
        duration=duration(ledger, visitor.language, portal.now),
        limit=show_duration(found.timeout_seconds, visitor.language),
        held=show_budget(ledger.held) if ledger and ledger.held else None,
        charge=charge(ledger),
        output=output_of(found),
        lab_link=lab_link(found, visitor.username),
    )


@router.post("/language")
def set_language(portal: AtPortal, visitor: AVisitor, fields: OwnForm) -> RedirectResponse:
    """The person's pages are in another language, here and at the hub after its next refresh."""
    back = inside(fields.pop("back", ""))
    language = fields.pop("language", "")
    if fields:
        raise malformed([{"loc": tuple(fields)[:1], "type": "extra_forbidden", "msg": ""}])
    people.set_language(portal.database, visitor.username, language, now=portal.now)
    return RedirectResponse(back, 303)


def _title(portal: Portal, visitor: Visitor, project: str) -> str:
    view = projects.show(portal.database, project, portal.now)
    return view.title(visitor.language) if view else project


def _schedule(schedule: Schedule, visitor: Visitor) -> dict[str, Any]:
    timing = schedule.timing
    return {
        "id": schedule.id,
        "title": schedule.title,
        "notebook": schedule.notebook,
        "person": schedule.person,
        "profile": schedule.profile,
        "cron": timing.cron,
        "zone": timing.zone,
        "once": show_instant(timing.once_at) if timing.once_at else None,
        "limit": show_duration(schedule.timeout_seconds, visitor.language),
        "parameters": dict(schedule.parameters),
        "enabled": schedule.enabled,
        "reason": schedule.pause_reason,
        "next": show_instant(schedule.next_at) if schedule.enabled and schedule.next_at else None,
    }


def _choose(
    portal: Portal, visitor: Visitor, project: str, given: str = "", problem: Problem | None = None
) -> HTMLResponse:
    return portal.page(
        "choose_notebook",
        visitor,
        visitor.language,
        200 if problem is None else problem.status,
        project=project,
        title=_title(portal, visitor, project),
        notebooks=notebooks.listed(portal.home.project_folder(project)),
        given=given,
        problem=problem,
    )


def _form(
    portal: Portal,
    visitor: Visitor,
    project: str,
    declared: CheckedNotebook,
    values: dict[str, str],
    problem: Problem | None = None,
) -> HTMLResponse:
    view = projects.show(portal.database, project, portal.now)
    offered = set(view.profiles) if view else set()
    return portal.page(
        "schedule_form",
        visitor,
        visitor.language,
        200 if problem is None else problem.status,
        project=project,
        title=_title(portal, visitor, project),
        profiles=[
            {"code": each.profile.code, "name": each.profile.name(visitor.language), "rate": each.rate_gflops}
            for each in profiles.list_profiles(portal.database, portal.now)
            if each.profile.code in offered
        ],
        parameters=[
            {"field": PARAMETER + each.name, "name": each.name, "type": each.type, "default": repr(each.default)}
            for each in declared.parameters
        ],
        values=values,
        zones=ZONES,
        wishes=queue_texts.wishes(visitor.language, portal.home.settings.policy()),
        problem=problem,
    )
