"""`mudeung renewals`: filed by a PI, reviewed, and when approved a new award; none changes the award that runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import amounts
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, show, show_one
from quotas.domain.rates import Precision
from quotas.domain.renewals import RenewalState, Wish
from quotas.domain.units import InvalidValue, parse_instant, parse_rate_gflops
from quotas.services import renewals
from quotas.services.renewals import Given, RenewalView

LIST = (
    Column("id", "renewal", "갱신", Kind.NUMBER),
    Column("project", "project", "과제"),
    Column("state", "stands", "상태"),
    Column("gflops", "asks for", "신청", Kind.RATE),
    Column("ends_at", "until", "종료", Kind.INSTANT),
    Column("filed_by", "by", "신청자"),
    Column("filed_at", "filed", "작성", Kind.INSTANT),
    Column("new_award", "new award", "새 배정 번호", Kind.NUMBER),
)
ONE = (
    *LIST,
    Column("award", "follows award", "이전 배정 번호", Kind.NUMBER),
    Column("precision", "precision", "정밀도"),
    Column("reason", "reason", "사유"),
    Column("submitted_at", "submitted", "제출", Kind.INSTANT),
    Column("review_at", "in review since", "심사 시작", Kind.INSTANT),
    Column("reviewer", "reviewer", "심사자"),
    Column("decided_at", "decided", "결정", Kind.INSTANT),
    Column("decided_by", "decided by", "결정자"),
    Column("decision_reason", "decision's reason", "결정 사유"),
)
Id = Annotated[int, typer.Argument(help="Number of the renewal.", show_default=False, min=1, max=2**31 - 1)]
Code = Annotated[str, typer.Argument(help="Code of the project.", show_default=False)]
Author = Annotated[str, typer.Option(help="Username of a PI of the project.", show_default=False)]
Reviewer = Annotated[str, typer.Option(help="Username of the reviewer, no member of the project.", show_default=False)]
Award = Annotated[str, typer.Option(help="Rate that is asked for, as in 0.08PF.", show_default=False)]
Until = Annotated[str, typer.Option(help="Day after the last.", show_default=False)]
Why = Annotated[str, typer.Option(help="What was reached, and what is to follow.", show_default=False)]
Reason = Annotated[str, typer.Option(help="What the PI reads.", show_default=False)]
PrecisionOption = Annotated[Precision, typer.Option(help="Precision of the rate.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Renewals: what is to follow an award.", no_args_is_help=True)
    command(group, "list", example="mudeung renewals list --state in_review")(list_renewals)
    command(group, "show", example="mudeung renewals show 4")(show_renewal)
    command(
        group,
        "file",
        example="mudeung renewals file vision-lab --by minji --award 0.08PF --until 2027-12-01"
        ' --reason "the second study"',
    )(file)
    command(
        group, "edit", example='mudeung renewals edit 4 --by minji --award 0.05PF --until 2027-12-01 --reason "less"'
    )(edit)
    command(group, "submit", example="mudeung renewals submit 4 --by minji")(submit)
    command(group, "withdraw", example="mudeung renewals withdraw 4 --by minji")(withdraw)
    command(group, "review", example="mudeung renewals review 4 --by rev")(review)
    command(
        group,
        "approve",
        example='mudeung renewals approve 4 --by rev --reason "well used" --tranches 50%,50%',
    )(approve)
    command(group, "reject", example='mudeung renewals reject 4 --by rev --reason "no results"')(reject)
    app.add_typer(group, name="renewals")


def list_renewals(
    session: Session,
    project: Annotated[str | None, typer.Option(help="Only this project's.", metavar="CODE")] = None,
    state: Annotated[RenewalState | None, typer.Option(help="Only those that stand so.")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List renewals, oldest first."""
    found = renewals.list_renewals(session.database, project)
    show(session, LIST, [_row(each) for each in found if state is None or each.state is state], output)


def show_renewal(session: Session, renewal: Id, output: FormatOption = Format.TABLE) -> None:
    """Show one renewal."""
    found = renewals.show(session.database, renewal)
    if found is None:
        raise InvalidValue("renewal", f"there is no renewal {renewal}", f"갱신 신청 {renewal}이(가) 없습니다")
    _show(session, found, output)


