"""Awards as they stand, with their tranches; and what an operator decides of them: suspended, resumed, revoked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quotas.domain import awards as rules
from quotas.domain import states
from quotas.domain.awards import LIVING, AwardState, TrancheState, award_state, tranche_state
from quotas.domain.outcomes import ReportState
from quotas.domain.people import MembershipRole
from quotas.domain.projects import Award, ProjectState, Standing
from quotas.domain.texts import text
from quotas.domain.units import InvalidValue
from quotas.services import refunds
from quotas.services.authority import require_project
from quotas.store import audit, notices
from quotas.store import awards as store
from quotas.store import projects as projects_store
from quotas.store.database import Database, Row, Transaction

LONGEST_REASON = 2000


@dataclass(frozen=True)
class TrancheView:
    """A part of an award's budget after the first, GFLOPS·s, and the report that it waits for, due at `due_at`."""

    number: int
    amount: int
    state: TrancheState
    released_at: int | None
    report: int
    report_state: ReportState
    due_at: int


@dataclass(frozen=True)
class Suspension:
    """From when until when an award was suspended, by whom and why; None: it still is."""

    since: int
    reason: str
    actor: str
    ended_at: int | None
    ended_by: str | None
    ended_reason: str | None


@dataclass(frozen=True)
class AwardView:
    """An award as it stands at one moment. Rates in GFLOPS, amounts in GFLOPS·s, instants in seconds UTC.

    `extra_gflops` is what it is promised beyond its rate, as a mean. Files are kept until `storage_until` at least,
    counted from its present end; a later award of the project keeps them longer.
    """

    id: int
    project: str
    state: AwardState
    gflops: int
    extra_gflops: int
    precision: str
    starts_at: int
    ends_at: int
    ceiling_gflops: int
    in_use_gflops: int
    granted: int
    available: int
    held: int
    spent: int
    expired: int
    tranches: tuple[TrancheView, ...]
    suspensions: tuple[Suspension, ...]
    revoked_at: int | None
    reason: str | None
    storage_until: int
    awarded_at: int
    awarded_by: str


def standing(row: Row) -> Standing:
    """Return the facts of an award's row from which its state follows."""
    return Standing(
        state=ProjectState(row.project_state),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        granted=row.granted,
        available=row.available,
        ended_at=row.project_ended_at,
        closed_at=row.closed_at,
        suspended_at=row.suspended_at,
        revoked_at=row.revoked_at,
        storage_grace_days=row.storage_grace_days,
    )


def terms(row: Row) -> Award:
    """Return the award of a row as the rules have it."""
    return Award(row.gflops, row.precision, row.starts_at, row.ends_at, row.burst_ppm, row.utilisation_ppm)


def of_project(database: Database, code: str, now: int) -> list[AwardView]:
    """Return the project's awards as they stand at `now`, by start. Raises InvalidValue for an unknown project."""
    with database.read() as transaction:
        project_id, _ = require_project(transaction, code)
        return _views(transaction, project_id, now)


def suspend(database: Database, code: str, *, reason: str, actor: str, now: int) -> list[AwardView]:
    """Nothing starts on the project's awards that are not over, and nothing is extended, until `resume`.

    What runs goes on until the end of its hold. Raises InvalidValue where there is nothing to suspend.
    """
    return _decide(database, code, _SUSPENDED, reason=reason, actor=actor, now=now)


def resume(database: Database, code: str, *, reason: str, actor: str, now: int) -> list[AwardView]:
    """The project's awards are suspended no longer. The time is not made up for: an extension would do that."""
    return _decide(database, code, _RESUMED, reason=reason, actor=actor, now=now)


def revoke(database: Database, code: str, *, reason: str, confirm: str, actor: str, now: int) -> list[AwardView]:
    """The project's awards that are not over are revoked, for good, and what was available is the programme's again.

    What runs is stopped by the reconciling loop; what that and later refunds give back goes the same way. `confirm`
    must be the project's code. Raises InvalidValue.
    """
    if confirm != code:
        raise InvalidValue(
            "confirm",
            f"a revocation is final; confirm it with the project's code, {code!r:.60}",
            f"취소는 되돌릴 수 없습니다. 과제 코드 {code!r:.60}(으)로 확인하세요",
        )
    return _decide(database, code, _REVOKED, reason=reason, actor=actor, now=now)


@dataclass(frozen=True)
class _Decision:
    """A decision of an operator: the audit's words, the store's act, the state that it leads to, and what is told."""

    action: str
    act: Callable[[Transaction, int, str, str, int], bool]
    english: str
    korean: str
    to: Callable[[Row, int], AwardState]


def _resumed_state(row: Row, now: int) -> AwardState:
    return AwardState.ACTIVE if now >= row.starts_at else AwardState.SCHEDULED


