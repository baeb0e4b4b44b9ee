"""`mudeung awards`: an award as it stands; changes of it, requested and decided; suspended, resumed, revoked."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import amounts
from cli.confirmation import typed_code
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, as_json, plain, show, show_one
from quotas.domain.changes import Change, ChangeKind, ChangeState
from quotas.domain.units import InvalidValue, parse_instant, parse_rate_gflops, show_budget, show_instant, show_rate
from quotas.services import awards, changes
from quotas.services.awards import AwardView
from quotas.services.changes import ChangeView

AWARDS = (
    Column("id", "award", "배정 번호", Kind.NUMBER),
    Column("state", "stands", "상태"),
    Column("award_gflops", "rate", "배정", Kind.RATE),
    Column("starts_at", "from", "시작", Kind.INSTANT),
    Column("ends_at", "until", "종료", Kind.INSTANT),
    Column("ceiling_gflops", "at once at most", "동시 한도", Kind.RATE),
    Column("granted_gflops_seconds", "granted", "총 배정", Kind.AMOUNT),
    Column("available_gflops_seconds", "available", "잔여", Kind.AMOUNT),
    Column("held_gflops_seconds", "held", "예약", Kind.AMOUNT),
    Column("spent_gflops_seconds", "spent", "사용", Kind.AMOUNT),
    Column("expired_gflops_seconds", "expired", "소멸", Kind.AMOUNT),
    Column("reason", "reason", "사유"),
)
TRANCHES = (
    Column("award", "award", "배정 번호", Kind.NUMBER),
    Column("number", "tranche", "차수", Kind.NUMBER),
    Column("amount_gflops_seconds", "amount", "양", Kind.AMOUNT),
    Column("state", "stands", "상태"),
    Column("report", "report", "보고서", Kind.NUMBER),
    Column("report_state", "report stands", "보고서 상태"),
    Column("due_at", "report due", "보고 기한", Kind.INSTANT),
    Column("released_at", "released", "지급", Kind.INSTANT),
)
CHANGES = (
    Column("id", "no.", "번호", Kind.NUMBER),
    Column("project", "project", "과제"),
    Column("kind", "kind", "종류"),
    Column("state", "stands", "상태"),
    Column("what", "what", "내용"),
    Column("requested_by", "by", "신청자"),
    Column("requested_at", "requested", "신청", Kind.INSTANT),
    Column("reason", "reason", "사유"),
)
CHANGE = (
    *CHANGES,
    Column("award", "award", "배정 번호", Kind.NUMBER),
    Column("to_project", "to project", "받는 과제"),
    Column("gflops", "rate", "연산 속도", Kind.RATE),
    Column("amount_gflops_seconds", "budget", "예산", Kind.AMOUNT),
    Column("ends_at", "new end", "새 종료", Kind.INSTANT),
    Column("before_ends_at", "end before", "이전 종료", Kind.INSTANT),
    Column("decided_by", "decided by", "결정자"),
    Column("decided_at", "decided", "결정 시각", Kind.INSTANT),
    Column("decision_reason", "decision's reason", "결정 사유"),
)
Code = Annotated[str, typer.Argument(help="Code of the project.", show_default=False)]
ChangeId = Annotated[int, typer.Argument(help="Number of the change.", show_default=False, min=1, max=2**31 - 1)]
Reason = Annotated[str, typer.Option(help="Why; the project's people read it.", show_default=False)]
Requester = Annotated[
    str | None,
    typer.Option(help="Username of the PI who requests it; without it an operator decides at once.", metavar="PI"),
]
Reviewer = Annotated[str, typer.Option(help="Username of the reviewer, no member of the project.", show_default=False)]
Consent = Annotated[
    bool, typer.Option("--consent", help="Also where all awards together exceed the limit over capacity.")
]
RateOption = Annotated[str | None, typer.Option(help="Rate, as in 0.02PF.", show_default=False)]
BudgetOption = Annotated[str | None, typer.Option(help="Budget, as in 0.5PFh or in GFLOPS·s.", show_default=False)]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Awards: how they stand, and what is changed of them.", no_args_is_help=True)
    command(group, "show", example="mudeung awards show vision-lab")(show_awards)
    command(
        group,
        "supplement",
        example='mudeung awards supplement vision-lab --rate 0.02PF --reason "more data" --by minji',
    )(supplement)
    command(group, "extend", example='mudeung awards extend vision-lab --until 2027-09-01 --reason "a late start"')(
        extend
    )
    command(group, "reduce", example='mudeung awards reduce vision-lab --budget 1PFh --reason "not needed"')(reduce)
    command(group, "move", example='mudeung awards move vision-lab drone --budget 0.5PFh --reason "one paper" --by mi')(
        move
    )
    command(group, "changes", example="mudeung awards changes --project vision-lab")(list_changes)
    command(group, "change", example="mudeung awards change 3 -o json")(show_change)
    command(group, "approve", example='mudeung awards approve 3 --by rev --reason "well used"')(approve)
    command(group, "reject", example='mudeung awards reject 3 --by rev --reason "no plan"')(reject)
    command(group, "withdraw", example="mudeung awards withdraw 3 --by minji")(withdraw)
    command(group, "suspend", example='mudeung awards suspend vision-lab --reason "a data leak is looked into"')(
        suspend
    )
    command(group, "resume", example='mudeung awards resume vision-lab --reason "it was none"')(resume)
    command(group, "revoke", example='mudeung awards revoke vision-lab --reason "mining" --confirm vision-lab')(revoke)
    app.add_typer(group, name="awards")


def show_awards(session: Session, code: Code, output: FormatOption = Format.TABLE) -> None:
    """Show a project's awards with their tranches: the one that runs, earlier and later ones."""
    _show(session, awards.of_project(session.database, code, session.now), output)


