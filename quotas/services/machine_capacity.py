"""Capacity follows the inventory: what a pool with machines has is what its machines have."""

from __future__ import annotations

from quotas.domain.units import InvalidValue
from quotas.store import audit
from quotas.store import nodes as store
from quotas.store.database import Transaction

ACTOR = "inventory"


def follow(transaction: Transaction, pool_id: int, pool: str, now: int) -> int:
    """The phases that hold now have just the devices that were found; return how many models had others.

    On a cluster never fewer than runs hold: those whose machines are still to be added are asked for nothing.
    """
    changed = 0
    counted = store.counted(transaction, pool_id, now)
    by_cluster = bool(counted) and store.a_cluster_gives(transaction, pool_id)
    for each in counted:
        there = max(each.found, each.in_use) if by_cluster else each.found
        if (each.installed, each.healthy) == (there, there):
            continue
        store.put_phase(transaction, pool_id, each.device_model, there, now)
        detail = {"device": each.device_model, "from_at": now, "was": each.installed, "installed": there}
        audit.record(transaction, now, ACTOR, "capacity phase added", pool, detail)
        changed += 1
    return changed


def require(transaction: Transaction, device_model: str | None, device_count: int, now: int) -> None:
    """Some machine could give a run so many devices of the model; a platform without machines is not asked.

    A pool without machines, a simulated one among them, has what its phases say. Raises InvalidValue, which says what
    there is.
    """
    if device_model is None or not store.are_any(transaction):
        return
    most = store.most_at_once(transaction, now)
    there = ", ".join(f"{model} × {count}" for model, count in sorted(most.items())) or "-"
    if device_model not in most:
        raise InvalidValue(
            "device_model",
            f"no machine has {device_model}; there are (most for one run): {there}",
            f"{device_model}을(를) 가진 장비가 없습니다. 있는 장치(한 실행의 최대 대수): {there}",
        )
    if device_count > most[device_model]:
        raise InvalidValue(
            "device_count",
            f"no single machine has {device_count} {device_model}; there are (most for one run): {there}",
            f"{device_model} {device_count}대를 가진 단일 장비가 없습니다. 있는 장치(한 실행의 최대 대수): {there}",
        )
