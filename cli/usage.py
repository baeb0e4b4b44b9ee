"""`mudeung usage`: device time that was held beside device time that was busy."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from cli.projects import must_exist
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, as_json, plain, show, show_one
from quotas.domain.units import CALENDAR, DAY_SECONDS, InvalidValue, moment, parse_instant
from quotas.domain.usage import Period, Use, period, together
from quotas.services import usage
from quotas.services.usage import Line, RunUse, Wanted

DAYS_USUALLY = 7
_FIGURES = (
    Column("held_seconds", "held", "점유", Kind.SECONDS),
    Column("seen_seconds", "seen", "관측", Kind.SECONDS),
    Column("measured_seconds", "measured", "측정", Kind.SECONDS),
    Column("busy_seconds", "busy", "사용", Kind.SECONDS),
    Column("gap_seconds", "gap", "미관측", Kind.SECONDS),
    Column("busy_ppm", "busy ppm", "사용률(ppm)", Kind.NUMBER),
    Column("watt_hours", "Wh", "Wh", Kind.NUMBER),
)
_MEMORY = Column("most_memory_bytes", "most memory (bytes)", "최대 메모리(바이트)", Kind.NUMBER)
_NAMES = {
    "project": Column("project", "project", "과제"),
    "person": Column("person", "person", "사용자"),
    "profile": Column("profile", "profile", "프로필"),
    "run": Column("run", "run", "실행"),
}
RUN = (
    *_NAMES.values(),
    Column("started_at", "started", "시작", Kind.INSTANT),
    Column("finished_at", "finished", "종료", Kind.INSTANT),
    *_FIGURES,
    _MEMORY,
)
INTERVALS = (
    Column("at", "from", "시작", Kind.INSTANT),
    Column("held_seconds", "held", "점유", Kind.SECONDS),
    Column("seen_milliseconds", "seen (ms)", "관측(ms)", Kind.NUMBER),
    Column("measured_milliseconds", "measured (ms)", "측정(ms)", Kind.NUMBER),
    Column("busy_milliseconds", "busy (ms)", "사용(ms)", Kind.NUMBER),
    Column("gap_seconds", "gap", "미관측", Kind.SECONDS),
    Column("energy_millijoules", "energy (mJ)", "전력량(mJ)", Kind.NUMBER),
    _MEMORY,
)


class By(StrEnum):
    """What makes a line of its own."""

    PROJECT = "project"
    PERSON = "person"
    PROFILE = "profile"
    RUN = "run"


def register(app: typer.Typer) -> None:
    command(app, "usage", example="mudeung usage --project vision-lab --by person -o csv")(show_usage)


def show_usage(  # noqa: PLR0913 - each is one word of the command
    session: Session,
    *,
    project: Annotated[str | None, typer.Option(help="Only this project's.", metavar="CODE")] = None,
    person: Annotated[str | None, typer.Option(help="Only this person's.", metavar="USERNAME")] = None,
    run: Annotated[
        str | None, typer.Option(help="Only this run, all its time, with its last day in five minutes.", metavar="ID")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="First day, or instant; a week ago if not given.", metavar="DAY")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last day that counts; today.", metavar="DAY")] = None,
    by: Annotated[list[By] | None, typer.Option(help="A line for each of these; may be given again.")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show device time that was held beside device time that was busy, and what nothing is known of."""
    if run is not None:
        _show_run(session, run, output)
        return
    if project is not None:
        must_exist(session, project)
    wanted = _period(session, since, until)
    names = [each.value for each in dict.fromkeys(by or [By.PROJECT])]
    lines = usage.by_run(session.database, wanted, session.now, Wanted(project, person))
    rows = [_row(line) for line in usage.grouped(lines, *names)]
    columns = (*(_NAMES[name] for name in names), *_FIGURES)
    total = _figures(together(line.use for line in lines))
    if output is Format.JSON:
        span = {"from": moment(wanted.from_at).isoformat(), "until": moment(wanted.until_at).isoformat()}
        print(as_json({**span, "lines": [plain(columns, row) for row in rows], "total": plain(_FIGURES, total)}))
        return
    if output is Format.TABLE and rows:
        rows.append({**dict.fromkeys(names), names[0]: session.text("total", "합계"), **total})
    show(session, columns, rows, output)


def _period(session: Session, since: str | None, until: str | None) -> Period:
    today = moment(session.now).astimezone(CALENDAR).date()
    last = parse_instant("to", until or today.isoformat())
    first = last - (DAYS_USUALLY - 1) * DAY_SECONDS if since is None else parse_instant("from", since)
    return period(first, last + DAY_SECONDS)


def _show_run(session: Session, run: str, output: Format) -> None:
    found = usage.of_run(session.database, run, session.now)
    if found is None:
        raise InvalidValue("run", f"there is no run {run!r:.60}", f"{run!r:.60} 실행이 없습니다")
    row = {**_row(found.line), "started_at": found.started_at, "finished_at": found.finished_at}
    intervals = _intervals(found)
    if output is Format.JSON:
        print(as_json(plain(RUN, row) | {"intervals": [plain(INTERVALS, each) for each in intervals]}))
    elif output is Format.CSV:
        show(session, INTERVALS, intervals, output)
    else:
        show_one(session, RUN, row)
        show(session, INTERVALS, intervals)


def _intervals(found: RunUse) -> list[dict[str, Any]]:
    return [
        {
            "at": each.at,
            "held_seconds": each.held_seconds,
            "seen_milliseconds": each.bucket.seen_milliseconds,
            "measured_milliseconds": each.bucket.measured_milliseconds,
            "busy_milliseconds": each.bucket.busy_milliseconds,
            "gap_seconds": each.gap_seconds,
            "energy_millijoules": each.bucket.energy_millijoules,
            "most_memory_bytes": each.bucket.most_memory_bytes,
        }
        for each in found.intervals
    ]


def _row(line: Line) -> dict[str, Any]:
    return {**{name: getattr(line, name) for name in _NAMES}, **_figures(line.use)}


def _figures(use: Use) -> dict[str, Any]:
    return {column.key: getattr(use, column.key) for column in (*_FIGURES, _MEMORY)}
