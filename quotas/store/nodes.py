"""Machines, what of their pools follows from them, and whom operators' news reaches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from quotas.domain.inventory import Cleaning, DeviceState
from quotas.domain.node_reports import Report
from quotas.domain.people import PlatformRole
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.pools import phase_in_force
from quotas.store.tables import (
    capacity_phases,
    devices,
    nodes,
    notices,
    platform_roles,
    pool_devices,
    pools,
)

_now: BindParameter[int] = bindparam("now", type_=BigInteger)
_node: BindParameter[int] = bindparam("node", type_=BigInteger)
_pool: BindParameter[int] = bindparam("pool", type_=BigInteger)
_stream: BindParameter[str] = bindparam("stream")
_sequence: BindParameter[int] = bindparam("sequence", type_=BigInteger)


def _word(text: str) -> BindParameter[str]:
    return literal(text, literal_execute=True)


_there = devices.c.state != _word(DeviceState.RETIRED.value)
_FULL = select(nodes, pools.c.code.label("pool"), pools.c.cleaning).join(pools, pools.c.id == nodes.c.pool_id)
_BY_TOKEN = Prepared(_FULL.where(nodes.c.token_sha256 == bindparam("digest"), nodes.c.removed_at.is_(None)))
_BY_NAME = Prepared(_FULL.where(nodes.c.name == bindparam("name")))
_EVERY = Prepared(_FULL.where(nodes.c.removed_at.is_(None)).order_by(pools.c.code, nodes.c.name))
_COUNTS = Prepared(
    select(devices.c.node_id, devices.c.state, func.count().label("total"))
    .where(_there)
    .group_by(devices.c.node_id, devices.c.state)
)
_goes_on = and_(nodes.c.stream.is_not(None), nodes.c.stream == _stream)
_TAKE = Prepared(
    update(nodes)
    .where(
        nodes.c.id == _node,
        nodes.c.removed_at.is_(None),
        or_(nodes.c.stream.is_(None), nodes.c.stream != _stream, nodes.c.last_sequence < _sequence),
    )
    .values(
        reports_missed=nodes.c.reports_missed
        + case((_goes_on, _sequence - nodes.c.last_sequence - 1), else_=literal(0, literal_execute=True)),
        stream=_stream,
        last_sequence=_sequence,
        agent_version=bindparam("version"),
        interval_seconds=bindparam("interval"),
        reported_at=_now,
    )
)
_LAST = Prepared(select(nodes.c.stream, nodes.c.last_sequence).where(nodes.c.id == _node))
_SILENT = Prepared(
    _FULL.where(nodes.c.removed_at.is_(None), nodes.c.reported_at < bindparam("before", type_=BigInteger)).order_by(
        nodes.c.id
    )
)
_POOL = Prepared(select(pools).where(pools.c.code == bindparam("code")))
_SET_CLEANING = Prepared(update(pools).where(pools.c.id == _pool).values(cleaning=bindparam("cleaning")))
_IN_USE = Prepared(select(func.sum(pool_devices.c.in_use).label("total")).where(pool_devices.c.pool_id == _pool))
_ANY = Prepared(select(literal(1)).select_from(nodes).where(nodes.c.removed_at.is_(None)).limit(1))
_OF_POOL = Prepared(
    select(func.count().label("total"), func.max(nodes.c.assigns).label("assigns")).where(
        nodes.c.pool_id == _pool, nodes.c.removed_at.is_(None)
    )
)
_FOUND = Prepared(
    select(devices.c.device_model, func.count().label("total"))
    .join(nodes, nodes.c.id == devices.c.node_id)
    .where(_there, nodes.c.pool_id == _pool, nodes.c.removed_at.is_(None), devices.c.device_model.is_not(None))
    .group_by(devices.c.device_model)
)
_PHASES = Prepared(
    select(
        pool_devices.c.device_model,
        pool_devices.c.in_use,
        capacity_phases.c.installed,
        capacity_phases.c.from_at,
        capacity_phases.c.healthy,
    )
    .select_from(pool_devices)
    .outerjoin(
        capacity_phases,
        and_(
            capacity_phases.c.pool_id == pool_devices.c.pool_id,
            capacity_phases.c.device_model == pool_devices.c.device_model,
            capacity_phases.c.from_at == phase_in_force,
        ),
    )
    .where(pool_devices.c.pool_id == _pool)
    .order_by(pool_devices.c.device_model)
)
_this_phase = (
    capacity_phases.c.pool_id == _pool,
    capacity_phases.c.device_model == bindparam("model"),
    capacity_phases.c.from_at == _now,
)
_count: BindParameter[int] = bindparam("count", type_=BigInteger)
_REPLACE_PHASE = Prepared(
    update(capacity_phases).where(*_this_phase).values(installed=_count, powered=_count, healthy=_count)
)
_ADD_PHASE = Prepared(
    insert(capacity_phases).values(
        pool_id=_pool,
        device_model=bindparam("model"),
        from_at=_now,
        installed=_count,
        powered=_count,
        healthy=_count,
    )
)
_CANCEL_COMING = Prepared(
    delete(capacity_phases).where(capacity_phases.c.pool_id == _pool, capacity_phases.c.from_at > _now)
)
_MOST_OF_ONE = (
    select(devices.c.node_id, devices.c.device_model, func.count().label("total"))
    .join(nodes, nodes.c.id == devices.c.node_id)
    .where(_there, nodes.c.removed_at.is_(None), devices.c.device_model.is_not(None))
    .group_by(devices.c.node_id, devices.c.device_model)
    .subquery("of_one")
)
_ON_MACHINES = Prepared(
    select(_MOST_OF_ONE.c.device_model, func.max(_MOST_OF_ONE.c.total).label("most")).group_by(
        _MOST_OF_ONE.c.device_model
    )
)
_has_machines = exists().where(nodes.c.pool_id == pool_devices.c.pool_id, nodes.c.removed_at.is_(None))
_COUNTED = Prepared(
    select(pool_devices.c.device_model, func.max(capacity_phases.c.installed).label("most"))
    .select_from(pool_devices)
    .join(
        capacity_phases,
        and_(
            capacity_phases.c.pool_id == pool_devices.c.pool_id,
            capacity_phases.c.device_model == pool_devices.c.device_model,
            capacity_phases.c.from_at >= func.coalesce(phase_in_force, 0),
        ),
    )
    .where(~_has_machines, capacity_phases.c.installed > 0)
    .group_by(pool_devices.c.device_model)
)
_OPERATORS = Prepared(
    select(platform_roles.c.person_id)
    .where(platform_roles.c.role == _word(PlatformRole.OPERATOR.value))
    .order_by(platform_roles.c.person_id)
)
_UNTOLD = Prepared(
    select(platform_roles.c.person_id)
    .where(
        platform_roles.c.role == _word(PlatformRole.OPERATOR.value),
        ~select(literal(1))
        .where(
            notices.c.person_id == platform_roles.c.person_id,
            notices.c.kind == bindparam("kind"),
            notices.c.about == bindparam("about"),
        )
        .exists(),
    )
    .order_by(platform_roles.c.person_id)
)


def add(transaction: Transaction, values: Mapping[str, Any]) -> int:
    """The machine is stored; return its id. Raises Conflict when its name is taken."""
    return transaction.insert(nodes, dict(values))


def change(transaction: Transaction, node: int, values: Mapping[str, Any]) -> None:
    """The machine has the values."""
    transaction.run(update(nodes).where(nodes.c.id == node).values(**values))


def by_token(transaction: Transaction, digest: str) -> Row | None:
    """Return the machine whose token has the SHA-256, with its pool; None for one that was removed."""
    return transaction.one(_BY_TOKEN, digest=digest)


def by_name(transaction: Transaction, name: str) -> Row | None:
    """Return the machine, also one that was removed, or None."""
    return transaction.one(_BY_NAME, name=name)


def every(transaction: Transaction) -> list[Row]:
    """Return all machines that were not removed, by pool and name."""
    return transaction.rows(_EVERY)


def device_counts(transaction: Transaction) -> dict[int, dict[DeviceState, int]]:
    """Return how many devices each machine has in each state, without those that are retired."""
    found: dict[int, dict[DeviceState, int]] = {}
    for row in transaction.rows(_COUNTS):
        found.setdefault(row.node_id, {})[DeviceState(row.state)] = int(row.total)
    return found


def take(transaction: Transaction, node: int, report: Report, now: int) -> bool:
    """The report counts as taken; return False where it, or a later one of its stream, was taken before."""
    return (
        transaction.run(
            _TAKE,
            node=node,
            stream=report.stream,
            sequence=report.sequence,
            version=report.agent_version[:40],
            interval=report.interval_seconds,
            now=now,
        )
        == 1
    )


def last_sequence(transaction: Transaction, node: int, stream: str) -> int:
    """Return the newest number of the stream that was taken; 0 for another stream."""
    row = transaction.one(_LAST, node=node)
    return int(row.last_sequence) if row is not None and row.stream == stream else 0


def silent(transaction: Transaction, before: int) -> list[Row]:
    """Return the machines that have reported, but not since `before`."""
    return transaction.rows(_SILENT, before=before)


def pool(transaction: Transaction, code: str) -> Row | None:
    """Return the pool, or None."""
    return transaction.one(_POOL, code=code)


def set_cleaning(transaction: Transaction, pool_id: int, cleaning: Cleaning) -> None:
    """So are the pool's devices cleaned between two runs."""
    transaction.run(_SET_CLEANING, pool=pool_id, cleaning=cleaning.value)


