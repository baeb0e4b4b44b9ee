"""The stored drains, and marks of those who are to end, that break an invariant; as in :mod:`quotas.store.check`."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, func, literal, or_, select

from quotas.domain.priorities import PREEMPTIBLE
from quotas.domain.runs import RunKind
from quotas.store.check import LIMIT
from quotas.store.database import Prepared
from quotas.store.grants import OUT_OF_USE_DEVICES
from quotas.store.tables import drains, holds, pool_devices, pools, runs


def _word(text: str) -> ColumnElement[str]:
    return literal(text, literal_execute=True)


_open_drains = (
    select(drains.c.pool_id, drains.c.device_model, func.sum(drains.c.count).label("total"))
    .where(drains.c.ended_at.is_(None))
    .group_by(drains.c.pool_id, drains.c.device_model)
    .subquery("open_drains")
)
_out = OUT_OF_USE_DEVICES.subquery("out_of_use")
_drained = func.coalesce(_open_drains.c.total, 0) + func.coalesce(_out.c.total, 0)
DRAINED_DIFFERS = Prepared(
    select(
        (pools.c.code + " " + pool_devices.c.device_model).label("pool"),
        pool_devices.c.drained,
        _drained.label("open_drains"),
    )
    .join(pools, pools.c.id == pool_devices.c.pool_id)
    .outerjoin(
        _open_drains,
        and_(
            _open_drains.c.pool_id == pool_devices.c.pool_id,
            _open_drains.c.device_model == pool_devices.c.device_model,
        ),
    )
    .outerjoin(_out, and_(_out.c.pool_id == pool_devices.c.pool_id, _out.c.device_model == pool_devices.c.device_model))
    .where(pool_devices.c.drained != _drained)
    .limit(LIMIT)
)

PREEMPTED_FIRM = Prepared(
    select(runs.c.id, holds.c.priority, runs.c.preempt_at, runs.c.preempted_for)
    .join(holds, holds.c.run_id == runs.c.id)
    .where(
        or_(runs.c.preempt_at.is_not(None), runs.c.preempted_for.is_not(None)),
        or_(
            holds.c.priority.not_in([_word(priority.value) for priority in sorted(PREEMPTIBLE)]),
            runs.c.preempt_at.is_(None),
            runs.c.preempted_for.is_(None),
            runs.c.preempt_at < holds.c.opened_at,
        ),
    )
    .limit(LIMIT)
)

WRONG_END = Prepared(
    select(holds.c.run_id, runs.c.kind, holds.c.opened_at, holds.c.ends_by)
    .join(runs, runs.c.id == holds.c.run_id)
    .where(
        holds.c.ends_by.is_not(None),
        or_(
            holds.c.ends_by < holds.c.opened_at,
            runs.c.kind != _word(RunKind.NOTEBOOK.value),
            holds.c.window_id.is_not(None),
        ),
    )
    .limit(LIMIT)
)
