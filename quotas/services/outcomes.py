"""Progress reports: asked for, written by a PI, verified or returned by a reviewer; and the tranches they release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quotas.domain import outcomes as rules
from quotas.domain import states
from quotas.domain.awards import LIVING, AwardState, TrancheState, award_state
from quotas.domain.ledger import Posting, TransferKind
from quotas.domain.outcomes import LONGEST_SUMMARY, Period, ReportState, check_period, is_overdue
from quotas.domain.people import MembershipRole
from quotas.domain.texts import text
from quotas.domain.units import InvalidValue, show_budget, show_instant
from quotas.services.authority import require_pi, require_project, require_reviewer
from quotas.services.awards import LONGEST_REASON, standing, tell_members
from quotas.services.grants import LATEST_INSTANT
from quotas.services.people import unknown
from quotas.store import audit
from quotas.store import awards as awards_store
from quotas.store import ledger as ledger_store
from quotas.store import outcomes as store
from quotas.store.database import Database, Row, Transaction


@dataclass(frozen=True)
class ReportView:
    """A report as it stands at one moment; `tranche` is the number of the tranche that waits for it, if one does.

    It tells of the time from `period_starts_at` to `period_ends_at` (exclusive). Instants in seconds UTC.
    """

    id: int
    project: str
    award: int
    state: ReportState
    is_overdue: bool
    due_at: int
    period_starts_at: int | None
    period_ends_at: int | None
    summary: str | None
    tranche: int | None
    required_at: int
    required_by: str
    submitted_at: int | None
    submitted_by: str | None
    decided_at: int | None
    decided_by: str | None
    decision_reason: str | None


def require(database: Database, code: str, due_at: int, *, actor: str, now: int) -> ReportView:
    """A report of the project's award that counts now is due at `due_at`. Raises InvalidValue."""
    if not now < due_at <= LATEST_INSTANT:
        first = show_instant(now)
        raise InvalidValue("due", f"must be after {first}", f"{first} 이후여야 합니다")
    with database.write() as transaction:
        project_id, _ = require_project(transaction, code)
        award = awards_store.chosen(transaction, project_id, now)
        if award is None or award_state(standing(award), now) is AwardState.CLOSED:
            raise InvalidValue("project", f"{code} has no award", f"{code} 과제에는 배정이 없습니다")
        report = store.require(transaction, project_id, award.id, due_at, actor, now)
        audit.record(transaction, now, actor, "report required", code, {"report": report, "due_at": due_at})
        english = f"A report on {code} is due at {show_instant(due_at)} (report {report})."
        korean = f"{code} 과제의 보고서 제출 기한: {show_instant(due_at)} (보고서 {report})."
        of = ("report required", f"report:{report}")
        tell_members(transaction, project_id, of, korean, english, now, role=MembershipRole.PI)
        return _view(_must_be(transaction, report), now)


def draft(database: Database, report: int, period: Period, summary: str, *, actor: str, now: int) -> ReportView:
    """The report's draft tells `summary` of `period`, in place of an earlier draft.

    Raises InvalidValue for someone who is no PI of its project, a report that waits or is verified, and a period that
    is not wholly past, not of its award, or that a verified report has told of.
    """
    told = text("summary", summary, LONGEST_SUMMARY, lines=True)
    with database.write() as transaction:
        row = _theirs(transaction, report, actor)
        _check(transaction, row, period, now)
        values = {"period_starts_at": period.starts_at, "period_ends_at": period.ends_at, "summary": told}
        _change(transaction, row, ReportState.DRAFT, values)
        audit.record(transaction, now, actor, "report drafted", row.project, {"report": report})
        return _view(_must_be(transaction, report), now)


def submit(database: Database, report: int, *, actor: str, now: int) -> ReportView:
    """The report waits for a reviewer. Raises InvalidValue as `draft` does, and for one that has not been drafted."""
    with database.write() as transaction:
        row = _theirs(transaction, report, actor)
        states.change(rules.ALLOWED_CHANGES, "report", str(report), ReportState(row.state), ReportState.SUBMITTED)
        _check(transaction, row, Period(row.period_starts_at, row.period_ends_at), now)
        values = {"submitted_at": now, "submitted_by": actor[:80]}
        _change(transaction, row, ReportState.SUBMITTED, values)
        audit.record(transaction, now, actor, "report submitted", row.project, {"report": report})
        _release(transaction, row, actor, now)  # what waited only as this one was overdue
        return _view(_must_be(transaction, report), now)


def verify(database: Database, report: int, *, actor: str, now: int, reason: str = "") -> ReportView:
    """The report is verified, and the tranche that waited for it is released, unless another report is overdue.

    Raises InvalidValue for someone who may not decide, and for a report that does not wait for it.
    """
    why = text("reason", reason, LONGEST_REASON, lines=True) if reason.strip() else None
    with database.write() as transaction:
        row = _must_be(transaction, report)
        require_reviewer(transaction, actor, row.project)
        states.change(rules.ALLOWED_CHANGES, "report", str(report), ReportState(row.state), ReportState.VERIFIED)
        _check(transaction, row, Period(row.period_starts_at, row.period_ends_at), now)
        _decide(transaction, row, ReportState.VERIFIED, why, actor, now)
        english = f"Report {report} on {row.project} was verified."
        korean = f"{row.project} 과제의 보고서 {report}이(가) 확인되었습니다."
        _tell(transaction, row, ReportState.VERIFIED, korean, english, now)
        _release(transaction, row, actor, now)
        return _view(_must_be(transaction, report), now)