_SUSPENDED = _Decision(
    "award suspended",
    store.suspend,
    "The award of {project} is suspended: {reason} Nothing new starts; what runs ends with its hold.",
    "{project} 과제의 배정이 정지되었습니다: {reason} 새로 시작할 수 없고, 실행 중인 것은 예약 시간까지 유지됩니다.",
    lambda _row, _now: AwardState.SUSPENDED,
)
_RESUMED = _Decision(
    "award resumed",
    store.resume,
    "The award of {project} is no longer suspended: {reason}",
    "{project} 과제의 배정 정지가 해제되었습니다: {reason}",
    _resumed_state,
)
_REVOKED = _Decision(
    "award revoked",
    store.revoke,
    "The award of {project} was revoked: {reason} What runs is stopped. Files can be fetched for a while.",
    "{project} 과제의 배정이 취소되었습니다: {reason} 실행 중인 것은 중지됩니다. 파일은 당분간 내려받을 수 있습니다.",
    lambda _row, _now: AwardState.REVOKED,
)


def _decide(
    database: Database, code: str, decision: _Decision, *, reason: str, actor: str, now: int
) -> list[AwardView]:
    why = text("reason", reason, LONGEST_REASON, lines=True)
    with database.write() as transaction:
        project_id, _ = require_project(transaction, code)
        rows = store.of_project(transaction, project_id)
        changed = _matching(code, rows, decision, now)
        returned = 0
        for row in changed:
            if not decision.act(transaction, row.allocation_id, why, actor, now):
                raise AssertionError("the award stands as this transaction, which is alone, has just read it")
            if decision is _REVOKED:
                returned += refunds.take_rest(transaction, row.allocation_id, now)
        detail: dict[str, object] = {"awards": [row.id for row in changed], "reason": why[:1000]}
        if decision is _REVOKED:
            detail["returned"] = returned
        audit.record(transaction, now, actor, decision.action, code, detail)
        words = {"project": code, "reason": why}
        about = f"project:{project_id}:{now}"
        tell_members(
            transaction,
            project_id,
            (decision.action, about),
            decision.korean.format(**words),
            decision.english.format(**words),
            now,
        )
        return _views(transaction, project_id, now)


def _matching(code: str, rows: list[Row], decision: _Decision, now: int) -> list[Row]:
    """Return the awards that the decision changes. Raises InvalidValue, with what is allowed, where it changes none."""
    if not rows:
        raise InvalidValue("project", f"{code} has no award", f"{code} 과제에는 배정이 없습니다")
    found = [row for row in rows if decision.to(row, now) in rules.ALLOWED_CHANGES[award_state(standing(row), now)]]
    if decision is _RESUMED:
        found = [row for row in found if row.suspended_at is not None]
    if not found:
        newest = max(rows, key=lambda row: (award_state(standing(row), now) in LIVING, row.starts_at))
        old = award_state(standing(newest), now)
        if decision is _RESUMED and old in LIVING:
            raise InvalidValue("project", f"{code} is not suspended", f"{code} 과제는 정지 상태가 아닙니다")
        states.change(rules.ALLOWED_CHANGES, "project", code, old, decision.to(newest, now))
    return found


def tell_members(  # noqa: PLR0913 - a notice has these parts
    transaction: Transaction,
    project_id: int,
    of: tuple[str, str],
    korean: str,
    english: str,
    now: int,
    *,
    role: MembershipRole | None = None,
) -> None:
    """The project's members, or those in `role`, have the notice; `of` is its kind and what it is about."""
    kind, about = of
    for member in projects_store.members(transaction, project_id):
        if role is None or member.role == role.value:
            notices.tell(transaction, notices.Notice(member.person_id, kind, about, korean, english), now)


def _views(transaction: Transaction, project_id: int, now: int) -> list[AwardView]:
    return [
        _view(
            row,
            store.tranches_of(transaction, row.id),
            store.suspensions(transaction, row.allocation_id),
            now,
        )
        for row in store.of_project(transaction, project_id)
    ]


def _view(row: Row, tranches: list[Row], suspensions: list[Row], now: int) -> AwardView:
    facts = standing(row)
    state = award_state(facts, now)
    return AwardView(
        id=row.id,
        project=row.project,
        state=state,
        gflops=row.gflops,
        extra_gflops=row.extra_gflops,
        precision=row.precision,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        ceiling_gflops=row.ceiling_gflops,
        in_use_gflops=row.in_use_gflops,
        granted=row.granted,
        available=row.available,
        held=row.held,
        spent=row.spent,
        expired=row.expired,
        tranches=tuple(_tranche(each, state) for each in tranches),
        suspensions=tuple(Suspension(*each) for each in suspensions),
        revoked_at=row.revoked_at,
        reason=row.standing_reason,
        storage_until=facts.storage_until or row.ends_at,
        awarded_at=row.awarded_at,
        awarded_by=row.awarded_by,
    )


def _tranche(row: Row, award: AwardState) -> TrancheView:
    return TrancheView(
        number=row.number,
        amount=row.amount,
        state=tranche_state(TrancheState(row.state), award),
        released_at=row.released_at,
        report=row.report_id,
        report_state=ReportState(row.report_state),
        due_at=row.due_at,
    )
