"""What a project's people used: held device time beside busy, as a page and as CSV; and one run's intervals."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse, Response

from portal.door import AtPortal, AVisitor, Portal, Visitor, require_see
from portal.errors import not_found
from portal.login import PREFIX
from portal.views import instant
from quotas.domain.units import CALENDAR, DAY_SECONDS, PPM, parse_instant, show_duration, show_instant
from quotas.domain.usage import Interval, Period, Use, period, together
from quotas.services import projects, usage
from quotas.services.usage import Line, RunUse, Wanted

DAYS_OFFERED = (1, 7, 30, 90)
DAYS_USUALLY = 7
IDLEST = 5
FIGURES = ("held_seconds", "seen_seconds", "measured_seconds", "busy_seconds", "gap_seconds", "busy_ppm", "watt_hours")

router = APIRouter(prefix=PREFIX.rstrip("/"), default_response_class=HTMLResponse, include_in_schema=False)
Project = Annotated[str, Path(max_length=80)]
RunId = Annotated[str, Path(pattern=r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Date = Annotated[str, Query(max_length=40)]


@dataclass(frozen=True)
class Shown:
    """A project's use in a period as one person may see it; `lines` are their own runs, or everybody's."""

    period: Period
    whole: Use
    lines: tuple[Line, ...]
    everyone: bool


@router.get("/projects/{project}/usage")
def show_usage(
    portal: AtPortal, visitor: AVisitor, project: Project, since: Date = "", until: Date = ""
) -> HTMLResponse:
    """By person and profile: what was held, what was busy, and what is not known."""
    shown = _shown(portal, visitor, project, since, until)
    view = projects.show(portal.database, project, portal.now)
    wanted = Wanted(project=project)
    days = usage.by_day(portal.database, shown.period, portal.now, wanted)
    most = max((use.held_seconds for _, use in days), default=0)
    language = visitor.language
    return portal.page(
        "usage",
        visitor,
        language,
        project=project,
        title=view.title(language) if view else project,
        everyone=shown.everyone,
        whole=figures(shown.whole, language),
        lines=[_line(line, language) for line in usage.grouped(shown.lines, "person", "profile")],
        days=[{"day": day.isoformat(), **figures(use, language, most)} for day, use in reversed(days)],
        idlest=[_line(line, language) for line in usage.idlest(shown.lines, IDLEST)],
        period=(show_instant(shown.period.from_at), show_instant(min(shown.period.until_at, portal.now))),
        since=_day(shown.period.from_at),
        until=_day(shown.period.until_at - 1),
        offered=[(days, _day(portal.now - (days - 1) * DAY_SECONDS)) for days in DAYS_OFFERED],
    )


@router.get("/projects/{project}/usage.csv")
def fetch_usage(portal: AtPortal, visitor: AVisitor, project: Project, since: Date = "", until: Date = "") -> Response:
    """The same, a line for each run, for a spreadsheet."""
    shown = _shown(portal, visitor, project, since, until)
    names = ("run", "person", "project", "profile")
    rows = [[*(getattr(line, name) for name in names), *_plain(line.use)] for line in shown.lines]
    return _csv((*names, *FIGURES), rows, f"usage-{project}-{_day(shown.period.from_at)}")


@router.get("/runs/{run}/usage")
def show_run_usage(portal: AtPortal, visitor: AVisitor, run: RunId) -> HTMLResponse:
    """One run's last day in intervals of five minutes."""
    found = _seen_run(portal, visitor, run)
    return portal.page(
        "usage_run",
        visitor,
        visitor.language,
        run=found.line.run,
        project=found.line.project,
        person=found.line.person,
        profile=found.line.profile,
        started=show_instant(found.started_at) if found.started_at is not None else None,
        finished=show_instant(found.finished_at) if found.finished_at is not None else None,
        whole=figures(found.line.use, visitor.language),
        intervals=[_interval(each, visitor.language) for each in reversed(found.intervals)],
    )


