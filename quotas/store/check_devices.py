"""The stored grants of devices and pauses of runs that break an invariant; as in :mod:`quotas.store.check`."""

from __future__ import annotations

from sqlalchemy import BindParameter, and_, func, literal, or_, select

from quotas.domain.runs import HoldState
from quotas.store.check import LIMIT
from quotas.store.database import Prepared
from quotas.store.tables import device_grants, devices, holds, nodes, run_pauses


def _word(text: str) -> BindParameter[str]:
    return literal(text, literal_execute=True)


_granted = (
    select(device_grants.c.run_id, func.count().label("devices"))
    .where(device_grants.c.released_at.is_(None))
    .group_by(device_grants.c.run_id)
    .subquery("granted")
)
GRANTS_DIFFER = Prepared(
    select(holds.c.run_id, holds.c.state, holds.c.device_count, _granted.c.devices)
    .join(_granted, _granted.c.run_id == holds.c.run_id)
    .where(or_(holds.c.state != _word(HoldState.OPEN.value), holds.c.device_count != _granted.c.devices))
    .limit(LIMIT)
)
HELD_WITHOUT_DEVICE = Prepared(
    select(holds.c.run_id, holds.c.device_count)
    .join(nodes, and_(nodes.c.pool_id == holds.c.pool_id, nodes.c.removed_at.is_(None)))
    .outerjoin(_granted, _granted.c.run_id == holds.c.run_id)
    .where(
        holds.c.state == _word(HoldState.OPEN.value),
        holds.c.opened_at > nodes.c.added_at,
        nodes.c.assigns == 1,
        _granted.c.run_id.is_(None),
    )
    .limit(LIMIT)
)
GRANT_OF_ANOTHER = Prepared(
    select(device_grants.c.run_id, devices.c.uuid, devices.c.device_model, holds.c.device_model.label("held"))
    .join(devices, devices.c.id == device_grants.c.device_id)
    .join(nodes, nodes.c.id == devices.c.node_id)
    .join(holds, holds.c.run_id == device_grants.c.run_id)
    .where(
        device_grants.c.released_at.is_(None),
        or_(
            holds.c.device_model.is_(None),
            holds.c.device_model != devices.c.device_model,
            holds.c.pool_id != nodes.c.pool_id,
        ),
    )
    .limit(LIMIT)
)
PAUSED_AFTER_ITS_END = Prepared(
    select(run_pauses.c.run_id, run_pauses.c.since)
    .join(holds, holds.c.run_id == run_pauses.c.run_id)
    .where(run_pauses.c.until_at.is_(None), holds.c.state != _word(HoldState.OPEN.value))
    .limit(LIMIT)
)
