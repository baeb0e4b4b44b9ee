"""Renewals: filed by a PI, reviewed, and, when approved, a new award that starts where the last one ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quotas.domain import renewals as rules
from quotas.domain import states
from quotas.domain.awards import AwardState, Programme, award_state
from quotas.domain.people import MembershipRole
from quotas.domain.projects import Award
from quotas.domain.rates import Precision
from quotas.domain.renewals import RenewalState, Wish, check_until, starts_at
from quotas.domain.texts import text
from quotas.domain.units import InvalidValue, show_instant, show_rate
from quotas.services.authority import require_approved, require_pi, require_project, require_reviewer
from quotas.services.awards import LONGEST_REASON, standing, tell_members
from quotas.services.grants import LATEST_INSTANT, check_award, check_reference, give
from quotas.services.outcomes import must_not_be_overdue
from quotas.services.people import unknown
from quotas.store import audit
from quotas.store import awards as awards_store
from quotas.store import renewals as store
from quotas.store.database import Database, Row, Transaction


@dataclass(frozen=True)
class RenewalView:
    """A renewal as it stands: `gflops` at `precision` until `ends_at` is asked for, after the award `award`.

    `new_award` is what was given when it was approved. Instants in seconds UTC.
    """

    id: int
    project: str
    award: int
    state: RenewalState
    gflops: int
    precision: str
    ends_at: int
    reason: str
    filed_at: int
    filed_by: str
    submitted_at: int | None
    review_at: int | None
    reviewer: str | None
    decided_at: int | None
    decided_by: str | None
    decision_reason: str | None
    new_award: int | None


@dataclass(frozen=True)
class Given:
    """What a reviewer gives: None is as asked for or, of burst and utilisation, as the award that is renewed has it."""

    gflops: int | None = None
    ends_at: int | None = None
    burst_ppm: int | None = None
    utilisation_ppm: int | None = None
    tranches_ppm: Sequence[int] = ()


def file(database: Database, code: str, wish: Wish, *, reason: str, actor: str, now: int) -> RenewalView:
    """The renewal is a draft of its PI `actor`; nothing of the project's award has changed.

    Raises InvalidValue for a project of which `actor` is no PI, one that has ended or was revoked, an end that does not
    lie after the present one, and where another renewal is open.
    """
    why = text("reason", reason, LONGEST_REASON, lines=True)
    with database.write() as transaction:
        project_id = require_pi(transaction, code, actor)
        last = _renewable(transaction, code, now)
        _check(wish, last, now)
        other = store.open_one(transaction, project_id)
        if other is not None:
            raise InvalidValue(
                "project",
                f"the renewal {other} of {code} is open already; change or withdraw it",
                f"{code} 과제의 갱신 신청 {other}이(가) 진행 중입니다. 수정하거나 취소하세요",
            )
        values = {"project_id": project_id, "award_id": last.id, "filed_at": now, "filed_by": actor[:80]}
        renewal = store.file(transaction, {**values, **_wished(wish), "reason": why})
        audit.record(transaction, now, actor, "renewal filed", code, {"renewal": renewal, "gflops": wish.gflops})
        return _view(_must_be(transaction, renewal))


def edit(database: Database, renewal: int, wish: Wish, *, reason: str, actor: str, now: int) -> RenewalView:
    """The draft asks for `wish`, for `reason`. Raises InvalidValue as `file` does, and for what is no draft."""
    why = text("reason", reason, LONGEST_REASON, lines=True)
    with database.write() as transaction:
        row = _theirs(transaction, renewal, actor)
        states.change(rules.ALLOWED_CHANGES, "renewal", str(renewal), RenewalState(row.state), RenewalState.DRAFT)
        _check(wish, _renewable(transaction, row.project, now), now)
        return _change(transaction, row, RenewalState.DRAFT, {**_wished(wish), "reason": why}, actor, now)


def submit(database: Database, renewal: int, *, actor: str, now: int) -> RenewalView:
    """The renewal waits for a reviewer. Raises InvalidValue as `file` does, and while a report is overdue."""
    with database.write() as transaction:
        row = _theirs(transaction, renewal, actor)
        states.change(rules.ALLOWED_CHANGES, "renewal", str(renewal), RenewalState(row.state), RenewalState.SUBMITTED)
        last = _renewable(transaction, row.project, now)
        _check(Wish(row.gflops, row.precision, row.ends_at), last, now)
        must_not_be_overdue(transaction, row.project_id, now)
        return _change(transaction, row, RenewalState.SUBMITTED, {"submitted_at": now}, actor, now)


def withdraw(database: Database, renewal: int, *, actor: str, now: int) -> RenewalView:
    """The renewal is withdrawn by a PI. Raises InvalidValue for anyone else, and for one that was decided."""
    with database.write() as transaction:
        row = _theirs(transaction, renewal, actor)
        return _change(transaction, row, RenewalState.WITHDRAWN, {"decided_at": now}, actor, now)


def review(database: Database, renewal: int, *, actor: str, now: int) -> RenewalView:
    """The renewal is with the reviewer `actor`. Raises InvalidValue for someone who may not decide it."""
    with database.write() as transaction:
        row = _must_be(transaction, renewal)
        require_reviewer(transaction, actor, row.project)
        values = {"review_at": now, "reviewer": actor[:80]}
        return _change(transaction, row, RenewalState.IN_REVIEW, values, actor, now)


def approve(  # noqa: PLR0913 - a decision has these parts
    database: Database, renewal: int, given: Given, *, reason: str, programme: Programme, actor: str, now: int
) -> RenewalView:
    """The renewal is approved: a new award starts as the last one ends, or now where it has ended already.

    What runs then ends with the last award, and can be started again at once on the new one. Raises InvalidValue, and
    nothing has changed, where the award could not be given, the last one is suspended or revoked, or a report is
    overdue.
    """
    why = text("reason", reason, LONGEST_REASON, lines=True)
    with database.write() as transaction:
        row = _must_be(transaction, renewal)
        require_reviewer(transaction, actor, row.project)
        states.change(rules.ALLOWED_CHANGES, "renewal", str(renewal), RenewalState(row.state), RenewalState.APPROVED)
        last = _renewable(transaction, row.project, now)
        must_not_be_overdue(transaction, row.project_id, now)
        award = _award(row, last, given, now)
        check_award(award)
        check_reference(award, programme)
        shares = given.tranches_ppm
        new_award = give(transaction, row.project_id, award, shares, programme, actor=actor, now=now)
        values = {**_decided(why, actor, now), "new_award_id": new_award}
        view = _change(transaction, row, RenewalState.APPROVED, values, actor, now)
        dates = f"{show_instant(award.starts_at)} – {show_instant(award.ends_at)}"
        english = f"The renewal of {row.project} was approved: {show_rate(award.gflops)}, {dates}. {why}"
        korean = f"{row.project} 과제의 갱신이 승인되었습니다: {show_rate(award.gflops)}, {dates}. {why}"
        _tell(transaction, row, korean, english, now)
        return view


def reject(database: Database, renewal: int, *, reason: str, actor: str, now: int) -> RenewalView:
    """The renewal is rejected, with a reason. Raises InvalidValue as `review` does."""
    why = text("reason", reason, LONGEST_REASON, lines=True)
    with database.write() as transaction:
        row = _must_be(transaction, renewal)
        require_reviewer(transaction, actor, row.project)
        view = _change(transaction, row, RenewalState.REJECTED, _decided(why, actor, now), actor, now)
        english = f"The renewal of {row.project} was rejected: {why}"
        _tell(transaction, row, f"{row.project} 과제의 갱신이 반려되었습니다: {why}", english, now)
        return view


def show(database: Database, renewal: int) -> RenewalView | None:
    """Return the renewal, or None."""
    with database.read() as transaction:
        row = store.one(transaction, renewal)
        return None if row is None else _view(row)


def list_renewals(database: Database, project: str | None = None) -> list[RenewalView]:
    """Return the renewals of one project or of all, oldest first."""
    with database.read() as transaction:
        if project is not None:
            require_project(transaction, project)
        return [_view(row) for row in store.renewals_of(transaction, project)]


def _renewable(transaction: Transaction, code: str, now: int) -> Row:
    """Return the last award of a project that may be renewed. Raises InvalidValue."""
    project_id = require_approved(transaction, code)
    rows = awards_store.of_project(transaction, project_id)
    if not rows:
        raise InvalidValue("project", f"{code} has no award", f"{code} 과제에는 배정이 없습니다")
    last = max(rows, key=lambda row: row.ends_at)
    states_now = {award_state(standing(row), now) for row in rows}
    if AwardState.REVOKED in states_now:
        raise InvalidValue(
            "project",
            f"the award of {code} was revoked, and that is final; apply for a new project",
            f"{code} 과제의 배정은 취소되어 갱신할 수 없습니다. 새 과제를 신청하세요",
        )
    return last


def _check(wish: Wish, last: Row, now: int) -> None:
    if wish.precision not in list(Precision):
        known = ", ".join(Precision)
        raise InvalidValue("precision", f"must be one of {known}", f"다음 중 하나여야 합니다: {known}")
    if wish.ends_at > LATEST_INSTANT:
        latest = show_instant(LATEST_INSTANT)
        raise InvalidValue("until", f"must be before {latest}", f"{latest} 이전이어야 합니다")
    start = starts_at(last.ends_at, now)
    check_until(wish.ends_at, start)
    Award(wish.gflops, wish.precision, start, wish.ends_at)  # raises where its budget could not be stored


def _award(row: Row, last: Row, given: Given, now: int) -> Award:
    if award_state(standing(last), now) is AwardState.SUSPENDED:
        raise InvalidValue(
            "project",
            f"{row.project} is suspended; resume or revoke it first",
            f"{row.project} 과제는 정지 상태입니다. 먼저 정지를 해제하거나 배정을 취소하세요",
        )
    start = starts_at(last.ends_at, now)
    ends_at = row.ends_at if given.ends_at is None else given.ends_at
    check_until(ends_at, start)
    return Award(
        gflops=row.gflops if given.gflops is None else given.gflops,
        precision=row.precision,
        starts_at=start,
        ends_at=ends_at,
        burst_ppm=last.burst_ppm if given.burst_ppm is None else given.burst_ppm,
        utilisation_ppm=last.utilisation_ppm if given.utilisation_ppm is None else given.utilisation_ppm,
    )


def _wished(wish: Wish) -> dict[str, Any]:
    return {"gflops": wish.gflops, "precision": wish.precision, "ends_at": wish.ends_at}


def _decided(reason: str, actor: str, now: int) -> dict[str, Any]:
    return {"decided_at": now, "decided_by": actor[:80], "decision_reason": reason}


def _theirs(transaction: Transaction, renewal: int, actor: str) -> Row:
    row = _must_be(transaction, renewal)
    require_pi(transaction, row.project, actor)
    return row


def _change(
    transaction: Transaction, row: Row, new: RenewalState, values: dict[str, Any], actor: str, now: int
) -> RenewalView:
    old = RenewalState(row.state)
    states.change(rules.ALLOWED_CHANGES, "renewal", str(row.id), old, new)
    if not store.change(transaction, row.id, old, new, values):
        raise AssertionError("the renewal stands as this transaction, which is alone, has just read it")
    action = "renewal changed" if new is old else f"renewal {new.value}"
    audit.record(transaction, now, actor, action, row.project, {"renewal": row.id, **values})
    return _view(_must_be(transaction, row.id))


def _tell(transaction: Transaction, row: Row, korean: str, english: str, now: int) -> None:
    of = ("renewal", f"renewal:{row.id}")
    tell_members(transaction, row.project_id, of, korean, english, now, role=MembershipRole.PI)


def _must_be(transaction: Transaction, renewal: int) -> Row:
    row = store.one(transaction, renewal)
    if row is None:
        raise unknown("renewal", str(renewal))
    return row


def _view(row: Row) -> RenewalView:
    return RenewalView(
        id=row.id,
        project=row.project,
        award=row.award_id,
        state=RenewalState(row.state),
        gflops=row.gflops,
        precision=row.precision,
        ends_at=row.ends_at,
        reason=row.reason,
        filed_at=row.filed_at,
        filed_by=row.filed_by,
        submitted_at=row.submitted_at,
        review_at=row.review_at,
        reviewer=row.reviewer,
        decided_at=row.decided_at,
        decided_by=row.decided_by,
        decision_reason=row.decision_reason,
        new_award=row.new_award_id,
    )