@router.get("/runs/{run}/usage.csv")
def fetch_run_usage(portal: AtPortal, visitor: AVisitor, run: RunId) -> Response:
    """The same, for a spreadsheet."""
    found = _seen_run(portal, visitor, run)
    names = ("at", "held_seconds", "seen_milliseconds", "measured_milliseconds", "busy_milliseconds", "gap_seconds")
    rows = [
        [
            instant(each.at),
            each.held_seconds,
            each.bucket.seen_milliseconds,
            each.bucket.measured_milliseconds,
            each.bucket.busy_milliseconds,
            each.gap_seconds,
            each.bucket.energy_millijoules,
            each.bucket.most_memory_bytes,
        ]
        for each in found.intervals
    ]
    return _csv((*names, "energy_millijoules", "most_memory_bytes"), rows, f"usage-{run}")


def figures(use: Use, language: str, most_held: int = 0) -> dict[str, Any]:
    """Return a use in words, and the parts of its held time in per mille of `most_held`, for a meter."""
    of = most_held or use.held_seconds
    return {
        "held": show_duration(use.held_seconds, language),
        "busy": show_duration(use.busy_seconds, language),
        "idle": show_duration(use.idle_seconds, language),
        "gap": show_duration(use.gap_seconds, language) if use.gap_seconds else None,
        "percent": None if use.busy_ppm is None else use.busy_ppm * 100 // PPM,
        "gap_percent": round(use.gap_seconds * 100 / use.held_seconds) if use.held_seconds else 0,
        "energy": f"{use.watt_hours / 1000:,.1f} kWh" if use.samples else None,
        "memory": f"{use.most_memory_bytes / 2**30:,.1f} GiB" if use.samples else None,
        "parts": _parts(use, of) if of else None,
        "is_held": use.held_seconds > 0,
    }


def _parts(use: Use, of: int) -> list[tuple[str, float]]:
    """Return the widths of a strip in percent: busy, idle, seen by a device that tells no utilisation, and not seen."""
    seconds = {
        "busy": use.busy_seconds,
        "idle": use.idle_seconds,
        "blind": use.seen_seconds - use.measured_seconds,
        "gap": use.gap_seconds,
    }
    return [(name, round(min(each / of, 1.0) * 100, 1)) for name, each in seconds.items() if each > 0]


def _shown(portal: Portal, visitor: Visitor, project: str, since: str, until: str) -> Shown:
    require_see(portal, visitor.username, project)
    wanted = _period(since, until, portal.now)
    everyone = usage.sees_everyone(portal.database, visitor.username, project)
    lines = usage.by_run(portal.database, wanted, portal.now, Wanted(project=project))
    own = lines if everyone else [line for line in lines if line.person == visitor.username]
    return Shown(wanted, together(line.use for line in lines), tuple(own), everyone)


def _period(since: str, until: str, now: int) -> Period:
    """Return the days that were asked for, both whole; the last week where none were."""
    first = parse_instant("since", since) if since else _midnight(now - (DAYS_USUALLY - 1) * DAY_SECONDS)
    last = parse_instant("until", until) if until else _midnight(now)
    return period(first, last + DAY_SECONDS)


def _midnight(at: int) -> int:
    return int(datetime.combine(datetime.fromtimestamp(at, CALENDAR).date(), time(), CALENDAR).timestamp())


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, CALENDAR).date().isoformat()


def _seen_run(portal: Portal, visitor: Visitor, run: str) -> RunUse:
    """Return the use of a run of the visitor's, or of a project whose members they see. Raises Problem."""
    found = usage.of_run(portal.database, run, portal.now)
    if found is None:
        raise not_found("run")
    own = found.line.person == visitor.username
    if not own and not usage.sees_everyone(portal.database, visitor.username, found.line.project):
        raise not_found("run")
    return found


def _line(line: Line, language: str) -> dict[str, Any]:
    return {"run": line.run, "person": line.person, "profile": line.profile, **figures(line.use, language)}


def _interval(interval: Interval, language: str) -> dict[str, Any]:
    bucket = interval.bucket
    use = Use(
        interval.held_seconds,
        bucket.seen_milliseconds,
        bucket.measured_milliseconds,
        bucket.busy_milliseconds,
        bucket.energy_millijoules,
        bucket.most_memory_bytes,
        bucket.samples,
    )
    return {"at": show_instant(interval.at), **figures(use, language)}


def _plain(use: Use) -> list[Any]:
    return ["" if (value := getattr(use, name)) is None else value for name in FIGURES]


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]], name: str) -> Response:
    """Return the rows as a file; a text that a spreadsheet would take for a formula is made plain by an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"} else value
