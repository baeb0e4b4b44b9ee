"""`mudeung reservations`: devices kept for a class or a deadline: asked for, decided, and who claimed seats."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import rosters
from cli.projects import must_exist
from cli.session import FAILED, Session, command
from cli.tables import Column, Format, FormatOption, Kind, as_json, plain, show, show_one
from quotas.domain.reservations import Asked, ReservationState, parse_length
from quotas.domain.schedules import zone
from quotas.domain.units import parse_instant
from quotas.services import reservation_views as views
from quotas.services import reservations
from quotas.services.reservation_fit import Assessment
from quotas.services.reservation_texts import instead, warnings, when
from quotas.services.reservation_views import Claim, ReservationView, WindowView
from quotas.services.reservations import Approval, DoesNotFit

LIST = (
    Column("number", "no.", "번호"),
    Column("project", "project", "과제"),
    Column("title", "title", "제목"),
    Column("profile", "profile", "프로필"),
    Column("seats", "seats", "좌석", Kind.NUMBER),
    Column("state", "state", "상태"),
    Column("next_at", "next", "다음", Kind.INSTANT),
    Column("windows", "windows", "회차", Kind.NUMBER),
    Column("requested_by", "by", "신청자"),
)
ONE = (
    *LIST,
    Column("pool", "pool", "자원"),
    Column("first", "first window", "첫 회"),
    Column("rrule", "repeats", "반복"),
    Column("zone", "zone", "시간대"),
    Column("charge_idle", "unclaimed seats are charged", "미사용 좌석 청구"),
    Column("roster", "roster", "명단"),
    Column("requested_at", "requested", "신청", Kind.INSTANT),
    Column("decided_by", "decided by", "결정자"),
    Column("decided_at", "decided", "결정 시각", Kind.INSTANT),
    Column("reason", "reason", "사유"),
)
WINDOWS = (
    Column("id", "window", "회차 번호"),
    Column("when", "when", "시각"),
    Column("state", "state", "상태"),
    Column("seats", "seats", "좌석", Kind.NUMBER),
    Column("taken", "in use", "사용 중", Kind.NUMBER),
    Column("kept", "free for the roster", "명단용 여유", Kind.NUMBER),
    Column("claimed", "claimed", "사용한 좌석", Kind.NUMBER),
    Column("released", "released", "개방", Kind.NUMBER),
    Column("opens_at", "opens", "개시", Kind.INSTANT),
    Column("release_at", "releases", "개방 시각", Kind.INSTANT),
)
CLAIMS = (
    Column("window", "window", "회차 번호"),
    Column("username", "username", "사용자"),
    Column("display_name", "name", "이름"),
    Column("claimed_at", "claimed", "사용 시작", Kind.INSTANT),
    Column("state", "seat", "좌석"),
    Column("run", "run", "실행"),
)
FITS = (
    Column("when", "when", "시각"),
    Column("wanted", "seats", "좌석", Kind.NUMBER),
    Column("fit", "fit", "가능", Kind.NUMBER),
    Column("short", "short", "부족", Kind.NUMBER),
    Column("short_from", "short from", "부족 시작", Kind.INSTANT),
    Column("short_to", "to", "부족 끝", Kind.INSTANT),
)
Number = Annotated[int, typer.Argument(help="Number of the reservation.", show_default=False, min=1, max=2**31 - 1)]
Project = Annotated[str, typer.Argument(help="Code of the project.", show_default=False)]
Profile = Annotated[str, typer.Option(help="Code of a profile with a device.", show_default=False)]
Seats = Annotated[int, typer.Option(help="How many can start at the same time.", show_default=False)]
Starts = Annotated[str, typer.Option(help="Start of the first, as in 2027-03-02T09:00.", show_default=False)]
Length = Annotated[str, typer.Option(help="As in 3h, 1h30m or 90m.", show_default=False)]
Rule = Annotated[
    str | None, typer.Option("--rrule", help="Repeats it (RFC 5545), as in FREQ=WEEKLY;BYDAY=TU,TH;COUNT=30.")
]
Zone = Annotated[str, typer.Option(help="Zone of the start and of the rule; its wall clock is kept.")]
Pool = Annotated[str | None, typer.Option(help="Code of the pool.", show_default="where it fits best")]
Charge = Annotated[
    bool, typer.Option("--charge-idle/--free-idle", help="Whether seats that nobody claims are charged.")
]
Reason = Annotated[str, typer.Option(help="Why; it is told to the people.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Devices kept for a class or a deadline.", no_args_is_help=True)
    command(group, "list", example="mudeung reservations list --project ai-course")(list_reservations)
    command(group, "show", example="mudeung reservations show 3")(show_reservation)
    command(
        group,
        "check",
        example="mudeung reservations check ai-course --profile mig-1g --seats 40 --starts 2027-03-02T09:00 --length 3h"
        " --rrule 'FREQ=WEEKLY;COUNT=15'",
    )(check)
    command(
        group,
        "request",
        example="mudeung reservations request ai-course --by minji --profile mig-1g --seats 40"
        " --starts 2027-03-02T09:00 --length 3h --rrule 'FREQ=WEEKLY;COUNT=15'"
        " --title-ko '딥러닝 실습' --title-en 'Deep learning lab' --roster class.csv",
    )(request)
    command(group, "approve", example="mudeung reservations approve 3 --pool annex")(approve)
    command(group, "reject", example='mudeung reservations reject 3 --reason "the hall is rebuilt in May"')(reject)
    command(group, "cancel", example='mudeung reservations cancel 3 --window 17 --reason "a holiday"')(cancel)
    rosters.register(group)
    app.add_typer(group, name="reservations")


def list_reservations(
    session: Session,
    project: Annotated[str | None, typer.Option(help="Only this project's.", metavar="CODE")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List the reservations, the newest first."""
    if project is not None:
        must_exist(session, project)
    show(session, LIST, [_row(session, each) for each in views.latest(session.database, project)], output)


