"""What the ledger knows of a server's work, and the guarded changes of the end that an idle one is given."""

from __future__ import annotations

from sqlalchemy import BigInteger, BindParameter, bindparam, literal, select, update

from quotas.domain.idleness import DeviceReading, Facts, Metered, ServerReport
from quotas.domain.metering import BUCKET_SECONDS, HOUR_SECONDS, hour_of, hour_of_text
from quotas.domain.runs import HoldState, RunKind, RunState
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import (
    device_grants,
    devices,
    holds,
    meter_hours,
    persons,
    profiles,
    projects,
    run_activity,
    runs,
)

_run: BindParameter[str] = bindparam("run")
_stop_at: BindParameter[int] = bindparam("stop_at", type_=BigInteger)


def _word(text: str) -> BindParameter[str]:
    return literal(text, literal_execute=True)


_SERVERS = (
    select(
        runs.c.id,
        runs.c.started_at,
        runs.c.idle_stop_at,
        runs.c.preempt_at,
        runs.c.lost_stop_at,
        persons.c.id.label("person_id"),
        persons.c.username.label("person"),
        projects.c.code.label("project"),
        profiles.c.code.label("profile"),
        profiles.c.idle_seconds,
        holds.c.device_model,
        holds.c.device_count,
        run_activity.c.reported_at,
        run_activity.c.busy_kernels,
        run_activity.c.active_at,
        run_activity.c.kept_at,
    )
    .join(holds, holds.c.run_id == runs.c.id)
    .join(persons, persons.c.id == runs.c.person_id)
    .join(projects, projects.c.id == runs.c.project_id)
    .join(profiles, profiles.c.id == runs.c.profile_id)
    .outerjoin(run_activity, run_activity.c.run_id == runs.c.id)
    .where(
        holds.c.state == _word(HoldState.OPEN.value),
        runs.c.kind == _word(RunKind.NOTEBOOK.value),
        runs.c.state != _word(RunState.SETTLED.value),
    )
)
_OF_PERSON = Prepared(
    _SERVERS.where(persons.c.username == bindparam("person"), projects.c.code == bindparam("project"))
)
_MARKED = Prepared(_SERVERS.where(runs.c.idle_stop_at.is_not(None)).order_by(runs.c.id))
_READINGS = Prepared(
    select(devices.c.read_at, devices.c.busy_ppm)
    .join(device_grants, device_grants.c.device_id == devices.c.id)
    .where(
        device_grants.c.run_id == _run,
        device_grants.c.released_at.is_(None),
        devices.c.busy_ppm.is_not(None),
        devices.c.read_at >= device_grants.c.granted_at,  # else it is what an earlier run did
    )
)
_HOURS = Prepared(
    select(meter_hours.c.hour_at, meter_hours.c.buckets)
    .where(meter_hours.c.run_id == _run, meter_hours.c.hour_at >= bindparam("since", type_=BigInteger))
    .order_by(meter_hours.c.hour_at)
)
_MARK = Prepared(
    update(runs)
    .where(runs.c.id == _run, runs.c.state != _word(RunState.SETTLED.value), runs.c.idle_stop_at.is_(None))
    .values(idle_stop_at=_stop_at)
)
_CLEAR = Prepared(
    update(runs)
    .where(runs.c.id == _run, runs.c.state != _word(RunState.SETTLED.value), runs.c.idle_stop_at == _stop_at)
    .values(idle_stop_at=None)
)


def server(transaction: Transaction, person: str, project: str) -> Row | None:
    """Return the person's open server on the project with its limit and what it reported, or None."""
    return transaction.one(_OF_PERSON, person=person, project=project)


def marked(transaction: Transaction, run_id: str | None = None) -> list[Row]:
    """Return the open servers whose end is set as they are idle, as `server` does; of one run where that is given."""
    return [row for row in transaction.rows(_MARKED) if run_id in (None, row.id)]


def facts(transaction: Transaction, row: Row, hub_active_at: int | None) -> Facts:
    """Return what is known of the server `row`, without what its devices did before their newest reading."""
    report = None
    if row.reported_at is not None:
        report = ServerReport(row.reported_at, row.busy_kernels, row.active_at)
    readings = transaction.rows(_READINGS, run=row.id) if row.device_count else []
    return Facts(
        started_at=row.started_at,
        kept_at=row.kept_at,
        report=report,
        hub_active_at=hub_active_at,
        devices=row.device_count,
        readings=tuple(DeviceReading(each.read_at, each.busy_ppm) for each in readings),
    )


def metered(transaction: Transaction, run_id: str, since: int) -> tuple[Metered, ...]:
    """Return what was measured of the run's devices from the hour before that of `since` on, in the order of time."""
    return tuple(
        Metered(hour.hour_at + index * BUCKET_SECONDS, bucket.measured_milliseconds, bucket.busy_milliseconds)
        for hour in transaction.rows(_HOURS, run=run_id, since=hour_of(since - HOUR_SECONDS))
        for index, bucket in enumerate(hour_of_text(hour.buckets).buckets)
    )


def mark(transaction: Transaction, run_id: str, stop_at: int) -> bool:
    """The run is to be stopped at `stop_at`; return False where it is settled, or its end was set before."""
    return transaction.run(_MARK, run=run_id, stop_at=stop_at) == 1


def clear(transaction: Transaction, run_id: str, stop_at: int) -> bool:
    """The end `stop_at` of the run is not set any more; return whether it was."""
    return transaction.run(_CLEAR, run=run_id, stop_at=stop_at) == 1
