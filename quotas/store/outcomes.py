"""Progress reports: what is due, submitted and decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, update

from quotas.domain.outcomes import WITH_THE_PI, Period, ReportState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import awards, outcome_reports, projects, tranches

_REPORTS = (
    select(
        outcome_reports.c.id,
        outcome_reports.c.project_id,
        projects.c.code.label("project"),
        projects.c.closed_at.label("project_closed_at"),
        outcome_reports.c.award_id,
        awards.c.starts_at.label("award_starts_at"),
        awards.c.ends_at.label("award_ends_at"),
        outcome_reports.c.state,
        outcome_reports.c.due_at,
        outcome_reports.c.period_starts_at,
        outcome_reports.c.period_ends_at,
        outcome_reports.c.summary,
        outcome_reports.c.required_at,
        outcome_reports.c.required_by,
        outcome_reports.c.submitted_at,
        outcome_reports.c.submitted_by,
        outcome_reports.c.decided_at,
        outcome_reports.c.decided_by,
        outcome_reports.c.decision_reason,
        tranches.c.number.label("tranche"),
        tranches.c.state.label("tranche_state"),
    )
    .join(projects, projects.c.id == outcome_reports.c.project_id)
    .join(awards, awards.c.id == outcome_reports.c.award_id)
    .outerjoin(tranches, tranches.c.report_id == outcome_reports.c.id)
    .order_by(outcome_reports.c.due_at, outcome_reports.c.id)
)
_ALL = Prepared(_REPORTS)
_OF_PROJECT = Prepared(_REPORTS.where(projects.c.code == bindparam("project")))
_ONE = Prepared(_REPORTS.where(outcome_reports.c.id == bindparam("report")))
_VERIFIED = Prepared(
    select(outcome_reports.c.period_starts_at, outcome_reports.c.period_ends_at).where(
        outcome_reports.c.project_id == bindparam("project_id"),
        outcome_reports.c.state == ReportState.VERIFIED.value,
        outcome_reports.c.id != bindparam("report"),
    )
)
_OVERDUE = Prepared(
    select(outcome_reports.c.id, outcome_reports.c.due_at)
    .where(
        outcome_reports.c.project_id == bindparam("project_id"),
        outcome_reports.c.state.in_(sorted(state.value for state in WITH_THE_PI)),
        outcome_reports.c.due_at <= bindparam("now"),
    )
    .order_by(outcome_reports.c.due_at)
)


def require(transaction: Transaction, project_id: int, award_id: int, due_at: int, actor: str, now: int) -> int:
    """A report of the award is due at `due_at`; return its id."""
    values = {"project_id": project_id, "award_id": award_id, "state": ReportState.DUE.value, "due_at": due_at}
    return transaction.insert(outcome_reports, {**values, "required_at": now, "required_by": actor[:80]})


def reports(transaction: Transaction, project: str | None = None) -> list[Row]:
    """Return the reports of one project or of all, by when they are due, with the tranche that waits for each."""
    return transaction.rows(_ALL) if project is None else transaction.rows(_OF_PROJECT, project=project)


def one(transaction: Transaction, report_id: int) -> Row | None:
    """Return the report, or None."""
    return transaction.one(_ONE, report=report_id)


def change(
    transaction: Transaction, report_id: int, old: ReportState, new: ReportState, values: Mapping[str, Any]
) -> bool:
    """The report is `new` with `values`, if it still was `old`; return whether it was."""
    statement = update(outcome_reports).where(outcome_reports.c.id == report_id, outcome_reports.c.state == old.value)
    return transaction.run(statement.values(state=new.value, **values)) == 1


def verified_periods(transaction: Transaction, project_id: int, but: int) -> list[Period]:
    """Return what the project's verified reports tell of, the report `but` left out."""
    rows = transaction.rows(_VERIFIED, project_id=project_id, report=but)
    return [Period(row.period_starts_at, row.period_ends_at) for row in rows]


def overdue(transaction: Transaction, project_id: int, now: int) -> list[Row]:
    """Return (id, due_at) of the project's reports that are overdue, the latest first."""
    return transaction.rows(_OVERDUE, project_id=project_id, now=now)
