"""Which run a cluster has given which device, kept as the platform's own grants are: see :mod:`quotas.store.grants`."""

from __future__ import annotations

from sqlalchemy import BigInteger, BindParameter, bindparam, func, insert, or_, select, update

from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import device_grants, devices, holds, persons, profiles, projects, runs

_node: BindParameter[int] = bindparam("node", type_=BigInteger)
_run: BindParameter[str] = bindparam("run")
_device: BindParameter[int] = bindparam("device", type_=BigInteger)

_HELD = Prepared(
    select(device_grants.c.device_id, device_grants.c.run_id, projects.c.code.label("project"))
    .join(devices, devices.c.id == device_grants.c.device_id)
    .join(runs, runs.c.id == device_grants.c.run_id)
    .join(projects, projects.c.id == runs.c.project_id)
    .where(devices.c.node_id == _node, device_grants.c.released_at.is_(None))
)
_RUN = Prepared(
    select(
        runs.c.id,
        runs.c.state,
        runs.c.started_at,
        runs.c.finished_at,
        runs.c.cluster_devices,
        persons.c.username.label("person"),
        projects.c.code.label("project"),
        profiles.c.code.label("profile"),
        holds.c.opened_at,
        holds.c.pool_id,
        holds.c.device_model,
        holds.c.device_count,
    )
    .join(holds, holds.c.run_id == runs.c.id)
    .join(persons, persons.c.id == runs.c.person_id)
    .join(projects, projects.c.id == runs.c.project_id)
    .join(profiles, profiles.c.id == runs.c.profile_id)
    .where(runs.c.id == _run)
)
_FREE_SINCE = Prepared(
    select(func.max(device_grants.c.released_at).label("at")).where(
        device_grants.c.device_id == _device, device_grants.c.run_id != _run
    )
)
_AGAIN = Prepared(
    update(device_grants)
    .where(device_grants.c.run_id == _run, device_grants.c.device_id == _device)
    .values(released_at=bindparam("until", type_=BigInteger))
)
_GIVE = Prepared(
    insert(device_grants).values(
        run_id=_run,
        device_id=_device,
        granted_at=bindparam("at", type_=BigInteger),
        released_at=bindparam("until", type_=BigInteger),
    )
)
_KNOWN = Prepared(select(device_grants.c.device_id).where(device_grants.c.run_id == _run).limit(1))
_TELL = Prepared(
    update(runs)
    .where(
        runs.c.id == _run,
        or_(runs.c.cluster_devices.is_(None), runs.c.cluster_devices != bindparam("named")),
    )
    .values(cluster_devices=bindparam("named"))
)


def held(transaction: Transaction, node: int) -> list[Row]:
    """Return which runs hold the machine's devices: the device's id, the run and its project."""
    return transaction.rows(_HELD, node=node)


def run(transaction: Transaction, run_id: str) -> Row | None:
    """Return the run with what its hold says of devices, or None."""
    return transaction.one(_RUN, run=run_id)


def free_since(transaction: Transaction, device: int, run_id: str) -> int:
    """Return when the last other run that held the device gave it back; 0 where none ever held it."""
    row = transaction.one(_FREE_SINCE, device=device, run=run_id)
    return 0 if row is None or row.at is None else int(row.at)


def give(transaction: Transaction, run_id: str, device: int, at: int, until: int | None = None) -> None:
    """The run holds the device from `at` on, or held it until `until`. Raises Conflict where another run holds it.

    One that it held before is held since then.
    """
    if transaction.run(_AGAIN, run=run_id, device=device, until=until) == 0:
        transaction.run(_GIVE, run=run_id, device=device, at=at, until=until)


def was_told(transaction: Transaction, run_id: str) -> bool:
    """Return whether the run holds a device, or held one."""
    return transaction.one(_KNOWN, run=run_id) is not None


def name_devices(transaction: Transaction, run_id: str, named: str) -> None:
    """The run has devices that only the cluster has names for: these."""
    transaction.run(_TELL, run=run_id, named=named)
