"""What devices did for whom: held beside busy, by run, person, profile, project and day; and who may see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta

from quotas.domain.metering import BUCKET_SECONDS, hour_of_text
from quotas.domain.people import MEMBERSHIP_RIGHTS, MembershipRole
from quotas.domain.units import CALENDAR
from quotas.domain.usage import Interval, Period, Use, intervals, overlap, period, spread, together
from quotas.services.notebooks import WATCHING
from quotas.store import people as people_store
from quotas.store import usage as store
from quotas.store.database import Database, Row
from quotas.store.keys import keys
from quotas.store.usage import EVERYTHING, Wanted

__all__ = ["EVERYTHING", "Line", "RunUse", "Wanted", "by_day", "by_run", "grouped", "idlest", "of_run", "sees_everyone"]


@dataclass(frozen=True)
class Line:
    """The use of all runs that have these names; what they do not have in common is empty."""

    use: Use
    run: str = ""
    person: str = ""
    project: str = ""
    profile: str = ""


@dataclass(frozen=True)
class RunUse:
    """One run's use over all its time, and its last five-minute intervals."""

    line: Line
    started_at: int | None
    finished_at: int | None
    intervals: tuple[Interval, ...]


def by_run(database: Database, period: Period, now: int, wanted: Wanted = EVERYTHING) -> list[Line]:
    """Return what each run held in the period until `now` and what was measured of it, newest run first."""
    with database.read() as transaction:
        held = store.held(transaction, period, wanted)
        measured = store.measured(transaction, period, wanted)
    lines = {row.run: Line(_measured(row), row.run, row.person, row.project, row.profile) for row in measured}
    for row in held:
        line = lines.get(row.run) or Line(Use(), row.run, row.person, row.project, row.profile)
        more = Use(held_seconds=overlap(*_tenure(row, now), period))
        lines[row.run] = replace(line, use=line.use.plus(more))
    return [lines[run] for run in sorted(lines, reverse=True) if lines[run].use != Use()]


def grouped(lines: Iterable[Line], *names: str) -> list[Line]:
    """Return the lines, those with the same `names` (of ``run person project profile``) together; most held first."""
    found: dict[tuple[str, ...], list[Use]] = {}
    for line in lines:
        found.setdefault(tuple(getattr(line, name) for name in names), []).append(line.use)
    made = [Line(together(uses), **dict(zip(names, key, strict=True))) for key, uses in found.items()]
    return sorted(made, key=lambda line: (-line.use.held_seconds, *(getattr(line, name) for name in names)))


def idlest(lines: Iterable[Line], limit: int) -> list[Line]:
    """Return the runs whose devices are known to have idled longest, at most `limit` of them."""
    found = [line for line in lines if line.use.idle_seconds > 0]
    return sorted(found, key=lambda line: (-line.use.idle_seconds, line.run))[:limit]


def by_day(database: Database, period: Period, now: int, wanted: Wanted = EVERYTHING) -> list[tuple[date, Use]]:
    """Return the use of each calendar day of the period, in order; a day of nothing has a use of nothing."""
    with database.read() as transaction:
        held = store.held(transaction, period, wanted)
        measured = store.measured_by_hour(transaction, period, wanted)
    borders = list(_days(period))
    days = dict.fromkeys(map(_day, borders[:-1]), Use())
    for row in measured:
        days[_day(row.hour_at)] = days[_day(row.hour_at)].plus(_measured(row))
    for row in held:
        for at, seconds in spread(*_tenure(row, now), borders):
            days[_day(at)] = days[_day(at)].plus(Use(held_seconds=seconds))
    return list(days.items())


def of_run(database: Database, run_id: str, now: int, most_intervals: int = 288) -> RunUse | None:
    """Return the run's use until `now` with its last intervals, or None where there is no such run."""
    with database.read() as transaction:
        row = store.run(transaction, run_id)
    if row is None:
        return None
    line = Line(Use(), row.run, row.person, row.project, row.profile)
    if row.started_at is None:
        return RunUse(line, None, row.finished_at, ())
    wanted = Wanted(run=run_id)
    whole = Period(period(row.started_at, row.started_at + 1).from_at, period(now, now + 1).until_at)
    with database.read() as transaction:
        tenures = [_tenure(each, now) for each in store.held(transaction, whole, wanted)]
        measured = store.measured(transaction, whole, wanted)
        end = max((end for _, end in tenures), default=now)
        first = max(whole.from_at, end - (most_intervals - 1) * BUCKET_SECONDS)
        last = period(first, max(end, first + 1))
        hours = store.buckets(transaction, run_id, last)
    uses = [_measured(each) for each in measured]
    uses += [Use(held_seconds=overlap(*tenure, whole)) for tenure in tenures]
    buckets = {
        hour.hour_at + index * BUCKET_SECONDS: bucket
        for hour in hours
        for index, bucket in enumerate(hour_of_text(hour.buckets).buckets)
        if bucket.seen_milliseconds
    }
    found = intervals(tenures, buckets, last)[-most_intervals:]
    return RunUse(replace(line, use=together(uses)), row.started_at, row.finished_at, tuple(found))


def sees_everyone(database: Database, person: str, project: str) -> bool:
    """Return whether the person may see what each member of the project used: who manages it, and who watches all."""
    with database.read() as transaction:
        role = keys(transaction, person, project).role
        found = people_store.one(transaction, person)
    manages = role is not None and MEMBERSHIP_RIGHTS[MembershipRole(role)].manage_members
    return manages or (found is not None and bool(found.platform_roles & WATCHING))


def _measured(row: Row) -> Use:
    # PostgreSQL sums whole numbers to decimal ones.
    return Use(
        0,
        int(row.seen_milliseconds),
        int(row.measured_milliseconds),
        int(row.busy_milliseconds),
        int(row.energy_millijoules),
        int(row.most_memory_bytes),
        int(row.samples),
    )


def _tenure(row: Row, now: int) -> tuple[int, int]:
    start = max(row.granted_at, row.started_at)
    return start, max(start, now if row.released_at is None else row.released_at)


def _day(at: int) -> date:
    return datetime.fromtimestamp(at, CALENDAR).date()


def _days(period: Period) -> Iterator[int]:
    """Yield when each of the period's calendar days begins within it, and the period's end."""
    yield period.from_at
    day = _day(period.from_at) + timedelta(days=1)
    while (at := int(datetime.combine(day, time(), CALENDAR).timestamp())) < period.until_at:
        yield at
        day += timedelta(days=1)
    yield period.until_at
