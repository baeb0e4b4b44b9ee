"""Where devices are or will be short, and the marks of those who are extended no further."""

from __future__ import annotations

from sqlalchemy import BigInteger, BindParameter, bindparam, func, literal, or_, select, update

from quotas.domain.runs import HoldState
from quotas.store import capacity
from quotas.store.database import Prepared, Transaction
from quotas.store.tables import drains, holds, pool_devices

_now: BindParameter[int] = bindparam("now", type_=BigInteger)
_run: BindParameter[str] = bindparam("run")
_open = holds.c.state == literal(HoldState.OPEN.value, literal_execute=True)

_MODELS = Prepared(
    select(
        pool_devices.c.device_model,
        func.max(
            pool_devices.c.in_use
            + pool_devices.c.reserved
            + pool_devices.c.drained
            - func.coalesce(capacity.healthy_at(_now), 0)
        ).label("shortage"),
    )
    .where(or_(pool_devices.c.in_use > 0, pool_devices.c.reserved > 0))
    .group_by(pool_devices.c.device_model)
    .order_by(pool_devices.c.device_model)
)
_MARKED = Prepared(select(holds.c.device_model).where(_open, holds.c.ends_by.is_not(None)).distinct())

_MARK = Prepared(
    update(holds)
    .where(holds.c.run_id == _run, _open, func.coalesce(holds.c.ends_by, -1) == bindparam("old", type_=BigInteger))
    .values(ends_by=bindparam("new", type_=BigInteger))
)
_REASONS = Prepared(
    select(drains.c.reason)
    .where(
        drains.c.pool_id == bindparam("pool"), drains.c.device_model == bindparam("model"), drains.c.ended_at.is_(None)
    )
    .order_by(drains.c.id)
)


def models_to_look_at(transaction: Transaction, now: int, until: int) -> list[str]:
    """Return the models of which devices are short, or may be before `until`, or were when someone was asked to end."""
    marked = {row.device_model for row in transaction.rows(_MARKED)}
    held = transaction.rows(_MODELS, now=now)
    short = {row.device_model for row in held if row.shortage > 0}
    others = {row.device_model for row in held} - short - marked
    return sorted(short | marked | {model for model in others if capacity.instants(transaction, model, now, until)})


def mark(transaction: Transaction, run_id: str, old: int | None, new: int | None) -> bool:
    """The run is extended no further than `new` (None: as far as its rules allow); False where it was not at `old`."""
    return transaction.run(_MARK, run=run_id, old=-1 if old is None else old, new=new) == 1


def reasons(transaction: Transaction, device_model: str, pool_id: int) -> list[str]:
    """Return why devices of the model are drained in the pool."""
    return [str(row.reason) for row in transaction.rows(_REASONS, model=device_model, pool=pool_id)]
