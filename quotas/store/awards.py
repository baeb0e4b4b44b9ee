"""Awards with their allocations and balances, their tranches, and what is decided of them."""

from __future__ import annotations

from sqlalchemy import BindParameter, and_, bindparam, case, func, insert, literal, select, update
from sqlalchemy.sql.selectable import ScalarSelect

from quotas.domain.awards import Tranche, TrancheState
from quotas.domain.ledger import COMPUTE, LOWERS, RAISES, AccountKind
from quotas.domain.projects import Award
from quotas.store.admission import chosen_allocation
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    accounts,
    allocations,
    award_suspensions,
    awards,
    outcome_reports,
    projects,
    tranches,
    transfers,
)

_now: BindParameter[int] = bindparam("now")
_allocation: BindParameter[int] = bindparam("allocation")


def _word(text: str) -> BindParameter[str]:
    return literal(text, literal_execute=True)


granted_of_allocation: ScalarSelect[int] = (
    select(
        func.coalesce(
            func.sum(
                case(
                    (transfers.c.kind.in_([_word(kind.value) for kind in sorted(RAISES)]), transfers.c.amount),
                    (transfers.c.kind.in_([_word(kind.value) for kind in sorted(LOWERS)]), -transfers.c.amount),
                    else_=0,
                )
            ),
            0,
        )
    )
    .where(transfers.c.allocation_id == allocations.c.id, transfers.c.run_id.is_(None))
    .correlate(allocations)
    .scalar_subquery()
)
"""What was granted of an allocation, in GFLOPS·s: a column of a statement that reads `allocations`."""

pending_of_award: ScalarSelect[int] = (
    select(func.coalesce(func.sum(tranches.c.amount), 0))
    .where(tranches.c.award_id == allocations.c.award_id, tranches.c.state == _word(TrancheState.PENDING.value))
    .correlate(allocations)
    .scalar_subquery()
)
"""What an award's tranches that were not released come to, in GFLOPS·s; likewise a column."""

_by_kind = {kind: accounts.alias(kind.value) for kind in (AccountKind.AVAILABLE, AccountKind.HELD)}
_by_kind |= {kind: accounts.alias(kind.value) for kind in (AccountKind.SPENT, AccountKind.EXPIRED)}
_AWARDS = (
    select(
        awards.c.id,
        allocations.c.id.label("allocation_id"),
        projects.c.id.label("project_id"),
        projects.c.code.label("project"),
        projects.c.state.label("project_state"),
        projects.c.ended_at.label("project_ended_at"),
        projects.c.closed_at,
        projects.c.organisation_id,
        awards.c.gflops,
        awards.c.precision,
        awards.c.starts_at,
        awards.c.ends_at,
        awards.c.burst_ppm,
        awards.c.utilisation_ppm,
        awards.c.extra_gflops,
        awards.c.storage_grace_days,
        awards.c.awarded_at,
        awards.c.awarded_by,
        allocations.c.ceiling_gflops,
        allocations.c.in_use_gflops,
        allocations.c.suspended_at,
        allocations.c.revoked_at,
        allocations.c.standing_reason,
        granted_of_allocation.label("granted"),
        pending_of_award.label("pending"),
        *(alias.c.balance.label(kind.value) for kind, alias in _by_kind.items()),
    )
    .select_from(projects)
    .join(allocations, and_(allocations.c.project_id == projects.c.id, allocations.c.asset == _word(COMPUTE)))
    .join(awards, awards.c.id == allocations.c.award_id)
)
for _kind, _alias in _by_kind.items():
    _AWARDS = _AWARDS.join(
        _alias, and_(_alias.c.allocation_id == allocations.c.id, _alias.c.kind == _word(_kind.value))
    )
_OF_PROJECT = Prepared(
    _AWARDS.where(projects.c.id == bindparam("project_id")).order_by(awards.c.starts_at, awards.c.id)
)
_ONE = Prepared(_AWARDS.where(awards.c.id == bindparam("award_id")))
_CHOSEN = Prepared(_AWARDS.where(projects.c.id == bindparam("project_id"), allocations.c.id == chosen_allocation))

_SUSPEND = Prepared(
    update(allocations)
    .where(allocations.c.id == _allocation, allocations.c.suspended_at.is_(None), allocations.c.revoked_at.is_(None))
    .values(suspended_at=_now, standing_reason=bindparam("reason"))
)
_RESUME = Prepared(
    update(allocations)
    .where(allocations.c.id == _allocation, allocations.c.suspended_at.is_not(None), allocations.c.revoked_at.is_(None))
    .values(suspended_at=None, standing_reason=None)
)
_REVOKE = Prepared(
    update(allocations)
    .where(allocations.c.id == _allocation, allocations.c.revoked_at.is_(None))
    .values(revoked_at=_now, standing_reason=bindparam("reason"))
)
_END_SUSPENSION = Prepared(
    update(award_suspensions)
    .where(award_suspensions.c.allocation_id == _allocation, award_suspensions.c.ended_at.is_(None))
    .values(ended_at=_now, ended_by=bindparam("actor"), ended_reason=bindparam("reason"))
)
_SUSPENSIONS = Prepared(
    select(
        award_suspensions.c.since,
        award_suspensions.c.reason,
        award_suspensions.c.actor,
        award_suspensions.c.ended_at,
        award_suspensions.c.ended_by,
        award_suspensions.c.ended_reason,
    )
    .where(award_suspensions.c.allocation_id == _allocation)
    .order_by(award_suspensions.c.id)
)
_CHANGE_AWARD = Prepared(
    update(awards)
    .where(
        awards.c.id == bindparam("award_id"),
        awards.c.gflops == bindparam("old_gflops"),
        awards.c.ends_at == bindparam("old_ends_at"),
    )
    .values(gflops=bindparam("gflops"), ends_at=bindparam("ends_at"), extra_gflops=bindparam("extra_gflops"))
)
_CHANGE_ALLOCATION = Prepared(
    update(allocations)
    .where(
        allocations.c.award_id == bindparam("award_id"),
        allocations.c.asset == _word(COMPUTE),
        allocations.c.revoked_at.is_(None),
    )
    .values(ceiling_gflops=bindparam("ceiling_gflops"), ends_at=bindparam("ends_at"))
)

