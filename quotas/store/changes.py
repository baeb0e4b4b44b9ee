"""Changes of awards: requested, decided, applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, select, update

from quotas.domain.changes import ChangeState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import award_changes, projects

_target = projects.alias("target")
_CHANGES = (
    select(
        award_changes.c.id,
        award_changes.c.kind,
        award_changes.c.state,
        award_changes.c.project_id,
        projects.c.code.label("project"),
        award_changes.c.award_id,
        award_changes.c.to_project_id,
        _target.c.code.label("to_project"),
        award_changes.c.to_award_id,
        award_changes.c.gflops,
        award_changes.c.amount,
        award_changes.c.ends_at,
        award_changes.c.before_ends_at,
        award_changes.c.reason,
        award_changes.c.requested_at,
        award_changes.c.requested_by,
        award_changes.c.decided_at,
        award_changes.c.decided_by,
        award_changes.c.decision_reason,
    )
    .join(projects, projects.c.id == award_changes.c.project_id)
    .outerjoin(_target, _target.c.id == award_changes.c.to_project_id)
    .order_by(award_changes.c.id)
)
_ALL = Prepared(_CHANGES)
_OF_PROJECT = Prepared(
    _CHANGES.where(
        (projects.c.code == bindparam("project")) | (_target.c.code == bindparam("project")),
    )
)
_ONE = Prepared(_CHANGES.where(award_changes.c.id == bindparam("change")))


def add(transaction: Transaction, values: Mapping[str, Any]) -> int:
    """The change is requested; return its id."""
    return transaction.insert(award_changes, {**values, "state": ChangeState.REQUESTED.value})


def changes(transaction: Transaction, project: str | None = None) -> list[Row]:
    """Return the changes of one project, those that move budget to it included, or of all; oldest first."""
    return transaction.rows(_ALL) if project is None else transaction.rows(_OF_PROJECT, project=project)


def one(transaction: Transaction, change_id: int) -> Row | None:
    """Return the change, or None."""
    return transaction.one(_ONE, change=change_id)


def decide(transaction: Transaction, change_id: int, new: ChangeState, values: Mapping[str, Any]) -> bool:
    """The change is `new` with `values`, if it still was requested; return whether it was."""
    requested = award_changes.c.state == ChangeState.REQUESTED.value
    statement = update(award_changes).where(award_changes.c.id == change_id, requested)
    return transaction.run(statement.values(state=new.value, **values)) == 1