def supplement(  # noqa: PLR0913 - each is one part of a change
    session: Session,
    code: Code,
    *,
    rate: RateOption = None,
    budget: BudgetOption = None,
    reason: Reason,
    by: Requester = None,
    consent: Consent = False,
) -> None:
    """Add rate, budget, or both to an award; rate alone brings the budget of the time that is left."""
    change = Change(ChangeKind.SUPPLEMENT, _rate(rate), _budget(budget))
    _change(session, code, change, reason=reason, by=by, consent=consent)


def extend(  # noqa: PLR0913 - each is one part of a change
    session: Session,
    code: Code,
    *,
    until: Annotated[str, typer.Option(help="Day after the new last one, as in 2027-09-01.", show_default=False)],
    budget: BudgetOption = None,
    reason: Reason,
    by: Requester = None,
    consent: Consent = False,
) -> None:
    """Move an award's end to a later day; its budget stays, unless more is given."""
    change = Change(ChangeKind.EXTENSION, amount=_budget(budget), ends_at=parse_instant("until", until))
    _change(session, code, change, reason=reason, by=by, consent=consent)


def reduce(
    session: Session,
    code: Code,
    *,
    rate: RateOption = None,
    budget: BudgetOption = None,
    reason: Reason,
    by: Requester = None,
) -> None:
    """Take rate, budget, or both from an award; never what is spent or held."""
    _change(session, code, Change(ChangeKind.REDUCTION, _rate(rate), _budget(budget)), reason=reason, by=by)


def move(
    session: Session,
    code: Code,
    to: Annotated[str, typer.Argument(help="Code of the project that receives it.", show_default=False)],
    *,
    budget: Annotated[str, typer.Option(help="Budget, as in 0.5PFh or in GFLOPS·s.", show_default=False)],
    reason: Reason,
    by: Requester = None,
) -> None:
    """Move available budget to another project; of another organisation only by an operator."""
    change = Change(ChangeKind.MOVE, amount=_budget(budget), to_project=to)
    _change(session, code, change, reason=reason, by=by)