_TRANCHES = Prepared(
    select(
        tranches.c.id,
        tranches.c.number,
        tranches.c.amount,
        tranches.c.state,
        tranches.c.released_at,
        tranches.c.report_id,
        outcome_reports.c.state.label("report_state"),
        outcome_reports.c.due_at,
    )
    .join(outcome_reports, outcome_reports.c.id == tranches.c.report_id)
    .where(tranches.c.award_id == bindparam("award_id"))
    .order_by(tranches.c.number)
)
_RELEASE = Prepared(
    update(tranches)
    .where(tranches.c.id == bindparam("tranche"), tranches.c.state == _word(TrancheState.PENDING.value))
    .values(state=_word(TrancheState.RELEASED.value), released_at=_now)
)


def of_project(transaction: Transaction, project_id: int) -> list[Row]:
    """Return the project's awards with their allocations and balances, by start."""
    return transaction.rows(_OF_PROJECT, project_id=project_id)


def one(transaction: Transaction, award_id: int) -> Row | None:
    """Return the same of one award, or None."""
    return transaction.one(_ONE, award_id=award_id)


def chosen(transaction: Transaction, project_id: int, now: int) -> Row | None:
    """Return the same of the project's award that counts at `now`, or None where nothing was ever awarded."""
    return transaction.one(_CHOSEN, project_id=project_id, now=now)


def suspend(transaction: Transaction, allocation_id: int, reason: str, actor: str, now: int) -> bool:
    """Nothing starts on the allocation and nothing is extended; return whether that is new."""
    if transaction.run(_SUSPEND, allocation=allocation_id, reason=reason, now=now) != 1:
        return False
    values = {"allocation_id": allocation_id, "since": now, "reason": reason, "actor": actor[:80]}
    transaction.run(insert(award_suspensions).values(**values))
    return True


def resume(transaction: Transaction, allocation_id: int, reason: str, actor: str, now: int) -> bool:
    """The allocation is suspended no longer; return whether it was."""
    if transaction.run(_RESUME, allocation=allocation_id) != 1:
        return False
    transaction.run(_END_SUSPENSION, allocation=allocation_id, reason=reason, actor=actor[:80], now=now)
    return True


def revoke(transaction: Transaction, allocation_id: int, reason: str, actor: str, now: int) -> bool:
    """Nothing may run on the allocation any more, for good; return whether that is new."""
    if transaction.run(_REVOKE, allocation=allocation_id, reason=reason, now=now) != 1:
        return False
    transaction.run(_END_SUSPENSION, allocation=allocation_id, reason=reason, actor=actor[:80], now=now)
    return True


def suspensions(transaction: Transaction, allocation_id: int) -> list[Row]:
    """Return the times for which the allocation was suspended, and why, oldest first."""
    return transaction.rows(_SUSPENSIONS, allocation=allocation_id)


def change_terms(transaction: Transaction, old: Row, new: Award, extra_gflops: int) -> bool:
    """The award and its allocation have the new terms; return False when they are not the old ones any more."""
    changed = transaction.run(
        _CHANGE_AWARD,
        award_id=old.id,
        old_gflops=old.gflops,
        old_ends_at=old.ends_at,
        gflops=new.gflops,
        ends_at=new.ends_at,
        extra_gflops=extra_gflops,
    )
    if changed != 1:
        return False
    ceiling = new.ceiling_gflops()
    return transaction.run(_CHANGE_ALLOCATION, award_id=old.id, ceiling_gflops=ceiling, ends_at=new.ends_at) == 1


def add_tranche(transaction: Transaction, award_id: int, tranche: Tranche, report_id: int) -> None:
    """The tranche waits for the report."""
    values = {"award_id": award_id, "number": tranche.number, "amount": tranche.amount, "report_id": report_id}
    transaction.insert(tranches, {**values, "state": TrancheState.PENDING.value})


def tranches_of(transaction: Transaction, award_id: int) -> list[Row]:
    """Return the award's tranches after the first, each with the report that it waits for, in order."""
    return transaction.rows(_TRANCHES, award_id=award_id)


def release(transaction: Transaction, tranche_id: int, now: int) -> bool:
    """The tranche is released; return whether it was pending."""
    return transaction.run(_RELEASE, tranche=tranche_id, now=now) == 1
