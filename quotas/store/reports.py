"""What reports read: balances by project, what is promised now, how much runs, and the use of one month."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, and_, bindparam, case, func, literal, select, union_all

from quotas.domain.ledger import AccountKind, TransferKind
from quotas.domain.projects import ProjectState
from quotas.domain.runs import HoldState, RunKind
from quotas.domain.units import DAY_SECONDS
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    accounts,
    allocations,
    awards,
    charges,
    holds,
    projects,
    recalls,
    reservation_windows,
    runs,
    transfers,
)

_now: BindParameter[int] = bindparam("now")


def _word(constant: str | int) -> BindParameter[Any]:
    return literal(constant, literal_execute=True)


_overruns = (
    select(allocations.c.project_id, func.sum(charges.c.overrun_amount).label("overrun"))
    .join(allocations, allocations.c.id == charges.c.allocation_id)
    .where(charges.c.overrun_amount > 0)
    .group_by(allocations.c.project_id)
    .subquery("overruns")
)
_BALANCES = Prepared(
    select(
        projects.c.code,
        *(
            func.coalesce(func.sum(case((accounts.c.kind == _word(kind.value), accounts.c.balance), else_=0)), 0).label(
                kind.value
            )
            for kind in (AccountKind.AVAILABLE, AccountKind.HELD, AccountKind.SPENT, AccountKind.EXPIRED)
        ),
        func.coalesce(func.max(_overruns.c.overrun), 0).label("overrun"),
    )
    .join(allocations, allocations.c.project_id == projects.c.id)
    .join(accounts, accounts.c.allocation_id == allocations.c.id)
    .outerjoin(_overruns, _overruns.c.project_id == projects.c.id)
    .group_by(projects.c.code)
    .order_by(projects.c.code)
)

_freed = (
    select(func.coalesce(func.sum(recalls.c.freed_gflops), 0))
    .where(recalls.c.allocation_id == allocations.c.id)
    .correlate(allocations)
    .scalar_subquery()
)
_promised = awards.c.gflops + awards.c.extra_gflops - _freed
_AWARDED = Prepared(
    select(func.coalesce(func.sum(case((_promised > 0, _promised), else_=0)), 0).label("gflops"))
    .select_from(awards)
    .join(projects, projects.c.id == awards.c.project_id)
    .join(allocations, allocations.c.award_id == awards.c.id)
    .where(
        projects.c.state == _word(ProjectState.APPROVED.value),
        allocations.c.revoked_at.is_(None),
        awards.c.starts_at <= _now,
        awards.c.ends_at > _now,
    )
)
_RUNNING = Prepared(
    select(
        func.count().label("open_runs"),
        func.coalesce(func.sum(holds.c.gflops), 0).label("in_use_gflops"),
    )
    .select_from(holds)
    .join(runs, runs.c.id == holds.c.run_id)
    .where(holds.c.state == _word(HoldState.OPEN.value), runs.c.kind != _word(RunKind.SEATS.value))
)


def balances(transaction: Transaction) -> list[Row]:
    """Return the balances of every project that was ever awarded something, by code."""
    return transaction.rows(_BALANCES)


def awarded_gflops(transaction: Transaction, now: int) -> int:
    """Return what is promised by the awards that run now, together."""
    return int(transaction.rows(_AWARDED, now=now)[0].gflops)


def running(transaction: Transaction) -> Row:
    """Return how many holds are open, and their rates together."""
    return transaction.rows(_RUNNING)[0]


_since: BindParameter[int] = bindparam("since")
_until: BindParameter[int] = bindparam("until")
_journal_until: BindParameter[int] = bindparam("offset")

# A run of a day at the most is found by its start, a longer one by its settlement: so neither what was before the
# month nor what came after it is read. A day more is enough for clocks that differ.
_TIMES = select(
    charges.c.run_id,
    charges.c.gflops,
    charges.c.card_version,
    runs.c.kind,
    runs.c.project_id,
    runs.c.started_at,
    (runs.c.started_at + charges.c.seconds).label("ended_at"),
).join(runs, runs.c.id == charges.c.run_id)
_OF_A_DAY = _TIMES.where(
    charges.c.seconds <= _word(DAY_SECONDS),
    runs.c.started_at > _since - _word(DAY_SECONDS),
    runs.c.started_at < _until,
)
_LONGER = _TIMES.where(
    charges.c.seconds > _word(DAY_SECONDS),
    charges.c.settled_at > _since - _word(DAY_SECONDS),
    runs.c.started_at < _until,
)
_ran = union_all(_OF_A_DAY, _LONGER).subquery("ran")
_inside = case((_ran.c.ended_at > _until, _until), else_=_ran.c.ended_at) - case(
    (_ran.c.started_at < _since, _since), else_=_ran.c.started_at
)
# A run without a device takes no device's time, and none is counted for it. Idle seats hold none either: what was kept
# for them are the devices of their window.
_device_seconds = _inside * holds.c.device_count
_idle_seconds = _inside * func.coalesce(reservation_windows.c.device_count, 0)
_is_idle = _ran.c.kind == _word(RunKind.SEATS.value)
_device_model = func.coalesce(holds.c.device_model, reservation_windows.c.device_model)
_window = reservation_windows.c.id == holds.c.window_id


def _is_in_the_journal(run_id: Any) -> Any:
    """A charge is in the journal from its transfer on; each has one."""
    return and_(transfers.c.key == run_id + _word(":charge"), transfers.c.sequence <= _journal_until)


_USED = Prepared(
    select(
        projects.c.code,
        _device_model.label("device_model"),
        _ran.c.card_version,
        func.sum(case((_is_idle, 0), else_=1)).label("runs"),
        func.sum(case((_is_idle, _idle_seconds), else_=_device_seconds)).label("device_seconds"),
        func.sum(case((_is_idle, _idle_seconds), else_=0)).label("idle_device_seconds"),
        func.sum(_inside * _ran.c.gflops).label("used"),
    )
    .select_from(_ran)
    .join(holds, holds.c.run_id == _ran.c.run_id)
    .outerjoin(reservation_windows, _window)
    .join(transfers, _is_in_the_journal(_ran.c.run_id))
    .join(projects, projects.c.id == _ran.c.project_id)
    .where(_ran.c.ended_at > _since)
    .group_by(projects.c.code, _device_model, _ran.c.card_version)
)
_CHARGED = Prepared(
    select(
        projects.c.code,
        _device_model.label("device_model"),
        charges.c.card_version,
        func.sum(charges.c.amount).label("charged"),
        func.sum(charges.c.overrun_amount).label("overrun"),
    )
    .join(holds, holds.c.run_id == charges.c.run_id)
    .outerjoin(reservation_windows, _window)
    .join(transfers, _is_in_the_journal(charges.c.run_id))
    .join(allocations, allocations.c.id == charges.c.allocation_id)
    .join(projects, projects.c.id == allocations.c.project_id)
    .where(charges.c.settled_at >= _since, charges.c.settled_at < _until)
    .group_by(projects.c.code, _device_model, charges.c.card_version)
)
_REFUNDED = Prepared(
    select(projects.c.code, _device_model.label("device_model"), func.sum(transfers.c.amount).label("refunded"))
    .join(holds, holds.c.run_id == transfers.c.run_id)
    .outerjoin(reservation_windows, _window)
    .join(allocations, allocations.c.id == transfers.c.allocation_id)
    .join(projects, projects.c.id == allocations.c.project_id)
    .where(
        transfers.c.kind == _word(TransferKind.REFUND.value),
        transfers.c.at >= _since,
        transfers.c.at < _until,
        transfers.c.sequence <= _journal_until,
    )
    .group_by(projects.c.code, _device_model)
)
_OPEN_BEFORE = Prepared(
    select(func.count().label("number")).where(
        holds.c.state == _word(HoldState.OPEN.value), holds.c.opened_at < bindparam("before")
    )
)


def month(transaction: Transaction, since: int, until: int, offset: int) -> tuple[list[Row], list[Row], list[Row]]:
    """Return what ran, what was charged and what was refunded, by project and device, up to `offset` of the journal.

    What ran is the time from `since` to `until`; charges and refunds are those that were written then.
    """
    bounds = {"since": since, "until": until, "offset": offset}
    return (
        transaction.rows(_USED, **bounds),
        transaction.rows(_CHARGED, **bounds),
        transaction.rows(_REFUNDED, **bounds),
    )


def open_before(transaction: Transaction, before: int) -> int:
    """Return how many holds are open now that were opened before an instant."""
    return int(transaction.rows(_OPEN_BEFORE, before=before)[0].number)
