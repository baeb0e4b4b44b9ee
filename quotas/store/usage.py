"""Device time that runs held and what was measured of it, read for a period."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select, union_all

from quotas.domain.usage import Period
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import device_grants, meter_hours, persons, profiles, project_meters, projects, runs

_SUMS = ("samples", "seen_milliseconds", "measured_milliseconds", "busy_milliseconds", "energy_millijoules")


@dataclass(frozen=True)
class Wanted:
    """Whose use is wanted; None is everybody's."""

    project: str | None = None
    person: str | None = None
    run: str | None = None


EVERYTHING = Wanted()
_NAMES = (
    runs.c.id.label("run"),
    persons.c.username.label("person"),
    projects.c.code.label("project"),
    profiles.c.code.label("profile"),
)


def _of(statement: Select[Any], wanted: Wanted) -> Select[Any]:
    named = (
        statement.join(persons, persons.c.id == runs.c.person_id)
        .join(projects, projects.c.id == runs.c.project_id)
        .join(profiles, profiles.c.id == runs.c.profile_id)
    )
    if wanted.project is not None:
        named = named.where(projects.c.code == wanted.project)
    if wanted.person is not None:
        named = named.where(persons.c.username == wanted.person)
    if wanted.run is not None:
        named = named.where(runs.c.id == wanted.run)
    return named


def held(transaction: Transaction, period: Period, wanted: Wanted = EVERYTHING) -> list[Row]:
    """Return each device that a started run held in the period, and when."""
    statement = (
        select(*_NAMES, device_grants.c.granted_at, device_grants.c.released_at, runs.c.started_at)
        .join(runs, runs.c.id == device_grants.c.run_id)
        .where(runs.c.started_at < period.until_at, device_grants.c.granted_at < period.until_at)
    )
    found = _of(statement, wanted)
    both = union_all(
        found.where(device_grants.c.released_at.is_(None)),
        found.where(device_grants.c.released_at > period.from_at),
    )
    return transaction.rows(both)


def measured(transaction: Transaction, period: Period, wanted: Wanted = EVERYTHING) -> list[Row]:
    """Return what samples say of each run in the period."""
    sums = [func.sum(meter_hours.c[name]).label(name) for name in _SUMS]
    statement = (
        select(*_NAMES, *sums, func.max(meter_hours.c.most_memory_bytes).label("most_memory_bytes"))
        .join(runs, runs.c.id == meter_hours.c.run_id)
        .where(meter_hours.c.hour_at >= period.from_at, meter_hours.c.hour_at < period.until_at)
        .group_by(*_NAMES)
    )
    return transaction.rows(_of(statement, wanted))


def measured_by_hour(transaction: Transaction, period: Period, wanted: Wanted) -> list[Row]:
    """Return what samples say of each hour of the period, of all runs together."""
    sums = [func.sum(meter_hours.c[name]).label(name) for name in _SUMS]
    statement = (
        select(meter_hours.c.hour_at, *sums, func.max(meter_hours.c.most_memory_bytes).label("most_memory_bytes"))
        .join(runs, runs.c.id == meter_hours.c.run_id)
        .where(meter_hours.c.hour_at >= period.from_at, meter_hours.c.hour_at < period.until_at)
        .group_by(meter_hours.c.hour_at)
    )
    return transaction.rows(_of(statement, wanted))


def buckets(transaction: Transaction, run_id: str, period: Period) -> list[Row]:
    """Return the run's hours in the period with their buckets."""
    statement = (
        select(meter_hours.c.hour_at, meter_hours.c.buckets)
        .where(
            meter_hours.c.run_id == run_id,
            meter_hours.c.hour_at >= period.from_at,
            meter_hours.c.hour_at < period.until_at,
        )
        .order_by(meter_hours.c.hour_at)
    )
    return transaction.rows(statement)


_RUN = (
    select(*_NAMES, runs.c.started_at, runs.c.finished_at)
    .join(persons, persons.c.id == runs.c.person_id)
    .join(projects, projects.c.id == runs.c.project_id)
    .join(profiles, profiles.c.id == runs.c.profile_id)
)


def run(transaction: Transaction, run_id: str) -> Row | None:
    """Return whose run it is, and when it started and ended, or None."""
    return transaction.one(_RUN.where(runs.c.id == run_id))


_EVER = Prepared(
    select(projects.c.code.label("project"), *(project_meters.c[name] for name in _SUMS))
    .join(project_meters, project_meters.c.project_id == projects.c.id)
    .order_by(projects.c.code)
)


def ever_measured(transaction: Transaction) -> list[Row]:
    """Return what was ever measured of each project's runs."""
    return transaction.rows(_EVER)
