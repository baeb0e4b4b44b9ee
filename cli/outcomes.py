"""`mudeung outcomes`: progress reports: asked for, written, verified, returned; tranches and renewals wait for them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, show, show_one
from quotas.domain.outcomes import LONGEST_SUMMARY, Period
from quotas.domain.units import InvalidValue, parse_instant
from quotas.services import outcomes
from quotas.services.outcomes import ReportView

LIST = (
    Column("id", "report", "보고서", Kind.NUMBER),
    Column("project", "project", "과제"),
    Column("state", "stands", "상태"),
    Column("overdue", "overdue", "기한 경과"),
    Column("due_at", "due", "기한", Kind.INSTANT),
    Column("period_starts_at", "tells of", "보고 시작", Kind.INSTANT),
    Column("period_ends_at", "until", "보고 끝", Kind.INSTANT),
    Column("tranche", "tranche", "차수", Kind.NUMBER),
)
ONE = (
    *LIST,
    Column("award", "award", "배정 번호", Kind.NUMBER),
    Column("summary", "summary", "내용"),
    Column("required_at", "asked for", "요청", Kind.INSTANT),
    Column("required_by", "asked for by", "요청자"),
    Column("submitted_at", "submitted", "제출", Kind.INSTANT),
    Column("submitted_by", "submitted by", "제출자"),
    Column("decided_at", "decided", "결정", Kind.INSTANT),
    Column("decided_by", "decided by", "결정자"),
    Column("decision_reason", "reason", "사유"),
)
Id = Annotated[int, typer.Argument(help="Number of the report.", show_default=False, min=1, max=2**31 - 1)]
Author = Annotated[str, typer.Option(help="Username of a PI of the project.", show_default=False)]
Reviewer = Annotated[str, typer.Option(help="Username of the reviewer, no member of the project.", show_default=False)]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Progress reports, which tranches and renewals wait for.", no_args_is_help=True)
    command(group, "list", example="mudeung outcomes list --project vision-lab --overdue")(list_reports)
    command(group, "show", example="mudeung outcomes show 2")(show_report)
    command(group, "require", example="mudeung outcomes require vision-lab --due 2027-03-01")(require)
    command(
        group,
        "draft",
        example="mudeung outcomes draft 2 --by minji --from 2026-12-01 --to 2027-03-01 --file report.txt",
    )(draft)
    command(group, "submit", example="mudeung outcomes submit 2 --by minji")(submit)
    command(group, "verify", example="mudeung outcomes verify 2 --by rev")(verify)
    command(group, "return", example='mudeung outcomes return 2 --by rev --reason "which data?"')(send_back)
    app.add_typer(group, name="outcomes")


def list_reports(
    session: Session,
    project: Annotated[str | None, typer.Option(help="Only this project's.", metavar="CODE")] = None,
    overdue: Annotated[bool, typer.Option("--overdue", help="Only those that are overdue.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """List reports by when they are due."""
    found = outcomes.list_reports(session.database, session.now, project, overdue=overdue)
    show(session, LIST, [_row(session, each, output) for each in found], output)


def show_report(session: Session, report: Id, output: FormatOption = Format.TABLE) -> None:
    """Show one report."""
    found = outcomes.show(session.database, report, session.now)
    if found is None:
        raise InvalidValue("report", f"there is no report {report}", f"보고서 {report}이(가) 없습니다")
    show_one(session, ONE, _row(session, found, output), output)


def require(
    session: Session,
    code: Annotated[str, typer.Argument(help="Code of the project.", show_default=False)],
    due: Annotated[str, typer.Option(help="Day at whose beginning it is due, as in 2027-03-01.", show_default=False)],
) -> None:
    """Ask a project for a report; while it is overdue no tranche is released and no renewal goes on."""
    due_at = parse_instant("due", due)
    _show(session, outcomes.require(session.database, code, due_at, actor=session.actor, now=session.now))


def draft(  # noqa: PLR0913 - each is one part of a report
    session: Session,
    report: Id,
    *,
    by: Author,
    since: Annotated[str, typer.Option("--from", help="First day that it tells of.", show_default=False)],
    until: Annotated[str, typer.Option("--to", help="Day after the last that it tells of.", show_default=False)],
    summary: Annotated[str | None, typer.Option(help="What was done, as text.", show_default=False)] = None,
    file: Annotated[Path | None, typer.Option(help="The same, from a text file.", show_default=False)] = None,
) -> None:
    """Write a report's draft, in place of an earlier one."""
    period = Period(parse_instant("from", since), parse_instant("to", until))
    text = _text(summary, file)
    _show(session, outcomes.draft(session.database, report, period, text, actor=by, now=session.now))


def submit(session: Session, report: Id, by: Author) -> None:
    """Submit a report to the reviewers."""
    _show(session, outcomes.submit(session.database, report, actor=by, now=session.now))


def verify(
    session: Session,
    report: Id,
    *,
    by: Reviewer,
    reason: Annotated[str, typer.Option(help="What the project's people read.")] = "",
) -> None:
    """Verify a report; the tranche that waits for it is released."""
    _show(session, outcomes.verify(session.database, report, actor=by, now=session.now, reason=reason))


def send_back(
    session: Session,
    report: Id,
    *,
    by: Reviewer,
    reason: Annotated[str, typer.Option(help="What is to be mended.", show_default=False)],
) -> None:
    """Return a report to its PI, who may submit it again."""
    _show(session, outcomes.send_back(session.database, report, reason=reason, actor=by, now=session.now))


def _text(summary: str | None, file: Path | None) -> str:
    if (summary is None) == (file is None):
        raise InvalidValue("summary", "give either --summary or --file", "--summary와 --file 중 하나를 쓰세요")
    if file is None:
        return summary or ""
    try:
        with file.open("rb") as opened:
            return opened.read(4 * LONGEST_SUMMARY + 1).decode()
    except OSError as error:
        raise InvalidValue("file", f"cannot be read: {error.strerror}", f"읽을 수 없습니다: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidValue(
            "file", f"must be UTF-8 text of at most {LONGEST_SUMMARY} characters", "UTF-8 텍스트 파일이어야 합니다"
        ) from None


def _show(session: Session, view: ReportView) -> None:
    show_one(session, ONE, _row(session, view, Format.TABLE))


def _row(session: Session, view: ReportView, output: Format) -> dict[str, Any]:
    overdue: object = view.is_overdue
    if output is Format.TABLE:
        overdue = session.text("overdue", "경과") if view.is_overdue else None
    return {
        "id": view.id,
        "project": view.project,
        "state": view.state.value,
        "overdue": overdue,
        "due_at": view.due_at,
        "period_starts_at": view.period_starts_at,
        "period_ends_at": view.period_ends_at,
        "tranche": view.tranche,
        "award": view.award,
        "summary": view.summary,
        "required_at": view.required_at,
        "required_by": view.required_by,
        "submitted_at": view.submitted_at,
        "submitted_by": view.submitted_by,
        "decided_at": view.decided_at,
        "decided_by": view.decided_by,
        "decision_reason": view.decision_reason,
    }
