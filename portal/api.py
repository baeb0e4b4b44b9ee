"""The API: schedules and runs of a project, for the holder of a hub's token. Rights and rules are the engine's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from portal.bodies import Body, NoBody, PauseBody, ScheduleBody, checked, json_object, new_schedule
from portal.door import AtPortal, Holder, Portal, require_schedule, require_see
from portal.errors import Problem, not_found
from portal.login import PREFIX
from portal.views import run_json, schedule_json
from quotas.domain.units import InvalidValue
from quotas.services import notebooks, runs, schedules
from quotas.services.schedules import Execution, Schedule

LISTED_RUNS = 30
LARGEST_ID = 2**31 - 1
_RUN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

router = APIRouter(prefix=f"{PREFIX}api")
Project = Annotated[str, Path(max_length=80)]
ScheduleId = Annotated[int, Path(ge=1, le=LARGEST_ID)]
Sent = Annotated[dict[str, Any], Depends(json_object)]
_SCHEDULE_SCHEMA = {"content": {"application/json": {"schema": ScheduleBody.model_json_schema()}}, "required": True}


@router.get("/projects/{project}/schedules")
def list_schedules(portal: AtPortal, holder: Holder, project: Project) -> list[dict[str, Any]]:
    """Return the project's schedules, oldest first."""
    require_see(portal, holder, project)
    return [schedule_json(each) for each in schedules.list_schedules(portal.database, project)]


@router.post("/projects/{project}/schedules", status_code=201, openapi_extra={"requestBody": _SCHEDULE_SCHEMA})
def create(portal: AtPortal, holder: Holder, project: Project, sent: Sent) -> dict[str, Any]:
    """Schedule a notebook; return the schedule."""
    with noting(portal, holder, project):
        require_schedule(portal, holder, project)
        new = new_schedule(checked(ScheduleBody, sent), project, holder)
    made = notebooks.schedule(portal.database, portal.home.project_folder(project), new, now=portal.now)
    return schedule_json(made)


@router.post("/projects/{project}/schedules/{schedule}/run", status_code=202)
def run_now(portal: AtPortal, holder: Holder, project: Project, schedule: ScheduleId, sent: Sent) -> dict[str, Any]:
    """Fire a schedule now; return the run."""
    found, _ = changeable(portal, holder, project, schedule, NoBody, sent)
    execution = schedules.run_now(portal.database, found.id, actor=holder, now=portal.now)
    return run_json(execution, None)


@router.post("/projects/{project}/schedules/{schedule}/pause")
def pause(portal: AtPortal, holder: Holder, project: Project, schedule: ScheduleId, sent: Sent) -> dict[str, Any]:
    """Keep a schedule from firing; return it."""
    found, body = changeable(portal, holder, project, schedule, PauseBody, sent)
    reason = body.reason or f"paused by {holder}"
    paused = schedules.pause(portal.database, found.id, reason=reason, actor=holder, now=portal.now)
    return schedule_json(paused)


@router.post("/projects/{project}/schedules/{schedule}/resume")
def resume(portal: AtPortal, holder: Holder, project: Project, schedule: ScheduleId, sent: Sent) -> dict[str, Any]:
    """Let a schedule fire again; return it."""
    found, _ = changeable(portal, holder, project, schedule, NoBody, sent)
    return schedule_json(schedules.resume(portal.database, found.id, actor=holder, now=portal.now))


@router.get("/projects/{project}/runs")
def list_runs(portal: AtPortal, holder: Holder, project: Project) -> list[dict[str, Any]]:
    """Return the project's newest scheduled runs, newest first."""
    require_see(portal, holder, project)
    found = schedules.executions(portal.database, project, LISTED_RUNS)
    return [run_json(each, runs.run(portal.database, each.run_id)) for each in found]


@router.get("/runs/{run}")
def show_run(portal: AtPortal, holder: Holder, run: str) -> dict[str, Any]:
    """Return a scheduled run with its log and failing cell."""
    found = seen_execution(portal, holder, run)
    return run_json(found, runs.run(portal.database, found.run_id), whole=True)


def changeable(
    portal: Portal, person: str, project: str, schedule: int, kind: type[Body], sent: dict[str, Any]
) -> tuple[Schedule, Body]:
    """Return the project's schedule, which the person may change, and the body that was sent. Raises Problem."""
    with noting(portal, person, project):
        require_schedule(portal, person, project)
        body = checked(kind, sent)
        try:
            return notebooks.one(portal.database, project, schedule), body
        except InvalidValue as error:
            raise Problem(404, "not_found", error.message_en, error.message_ko, error.field) from None


def seen_execution(portal: Portal, person: str, run: str) -> Execution:
    """Return a scheduled run that the person may see. Raises Problem, the same for one that there is not."""
    found = schedules.execution(portal.database, run) if _RUN.fullmatch(run) else None
    if found is None or notebooks.may_see(portal.database, person, found.project) is not None:
        raise not_found("run")
    return found


@contextmanager
def noting(portal: Portal, person: str, project: str) -> Iterator[None]:
    """What is refused inside leaves an audit event that names the field, or the rule."""
    try:
        yield
    except (InvalidValue, Problem) as error:
        field = error.field or getattr(error, "code", "")
        notebooks.note_refusal(portal.database, person, project, field, portal.now)
        raise