def file(  # noqa: PLR0913 - each is one field of a renewal
    session: Session,
    code: Code,
    *,
    by: Author,
    award: Award,
    until: Until,
    reason: Why,
    precision: PrecisionOption = Precision.FP32,
) -> None:
    """File a renewal as a draft: the award that runs stays as it is."""
    wish = _wish(award, precision, until)
    _show(session, renewals.file(session.database, code, wish, reason=reason, actor=by, now=session.now))


def edit(  # noqa: PLR0913 - each is one field of a renewal
    session: Session,
    renewal: Id,
    *,
    by: Author,
    award: Award,
    until: Until,
    reason: Why,
    precision: PrecisionOption = Precision.FP32,
) -> None:
    """Write a draft anew."""
    wish = _wish(award, precision, until)
    _show(session, renewals.edit(session.database, renewal, wish, reason=reason, actor=by, now=session.now))


def submit(session: Session, renewal: Id, by: Author) -> None:
    """Submit a draft to the reviewers; not while a report is overdue."""
    _show(session, renewals.submit(session.database, renewal, actor=by, now=session.now))


def withdraw(session: Session, renewal: Id, by: Author) -> None:
    """Withdraw a renewal that is not decided."""
    _show(session, renewals.withdraw(session.database, renewal, actor=by, now=session.now))


def review(session: Session, renewal: Id, by: Reviewer) -> None:
    """Take a submitted renewal into review."""
    _show(session, renewals.review(session.database, renewal, actor=by, now=session.now))


def approve(  # noqa: PLR0913 - each is one part of a decision
    session: Session,
    renewal: Id,
    *,
    by: Reviewer,
    reason: Reason,
    award: Annotated[str | None, typer.Option(help="Rate, as in 0.08PF.", show_default="as asked for")] = None,
    until: Annotated[str | None, typer.Option(help="Day after the last.", show_default="as asked for")] = None,
    burst: Annotated[
        str | None, typer.Option(help="How many times the award may run at once.", show_default="as before")
    ] = None,
    utilisation: Annotated[
        str | None, typer.Option(help="Share of the award × time that is granted.", show_default="as before")
    ] = None,
    tranches: Annotated[
        str, typer.Option(help="Shares in which it is granted, as in 50%,50%; each but the first by a report.")
    ] = "",
    consent: Annotated[
        bool, typer.Option("--consent", help="Also where all awards together exceed the limit over capacity.")
    ] = False,
) -> None:
    """Approve a renewal: a new award starts as the last one ends."""
    given = Given(
        gflops=None if award is None else parse_rate_gflops("award", award),
        ends_at=None if until is None else parse_instant("until", until),
        burst_ppm=None if burst is None else amounts.factor_ppm("burst", burst),
        utilisation_ppm=None if utilisation is None else amounts.share_ppm("utilisation", utilisation),
        tranches_ppm=amounts.shares_ppm("tranches", tranches),
    )
    programme = session.settings.programme(consent=consent)
    view = renewals.approve(
        session.database, renewal, given, reason=reason, programme=programme, actor=by, now=session.now
    )
    _show(session, view)


def reject(session: Session, renewal: Id, *, by: Reviewer, reason: Reason) -> None:
    """Reject a renewal."""
    _show(session, renewals.reject(session.database, renewal, reason=reason, actor=by, now=session.now))


def _wish(award: str, precision: Precision, until: str) -> Wish:
    return Wish(parse_rate_gflops("award", award), precision.value, parse_instant("until", until))


def _show(session: Session, view: RenewalView, output: Format = Format.TABLE) -> None:
    show_one(session, ONE, _row(view), output)


def _row(view: RenewalView) -> dict[str, Any]:
    return {
        "id": view.id,
        "project": view.project,
        "state": view.state.value,
        "gflops": view.gflops,
        "ends_at": view.ends_at,
        "filed_by": view.filed_by,
        "filed_at": view.filed_at,
        "new_award": view.new_award,
        "award": view.award,
        "precision": view.precision,
        "reason": view.reason,
        "submitted_at": view.submitted_at,
        "review_at": view.review_at,
        "reviewer": view.reviewer,
        "decided_at": view.decided_at,
        "decided_by": view.decided_by,
        "decision_reason": view.decision_reason,
    }
