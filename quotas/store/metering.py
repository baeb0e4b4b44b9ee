"""What was measured of runs: their hours, their projects' sums, and the devices' newest readings."""

from __future__ import annotations

from sqlalchemy import BigInteger, BindParameter, bindparam, delete, insert, select, union_all, update

from quotas.domain.metering import FOREIGN, Bucket, Hour
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import device_events, device_grants, devices, meter_hours, project_meters, runs

_node: BindParameter[int] = bindparam("node", type_=BigInteger)
_device: BindParameter[int] = bindparam("device", type_=BigInteger)
_run: BindParameter[str] = bindparam("run")
_hour: BindParameter[int] = bindparam("hour", type_=BigInteger)
_at: BindParameter[int] = bindparam("at", type_=BigInteger)
_SUMS = ("samples", "seen_milliseconds", "measured_milliseconds", "busy_milliseconds", "energy_millijoules")
_MEASURED = (*_SUMS, "most_memory_bytes", "buckets")

_DEVICES = Prepared(
    select(devices.c.id, devices.c.uuid, devices.c.read_at, devices.c.metered_until_milliseconds).where(
        devices.c.node_id == _node
    )
)
_tenures = (
    select(
        device_grants.c.device_id,
        device_grants.c.run_id,
        device_grants.c.granted_at,
        device_grants.c.released_at,
        runs.c.started_at,
        runs.c.project_id,
    )
    .join(devices, devices.c.id == device_grants.c.device_id)
    .join(runs, runs.c.id == device_grants.c.run_id)
    .where(devices.c.node_id == _node, runs.c.started_at.is_not(None))
)
# Two statements in one, as each has an index of its own: those who hold now, and those who held lately.
_TENURES = Prepared(
    union_all(
        _tenures.where(device_grants.c.released_at.is_(None)),
        _tenures.where(device_grants.c.released_at >= bindparam("since", type_=BigInteger)),
    )
)
_HOUR = Prepared(
    select(*(meter_hours.c[name] for name in _MEASURED)).where(
        meter_hours.c.run_id == _run, meter_hours.c.hour_at == _hour
    )
)
_ADD_HOUR = Prepared(
    insert(meter_hours).values(run_id=_run, hour_at=_hour, **{name: bindparam(name) for name in _MEASURED})
)
_SET_HOUR = Prepared(
    update(meter_hours)
    .where(meter_hours.c.run_id == _run, meter_hours.c.hour_at == _hour)
    .values({name: bindparam(name) for name in _MEASURED})
)
_ADD_PROJECT = Prepared(
    insert(project_meters).values(project_id=bindparam("project"), **{name: bindparam(name) for name in _SUMS})
)
_ADD_TO_PROJECT = Prepared(
    update(project_meters)
    .where(project_meters.c.project_id == bindparam("project"))
    .values({name: project_meters.c[name] + bindparam(name, type_=BigInteger) for name in _SUMS})
)
_METERED = Prepared(
    update(devices).where(devices.c.id == _device).values(metered_until_milliseconds=bindparam("until"))
)
_READ = Prepared(
    update(devices)
    .where(devices.c.id == _device)
    .values(
        read_at=_at,
        busy_ppm=bindparam("busy_ppm"),
        used_bytes=bindparam("used_bytes"),
        power_milliwatts=bindparam("power_milliwatts"),
        metered_until_milliseconds=bindparam("until"),
    )
)
_FOREIGN = Prepared(
    select(device_events.c.id)
    .where(
        device_events.c.device_id == _device,
        device_events.c.kind == FOREIGN,
        device_events.c.code == bindparam("pid"),
    )
    .limit(1)
)
_REMOVE_HOURS = Prepared(
    delete(meter_hours).where(meter_hours.c.hour_at >= bindparam("from_hour"), meter_hours.c.hour_at < _hour)
)
_OLDEST_HOUR = Prepared(
    select(meter_hours.c.hour_at).where(meter_hours.c.hour_at < _hour).order_by(meter_hours.c.hour_at).limit(1)
)


def devices_of(transaction: Transaction, node_id: int) -> dict[str, Row]:
    """Return the machine's devices by their UUID: id, when last read, and until when their time was taken."""
    return {row.uuid: row for row in transaction.rows(_DEVICES, node=node_id)}


def tenures(transaction: Transaction, node_id: int, since: int) -> list[Row]:
    """Return which started runs hold the machine's devices, or gave them back at `since` or later."""
    return transaction.rows(_TENURES, node=node_id, since=since)


def hour(transaction: Transaction, run_id: str, hour_at: int) -> Row | None:
    """Return what is known of the run's hour, or None."""
    return transaction.one(_HOUR, run=run_id, hour=hour_at)


def keep_hour(transaction: Transaction, run_id: str, hour_at: int, measured: Hour, *, is_new: bool) -> Bucket:
    """The run's hour is `measured`; return its sum."""
    total = measured.total
    values = {name: getattr(total, name) for name in (*_SUMS, "most_memory_bytes")}
    statement = _ADD_HOUR if is_new else _SET_HOUR
    transaction.run(statement, run=run_id, hour=hour_at, buckets=measured.as_text(), **values)
    return total


def add_to_project(transaction: Transaction, project_id: int, more: dict[str, int]) -> None:
    """`more` is added to what the project's runs ever used."""
    if transaction.run(_ADD_TO_PROJECT, project=project_id, **more) == 0:
        transaction.run(_ADD_PROJECT, project=project_id, **more)


def sums(row: Row | Bucket | None) -> tuple[int, ...]:
    """Return those figures of an hour that add up over hours, in the order of `SUMMED`."""
    return (0,) * len(_SUMS) if row is None else tuple(getattr(row, name) for name in _SUMS)


SUMMED = _SUMS


def metered(transaction: Transaction, device_id: int, until: int) -> None:
    """The device's time has been taken until `until` (milliseconds)."""
    transaction.run(_METERED, device=device_id, until=until)


def read(transaction: Transaction, device_id: int, at: int, until: int, **values: int | None) -> None:
    """The device's newest reading is this one, and its time has been taken until `until` (milliseconds)."""
    transaction.run(_READ, device=device_id, at=at, until=until, **values)


def is_known_foreign(transaction: Transaction, device_id: int, pid: int) -> bool:
    """Return whether the process was found on the device before."""
    return transaction.one(_FOREIGN, device=device_id, pid=pid) is not None


def add_foreign(transaction: Transaction, device_id: int, at: int, pid: int, *, of_run: str, held_by: str) -> None:
    """A process of `of_run`, empty for none, was found on the device that `held_by` holds."""
    values = {"device_id": device_id, "at": at, "kind": FOREIGN, "code": pid, "text": of_run, "run_id": held_by}
    transaction.insert(device_events, values)


def oldest_hour(transaction: Transaction, before: int) -> int | None:
    """Return the first hour before `before` of which something is kept, or None."""
    row = transaction.one(_OLDEST_HOUR, hour=before)
    return None if row is None else int(row.hour_at)


def remove_hours(transaction: Transaction, start: int, end: int) -> int:
    """Nothing is kept of the hours from `start` to before `end`; return how many rows are gone."""
    return transaction.run(_REMOVE_HOURS, from_hour=start, hour=end)
