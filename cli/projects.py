"""`mudeung projects`: applied for, decided, shown, ended; their members and the profiles that they may use."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import amounts, storage
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, show, show_one
from quotas.domain.people import MembershipRole
from quotas.domain.projects import Award, ProjectKind
from quotas.domain.rates import Precision
from quotas.domain.units import InvalidValue, parse_instant, parse_rate_gflops
from quotas.services import projects
from quotas.services.project_views import ProjectView

LIST = (
    Column("code", "project", "과제"),
    Column("title", "title", "제목"),
    Column("organisation", "organisation", "기관"),
    Column("phase", "stands", "상태"),
    Column("award_gflops", "award", "배정", Kind.RATE),
    Column("ends_at", "until", "종료", Kind.INSTANT),
    Column("available_gflops_seconds", "available", "잔여", Kind.AMOUNT),
    Column("held_gflops_seconds", "held", "예약", Kind.AMOUNT),
    Column("spent_gflops_seconds", "spent", "사용", Kind.AMOUNT),
)
ONE = (
    *LIST,
    Column("kind", "kind", "종류"),
    Column("state", "decision", "결정"),
    Column("requested_gflops", "applied for", "신청", Kind.RATE),
    Column("requested_precision", "at precision", "신청 정밀도"),
    Column("requested_starts_at", "wanted from", "신청 시작", Kind.INSTANT),
    Column("requested_ends_at", "wanted until", "신청 종료", Kind.INSTANT),
    Column("decided_by", "decided by", "결정자"),
    Column("decided_at", "decided", "결정 시각", Kind.INSTANT),
    Column("decision_reason", "reason", "사유"),
    Column("precision", "award's precision", "배정 정밀도"),
    Column("starts_at", "from", "시작", Kind.INSTANT),
    Column("ceiling_gflops", "at once at most", "동시 한도", Kind.RATE),
    Column("in_use_gflops", "in use", "사용 중", Kind.RATE),
    Column("granted_gflops_seconds", "granted", "총 배정", Kind.AMOUNT),
    Column("pending_gflops_seconds", "in later tranches", "미지급", Kind.AMOUNT),
    Column("forfeited_gflops_seconds", "forfeited", "지급 취소", Kind.AMOUNT),
    Column("expired_gflops_seconds", "expired", "소멸", Kind.AMOUNT),
    Column("suspended_at", "suspended", "정지", Kind.INSTANT),
    Column("revoked_at", "revoked", "취소", Kind.INSTANT),
    Column("standing_reason", "why", "정지·취소 사유"),
    Column("ended_at", "ended", "종료됨", Kind.INSTANT),
    Column("storage_until", "files kept until", "파일 보관 기한", Kind.INSTANT),
    Column("closed_at", "closed", "폐쇄", Kind.INSTANT),
    Column("profiles", "profiles", "프로필"),
    Column("members", "members", "구성원"),
)
MEMBERS = (
    Column("username", "username", "사용자"),
    Column("display_name", "name", "이름"),
    Column("role", "role", "역할"),
)
Code = Annotated[str, typer.Argument(help="Code of the project.", show_default=False)]
Username = Annotated[str, typer.Argument(show_default=False)]
ProfileCode = Annotated[str, typer.Argument(help="Code of the profile.", show_default=False)]
AwardOption = Annotated[str | None, typer.Option(help="Rate, as in 0.08PF.", show_default="as applied for")]
StartsOption = Annotated[str | None, typer.Option(help="First day, as in 2026-12-01.", show_default="as applied for")]
EndsOption = Annotated[str | None, typer.Option(help="Day after the last.", show_default="as applied for")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Projects: apply, decide, show, end; members and profiles.", no_args_is_help=True)
    command(group, "list", example="mudeung projects list -o json")(list_projects)
    command(group, "show", example="mudeung projects show vision-lab")(show_project)
    command(
        group,
        "apply",
        example='mudeung projects apply vision-lab --by minji --organisation jnu --title-ko "시각 연구" --title-en'
        ' "Vision" --award 0.08PF --starts 2026-12-01 --ends 2027-06-01',
    )(apply)
    command(
        group,
        "approve",
        example="mudeung projects approve vision-lab --award 0.05PF --burst 4 --profiles cpu-small,mig-1g",
    )(approve)
    command(group, "reject", example='mudeung projects reject vision-lab --reason "no data plan"')(reject)
    command(group, "end", example="mudeung projects end vision-lab")(end)
    storage.register(group)
    members = typer.Typer(help="Who works on a project.", no_args_is_help=True)
    command(members, "list", example="mudeung projects members list vision-lab")(list_members)
    command(members, "add", example="mudeung projects members add vision-lab minji --role member")(add_member)
    command(members, "remove", example="mudeung projects members remove vision-lab minji")(remove_member)
    group.add_typer(members, name="members")
    profiles = typer.Typer(help="What a project may start.", no_args_is_help=True)
    command(profiles, "offer", example="mudeung projects profiles offer vision-lab h100")(offer_profile)
    command(profiles, "withdraw", example="mudeung projects profiles withdraw vision-lab h100")(withdraw_profile)
    group.add_typer(profiles, name="profiles")
    app.add_typer(group, name="projects")


def must_exist(session: Session, code: str) -> ProjectView:
    """Return the project; raise InvalidValue when there is none."""
    view = projects.show(session.database, code, session.now)
    if view is None:
        raise InvalidValue("project", f"there is no project {code!r:.60}", f"과제 {code!r:.60}이(가) 없습니다")
    return view


def list_projects(session: Session, output: FormatOption = Format.TABLE) -> None:
    """List all projects with where they stand and what they have left."""
    rows = [_row(session, view) for view in projects.list_projects(session.database, session.now)]
    show(session, LIST, rows, output)


def show_project(session: Session, code: Code, output: FormatOption = Format.TABLE) -> None:
    """Show one project: award, balances, members, profiles."""
    _show(session, must_exist(session, code), output)


def apply(  # noqa: PLR0913 - each is one field of an application
    session: Session,
    code: Code,
    *,
    by: Annotated[str, typer.Option(help="Username of the applicant, who becomes its PI.", show_default=False)],
    organisation: Annotated[str, typer.Option(help="Code of the organisation.", show_default=False)],
    title_ko: Annotated[str, typer.Option(help="Title in Korean.", show_default=False)],
    title_en: Annotated[str, typer.Option(help="Title in English.", show_default=False)],
    award: Annotated[str, typer.Option(help="Rate that is applied for, as in 0.08PF.", show_default=False)],
    starts: Annotated[str, typer.Option(help="First day, as in 2026-12-01.", show_default=False)],
    ends: Annotated[str, typer.Option(help="Day after the last.", show_default=False)],
    precision: Annotated[Precision, typer.Option(help="Precision of the rate.")] = Precision.FP32,
    kind: Annotated[ProjectKind, typer.Option(help="A course has instructors and learners.")] = ProjectKind.RESEARCH,
) -> None:
    """Apply for a project."""
    application = projects.Application(
        code=code,
        title_ko=title_ko,
        title_en=title_en,
        kind=kind,
        organisation=organisation,
        gflops=parse_rate_gflops("award", award),
        precision=precision.value,
        starts_at=parse_instant("starts", starts),
        ends_at=parse_instant("ends", ends),
    )
    _show(session, projects.apply(session.database, application, actor=by, now=session.now))


def approve(  # noqa: PLR0913 - each is one part of a decision
    session: Session,
    code: Code,
    *,
    award: AwardOption = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Precision of the rate.", show_default="as applied for")
    ] = None,
    starts: StartsOption = None,
    ends: EndsOption = None,
    burst: Annotated[str, typer.Option(help="How many times the award may run at once.")] = "1",
    utilisation: Annotated[str, typer.Option(help="Share of the award × time that is granted.")] = "1",
    tranches: Annotated[
        str, typer.Option(help="Shares in which it is granted, as in 50%,50%; each but the first by a report.")
    ] = "",
    profiles: Annotated[str, typer.Option(help="Codes of profiles that it may start, with commas between.")] = "",
    reason: Annotated[str, typer.Option(help="What the applicant reads.")] = "",
    consent: Annotated[
        bool, typer.Option("--consent", help="Also where all awards together exceed the limit over capacity.")
    ] = False,
) -> None:
    """Approve an application: its award is granted in the ledger."""
    asked = must_exist(session, code)
    decided = Award(
        gflops=asked.requested_gflops if award is None else parse_rate_gflops("award", award),
        precision=asked.requested_precision if precision is None else precision.value,
        starts_at=asked.requested_starts_at if starts is None else parse_instant("starts", starts),
        ends_at=asked.requested_ends_at if ends is None else parse_instant("ends", ends),
        burst_ppm=amounts.factor_ppm("burst", burst),
        utilisation_ppm=amounts.share_ppm("utilisation", utilisation),
    )
    view = projects.approve(
        session.database,
        code,
        decided,
        profiles=amounts.names(profiles),
        actor=session.actor,
        now=session.now,
        reason=reason,
        reference_precision=session.settings.reference_precision.value,
        oversubscription_limit_ppm=session.settings.oversubscription_limit_ppm,
        storage_grace_days=session.settings.storage_grace_days,
        tranches_ppm=amounts.shares_ppm("tranches", tranches),
        consent=consent,
    )
    _show(session, view)


def reject(
    session: Session,
    code: Code,
    reason: Annotated[str, typer.Option(help="What the applicant reads.", show_default=False)],
) -> None:
    """Reject an application."""
    _show(session, projects.reject(session.database, code, reason=reason, actor=session.actor, now=session.now))


def end(session: Session, code: Code) -> None:
    """End a project: nothing starts on it any more, and what is left expires."""
    _show(session, projects.end(session.database, code, actor=session.actor, now=session.now))


def list_members(session: Session, code: Code, output: FormatOption = Format.TABLE) -> None:
    """List the members of a project."""
    show(session, MEMBERS, _members(must_exist(session, code)), output)


def add_member(
    session: Session,
    code: Code,
    username: Username,
    role: Annotated[MembershipRole, typer.Option(help="What they may do.")] = MembershipRole.MEMBER,
) -> None:
    """Make a person a member, or give a member another role."""
    projects.add_member(session.database, code, username, role, actor=session.actor, now=session.now)
    session.say(f"{username} is {role} of {code}.", f"{username}: {code}의 {role}.")


def remove_member(session: Session, code: Code, username: Username) -> None:
    """Remove a member; what they run on the project is stopped within a minute."""
    projects.remove_member(session.database, code, username, actor=session.actor, now=session.now)
    session.say(f"{username} is no member of {code} any more.", f"{username}: {code}에서 제외됨.")


def offer_profile(session: Session, code: Code, profile: ProfileCode) -> None:
    """Let a project start a profile."""
    projects.offer_profile(session.database, code, profile, actor=session.actor, now=session.now)
    session.say(f"{code} may start {profile}.", f"{code}: {profile} 사용 가능.")


def withdraw_profile(session: Session, code: Code, profile: ProfileCode) -> None:
    """Let a project start a profile no more; what runs goes on."""
    projects.withdraw_profile(session.database, code, profile, actor=session.actor, now=session.now)
    session.say(f"{code} may not start {profile} any more.", f"{code}: {profile} 사용 불가.")


def _show(session: Session, view: ProjectView, output: Format = Format.TABLE) -> None:
    row = _row(session, view)
    if output is not Format.JSON:
        row["members"] = [f"{name} ({role})" for name, _, role in view.members]
    show_one(session, ONE, row, output)


def _members(view: ProjectView) -> list[dict[str, Any]]:
    return [{"username": name, "display_name": shown, "role": role.value} for name, shown, role in view.members]


def _row(session: Session, view: ProjectView) -> dict[str, Any]:
    return {
        "code": view.code,
        "title": view.title(session.language),
        "organisation": view.organisation,
        "phase": view.phase.value,
        "award_gflops": view.gflops,
        "ends_at": view.ends_at,
        "available_gflops_seconds": view.available,
        "held_gflops_seconds": view.held,
        "spent_gflops_seconds": view.spent,
        "kind": view.kind.value,
        "state": view.state.value,
        "requested_gflops": view.requested_gflops,
        "requested_precision": view.requested_precision,
        "requested_starts_at": view.requested_starts_at,
        "requested_ends_at": view.requested_ends_at,
        "decided_by": view.decided_by,
        "decided_at": view.decided_at,
        "decision_reason": view.decision_reason,
        "precision": view.precision,
        "starts_at": view.starts_at,
        "ceiling_gflops": view.ceiling_gflops,
        "in_use_gflops": view.in_use_gflops,
        "granted_gflops_seconds": view.granted,
        "pending_gflops_seconds": view.pending,
        "forfeited_gflops_seconds": view.forfeited,
        "expired_gflops_seconds": view.expired,
        "suspended_at": view.suspended_at,
        "revoked_at": view.revoked_at,
        "standing_reason": view.standing_reason,
        "ended_at": view.ended_at,
        "storage_until": view.storage_until,
        "closed_at": view.closed_at,
        "profiles": list(view.profiles),
        "members": _members(view),
    }
