"""Between two runs: what the agent has scrubbed, what could not be, and what operators put aside or release."""

from __future__ import annotations

from collections.abc import Iterable

from quotas.domain.inventory import Cleaning, DeviceState
from quotas.domain.node_reports import Cleaned
from quotas.domain.texts import text
from quotas.domain.units import InvalidValue
from quotas.services import device_health, machine_capacity
from quotas.services import device_texts as texts
from quotas.services.people import unknown
from quotas.store import audit, grants
from quotas.store import devices as store
from quotas.store import nodes as nodes_store
from quotas.store.database import Database, Row, Transaction

SHORTEST_BEGINNING = 6
"""A device can be named by so many of the first letters of its UUID, where they are no other's."""


def take(transaction: Transaction, node: int, cleaned: Iterable[Cleaned], now: int) -> None:
    """What was scrubbed can be held again; what could not be is quarantined, and operators know.

    A scrub that ended before the device's last run did is an old one, and says nothing of it.
    """
    for each in cleaned:
        device = store.by_uuid(transaction, each.uuid)
        if device is None or device.node_id != node or device.state != DeviceState.CLEANING.value:
            continue
        if each.at < device.since or grants.holder(transaction, device.id) is not None:
            continue
        if not each.problem:
            store.set_state(transaction, device, DeviceState.AVAILABLE, now)
            continue
        problem = each.problem[:200]
        store.set_state(transaction, device, DeviceState.QUARANTINED, now, reason=problem)
        detail = {"device": device.uuid, "problem": problem}
        audit.record(transaction, now, "platform", "device not scrubbed", device.node, detail)
        words = texts.operators_of_failed_cleaning(device, problem)
        device_health.tell_operators(transaction, "device quarantined", f"{device.id}:{now}", words, now)


def find(transaction: Transaction, uuid: str) -> Row:
    """Return the device of the UUID, or of its first letters. Raises InvalidValue for none, and for several."""
    exact = store.by_uuid(transaction, uuid)
    if exact is not None:
        return exact
    found = store.beginning_with(transaction, uuid) if len(uuid) >= SHORTEST_BEGINNING else []
    if not found:
        raise unknown("device", uuid)
    if len(found) > 1:
        some = ", ".join(row.uuid for row in found)
        raise InvalidValue("device", f"{uuid:.60} is the beginning of several: {some}", f"{uuid:.60}: {some}")
    return found[0]


def quarantine(database: Database, uuid: str, reason: str, *, actor: str, now: int) -> bool:
    """The device is out of use until an operator releases it; return False where its run has to end first.

    Raises InvalidValue for a device that there is not, and one that is out of use already.
    """
    why = text("reason", reason, 200)
    with database.write() as transaction:
        device = find(transaction, uuid)
        if not device_health.hold_back(transaction, device, why, now, actor=actor):
            raise _not_now(device)
        return grants.holder(transaction, device.id) is None


def release(database: Database, uuid: str, reason: str, *, actor: str, now: int) -> str:
    """The device can be held again, and an operator says why; return its UUID.

    So a quarantine ends, and a loss whose error asked for a reset, or a scrub that no agent does. Raises InvalidValue
    for a device that can be held already, that is not in its machine, and that a run holds.
    """
    why = text("reason", reason, 300)
    with database.write() as transaction:
        device = find(transaction, uuid)
        state = DeviceState(device.state)
        holder = grants.holder(transaction, device.id)
        if state is DeviceState.AVAILABLE and device.hold_back is not None:
            store.hold_back(transaction, device.id, None)
        else:
            if state in {DeviceState.AVAILABLE, DeviceState.OCCUPIED, DeviceState.RETIRED}:
                raise _not_now(device)
            _must_be_there(device, holder)
            store.set_state(transaction, device, DeviceState.AVAILABLE, now)
        detail = {"device": device.uuid, "was": state.value, "reason": why}
        audit.record(transaction, now, actor, "device released", device.node, detail)
        return str(device.uuid)


def retire(database: Database, uuid: str, reason: str, *, actor: str, now: int) -> str:
    """The device, which was taken out of its machine, is the platform's no more; return its UUID.

    It is again once a machine reports it. Raises InvalidValue for one that its machine still has, or a run holds.
    """
    why = text("reason", reason, 300)
    with database.write() as transaction:
        device = find(transaction, uuid)
        if device.state == DeviceState.RETIRED.value:
            raise _not_now(device)
        holder = grants.holder(transaction, device.id)
        if device.listed or holder is not None:
            raise InvalidValue(
                "device",
                f"{device.node} still has {device.uuid}, or a run holds it; quarantine it instead",
                f"{device.uuid}은(는) {device.node}에 있거나 사용 중입니다. 대신 격리하세요",
            )
        store.set_state(transaction, device, DeviceState.RETIRED, now, reason=why)
        machine_capacity.follow(transaction, device.pool_id, device.pool, now)
        audit.record(transaction, now, actor, "device retired", device.node, {"device": device.uuid, "reason": why})
        return str(device.uuid)


def _must_be_there(device: Row, holder: Row | None) -> None:
    if holder is not None:
        raise InvalidValue(
            "device",
            f"run {holder.id} of {holder.project} holds {device.uuid}; release it once that has ended",
            f"{holder.project} 과제의 실행 {holder.id}이(가) {device.uuid}을(를) 사용 중입니다. 끝난 뒤 해제하세요",
        )
    if not device.listed:
        raise InvalidValue(
            "device",
            f"{device.node} does not have {device.uuid} any more; it comes back once it is reported",
            f"{device.node}에 {device.uuid}이(가) 없습니다. 다시 보고되면 돌아옵니다",
        )


def _not_now(device: Row) -> InvalidValue:
    state = DeviceState(device.state)
    return InvalidValue(
        "device",
        f"{device.uuid} of {device.node} is {state.value} already",
        f"{device.node}의 {device.uuid}은(는) 이미 {state.value} 상태입니다",
    )


def set_cleaning(database: Database, pool: str, cleaning: Cleaning, *, actor: str, now: int) -> None:
    """So are the pool's devices cleaned from now on; what waits already is cleaned as it was to be.

    Raises InvalidValue for an unknown pool, and for one whose devices a cluster gives away.
    """
    with database.write() as transaction:
        row = nodes_store.pool(transaction, pool)
        if row is None:
            raise unknown("pool", pool)
        if nodes_store.a_cluster_gives(transaction, row.id):
            raise InvalidValue(
                "pool",
                f"a cluster gives the devices of {pool} to pods, one right after the other: nothing is done in between",
                f"{pool}의 장치는 클러스터가 곧바로 다음 파드에 배정하므로 그 사이에 소거할 수 없습니다",
            )
        nodes_store.set_cleaning(transaction, row.id, Cleaning(cleaning))
        detail = {"was": row.cleaning, "is": Cleaning(cleaning).value}
        audit.record(transaction, now, actor, "cleaning set", pool, detail)
