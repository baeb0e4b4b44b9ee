"""The decayed use of an allocation."""

from __future__ import annotations

from sqlalchemy import BindParameter, Float, bindparam, case, select, update

from quotas.store.database import Prepared
from quotas.store.tables import allocations

_allocation = allocations.c.id == bindparam("allocation_id")
_left: BindParameter[float] = bindparam("left", type_=Float)
_amount: BindParameter[float] = bindparam("amount", type_=Float)
_use = allocations.c.decayed_use * _left + _amount

USE = Prepared(select(allocations.c.decayed_use, allocations.c.decayed_at).where(_allocation))
COUNT = Prepared(
    update(allocations)
    .where(_allocation, allocations.c.decayed_at == bindparam("counted_at"))
    .values(decayed_use=case((_use > 0.0, _use), else_=0.0), decayed_at=bindparam("at"))
)
