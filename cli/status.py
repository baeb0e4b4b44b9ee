"""`mudeung status`: whether the platform of a home runs, its processes, and what runs on it."""

from __future__ import annotations

import typer

from cli.session import FAILED, Session, command
from cli.supervision import lock, runs
from cli.supervision.supervisor import Supervisor, SupervisorGone
from cli.tables import Column, Format, FormatOption, Kind, as_json, plain, show, show_one
from quotas.services import reports

ONE = (
    Column("running", "runs", "실행 중"),
    Column("url", "address", "주소"),
    Column("home", "home", "홈 폴더"),
    Column("backend", "backend", "백엔드"),
    Column("started_at", "since", "시작", Kind.INSTANT),
    Column("pid", "process", "프로세스"),
    Column("servers", "servers open", "열린 서버", Kind.NUMBER),
    Column("batch_runs", "batch runs open", "열린 배치", Kind.NUMBER),
    Column("projects", "projects", "과제"),
    Column("awarded_gflops", "awarded now", "현재 배정", Kind.RATE),
    Column("healthy_gflops", "healthy", "정상 용량", Kind.RATE),
    Column("in_use_gflops", "in use", "사용 중", Kind.RATE),
)
POOLS = (
    Column("pool", "pool", "자원"),
    Column("device", "device", "장치"),
    Column("installed", "installed", "설치", Kind.NUMBER),
    Column("powered", "powered", "가동", Kind.NUMBER),
    Column("healthy", "healthy", "정상", Kind.NUMBER),
    Column("in_use", "in use", "사용 중", Kind.NUMBER),
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
    """Show whether the platform runs (exit 1 when it does not), its processes, its open runs and the centre's pools."""
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
    } | _centre(session)
    pools = _pools(session)
    programs = [] if standing is None or not standing.socket else _programs(session, standing.socket)
    if output is Format.JSON:
        print(as_json(plain(ONE, row) | {"programs": programs, "pools": pools}))
    else:
        show_one(session, ONE, row, output)
        if programs and output is Format.TABLE:
            show(session, PROGRAMS, programs)
        if pools and output is Format.TABLE:
            show(session, POOLS, pools)
    if standing is None:
        raise typer.Exit(FAILED)


def _centre(session: Session) -> dict[str, object]:
    found = reports.status(session.database, session.now)
    return {
        "projects": {phase.value: number for phase, number in sorted(found.projects.items())},
        "awarded_gflops": found.awarded_gflops,
        "healthy_gflops": found.healthy_gflops,
        "in_use_gflops": found.in_use_gflops,
    }


def _pools(session: Session) -> list[dict[str, object]]:
    return [
        {
            "pool": each.code,
            "device": each.device_model,
            "installed": each.installed,
            "powered": each.powered,
            "healthy": each.healthy,
            "in_use": each.in_use,
        }
        for each in reports.status(session.database, session.now).pools
    ]


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
