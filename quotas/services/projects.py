"""A project's life: applied for, decided, run by its members, ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quotas.domain import projects as rules
from quotas.domain.capacity import Promise, overcommitted
from quotas.domain.ledger import AccountKind, Posting, TransferKind
from quotas.domain.people import MembershipRole
from quotas.domain.projects import Award, ProjectKind, ProjectState
from quotas.domain.rates import Precision
from quotas.domain.texts import text
from quotas.domain.units import LARGEST, PPM, InvalidValue, amount, show_instant, show_rate
from quotas.services import project_views
from quotas.services.people import taken, unknown
from quotas.services.project_views import ProjectView
from quotas.store import audit
from quotas.store import ledger as ledger_store
from quotas.store import people as people_store
from quotas.store import pools as pools_store
from quotas.store import projects as store
from quotas.store import refunds as refunds_store
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

LATEST_INSTANT = 32_503_680_000
"""3000-01-01T00:00:00Z: no award reaches further."""


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
    _check_award(award)
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


def _check_award(award: Award) -> None:
    amount("starts", award.starts_at)
    amount("ends", award.ends_at)
    if award.ends_at > LATEST_INSTANT:
        latest = show_instant(LATEST_INSTANT)
        raise InvalidValue("ends", f"must be before {latest}", f"{latest} 이전이어야 합니다")
    if award.precision not in list(Precision):
        known = ", ".join(Precision)
        raise InvalidValue("precision", f"must be one of {known}", f"다음 중 하나여야 합니다: {known}")


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
    consent: bool = False,
) -> ProjectView:
    """The project is approved, its award granted in the ledger, and `profiles` may be started on it.

    Raises InvalidValue, with nothing changed, for: a project that does not wait for a decision; an award at another
    precision than the programme's, one that has ended already or overflows; an unknown profile; and, without
    `consent`, awards that together exceed `oversubscription_limit_ppm` of the powered capacity at some time.
    """
    _check_award(award)
    if award.precision != reference_precision:
        raise InvalidValue(
            "precision",
            f"the programme counts in {reference_precision}; an award at {award.precision} must be converted first",
            f"사업의 기준 정밀도는 {reference_precision}입니다. {award.precision} 기준의 협약은 먼저 환산해야 합니다",
        )
    if award.ends_at <= now:
        ended = show_instant(award.ends_at)
        raise InvalidValue("ends", f"the award has ended already, at {ended}", f"{ended}에 이미 끝난 협약입니다")
    values = {"decided_at": now, "decided_by": actor[:63], "decision_reason": reason.strip()[:4000] or None}
    with database.write() as transaction:
        project_id = _change_state(transaction, code, ProjectState.APPROVED, values)
        if not consent:
            _check_capacity(transaction, award, reference_precision, oversubscription_limit_ppm, now)
        for profile in dict.fromkeys(profiles):
            store.offer(transaction, project_id, _profile_id(transaction, profile))
        _grant(transaction, project_id, award, actor, now)
        detail = {
            "gflops": award.gflops,
            "precision": award.precision,
            "starts_at": award.starts_at,
            "ends_at": award.ends_at,
            "budget": award.budget_gflops_seconds(),
            "profiles": list(profiles),
            "consent": consent,
        }
        audit.record(transaction, now, actor, "project approved", code, detail)
        return _view(transaction, code, now)


def _check_capacity(transaction: Transaction, award: Award, precision: str, limit_ppm: int, now: int) -> None:
    new = Promise(award.gflops, max(award.starts_at, now), award.ends_at)
    promises = store.promises(transaction, new.starts_at, new.ends_at)
    supplies = pools_store.supplies(transaction, Precision(precision))
    over = overcommitted(new, promises, supplies, limit_ppm)
    if over is None:
        return
    promised, powered = show_rate(over.promised), show_rate(over.powered)
    limit, at = f"{limit_ppm * 100 / PPM:g} %", show_instant(over.at)
    raise InvalidValue(
        "award",
        f"all awards would be {promised} at {at}, above {limit} of the {powered} powered then; this needs consent",
        f"{at} 기준 협약 합계가 {promised}로, 가동 용량 {powered}의 {limit}를 넘습니다. 초과 배정에 동의해야 합니다",
    )


def _grant(transaction: Transaction, project_id: int, award: Award, actor: str, now: int) -> None:
    budget = award.budget_gflops_seconds()
    award_id, allocation_id = store.add_award(transaction, project_id, award, actor, now)
    ledger_store.open_accounts(transaction, allocation_id)
    _, issuance = ledger_store.account_ids(transaction, allocation_id)[AccountKind.ISSUANCE]
    if budget - issuance > LARGEST:
        raise InvalidValue(
            "award",
            f"with all earlier awards the ledger would exceed {LARGEST} GFLOPS·s",
            f"이전 협약과 합하면 원장의 한도 {LARGEST} GFLOPS·s를 넘습니다",
        )
    ledger_store.post(transaction, allocation_id, Posting(f"award:{award_id}:grant", TransferKind.GRANT, budget), now)


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
        expired = sum(_expire(transaction, each, now) for each in store.allocation_ids(transaction, project_id))
        audit.record(transaction, now, actor, "project ended", code, {"expired": expired})
        return _view(transaction, code, now)


def _expire(transaction: Transaction, allocation_id: int, now: int) -> int:
    balances = ledger_store.account_ids(transaction, allocation_id)
    available = balances[AccountKind.AVAILABLE][1]
    if available:
        key = f"allocation:{allocation_id}:expire:{refunds_store.newest_sequence(transaction)}"
        ledger_store.post(transaction, allocation_id, Posting(key, TransferKind.EXPIRE, available), now)
    if not balances[AccountKind.HELD][1]:
        transaction.run(refunds_store.MARK_EXPIRED, allocation_id=allocation_id, now=now)
    return available


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
            store.offer(transaction, project_id, _profile_id(transaction, profile))
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
