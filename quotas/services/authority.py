"""Who may ask and who may decide: a project's PIs, and reviewers who are none of its members."""

from __future__ import annotations

from quotas.domain.people import MembershipRole, PlatformRole
from quotas.domain.projects import ProjectState
from quotas.domain.units import InvalidValue
from quotas.services.people import unknown
from quotas.store import keys
from quotas.store import people as people_store
from quotas.store import projects as projects_store
from quotas.store.database import Transaction

DECIDING = frozenset({PlatformRole.REVIEWER, PlatformRole.OPERATOR})


def require_pi(transaction: Transaction, project: str, username: str) -> int:
    """The person is a PI of the project; return its id.

    Raises InvalidValue for anyone else, and the same for a project that there is not: nobody finds out by asking.
    """
    found = keys.keys(transaction, username, project)
    if found.project_id is None or found.role != MembershipRole.PI.value:
        raise InvalidValue(
            "project",
            f"{project!r:.60} is no project of which {username!r:.60} is a PI; only its PIs may ask for this",
            f"{project!r:.60}: {username!r:.60}이(가) 연구책임자인 과제가 아닙니다. 연구책임자만 신청할 수 있습니다",
        )
    return int(found.project_id)


def require_reviewer(transaction: Transaction, username: str, *projects: str) -> None:
    """The person is a reviewer or an operator, and a member of none of the projects. Raises InvalidValue."""
    person = people_store.one(transaction, username)
    if person is None:
        raise unknown("by", username)
    if not person.platform_roles & DECIDING:
        raise InvalidValue(
            "by",
            f"{username} must be a reviewer or an operator to decide this",
            f"{username}: 심사자 또는 운영자만 결정할 수 있습니다",
        )
    for project in projects:
        if keys.keys(transaction, username, project).role is not None:
            raise InvalidValue(
                "by",
                f"{username} is a member of {project}; someone who is none must decide this",
                f"{username}은(는) {project} 과제의 구성원입니다. 구성원이 아닌 사람이 결정해야 합니다",
            )


def require_project(transaction: Transaction, project: str, field: str = "project") -> tuple[int, ProjectState]:
    """Return the project's id and state. Raises InvalidValue, which names `field`, when there is none."""
    found = projects_store.one(transaction, project)
    if found is None:
        raise unknown(field, project)
    return found


def require_approved(transaction: Transaction, project: str, field: str = "project") -> int:
    """Return the id of the project, which is approved and has not ended. Raises InvalidValue for any other."""
    project_id, state = require_project(transaction, project, field)
    if state is not ProjectState.APPROVED:
        raise InvalidValue(
            field,
            f"{project} is {state}; this needs a project that is approved and has not ended",
            f"{project}의 상태는 {state}입니다. 승인되어 진행 중인 과제여야 합니다",
        )
    return project_id
