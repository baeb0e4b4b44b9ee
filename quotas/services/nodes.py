"""Machines: added to a pool with a token of their own, listed with how they are, and removed."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.inventory import DeviceState, node_name
from quotas.domain.units import InvalidValue
from quotas.services import machine_capacity
from quotas.services.people import taken, unknown
from quotas.store import audit, grants
from quotas.store import devices as devices_store
from quotas.store import nodes as store
from quotas.store.database import Conflict, Database, Row, Transaction

TOKEN_BYTES = 32


class NodeState(StrEnum):
    """How a machine is, by its reports."""

    REPORTING = "reporting"
    SILENT = "silent"
    NEVER_HEARD = "never_heard"


NODE_STATE_WORDS = {
    NodeState.REPORTING: ("reporting", "보고 중"),
    NodeState.SILENT: ("silent", "응답 없음"),
    NodeState.NEVER_HEARD: ("never heard", "보고 없음"),
}


@dataclass(frozen=True)
class NodeView:
    """A machine; `counts` are its devices by state. Instants in seconds UTC, None for what never was."""

    name: str
    pool: str
    state: NodeState
    reported_at: int | None
    added_at: int
    agent_version: str | None
    interval_seconds: int | None
    reports_missed: int
    counts: Mapping[DeviceState, int]


def digest(token: str) -> str:
    """Return what the store keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def add(database: Database, name: str, pool: str, *, actor: str, now: int, assigns: bool = True) -> str:
    """The machine is of the pool; return its token, which is stored nowhere.

    From its first machine on the pool's devices are those that its machines report. The platform gives each to one run;
    not where it `assigns` none: there a cluster does, and the machine tells which run has which. Raises InvalidValue
    for no DNS label, a name in use, an unknown pool, a simulated one, one whose machines are of the other sort, and one
    whose devices the platform is to give while runs hold some that were given none.
    """
    node_name(name)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    try:
        with database.write() as transaction:
            row = _pool_for_machines(transaction, pool, assigns=assigns)
            first = not store.has_any(transaction, row.id)
            own = {"pool_id": row.id, "token_sha256": digest(token), "assigns": int(assigns)}
            values = {**own, "added_at": now, "added_by": actor[:80]}
            known = store.by_name(transaction, name)
            if known is None:
                store.add(transaction, {"name": name, **values})
            elif known.removed_at is None:
                raise taken("node", name)
            else:
                fresh = {"removed_at": None, "stream": None, "last_sequence": 0, "reported_at": None}
                store.change(transaction, known.id, values | fresh)
            cancelled = store.cancel_coming_phases(transaction, row.id, now) if first else 0
            machine_capacity.follow(transaction, row.id, pool, now)
            detail = {"pool": pool, "phases_cancelled": cancelled}
            audit.record(transaction, now, actor, "machine added", name, detail)
    except Conflict:
        raise taken("node", name) from None
    return token


def _pool_for_machines(transaction: Transaction, pool: str, *, assigns: bool) -> Row:
    row = store.pool(transaction, pool)
    if row is None:
        raise unknown("pool", pool)
    if row.simulated:
        raise InvalidValue(
            "pool",
            f"{pool} is simulated: no device is attached to what runs there; add a pool that is not",
            f"{pool}은(는) 모의 풀로 장치를 연결하지 않습니다. 모의가 아닌 풀을 추가하세요",
        )
    if store.has_any(transaction, row.id) and grants.is_assigned(transaction, row.id) != assigns:
        raise InvalidValue(
            "pool",
            f"{pool} has machines of the other sort: either the platform gives its devices to runs, or a cluster does",
            f"{pool}에는 다른 방식의 장비가 있습니다. 장치 배정은 플랫폼이나 클러스터 중 하나만 할 수 있습니다",
        )
    held = store.in_use(transaction, row.id)
    if assigns and held and not grants.is_assigned(transaction, row.id):
        raise InvalidValue(
            "pool",
            f"runs hold {held} devices of {pool}, and nobody knows which; add the machine once they have ended",
            f"{pool}의 장치 {held}대가 장치 지정 없이 사용 중입니다. 실행이 끝난 뒤 장비를 추가하세요",
        )
    return row


def _open(transaction: Transaction, name: str) -> Row:
    row = store.by_name(transaction, name)
    if row is None or row.removed_at is not None:
        raise unknown("node", name)
    return row


def rotate(database: Database, name: str, *, actor: str, now: int) -> str:
    """The machine has a new token, which is returned; the old one is refused. Raises InvalidValue for no machine."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with database.write() as transaction:
        store.change(transaction, _open(transaction, name).id, {"token_sha256": digest(token)})
        audit.record(transaction, now, actor, "machine's token changed", name)
    return token


def remove(database: Database, name: str, *, actor: str, now: int) -> int:
    """The machine and its devices are the platform's no more; return how many devices it had.

    Raises InvalidValue for no machine, and while runs hold devices of it.
    """
    with database.write() as transaction:
        node = _open(transaction, name)
        there = [row for row in devices_store.of_node(transaction, node.id) if row.state != DeviceState.RETIRED.value]
        held = [holder.id for row in there if (holder := grants.holder(transaction, row.id)) is not None]
        if held:
            runs = ", ".join(sorted(set(held))[:5])
            raise InvalidValue(
                "node",
                f"runs hold devices of {name}: {runs}; quarantine its devices, and remove it once these have ended",
                f"{name}의 장치를 사용 중인 실행이 있습니다: {runs}. 장치를 격리하고 실행이 끝난 뒤 제거하세요",
            )
        for row in there:
            devices_store.set_state(transaction, row, DeviceState.RETIRED, now)
        store.change(transaction, node.id, {"removed_at": now})
        machine_capacity.follow(transaction, node.pool_id, node.pool, now)
        audit.record(transaction, now, actor, "machine removed", name, {"pool": node.pool, "devices": len(there)})
        return len(there)


def list_nodes(database: Database, now: int, silence_seconds: int) -> list[NodeView]:
    """Return all machines by pool and name; one is silent that has not reported for so long."""
    with database.read() as transaction:
        counts = store.device_counts(transaction)
        return [
            NodeView(
                name=row.name,
                pool=row.pool,
                state=_state(row.reported_at, now - silence_seconds),
                reported_at=row.reported_at,
                added_at=row.added_at,
                agent_version=row.agent_version,
                interval_seconds=row.interval_seconds,
                reports_missed=row.reports_missed,
                counts=counts.get(row.id, {}),
            )
            for row in store.every(transaction)
        ]


def _state(reported_at: int | None, before: int) -> NodeState:
    if reported_at is None:
        return NodeState.NEVER_HEARD
    return NodeState.SILENT if reported_at < before else NodeState.REPORTING
