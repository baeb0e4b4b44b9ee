"""`mudeung queue`: who waits for devices, where, and until when."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.projects import must_exist
from cli.session import Problem, Session, command
from cli.tables import Column, Format, FormatOption, Kind, show, show_one
from quotas.domain.admission import Request
from quotas.domain.priorities import Priority
from quotas.domain.queue import Mode
from quotas.domain.refusals import Refused
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import InvalidValue
from quotas.services import queue, queue_steps, queue_views
from quotas.services.queue_views import Place

LIST = (
    Column("run", "run", "실행"),
    Column("kind", "kind", "종류"),
    Column("person", "person", "사용자"),
    Column("project", "project", "과제"),
    Column("profile", "profile", "프로필"),
    Column("device_model", "device", "장치"),
    Column("device_count", "devices", "대수", Kind.NUMBER),
    Column("wish", "asks for", "사용 방식"),
    Column("mode", "at its turn", "차례가 되면"),
    Column("state", "state", "상태"),
    Column("position", "place", "순서", Kind.NUMBER),
    Column("waiting", "of", "전체", Kind.NUMBER),
    Column("expected_at", "expected", "예상", Kind.INSTANT),
    Column("joined_at", "since", "등록", Kind.INSTANT),
)
ONE = (
    *LIST,
    Column("how", "estimated", "예상 근거"),
    Column("passed_over", "passed over", "보류 사유"),
    Column("turn_at", "turn since", "차례 시작", Kind.INSTANT),
    Column("turn_until", "turn until", "차례 종료", Kind.INSTANT),
    Column("ended_at", "ended", "종료", Kind.INSTANT),
    Column("reason", "reason", "사유"),
)
MOST_LISTED = 10_000
RunId = Annotated[str, typer.Argument(help="Id of the entry, which is that of its run.", show_default=False)]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Who waits for devices, where, and until when.", no_args_is_help=True)
    command(group, "list", example="mudeung queue list --device h100")(list_entries)
    command(group, "show", example="mudeung queue show 0190c8d4-…")(show_entry)
    command(group, "join", example="mudeung queue join minji vision-lab gpu-h100 --mode offer")(join)
    command(group, "cancel", example="mudeung queue cancel 0190c8d4-…")(cancel)
    command(group, "step", example="mudeung queue step")(step)
    app.add_typer(group, name="queue")


def list_entries(
    session: Session,
    project: Annotated[str | None, typer.Option(help="Only this project's.", metavar="CODE")] = None,
    person: Annotated[str | None, typer.Option(help="Only this person's.", metavar="USERNAME")] = None,
    device: Annotated[str | None, typer.Option(help="Only for this device model.", metavar="CODE")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List who waits or has a turn, those whose turn comes first before."""
    if project is not None:
        must_exist(session, project)
    wanted = {"project": project, "person": person, "device_model": device}
    rows = [
        _row(session, place)
        for place in sorted(queue_views.every(session.database, session.now, MOST_LISTED), key=_order)
        if all(value is None or getattr(place.entry, name) == value for name, value in wanted.items())
    ]
    show(session, LIST, rows, output)


def _order(place: Place) -> tuple[str, int, int]:
    """Those in their turn come first, then those with a place in the line, then those whom others pass."""
    entry = place.entry
    position = 0 if entry.turn_at is not None else place.position or MOST_LISTED
    return entry.device_model, position, entry.joined_at


def show_entry(session: Session, run: RunId, output: FormatOption = Format.TABLE) -> None:
    """Show one entry, also one that has ended, with its place and how the time was estimated."""
    show_one(session, ONE, _row(session, _must_exist(session, run)), output)


def join(  # noqa: PLR0913 - each is one field of an entry
    session: Session,
    person: Annotated[str, typer.Argument(help="Who waits.", show_default=False)],
    project: Annotated[str, typer.Argument(help="Code of the project.", show_default=False)],
    profile: Annotated[str, typer.Argument(help="Code of the profile.", show_default=False)],
    *,
    wish: Annotated[Priority, typer.Option(help="How firmly the devices are asked for.")] = Priority.GUARANTEED,
    mode: Annotated[Mode, typer.Option(help="Start the server at its turn, or keep the devices for it.")] = Mode.START,
    output: FormatOption = Format.TABLE,
) -> None:
    """Have a person wait for a server, as the start page does."""
    request = Request(new_run_id(), RunKind.NOTEBOOK, person, project, profile, wish=wish)
    settings = session.settings
    joined = queue.join(session.database, request, mode, session.now, settings.policy(), settings.queue_limits())
    if isinstance(joined, Refused):
        raise Problem(joined.sentence("en"), joined.sentence("ko"))
    show_one(session, ONE, _row(session, _must_exist(session, joined.run_id)), output)


def cancel(session: Session, run: RunId) -> None:
    """End an entry: it waits no more, what was held for its turn is given back, and its person is told."""
    queue.cancel(session.database, run, actor=session.actor, now=session.now)
    session.say(f"{run} waits no more.", f"{run}: 대기가 취소되었습니다.")


def step(session: Session) -> None:
    """Make one step of the queue now, as the platform does by itself every few seconds while it is up."""
    settings = session.settings
    done = queue_steps.step(session.database, session.now, settings.policy(), settings.queue_limits())
    turns, expired, ended = done["turn"], done["expired"], done["ended"]
    session.say(
        f"{turns} have their turn; {expired} came to the end of their time; {ended} were refused.",
        f"차례가 된 항목 {turns}건, 시간이 지난 항목 {expired}건, 거절된 항목 {ended}건.",
    )


def _must_exist(session: Session, run: str) -> Place:
    found = queue_views.one(session.database, run, session.now)
    if found is None:
        raise InvalidValue("run", f"there is no entry {run!r:.60}", f"{run!r:.60} 대기 항목이 없습니다")
    return found


def _row(session: Session, place: Place) -> dict[str, Any]:
    entry, estimate = place.entry, place.estimate
    return {
        "run": entry.run_id,
        "kind": entry.kind.value,
        "person": entry.person,
        "project": entry.project,
        "profile": entry.profile,
        "device_model": entry.device_model,
        "device_count": entry.device_count,
        "wish": entry.wish.value,
        "mode": entry.mode.value,
        "state": entry.state.value,
        "position": place.position,
        "waiting": place.waiting or None,
        "expected_at": None if estimate is None else estimate.at,
        "how": None if estimate is None else estimate.sentence(session.language, session.now),
        "passed_over": place.passed_over(session.language),
        "joined_at": entry.joined_at,
        "turn_at": entry.turn_at,
        "turn_until": entry.turn_until,
        "ended_at": entry.ended_at,
        "reason": entry.reason(session.language),
    }
