"""`mudeung schedules`: notebooks that run at a time, on a project's allocation."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import amounts
from cli.projects import must_exist
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, show
from quotas.domain.priorities import Priority
from quotas.domain.schedules import Timing
from quotas.domain.units import parse_instant
from quotas.notebooks import check_notebook, read_parameters
from quotas.services import schedules

LIST = (
    Column("id", "no.", "번호"),
    Column("project", "project", "과제"),
    Column("person", "person", "사용자"),
    Column("profile", "profile", "프로필"),
    Column("notebook", "notebook", "노트북"),
    Column("timing", "when", "실행 시각"),
    Column("next_at", "next", "다음 실행", Kind.INSTANT),
    Column("state", "state", "상태"),
    Column("wish", "asks for", "사용 방식"),
    Column("parameters", "parameters", "매개변수"),
)
Number = Annotated[int, typer.Argument(help="Number of the schedule.", show_default=False, min=1)]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Notebooks that run at a time, once or again and again.", no_args_is_help=True)
    command(group, "list", example="mudeung schedules list --project vision-lab")(list_schedules)
    command(
        group,
        "add",
        example="mudeung schedules add vision-lab train_digits.ipynb --person minji --profile cpu-small"
        " --cron '30 2 * * *' --param epochs=5",
    )(add)
    command(group, "pause", example='mudeung schedules pause 3 --reason "data is being moved"')(pause)
    command(group, "resume", example="mudeung schedules resume 3")(resume)
    command(group, "run", example="mudeung schedules run 3")(run_now)
    app.add_typer(group, name="schedules")


def list_schedules(
    session: Session,
    project: Annotated[str | None, typer.Option(help="Only this project's.", metavar="CODE")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List the schedules."""
    if project is not None:
        must_exist(session, project)
    show(session, LIST, map(_row, schedules.list_schedules(session.database, project)), output)


def add(  # noqa: PLR0913 - each is one field of a schedule
    session: Session,
    project: Annotated[str, typer.Argument(help="Code of the project.", show_default=False)],
    notebook: Annotated[str, typer.Argument(help="Path in the project's folder.", show_default=False)],
    *,
    person: Annotated[str, typer.Option(help="On whose behalf it runs.", show_default=False)],
    profile: Annotated[str, typer.Option(help="Code of the profile.", show_default=False)],
    cron: Annotated[str | None, typer.Option(help="Five fields, as in '30 2 * * 1-5'.")] = None,
    at: Annotated[str | None, typer.Option(help="Once, as in 2026-12-31T09:00 (KST without a zone).")] = None,
    zone: Annotated[str, typer.Option(help="Time zone of the cron line.")] = "Asia/Seoul",
    timeout: Annotated[int, typer.Option(help="Time limit in seconds; so much is held.")] = 3600,
    title: Annotated[str, typer.Option(help="Name to show.")] = "",
    wish: Annotated[Priority, typer.Option(help="How firmly each run asks for its devices.")] = Priority.GUARANTEED,
    param: Annotated[
        list[str] | None, typer.Option(help="A declared parameter of the notebook; repeatable.", metavar="NAME=VALUE")
    ] = None,
) -> None:
    """Schedule a notebook by a cron line or once."""
    must_exist(session, project)
    once_at = None if at is None else parse_instant("at", at)
    checked = check_notebook(session.home.project_folder(project), notebook)
    new = schedules.NewSchedule(
        project=project,
        person=person,
        profile=profile,
        notebook=notebook,
        timing=Timing(zone, cron, once_at),
        timeout_seconds=timeout,
        parameters=read_parameters(checked, amounts.pairs("param", param or [])),
        title=title,
        wish=wish,
    )
    stored = schedules.create(session.database, new, actor=session.actor, now=session.now)
    _say_next(session, stored)


def pause(
    session: Session, number: Number, reason: Annotated[str, typer.Option(help="Why; it is shown.")] = "paused"
) -> None:
    """Keep a schedule from firing until it is resumed."""
    schedules.pause(session.database, number, reason=reason, actor=session.actor, now=session.now)
    session.say(f"Schedule {number} is paused.", f"예약 실행 {number} 일시 중지됨.")


def resume(session: Session, number: Number) -> None:
    """Let a schedule fire again; what it missed is not made up."""
    _say_next(session, schedules.resume(session.database, number, actor=session.actor, now=session.now))


def run_now(session: Session, number: Number) -> None:
    """Fire a schedule now, beside its own times. The platform must be up for it to run."""
    execution = schedules.run_now(session.database, number, actor=session.actor, now=session.now)
    run = execution.run_id
    session.say(f"Run {run} is claimed; `mudeung runs show {run}` follows it.", f"실행 {run} 시작 대기 중.")


def _say_next(session: Session, schedule: schedules.Schedule) -> None:
    row = _row(schedule)
    show(session, LIST, [row])


def _row(schedule: schedules.Schedule) -> dict[str, Any]:
    timing = f"{schedule.timing.cron} ({schedule.timing.zone})" if schedule.timing.cron else "once"
    return {
        "id": schedule.id,
        "project": schedule.project,
        "person": schedule.person,
        "profile": schedule.profile,
        "notebook": schedule.notebook,
        "timing": timing,
        "next_at": schedule.next_at,
        "state": "on" if schedule.enabled else f"paused: {schedule.pause_reason}",
        "wish": schedule.wish.value,
        "parameters": dict(schedule.parameters),
    }
