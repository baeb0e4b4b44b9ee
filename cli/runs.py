"""`mudeung runs`: servers and batch runs, from their hold to their charge."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.projects import must_exist
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, show, show_one
from quotas.domain.runs import RunKind
from quotas.domain.schedules import ExecutionState
from quotas.domain.units import InvalidValue
from quotas.services import assignment, queue_views, runs, schedules

LIST = (
    Column("id", "run", "실행"),
    Column("kind", "kind", "종류"),
    Column("person", "person", "사용자"),
    Column("project", "project", "과제"),
    Column("profile", "profile", "프로필"),
    Column("state", "state", "상태"),
    Column("outcome", "outcome", "결과"),
    Column("requested_at", "requested", "요청", Kind.INSTANT),
    Column("seconds", "charged time", "청구 시간", Kind.SECONDS),
    Column("charge_gflops_seconds", "charge", "청구", Kind.AMOUNT),
)
ONE = (
    *LIST,
    Column("started_at", "started", "시작", Kind.INSTANT),
    Column("finished_at", "finished", "종료", Kind.INSTANT),
    Column("exit_code", "exit code", "종료 코드"),
    Column("devices", "devices", "장치"),
    Column("rate_gflops", "rate", "요율", Kind.RATE),
    Column("held_gflops_seconds", "held", "예약", Kind.AMOUNT),
    Column("until_at", "held until", "예약 종료", Kind.INSTANT),
    Column("overrun_gflops_seconds", "overrun", "초과", Kind.AMOUNT),
)
EXECUTION = (
    Column("schedule", "schedule", "예약 실행"),
    Column("scheduled_for", "scheduled for", "예정 시각", Kind.INSTANT),
    Column("notebook", "notebook", "노트북"),
    Column("parameters", "parameters", "매개변수"),
    Column("execution", "execution", "실행 결과"),
    Column("reason", "reason", "사유"),
    Column("output", "output", "출력"),
    Column("failing_cell", "failing cell", "실패한 셀"),
    Column("queue", "queue", "대기"),
)


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Servers and batch runs, with what they cost.", no_args_is_help=True)
    command(group, "list", example="mudeung runs list --project vision-lab")(list_runs)
    command(group, "show", example="mudeung runs show 0190c8d4-…")(show_run)
    app.add_typer(group, name="runs")


def list_runs(
    session: Session,
    project: Annotated[
        str | None,
        typer.Option(
            help="Only this project's; with those of its schedules that wait or were refused.", metavar="CODE"
        ),
    ] = None,
    limit: Annotated[int, typer.Option(help="How many, the newest first.", min=1, max=10_000)] = 30,
    output: FormatOption = Format.TABLE,
) -> None:
    """List the newest runs."""
    if project is not None:
        must_exist(session, project)
    rows = [_run(each) for each in runs.runs(session.database, project, limit)]
    if project is not None:
        admitted = {row["id"] for row in rows}
        others = [
            _without_run(each)
            for each in schedules.executions(session.database, project, limit)
            if each.state in {ExecutionState.REFUSED, ExecutionState.WAITING} and each.run_id not in admitted
        ]
        rows = sorted(rows + others, key=lambda row: str(row["id"]), reverse=True)[:limit]
    show(session, LIST, rows, output)


def show_run(
    session: Session,
    run: Annotated[str, typer.Argument(help="Id of the run.", show_default=False)],
    output: FormatOption = Format.TABLE,
) -> None:
    """Show one run with its hold and charge and, for a batch run, how its notebook ended."""
    found = runs.run(session.database, run)
    execution = schedules.execution(session.database, run)
    columns: tuple[Column, ...] = ()
    values: dict[str, Any] = {}
    if found is not None:
        columns, values = (
            ONE,
            _run(found) | {"devices": " ".join(assignment.device_names(session.database, run)) or None},
        )
    elif execution is not None:
        columns, values = LIST, _without_run(execution)
    else:
        raise InvalidValue("run", f"there is no run {run!r:.60}", f"실행 {run!r:.60}이(가) 없습니다")
    if execution is not None:
        columns, values = (*columns, *EXECUTION), values | _execution(session, execution)
    show_one(session, columns, values, output)
    if execution is not None and execution.log and output is Format.TABLE:
        session.say("\nEnd of its log:", "\n로그의 끝:")
        print(execution.log[-2000:])


def _run(run: runs.Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "kind": run.kind.value,
        "person": run.person,
        "project": run.project,
        "profile": run.profile,
        "state": run.state.value,
        "outcome": None if run.outcome is None else run.outcome.value,
        "requested_at": run.requested_at,
        "seconds": run.seconds,
        "charge_gflops_seconds": run.charge,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "exit_code": run.exit_code,
        "rate_gflops": run.gflops,
        "held_gflops_seconds": run.held,
        "until_at": run.until_at,
        "overrun_gflops_seconds": run.overrun,
    }


def _without_run(execution: schedules.Execution) -> dict[str, Any]:
    return {
        "id": execution.run_id,
        "kind": RunKind.BATCH.value,
        "person": execution.person,
        "project": execution.project,
        "profile": execution.profile,
        "state": execution.state.value,
        "outcome": None,
        "requested_at": execution.claimed_at,
        "seconds": None,
        "charge_gflops_seconds": None,
    }


def _execution(session: Session, execution: schedules.Execution) -> dict[str, Any]:
    return {
        "schedule": execution.schedule_id,
        "scheduled_for": execution.scheduled_for,
        "notebook": execution.notebook,
        "parameters": dict(execution.parameters),
        "execution": execution.state.value,
        "reason": session.text(execution.reason_en or "-", execution.reason_ko or "-"),
        "output": execution.output,
        "failing_cell": None if execution.failing_cell is None else dict(execution.failing_cell),
        "queue": _place(session, execution),
    }


def _place(session: Session, execution: schedules.Execution) -> str | None:
    """Return where an execution waits that does, and when its turn is to be expected."""
    place = queue_views.one(session.database, execution.run_id, session.now)
    if place is None or not place.entry.is_open:
        return None
    passed_over, estimate = place.passed_over(session.language), place.estimate
    position = "-" if place.position is None else f"{place.position}/{place.waiting}"
    expected = "" if estimate is None else estimate.sentence(session.language, session.now)
    return " ".join(part for part in (position, passed_over, expected) if part)
