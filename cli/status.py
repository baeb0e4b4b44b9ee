"""`mudeung status`: whether the platform of a home runs, its processes, and what runs on it."""

from __future__ import annotations

import typer

from cli.session import FAILED, Session, command
from cli.supervision import lock, runs
from cli.supervision.supervisor import Supervisor, SupervisorGone
from cli.tables import Column, Format, FormatOption, Kind, as_json, show, show_one
from quotas.domain.units import moment

ONE = (
    Column("running", "runs", "실행 중"),
    Column("url", "address", "주소"),
    Column("home", "home", "홈 폴더"),
    Column("backend", "backend", "백엔드"),
    Column("started_at", "since", "시작", Kind.INSTANT),
    Column("pid", "process", "프로세스"),
    Column("servers", "servers open", "열린 서버", Kind.NUMBER),
    Column("batch_runs", "batch runs open", "열린 배치", Kind.NUMBER),
)
PROGRAMS = (
    Column("name", "program", "프로그램"),
    Column("state", "state", "상태"),
    Column("pid", "process", "프로세스"),
    Column("description", "detail", "상세"),
)


def register(app: typer.Typer) -> None:
    command(app, "status", example="mudeung status -o json")(show_status)


def show_status(session: Session, output: FormatOption = Format.TABLE) -> None:
    """Show whether the platform runs (exit 1 when it does not), its processes and its open runs."""
    servers, batch = runs.open_runs(session.database)
    standing = lock.standing(session.home.path)
    row = {
        "running": "no" if standing is None else "yes" if standing.ready else "starting",
        "url": standing.url if standing else None,
        "home": str(session.home.path),
        "backend": standing.backend if standing else session.settings.backend,
        "started_at": standing.started_at if standing else None,
        "pid": standing.pid if standing else None,
        "servers": servers,
        "batch_runs": batch,
    }
    programs = [] if standing is None or not standing.socket else _programs(session, standing.socket)
    if output is Format.JSON:
        since = None if standing is None else moment(standing.started_at).isoformat().replace("+00:00", "Z")
        print(as_json(row | {"started_at": since, "programs": programs}))
    else:
        show_one(session, ONE, row, output)
        if programs and output is Format.TABLE:
            show(session, PROGRAMS, programs)
    if standing is None:
        raise typer.Exit(FAILED)


def _programs(session: Session, socket: str) -> list[dict[str, object]]:
    supervisor = Supervisor(session.home)
    supervisor.socket = socket
    try:
        states = supervisor.states()
    except SupervisorGone:
        return []
    return [
        {"name": each.name, "state": each.state, "pid": each.pid or None, "description": each.description}
        for each in states.values()
    ]
