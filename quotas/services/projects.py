"""A project's life: applied for, decided, run by its members, ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quotas.domain import projects as rules
from quotas.domain.awards import Programme
from quotas.domain.people import MembershipRole
from quotas.domain.projects import Award, ProjectKind, ProjectState
from quotas.domain.texts import text
from quotas.domain.units import InvalidValue, show_instant
from quotas.services import machine_capacity, project_views, refunds
from quotas.services.grants import check_award, check_reference, give
from quotas.services.people import taken, unknown
from quotas.services.project_views import ProjectView
from quotas.store import audit
from quotas.store import people as people_store
from quotas.store import profiles as profiles_store
from quotas.store import projects as store
from quotas.store.database import Conflict, Database, Transaction

__all__ = [
    "Application",
    "ProjectView",
    "add_member",
    "apply",
    "approve",
    "end",
    "list_projects",
    "offer_profile",
    "reject",
    "remove_member",
    "show",
    "withdraw_profile",
]


@dataclass(frozen=True)
class Application:
    """What is applied for: `gflops` at `precision`, from `starts_at` to `ends_at` (exclusive), seconds UTC."""

    code: str
    title_ko: str
    title_en: str
    kind: ProjectKind
    organisation: str
    gflops: int
    precision: str
    starts_at: int
    ends_at: int


def apply(database: Database, application: Application, *, actor: str, now: int) -> ProjectView:
    """The application waits for a decision, and its applicant `actor` is its PI.

    Raises InvalidValue for a code that is taken, an unknown organisation or person, or an award that cannot be.
    """
    values = _checked(application) | {"applied_at": now}
    try:
        with database.write() as transaction:
            applicant = people_store.person_id(transaction, actor)
            if applicant is None:
                raise unknown("applicant", actor)
            organisation = people_store.organisation_id(transaction, application.organisation)
            if organisation is None:
                raise unknown("organisation", application.organisation)
            project_id = store.add(transaction, {**values, "organisation_id": organisation, "applied_by": applicant})
            store.put_member(transaction, project_id, applicant, MembershipRole.PI.value, now)
            detail = {"gflops": application.gflops, "precision": application.precision}
            audit.record(transaction, now, actor, "project applied for", application.code, detail)
            return _view(transaction, application.code, now)
    except Conflict:
        raise taken("project", application.code) from None


def _checked(application: Application) -> dict[str, Any]:
    award = Award(application.gflops, application.precision, application.starts_at, application.ends_at)
    check_award(award)
    return {
        "code": rules.project_code(application.code),
        "title_ko": text("title_ko", application.title_ko, 300),
        "title_en": text("title_en", application.title_en, 300),
        "kind": ProjectKind(application.kind).value,
        "requested_gflops": application.gflops,
        "requested_precision": application.precision,
        "requested_starts_at": application.starts_at,
        "requested_ends_at": application.ends_at,
    }


def approve(  # noqa: PLR0913 - a decision has these parts
    database: Database,
    code: str,
    award: Award,
    *,
    profiles: Sequence[str],
    actor: str,
    now: int,
    reason: str = "",
    reference_precision: str,
    oversubscription_limit_ppm: int,
    storage_grace_days: int = 30,
    tranches_ppm: Sequence[int] = (),
    consent: bool = False,
) -> ProjectView:
    """The project is approved, the first tranche of its award granted, and `profiles` may be started on it.

    `tranches_ppm` are the shares in which the budget is granted, one after the other; without any it is granted whole.
    Raises InvalidValue, with nothing changed, for: a project that does not wait for a decision; an award at another
    precision than the programme's, one that has ended already or overflows; an unknown profile; shares that are not
    the whole; and, without `consent`, awards that together exceed `oversubscription_limit_ppm` of the powered capacity
    at some time.
    """
    check_award(award)
    programme = Programme(reference_precision, oversubscription_limit_ppm, storage_grace_days, consent)
    check_reference(award, programme)
    if award.ends_at <= now:
        ended = show_instant(award.ends_at)
        raise InvalidValue("ends", f"the award has ended already, at {ended}", f"{ended}에 이미 끝난 협약입니다")
    values = {"decided_at": now, "decided_by": actor[:63], "decision_reason": reason.strip()[:4000] or None}
    with database.write() as transaction:
        project_id = _change_state(transaction, code, ProjectState.APPROVED, values)
        for profile in dict.fromkeys(profiles):
            store.offer(transaction, project_id, _offerable(transaction, profile, now))
        give(transaction, project_id, award, tranches_ppm, programme, actor=actor, now=now)
        detail = {
            "gflops": award.gflops,
            "precision": award.precision,
            "starts_at": award.starts_at,
            "ends_at": award.ends_at,
            "budget": award.budget_gflops_seconds(),
            "tranches_ppm": list(tranches_ppm),
            "profiles": list(profiles),
            "consent": consent,
        }
        audit.record(transaction, now, actor, "project approved", code, detail)
        return _view(transaction, code, now)


def reject(database: Database, code: str, *, reason: str, actor: str, now: int) -> ProjectView:
    """The application is rejected with a reason. Raises InvalidValue when it does not wait for a decision."""
    values = {"decided_at": now, "decided_by": actor[:63], "decision_reason": text("reason", reason, 4000, lines=True)}
    with database.write() as transaction:
        _change_state(transaction, code, ProjectState.REJECTED, values)
        audit.record(transaction, now, actor, "project rejected", code, {"reason": values["decision_reason"]})
        return _view(transaction, code, now)


def end(database: Database, code: str, *, actor: str, now: int) -> ProjectView:
    """The project has ended: nothing starts on it, and what was available has expired.

    Open holds stay until their runs are stopped; what they release expires with :mod:`quotas.services.refunds`.
    """
    with database.write() as transaction:
        project_id = _change_state(transaction, code, ProjectState.ENDED, {"ended_at": now})
        expired = sum(
            refunds.take_rest(transaction, each, now) for each in store.allocation_ids(transaction, project_id)
        )
        audit.record(transaction, now, actor, "project ended", code, {"expired": expired})
        return _view(transaction, code, now)


def _change_state(transaction: Transaction, code: str, new: ProjectState, values: dict[str, Any]) -> int:
    project_id, old = _project(transaction, code)
    rules.change_state(code, old, new)
    if not store.change_state(transaction, project_id, old, new, values):
        raise InvalidValue("project", f"{code} has just been changed", f"{code}의 상태가 방금 바뀌었습니다")
    return project_id


def _view(transaction: Transaction, code: str, now: int) -> ProjectView:
    view = project_views.one(transaction, code, now)
    if view is None:
        raise AssertionError("the project is there: this transaction has just read or written it")
    return view


def _project(transaction: Transaction, code: str) -> tuple[int, ProjectState]:
    found = store.one(transaction, code)
    if found is None:
        raise unknown("project", code)
    return found


def _open_project(transaction: Transaction, code: str) -> int:
    """Return the id of a project whose members and profiles may still change."""
    project_id, state = _project(transaction, code)
    if state in {ProjectState.REJECTED, ProjectState.ENDED}:
        raise InvalidValue("project", f"{code} is {state}; nothing of it changes", f"{code}: {state} 상태의 과제입니다")
    return project_id


def _profile_id(transaction: Transaction, code: str) -> int:
    found = store.profile_id(transaction, code)
    if found is None:
        raise unknown("profile", code)
    return found


def _offerable(transaction: Transaction, code: str, now: int) -> int:
    """Return the id of a profile whose devices some machine has, where the platform has machines."""
    profile_id = _profile_id(transaction, code)
    row = profiles_store.one(transaction, code)
    if row is not None:
        machine_capacity.require(transaction, row.device_model, row.device_count, now)
    return profile_id


def add_member(database: Database, code: str, username: str, role: MembershipRole, *, actor: str, now: int) -> None:
    """The person is a member in `role`; a member in another role changes to it.

    Raises InvalidValue for an unknown project or person, a closed project, a member who has the role already, and a
    last PI who would no longer be one.
    """
    role = MembershipRole(role)
    with database.write() as transaction:
        project_id = _open_project(transaction, code)
        person_id = people_store.person_id(transaction, username)
        if person_id is None:
            raise unknown("username", username)
        roles = _roles(transaction, project_id)
        if roles.get(username) is role:
            raise InvalidValue(
                "username", f"{username} is {role} of {code} already", f"{username}은(는) 이미 {code}의 {role}입니다"
            )
        if username in roles:
            _keep_a_pi(code, roles, username)
        store.put_member(transaction, project_id, person_id, role.value, now)
        audit.record(transaction, now, actor, "member added", code, {"person": username, "role": role.value})


def remove_member(database: Database, code: str, username: str, *, actor: str, now: int) -> None:
    """The person is no member. What runs of theirs is stopped by the reconciling loop.

    Raises InvalidValue for someone who is no member, and for the last PI.
    """
    with database.write() as transaction:
        project_id, _ = _project(transaction, code)
        roles = _roles(transaction, project_id)
        person_id = people_store.person_id(transaction, username)
        if username not in roles or person_id is None:
            raise InvalidValue(
                "username", f"{username!r:.60} is no member of {code}", f"{username!r:.60}: {code}의 구성원이 아닙니다"
            )
        _keep_a_pi(code, roles, username)
        store.remove_member(transaction, project_id, person_id)
        audit.record(transaction, now, actor, "member removed", code, {"person": username})


def _roles(transaction: Transaction, project_id: int) -> dict[str, MembershipRole]:
    return {row.username: MembershipRole(row.role) for row in store.members(transaction, project_id)}


def _keep_a_pi(code: str, roles: dict[str, MembershipRole], leaving: str) -> None:
    if {name for name, role in roles.items() if role is MembershipRole.PI} == {leaving}:
        raise InvalidValue(
            "username",
            f"{leaving} is the last PI of {code}; name another first",
            f"{leaving}은(는) {code}의 마지막 연구책임자입니다. 다른 책임자를 먼저 지정하세요",
        )


def offer_profile(database: Database, code: str, profile: str, *, actor: str, now: int) -> None:
    """The project may use the profile. Raises InvalidValue for an unknown one, and one that it may use already."""
    try:
        with database.write() as transaction:
            project_id = _open_project(transaction, code)
            store.offer(transaction, project_id, _offerable(transaction, profile, now))
            audit.record(transaction, now, actor, "profile offered", code, {"profile": profile})
    except Conflict:
        message = f"{code} may use {profile} already", f"{code}은(는) 이미 {profile}을(를) 쓸 수 있습니다"
        raise InvalidValue("profile", *message) from None


def withdraw_profile(database: Database, code: str, profile: str, *, actor: str, now: int) -> None:
    """The project may no longer start the profile. Raises InvalidValue when it could not."""
    with database.write() as transaction:
        project_id, _ = _project(transaction, code)
        if not store.withdraw(transaction, project_id, _profile_id(transaction, profile)):
            message = f"{code} may not use {profile}", f"{code}은(는) {profile}을(를) 쓸 수 없는 과제입니다"
            raise InvalidValue("profile", *message)
        audit.record(transaction, now, actor, "profile withdrawn", code, {"profile": profile})


def show(database: Database, code: str, now: int) -> ProjectView | None:
    """Return the project as it stands at `now`, or None."""
    with database.read() as transaction:
        return project_views.one(transaction, code, now)


def list_projects(database: Database, now: int) -> list[ProjectView]:
    """Return all projects as they stand at `now`, by code; three statements for any number of them."""
    with database.read() as transaction:
        return project_views.every(transaction, now)
