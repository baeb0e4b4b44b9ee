"""The stored awards, tranches and changes that break an invariant; as in :mod:`quotas.store.check`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, String, and_, cast, func, literal, or_, select, union_all

from quotas.domain.awards import TrancheState
from quotas.domain.changes import ChangeKind, ChangeState
from quotas.domain.ledger import COMPUTE, TransferKind
from quotas.store.check import LIMIT
from quotas.store.database import Prepared
from quotas.store.tables import (
    accounts,
    allocations,
    award_changes,
    award_suspensions,
    awards,
    projects,
    tranches,
    transfers,
)


def _word(text: str) -> ColumnElement[str]:
    return literal(text, literal_execute=True)


def _prepared(statement: Select[*tuple[Any, ...]]) -> Prepared:
    return Prepared(statement.limit(LIMIT))


def _named(name: str, column: ColumnElement[Any]) -> ColumnElement[str]:
    return (_word(f"{name} ") + cast(column, String)).label(name)


_TRANSFERS = {
    ChangeKind.SUPPLEMENT: (TransferKind.SUPPLEMENT,),
    ChangeKind.EXTENSION: (TransferKind.SUPPLEMENT,),
    ChangeKind.REDUCTION: (TransferKind.REDUCE,),
    ChangeKind.MOVE: (TransferKind.MOVE_OUT, TransferKind.MOVE_IN),
}
_OF_CHANGES = sorted({kind.value for kinds in _TRANSFERS.values() for kind in kinds})

GRANT_OF_NO_AWARD = _prepared(
    select(transfers.c.key, transfers.c.amount, allocations.c.award_id)
    .join(accounts, and_(accounts.c.id == transfers.c.debit_account_id, accounts.c.asset == _word(COMPUTE)))
    .outerjoin(allocations, allocations.c.id == transfers.c.allocation_id)
    .where(
        transfers.c.kind == _word(TransferKind.GRANT.value),
        or_(
            allocations.c.id.is_(None),
            transfers.c.key != _word("award:") + cast(allocations.c.award_id, String) + _word(":grant"),
        ),
    )
)
"""Grants of something else than the award of their allocation; that there is one of each at most, its key says."""

_tranche_key = _word("tranche:") + cast(tranches.c.id, String)
_is_released = tranches.c.state == _word(TrancheState.RELEASED.value)
_of_its_award = select(allocations.c.award_id).where(allocations.c.id == transfers.c.allocation_id).scalar_subquery()
TRANCHE_DIFFERS = _prepared(
    select(_named("tranche", tranches.c.id), tranches.c.state, tranches.c.amount, transfers.c.amount.label("transfer"))
    .outerjoin(transfers, transfers.c.key == _tranche_key)
    .where(
        or_(
            and_(_is_released, transfers.c.sequence.is_(None)),
            and_(~_is_released, transfers.c.sequence.is_not(None)),
            transfers.c.amount != tranches.c.amount,
            transfers.c.kind != _word(TransferKind.TRANCHE.value),
            tranches.c.award_id != _of_its_award,
        )
    )
)
TRANCHE_OF_NOTHING = _prepared(
    select(transfers.c.key, transfers.c.amount)
    .outerjoin(tranches, _tranche_key == transfers.c.key)
    .where(transfers.c.kind == _word(TransferKind.TRANCHE.value), tranches.c.id.is_(None))
)


def _expected() -> Any:
    """Every transfer that an applied change should have: its key, kind, amount and award."""
    parts = [
        select(
            award_changes.c.id.label("change_id"),
            (_word("change:") + cast(award_changes.c.id, String) + _word(f":{transfer.value}")).label("key"),
            _word(transfer.value).label("kind"),
            award_changes.c.amount,
            (award_changes.c.to_award_id if transfer is TransferKind.MOVE_IN else award_changes.c.award_id).label(
                "award_id"
            ),
        ).where(
            award_changes.c.kind == _word(kind.value),
            award_changes.c.state == _word(ChangeState.APPLIED.value),
            or_(award_changes.c.amount.is_not(None), award_changes.c.kind == _word(ChangeKind.MOVE.value)),
        )
        for kind, kinds in _TRANSFERS.items()
        for transfer in kinds
    ]
    return union_all(*parts).subquery("expected")


_EXPECTED = _expected()
CHANGE_DIFFERS = _prepared(
    select(_named("change", _EXPECTED.c.change_id), _EXPECTED.c.amount, transfers.c.amount.label("transfer"))
    .outerjoin(transfers, transfers.c.key == _EXPECTED.c.key)
    .where(
        or_(
            transfers.c.sequence.is_(None),
            _EXPECTED.c.amount.is_(None),
            transfers.c.amount != _EXPECTED.c.amount,
            transfers.c.kind != _EXPECTED.c.kind,
            _EXPECTED.c.award_id.is_(None),
            _EXPECTED.c.award_id != _of_its_award,
        )
    )
)
CHANGE_OF_NOTHING = _prepared(
    select(transfers.c.key, transfers.c.amount)
    .outerjoin(_EXPECTED, _EXPECTED.c.key == transfers.c.key)
    .where(transfers.c.kind.in_([_word(kind) for kind in _OF_CHANGES]), _EXPECTED.c.key.is_(None))
)

_later = allocations.alias("later")
OVERLAP = _prepared(
    select(projects.c.code, allocations.c.award_id.label("award"), _later.c.award_id.label("other"))
    .join(allocations, allocations.c.project_id == projects.c.id)
    .join(
        _later,
        and_(
            _later.c.project_id == allocations.c.project_id,
            _later.c.asset == allocations.c.asset,
            _later.c.starts_at >= allocations.c.starts_at,
            _later.c.starts_at < allocations.c.ends_at,
            or_(_later.c.starts_at > allocations.c.starts_at, _later.c.id > allocations.c.id),
        ),
    )
    .where(
        allocations.c.asset == _word(COMPUTE),
        allocations.c.revoked_at.is_(None),
        _later.c.revoked_at.is_(None),
    )
)

TERMS_DIFFER = _prepared(
    select(
        _named("award", awards.c.id),
        awards.c.starts_at,
        awards.c.ends_at,
        allocations.c.starts_at.label("allocation_starts_at"),
        allocations.c.ends_at.label("allocation_ends_at"),
    )
    .join(allocations, allocations.c.award_id == awards.c.id)
    .where(or_(awards.c.starts_at != allocations.c.starts_at, awards.c.ends_at != allocations.c.ends_at))
)

_open_suspensions = (
    select(func.count())
    .where(award_suspensions.c.allocation_id == allocations.c.id, award_suspensions.c.ended_at.is_(None))
    .correlate(allocations)
    .scalar_subquery()
)
SUSPENSION_DIFFERS = _prepared(
    select(
        _named("allocation", allocations.c.id),
        allocations.c.suspended_at,
        allocations.c.revoked_at,
        _open_suspensions.label("open_suspensions"),
    ).where(
        or_(
            and_(allocations.c.suspended_at.is_(None), _open_suspensions != 0),
            and_(
                allocations.c.suspended_at.is_not(None),
                allocations.c.revoked_at.is_(None),
                _open_suspensions != 1,
            ),
        )
    )
)
