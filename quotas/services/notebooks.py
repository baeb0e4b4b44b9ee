"""Notebooks of a project and their schedules, as its people and those who watch over them use them: who may, and what.

Whatever door they come by, what is asked for is decided here; what is refused leaves an audit event.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from quotas.domain.people import MEMBERSHIP_RIGHTS, MembershipRole, PlatformRole
from quotas.domain.refusals import Code, Refused
from quotas.domain.texts import text
from quotas.domain.units import InvalidValue
from quotas.notebooks import check_notebook, check_parameters, read_parameters
from quotas.services import schedules
from quotas.services.schedules import NewSchedule, Schedule
from quotas.store import audit
from quotas.store import people as people_store
from quotas.store.database import Database
from quotas.store.keys import keys

LONGEST_TITLE = 200
LISTED, DEEPEST_LISTED, LOOKED_AT = 200, 5, 5_000
"""How many notebooks are listed, how deep in folders, and among how many files and folders at most."""
WATCHING = frozenset({PlatformRole.OPERATOR, PlatformRole.AUDITOR})
"""Platform roles that see every project's runs; they schedule nothing by it."""


def may_schedule(database: Database, person: str, project: str) -> Refused | None:
    """Return why the person may not schedule notebooks in the project, or None.

    A project that does not exist is answered as one that the person is not a member of: nobody finds out by asking.
    """
    with database.read() as transaction:
        role = keys(transaction, person, project).role
    names = {"person": person[:80], "project": project[:80]}
    if role is None:
        return Refused(Code.NOT_A_MEMBER, names)
    if not MEMBERSHIP_RIGHTS[MembershipRole(role)].schedule:
        return Refused(Code.ROLE_MAY_NOT, {**names, "role": role})
    return None


def may_see(database: Database, person: str, project: str) -> Refused | None:
    """Return why the person may not see the project's schedules, runs and their logs, or None."""
    refused = may_schedule(database, person, project)
    if refused is None:
        return None
    with database.read() as transaction:
        found = people_store.one(transaction, person)
        exists = keys(transaction, person, project).project_id is not None
    return None if exists and found is not None and found.platform_roles & WATCHING else refused


def listed(project_folder: Path) -> list[str]:
    """Return the project's notebooks by path, for someone to choose from: the first `LISTED`, none of them checked.

    What runs leave behind, hidden folders and links are left out.
    """
    found: list[str] = []
    looked_at = 0
    for folder, folders, files in os.walk(project_folder):
        here = Path(folder).relative_to(project_folder)
        deep = len(here.parts) >= DEEPEST_LISTED
        folders[:] = sorted(
            name for name in folders if not deep and not name.startswith(".") and (here.parts or name != "runs")
        )
        found += [(here / name).as_posix() for name in sorted(files) if name.endswith(".ipynb") and name[0] != "."]
        looked_at += 1 + len(files)
        if len(found) >= LISTED or looked_at >= LOOKED_AT:
            break
    return found[:LISTED]


def schedule(
    database: Database, project_folder: Path, new: NewSchedule, texts: Mapping[str, str] | None = None, *, now: int
) -> Schedule:
    """The notebook is scheduled by and for `new.person`, its file and parameters checked.

    `texts`, when given, are the parameters as someone wrote them, in place of `new.parameters`. Raises InvalidValue.
    """
    try:
        if new.title:
            new = replace(new, title=text("title", new.title, LONGEST_TITLE))
        checked = check_notebook(project_folder, new.notebook)
        parameters = check_parameters(checked, new.parameters) if texts is None else read_parameters(checked, texts)
        return schedules.create(database, replace(new, parameters=parameters), actor=new.person, now=now)
    except InvalidValue as invalid:
        note_refusal(database, new.person, new.project, invalid.field, now)
        raise


def note_refusal(database: Database, actor: str, project: str, field: str, now: int) -> None:
    """An audit event says that `actor` asked for a schedule that was not taken, and because of which field."""
    with database.write() as transaction:
        audit.record(transaction, now, actor, "schedule refused", project, {"field": field[:80]})


def one(database: Database, project: str, schedule_id: int) -> Schedule:
    """Return the project's schedule. Raises InvalidValue when it has none of this number."""
    for found in schedules.list_schedules(database, project):
        if found.id == schedule_id:
            return found
    raise InvalidValue(
        "schedule",
        f"{project} has no schedule {schedule_id}",
        f"{project} 과제에 예약 실행 {schedule_id}이(가) 없습니다",
    )