def send_back(database: Database, report: int, *, reason: str, actor: str, now: int) -> ReportView:
    """The report is returned, with what is to be mended, and may be submitted again. Raises InvalidValue likewise."""
    why = text("reason", reason, LONGEST_REASON, lines=True)
    with database.write() as transaction:
        row = _must_be(transaction, report)
        require_reviewer(transaction, actor, row.project)
        _decide(transaction, row, ReportState.RETURNED, why, actor, now)
        english = f"Report {report} on {row.project} was returned: {why}"
        korean = f"{row.project} 과제의 보고서 {report}이(가) 반려되었습니다: {why}"
        _tell(transaction, row, ReportState.RETURNED, korean, english, now)
        return _view(_must_be(transaction, report), now)


def show(database: Database, report: int, now: int) -> ReportView | None:
    """Return the report as it stands at `now`, or None."""
    with database.read() as transaction:
        row = store.one(transaction, report)
        return None if row is None else _view(row, now)


def list_reports(
    database: Database, now: int, project: str | None = None, *, overdue: bool = False
) -> list[ReportView]:
    """Return the reports of one project or of all, by when they are due; `overdue`: only those that are."""
    with database.read() as transaction:
        if project is not None:
            require_project(transaction, project)
        views = [_view(row, now) for row in store.reports(transaction, project)]
    return [view for view in views if view.is_overdue or not overdue]


def must_not_be_overdue(transaction: Transaction, project_id: int, now: int) -> None:
    """No report of the project is overdue. Raises InvalidValue, which names the one that is so for longest."""
    found = store.overdue(transaction, project_id, now)
    if found:
        due = show_instant(found[0].due_at)
        raise InvalidValue(
            "report",
            f"report {found[0].id} was due at {due}; it must be submitted first",
            f"보고서 {found[0].id}의 제출 기한({due})이 지났습니다. 먼저 제출해야 합니다",
        )


def _release(transaction: Transaction, report: Row, actor: str, now: int) -> None:
    """Every tranche of the project is released whose turn has come.

    Its turn comes when its report is verified, all earlier ones are released, and no report of the project is overdue.
    """
    if store.overdue(transaction, report.project_id, now):
        return
    for award in awards_store.of_project(transaction, report.project_id):
        if award_state(standing(award), now) not in LIVING:
            continue
        for tranche in awards_store.tranches_of(transaction, award.id):
            if tranche.state == TrancheState.RELEASED.value:
                continue
            if tranche.report_state != ReportState.VERIFIED.value:
                break
            _release_one(transaction, award, tranche, actor, now)


def _release_one(transaction: Transaction, award: Row, tranche: Row, actor: str, now: int) -> None:
    if not awards_store.release(transaction, tranche.id, now):
        raise AssertionError("the tranche stands as this transaction, which is alone, has just read it")
    posting = Posting(transfer_key(tranche.id), TransferKind.TRANCHE, tranche.amount)
    ledger_store.post(transaction, award.allocation_id, posting, now)
    detail = {"award": award.id, "tranche": tranche.number, "amount": tranche.amount, "report": tranche.report_id}
    audit.record(transaction, now, actor, "tranche released", award.project, detail)
    amount = show_budget(tranche.amount)
    english = f"Tranche {tranche.number} of the award of {award.project} was released: {amount}."
    korean = f"{award.project} 과제의 {tranche.number}차 배정이 지급되었습니다: {amount}."
    of = ("tranche released", f"tranche:{tranche.id}")
    tell_members(transaction, award.project_id, of, korean, english, now, role=MembershipRole.PI)


def transfer_key(tranche_id: int) -> str:
    """Return the key of the one transfer that a tranche is granted by."""
    return f"tranche:{tranche_id}"


def _check(transaction: Transaction, row: Row, period: Period, now: int) -> None:
    award = Period(row.award_starts_at, row.award_ends_at)
    check_period(period, award, store.verified_periods(transaction, row.project_id, row.id), now)


def _theirs(transaction: Transaction, report: int, actor: str) -> Row:
    row = _must_be(transaction, report)
    require_pi(transaction, row.project, actor)
    return row


def _decide(transaction: Transaction, row: Row, new: ReportState, reason: str | None, actor: str, now: int) -> None:
    _change(transaction, row, new, {"decided_at": now, "decided_by": actor[:80], "decision_reason": reason})
    detail = {"report": row.id, "reason": (reason or "")[:1000]}
    audit.record(transaction, now, actor, f"report {new.value}", row.project, detail)


def _change(transaction: Transaction, row: Row, new: ReportState, values: dict[str, Any]) -> None:
    old = ReportState(row.state)
    states.change(rules.ALLOWED_CHANGES, "report", str(row.id), old, new)
    if not store.change(transaction, row.id, old, new, values):
        raise AssertionError("the report stands as this transaction, which is alone, has just read it")


def _tell(transaction: Transaction, row: Row, new: ReportState, korean: str, english: str, now: int) -> None:
    of = (f"report {new.value}", f"report:{row.id}:{now}")
    tell_members(transaction, row.project_id, of, korean, english, now, role=MembershipRole.PI)


def _must_be(transaction: Transaction, report: int) -> Row:
    row = store.one(transaction, report)
    if row is None:
        raise unknown("report", str(report))
    return row


def _view(row: Row, now: int) -> ReportView:
    state = ReportState(row.state)
    return ReportView(
        id=row.id,
        project=row.project,
        award=row.award_id,
        state=state,
        is_overdue=is_overdue(state, row.due_at, now),
        due_at=row.due_at,
        period_starts_at=row.period_starts_at,
        period_ends_at=row.period_ends_at,
        summary=row.summary,
        tranche=row.tranche,
        required_at=row.required_at,
        required_by=row.required_by,
        submitted_at=row.submitted_at,
        submitted_by=row.submitted_by,
        decided_at=row.decided_at,
        decided_by=row.decided_by,
        decision_reason=row.decision_reason,
    )