def list_changes(
    session: Session,
    project: Annotated[str | None, typer.Option(help="Only this project's.", metavar="CODE")] = None,
    state: Annotated[ChangeState | None, typer.Option(help="Only those that stand so.")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List changes of awards, oldest first."""
    found = changes.list_changes(session.database, project)
    rows = [_change_row(session, each) for each in found if state is None or each.state is state]
    show(session, CHANGES, rows, output)


def show_change(session: Session, change: ChangeId, output: FormatOption = Format.TABLE) -> None:
    """Show one change."""
    found = changes.show(session.database, change)
    if found is None:
        raise InvalidValue("change", f"there is no change {change}", f"변경 {change}이(가) 없습니다")
    show_one(session, CHANGE, _change_row(session, found), output)


def approve(session: Session, change: ChangeId, *, by: Reviewer, reason: Reason, consent: Consent = False) -> None:
    """Approve a requested change; it is applied at once."""
    programme = session.settings.programme(consent=consent)
    view = changes.approve(session.database, change, reason=reason, programme=programme, actor=by, now=session.now)
    show_one(session, CHANGE, _change_row(session, view))


def reject(session: Session, change: ChangeId, *, by: Reviewer, reason: Reason) -> None:
    """Reject a requested change."""
    view = changes.reject(session.database, change, reason=reason, actor=by, now=session.now)
    show_one(session, CHANGE, _change_row(session, view))


def withdraw(
    session: Session,
    change: ChangeId,
    by: Annotated[str, typer.Option(help="Username of a PI of the project.", show_default=False)],
) -> None:
    """Withdraw a requested change."""
    show_one(
        session, CHANGE, _change_row(session, changes.withdraw(session.database, change, actor=by, now=session.now))
    )


def suspend(session: Session, code: Code, reason: Reason) -> None:
    """Suspend a project's award: nothing starts and nothing is extended until it is resumed."""
    _show(session, awards.suspend(session.database, code, reason=reason, actor=session.actor, now=session.now))


def resume(session: Session, code: Code, reason: Reason) -> None:
    """Let a suspended award go on; the time is not made up for."""
    _show(session, awards.resume(session.database, code, reason=reason, actor=session.actor, now=session.now))


def revoke(
    session: Session,
    code: Code,
    *,
    reason: Reason,
    confirm: Annotated[
        str | None, typer.Option(help="The project's code once more; without it, it is asked for.", metavar="CODE")
    ] = None,
) -> None:
    """Revoke a project's award for good: what runs is stopped, and what is left is the programme's again."""
    confirmed = typed_code(session, code) if confirm is None else confirm
    _show(
        session,
        awards.revoke(session.database, code, reason=reason, confirm=confirmed, actor=session.actor, now=session.now),
    )


def _change(session: Session, code: str, change: Change, *, reason: str, by: str | None, consent: bool = False) -> None:
    if by is not None:
        view = changes.request(session.database, code, change, reason=reason, actor=by, now=session.now)
    else:
        view = changes.apply_directly(
            session.database,
            code,
            change,
            reason=reason,
            programme=session.settings.programme(consent=consent),
            actor=session.actor,
            now=session.now,
        )
    show_one(session, CHANGE, _change_row(session, view))


def _rate(text: str | None) -> int | None:
    return None if text is None else parse_rate_gflops("rate", text)


def _budget(text: str | None) -> int | None:
    return None if text is None else amounts.budget("budget", text)


def _show(session: Session, found: list[AwardView], output: Format = Format.TABLE) -> None:
    rows = [_row(each) for each in found]
    tranches = [[_tranche_row(each, number) for number in range(len(each.tranches))] for each in found]
    if output is Format.JSON:
        listed = [
            plain(AWARDS, row) | {"tranches": [plain(TRANCHES, part) for part in parts]}
            for row, parts in zip(rows, tranches, strict=True)
        ]
        print(as_json(listed))
        return
    show(session, AWARDS, rows, output)
    parts = [part for each in tranches for part in each]
    if parts and output is Format.TABLE:
        show(session, TRANCHES, parts)


def _row(view: AwardView) -> dict[str, Any]:
    return {
        "id": view.id,
        "state": view.state.value,
        "award_gflops": view.gflops,
        "starts_at": view.starts_at,
        "ends_at": view.ends_at,
        "ceiling_gflops": view.ceiling_gflops,
        "granted_gflops_seconds": view.granted,
        "available_gflops_seconds": view.available,
        "held_gflops_seconds": view.held,
        "spent_gflops_seconds": view.spent,
        "expired_gflops_seconds": view.expired,
        "reason": view.reason,
    }


def _tranche_row(view: AwardView, number: int) -> dict[str, Any]:
    tranche = view.tranches[number]
    return {
        "award": view.id,
        "number": tranche.number,
        "amount_gflops_seconds": tranche.amount,
        "state": tranche.state.value,
        "report": tranche.report,
        "report_state": tranche.report_state.value,
        "due_at": tranche.due_at,
        "released_at": tranche.released_at,
    }


def _change_row(session: Session, view: ChangeView) -> dict[str, Any]:
    sign = "-" if view.kind in {ChangeKind.REDUCTION, ChangeKind.MOVE} else "+"
    parts = [
        None if view.gflops is None else sign + show_rate(view.gflops),
        None if view.amount is None else sign + show_budget(view.amount),
        None if view.ends_at is None else session.text("until ", "종료 ") + show_instant(view.ends_at),
        None if view.to_project is None else f"→ {view.to_project}",
    ]
    return {
        "id": view.id,
        "project": view.project,
        "kind": view.kind.value,
        "state": view.state.value,
        "what": ", ".join(part for part in parts if part),
        "requested_by": view.requested_by,
        "requested_at": view.requested_at,
        "reason": view.reason,
        "award": view.award,
        "to_project": view.to_project,
        "gflops": view.gflops,
        "amount_gflops_seconds": view.amount,
        "ends_at": view.ends_at,
        "before_ends_at": view.before_ends_at,
        "decided_by": view.decided_by,
        "decided_at": view.decided_at,
        "decision_reason": view.decision_reason,
    }