def in_use(transaction: Transaction, pool_id: int) -> int:
    """Return how many devices of the pool runs hold."""
    row = transaction.one(_IN_USE, pool=pool_id)
    return 0 if row is None or row.total is None else int(row.total)


def has_any(transaction: Transaction, pool_id: int) -> bool:
    """Return whether the pool has a machine."""
    row = transaction.one(_OF_POOL, pool=pool_id)
    return row is not None and row.total > 0


def a_cluster_gives(transaction: Transaction, pool_id: int) -> bool:
    """Return whether the pool has machines whose devices a cluster gives to runs, and only such."""
    row = transaction.one(_OF_POOL, pool=pool_id)
    return row is not None and row.total > 0 and row.assigns == 0


def are_any(transaction: Transaction) -> bool:
    """Return whether the platform has a machine."""
    return transaction.one(_ANY) is not None


class Counted(NamedTuple):
    """Of a model of a pool: the phase that holds now has `installed` and `healthy`, and so many devices were found.

    `in_use` are those that runs hold.
    """

    device_model: str
    installed: int
    healthy: int
    found: int
    in_use: int


def counted(transaction: Transaction, pool_id: int, now: int) -> list[Counted]:
    """Return the models of the pool, counted by its phase and by what its machines have."""
    found = {row.device_model: int(row.total) for row in transaction.rows(_FOUND, pool=pool_id)}
    rows = transaction.rows(_PHASES, pool=pool_id, now=now)
    return [
        Counted(row.device_model, row.installed or 0, row.healthy or 0, found.get(row.device_model, 0), row.in_use)
        for row in rows
    ]