def show_reservation(session: Session, number: Number, output: FormatOption = Format.TABLE) -> None:
    """Show one reservation: its windows with their seats, who claimed one, and how it fits while it waits."""
    found = views.show(session.database, number)
    windows = [_window(found, each) for each in found.windows]
    current = found.current
    claims = views.claims(session.database, number, current.id if current else 0)
    if output is Format.JSON:
        body = {
            **plain(ONE, _row(session, found)),
            "windows": [plain(WINDOWS, each) for each in windows],
            "claims": [plain(CLAIMS, _claim(session, each)) for each in views.claims(session.database, number)],
        }
        print(as_json(body))
        return
    if output is Format.CSV:
        show(session, WINDOWS, windows, output)
        return
    show_one(session, ONE, _row(session, found))
    if found.state is ReservationState.REQUESTED:
        policy = session.settings.policy()
        _say_fit(session, reservations.reassess(session.database, number, Approval(), now=session.now, policy=policy))
        return
    show(session, WINDOWS, windows)
    if claims:
        title = when(current.starts_at, current.ends_at, found.zone) if current else ""
        session.say(f"Claimed seats {title}".rstrip(), f"사용한 좌석 {title}".rstrip())
        show(session, CLAIMS, [_claim(session, each) for each in claims])


def check(  # noqa: PLR0913 - each is one field of a reservation
    session: Session,
    project: Project,
    *,
    profile: Profile,
    seats: Seats,
    starts: Starts,
    length: Length,
    rrule: Rule = None,
    zone: Zone = "Asia/Seoul",
    pool: Pool = None,
    roster: rosters.RosterOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Say whether a reservation would fit and what would instead, and store nothing. Ends with 1 where it does not."""
    asked = Asked(
        project=project,
        profile=profile,
        seats=seats,
        zone=zone,
        starts_at=_instant(starts, zone),
        seconds=parse_length(length),
        title_ko=project,
        title_en=project,
        rrule=rrule,
        pool=pool,
        roster=rosters.names(roster),
    )
    found = reservations.check(session.database, asked, now=session.now, policy=session.settings.policy())
    _say_fit(session, found, output)
    if not found.fits:
        raise typer.Exit(FAILED)


def request(  # noqa: PLR0913 - each is one field of a reservation
    session: Session,
    project: Project,
    *,
    by: Annotated[str, typer.Option(help="Username of a PI or instructor of the project.", show_default=False)],
    profile: Profile,
    seats: Seats,
    starts: Starts,
    length: Length,
    title_ko: Annotated[str, typer.Option(help="Title in Korean.", show_default=False)],
    title_en: Annotated[str, typer.Option(help="Title in English.", show_default=False)],
    rrule: Rule = None,
    zone: Zone = "Asia/Seoul",
    pool: Pool = None,
    charge_idle: Charge = True,
    roster: rosters.RosterOption = None,
) -> None:
    """Ask for a reservation; it waits for the operator's decision."""
    asked = Asked(
        project=project,
        profile=profile,
        seats=seats,
        zone=zone,
        starts_at=_instant(starts, zone),
        seconds=parse_length(length),
        title_ko=title_ko,
        title_en=title_en,
        rrule=rrule,
        charge_idle=charge_idle,
        pool=pool,
        roster=rosters.names(roster),
    )
    policy = session.settings.policy()
    found, assessment = reservations.request(session.database, asked, by=by, now=session.now, policy=policy)
    show_one(session, ONE, _row(session, found))
    _say_fit(session, assessment)


def approve(
    session: Session,
    number: Number,
    *,
    seats: Annotated[int | None, typer.Option(help="How many.", show_default="as asked for", min=1)] = None,
    pool: Annotated[str | None, typer.Option(help="Code of the pool.", show_default="as asked for")] = None,
    leave_out: Annotated[bool, typer.Option("--leave-out", help="Cancel the windows that do not fit.")] = False,
    reason: Reason = "",
) -> None:
    """Approve a reservation: from now on nothing is admitted into its seats. Refused where it does not fit."""
    approval = Approval(seats, pool, leave_out, reason)
    try:
        found, assessment = reservations.approve(
            session.database,
            number,
            approval,
            actor=session.actor,
            now=session.now,
            policy=session.settings.policy(),
        )
    except DoesNotFit as refused:
        _say_fit(session, refused.assessment)
        raise
    show_one(session, ONE, _row(session, found))
    _say_fit(session, assessment)


def reject(
    session: Session,
    number: Number,
    reason: Annotated[str, typer.Option(help="What the requester reads.", show_default=False)],
) -> None:
    """Reject a reservation."""
    found = reservations.reject(session.database, number, reason=reason, actor=session.actor, now=session.now)
    show_one(session, ONE, _row(session, found))


def cancel(
    session: Session,
    number: Number,
    window: Annotated[int | None, typer.Option(help="Only this window; `show` has its number.", min=1)] = None,
    reason: Reason = "",
) -> None:
    """Cancel a reservation, or one window of it; who has a seat at the moment keeps it to its end."""
    by = {"reason": reason, "actor": session.actor}
    if window is None:
        found = reservations.cancel(session.database, number, **by, now=session.now)
    else:
        found = reservations.cancel_window(session.database, number, window, **by, now=session.now)
    show_one(session, ONE, _row(session, found))
    show(session, WINDOWS, [_window(found, each) for each in found.windows])


def _instant(text: str, zone_name: str) -> int:
    return parse_instant("starts", text, zone=zone(zone_name))


def _say_fit(session: Session, found: Assessment, output: Format = Format.TABLE) -> None:
    """Print how the windows fit: all of them to a program, to a person those that do not, and what would instead."""
    rows = [
        {
            "when": when(fit.window.starts_at, fit.window.ends_at, found.asked.zone),
            "wanted": fit.wanted,
            "fit": fit.fit,
            "short": fit.short,
            "short_from": fit.from_at,
            "short_to": fit.to_at,
        }
        for fit in found.windows
    ]
    if output is Format.JSON:
        place = int(session.language == "ko")
        body = {
            "fits": found.fits,
            "pool": found.pool,
            "windows": [plain(FITS, row) for row in rows],
            "instead": [] if found.fits else [texts[place] for texts in instead(found)],
            "warnings": [texts[place] for texts in warnings(found)],
            "cost_gflops_seconds": str(found.budget.cost),
            "payable_windows": found.budget.payable,
        }
        print(as_json(body))
        return
    if output is Format.CSV:
        show(session, FITS, rows, output)
        return
    number = len(rows)
    if found.fits:
        session.say(f"Fits in {found.pool}: {number} of {number} windows.", f"{found.pool}에 {number}회 모두 가능.")
    else:
        short = [row for row in rows if row["short"]]
        session.say(
            f"Does not fit in {found.pool}: {len(short)} of {number} windows.",
            f"{found.pool}에 {number}회 중 {len(short)}회가 맞지 않음.",
        )
        show(session, FITS, short)
        for english, korean in instead(found):
            session.say(f"Instead: {english}", f"대신: {korean}")
    for english, korean in warnings(found):
        session.say(f"Note: {english}", f"참고: {korean}")


def _row(session: Session, found: ReservationView) -> dict[str, Any]:
    return {
        "number": found.number,
        "project": found.project,
        "title": found.title(session.language),
        "profile": found.profile,
        "seats": found.seats,
        "state": found.state.value,
        "next_at": found.next_at,
        "windows": found.window_count,
        "requested_by": found.requester,
        "pool": found.pool,
        "first": when(found.starts_at, found.starts_at + found.seconds, found.zone),
        "rrule": found.rrule,
        "zone": found.zone,
        "charge_idle": found.charge_idle,
        "roster": found.roster.value,
        "requested_at": found.requested_at,
        "decided_by": found.decided_by,
        "decided_at": found.decided_at,
        "reason": found.reason,
    }


def _window(found: ReservationView, window: WindowView) -> dict[str, Any]:
    return {
        "id": window.id,
        "when": when(window.starts_at, window.ends_at, found.zone),
        "state": window.state.value,
        "seats": window.seats,
        "taken": window.taken,
        "kept": window.kept,
        "claimed": window.claimed,
        "released": window.released,
        "opens_at": window.opens_at,
        "release_at": window.release_at,
    }


def _claim(session: Session, claim: Claim) -> dict[str, Any]:
    return {
        "window": claim.window_id,
        "username": claim.username,
        "display_name": claim.display_name,
        "claimed_at": claim.claimed_at,
        "state": session.text("in use", "사용 중") if claim.is_open else session.text("left", "종료"),
        "run": claim.run_id,
    }
