"""Renewals of awards: filed, submitted, reviewed and decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, update

from quotas.domain.renewals import OPEN, RenewalState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import projects, renewals

_RENEWALS = (
    select(
        renewals.c.id,
        renewals.c.project_id,
        projects.c.code.label("project"),
        renewals.c.award_id,
        renewals.c.state,
        renewals.c.gflops,
        renewals.c.precision,
        renewals.c.ends_at,
        renewals.c.reason,
        renewals.c.filed_at,
        renewals.c.filed_by,
        renewals.c.submitted_at,
        renewals.c.review_at,
        renewals.c.reviewer,
        renewals.c.decided_at,
        renewals.c.decided_by,
        renewals.c.decision_reason,
        renewals.c.new_award_id,
    )
    .join(projects, projects.c.id == renewals.c.project_id)
    .order_by(renewals.c.id)
)
_ALL = Prepared(_RENEWALS)
_OF_PROJECT = Prepared(_RENEWALS.where(projects.c.code == bindparam("project")))
_ONE = Prepared(_RENEWALS.where(renewals.c.id == bindparam("renewal")))
_OPEN = Prepared(
    select(renewals.c.id).where(
        renewals.c.project_id == bindparam("project_id"),
        renewals.c.state.in_(sorted(state.value for state in OPEN)),
    )
)


def file(transaction: Transaction, values: Mapping[str, Any]) -> int:
    """The renewal is a draft; return its id. Raises Conflict where the project has an open one."""
    return transaction.insert(renewals, {**values, "state": RenewalState.DRAFT.value})


def renewals_of(transaction: Transaction, project: str | None = None) -> list[Row]:
    """Return the renewals of one project or of all, oldest first."""
    return transaction.rows(_ALL) if project is None else transaction.rows(_OF_PROJECT, project=project)


def one(transaction: Transaction, renewal: int) -> Row | None:
    """Return the renewal, or None."""
    return transaction.one(_ONE, renewal=renewal)


def open_one(transaction: Transaction, project_id: int) -> int | None:
    """Return the id of the project's open renewal, or None."""
    row = transaction.one(_OPEN, project_id=project_id)
    return None if row is None else int(row.id)


def change(
    transaction: Transaction, renewal: int, old: RenewalState, new: RenewalState, values: Mapping[str, Any]
) -> bool:
    """The renewal is `new` with `values`, if it still was `old`; return whether it was."""
    statement = update(renewals).where(renewals.c.id == renewal, renewals.c.state == old.value)
    return transaction.run(statement.values(state=new.value, **values)) == 1