def put_phase(transaction: Transaction, pool_id: int, device_model: str, count: int, now: int) -> None:
    """From now on the pool has so many devices of the model, all powered and healthy."""
    values = {"pool": pool_id, "model": device_model, "count": count, "now": now}
    if transaction.run(_REPLACE_PHASE, **values) == 0:
        transaction.run(_ADD_PHASE, **values)


def cancel_coming_phases(transaction: Transaction, pool_id: int, now: int) -> int:
    """No phase of the pool begins after now; return how many would have."""
    return transaction.run(_CANCEL_COMING, pool=pool_id, now=now)


def most_at_once(transaction: Transaction, now: int) -> dict[str, int]:
    """Return by model how many devices one run could have: those of one machine, or of a pool that has no machines.

    A pool without machines counts as it is now, and as it is to be.
    """
    found = {row.device_model: int(row.most) for row in transaction.rows(_ON_MACHINES)}
    for row in transaction.rows(_COUNTED, now=now):
        found[row.device_model] = max(found.get(row.device_model, 0), int(row.most))
    return found


def operators(transaction: Transaction) -> list[int]:
    """Return the ids of those who operate the platform."""
    return [int(row.person_id) for row in transaction.rows(_OPERATORS)]


def are_untold(transaction: Transaction, kind: str, about: str) -> bool:
    """Return whether an operator has no notice of the kind about it."""
    return bool(transaction.rows(_UNTOLD, kind=kind, about=about))
