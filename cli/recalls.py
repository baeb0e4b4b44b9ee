"""`mudeung recalls`: what awards do not use, proposed for recall, objected to, decided and executed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import amounts
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, as_json, plain, show, show_one
from quotas.domain.recalls import Decision, Excuse, MonthOfAward, RecallPolicy, RecallState, Standing
from quotas.domain.units import PPM, show_budget, show_rate
from quotas.services import recall_steps, recalls
from quotas.services.recalls import Assessed, Recall

LIST = (
    Column("id", "no.", "번호", Kind.NUMBER),
    Column("project", "project", "과제"),
    Column("month", "month", "월"),
    Column("state", "stands", "상태"),
    Column("amount_gflops_seconds", "to recall", "회수량", Kind.AMOUNT),
    Column("object_until", "objections until", "이의 기한", Kind.INSTANT),
    Column("recalled_gflops_seconds", "recalled", "회수됨", Kind.AMOUNT),
)
ONE = (
    *LIST,
    Column("proposed_gflops_seconds", "proposed", "제안량", Kind.AMOUNT),
    Column("proposed_at", "proposed at", "제안 시각", Kind.INSTANT),
    Column("proposed_by", "proposed by", "제안자"),
    Column("notified_at", "told", "통지", Kind.INSTANT),
    Column("objected_at", "objected", "이의 시각", Kind.INSTANT),
    Column("objected_by", "objected by", "이의 제기자"),
    Column("objection", "objection", "이의"),
    Column("decision", "decision", "결정"),
    Column("decided_at", "decided", "결정 시각", Kind.INSTANT),
    Column("decided_by", "decided by", "결정자"),
    Column("reason", "reason", "사유"),
    Column("closed_at", "closed", "종결", Kind.INSTANT),
    Column("freed_gflops", "freed", "반환 용량", Kind.RATE),
)
MONTHS = (
    Column("month", "month", "월"),
    Column("used_gflops_seconds", "used", "사용", Kind.AMOUNT),
    Column("expected_gflops_seconds", "share", "월 몫", Kind.AMOUNT),
    Column("used_percent", "used %", "사용 %"),
    Column("counted", "counted", "반영"),
)
PROPOSED = (
    Column("project", "project", "과제"),
    Column("standing", "what follows", "결과"),
    Column("months", "months: used of share", "월별 사용"),
    Column("amount_gflops_seconds", "to recall", "회수량", Kind.AMOUNT),
    Column("recall", "recall", "회수 번호", Kind.NUMBER),
)
STANDING = {
    Standing.PROPOSED: ("recall", "회수"),
    Standing.USED: ("used enough", "충분히 사용"),
    Standing.EXCUSED: ("a month has an excuse", "제외되는 달 있음"),
    Standing.EXEMPT: ("courses are exempt", "강좌는 제외"),
    Standing.NOTHING_LEFT: ("nothing left to recall", "회수할 양 없음"),
}
EXCUSES = {
    Excuse.NOT_WHOLE: ("not a whole month of the award", "배정 기간이 한 달이 안 됨"),
    Excuse.SUSPENDED: ("suspended", "정지됨"),
    Excuse.WAITED: ("waited for full pools", "자원 부족으로 대기"),
    Excuse.FORGIVEN: ("a recall of it was withdrawn", "회수가 철회된 달"),
    Excuse.NOTHING_DUE: ("no budget of its own", "월 몫 없음"),
}
Id = Annotated[int, typer.Argument(help="Number of the recall.", show_default=False, min=1, max=2**31 - 1)]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Recalls of what awards do not use.", no_args_is_help=True)
    command(group, "propose", example="mudeung recalls propose --month 2026-11 --dry-run")(propose)
    command(group, "list", example="mudeung recalls list --project vision-lab -o json")(list_recalls)
    command(group, "show", example="mudeung recalls show 3")(show_recall)
    command(group, "object", example='mudeung recalls object 3 --by minji --text "the data comes in May"')(object_to)
    command(group, "decide", example='mudeung recalls decide 3 reduced --amount 2PFh --by olga --reason "half"')(decide)
    command(group, "execute", example="mudeung recalls execute 3")(execute)
    app.add_typer(group, name="recalls")


def propose(
    session: Session,
    month: Annotated[str, typer.Option(help="The newest month that counts, as 2026-11.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be proposed.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Show every award, and why nothing follows.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Propose recalls of awards that were used too little up to a month, and tell their PIs."""
    policy = session.settings.recalls()
    found = list(
        recalls.propose(session.database, month, policy, actor=session.actor, now=session.now, dry_run=dry_run)
    )
    for each in found:
        if each.recall is not None:
            recall_steps.notify(session.database, each.recall, policy, actor=session.actor, now=session.now)
    shown = [each for each in found if every or (each.assessment.standing is Standing.PROPOSED)]
    if output is Format.JSON:
        print(as_json([_assessed_json(each, policy) for each in shown]))
    else:
        show(session, PROPOSED, [_assessed(each, session) for each in shown], output)


def list_recalls(
    session: Session,
    project: Annotated[str | None, typer.Option(help="Only this project's.", metavar="CODE")] = None,
    state: Annotated[RecallState | None, typer.Option(help="Only those that stand so.")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List recalls, the newest first."""
    found = recalls.list_recalls(session.database, project)
    show(session, LIST, [_row(each) for each in found if state is None or each.state is state], output)


def show_recall(session: Session, recall: Id, output: FormatOption = Format.TABLE) -> None:
    """Show one recall with its months."""
    found = recalls.show(session.database, recall)
    months = [_month(*each) for each in found.months]
    if output is Format.JSON:
        print(as_json(plain(ONE, _row(found)) | {"months": [plain(MONTHS, each) for each in months]}))
        return
    show_one(session, ONE, _row(found), output)
    if output is Format.TABLE:
        show(session, MONTHS, months)


def object_to(
    session: Session,
    recall: Id,
    *,
    by: Annotated[str, typer.Option(help="Username of the PI or instructor who objects.", show_default=False)],
    text: Annotated[str, typer.Option(help="Why; those who decide read it.", show_default=False)],
) -> None:
    """Enter a PI's objection; nothing is recalled before it is decided."""
    recall_steps.object_to(session.database, recall, text, person=by, now=session.now)
    session.say(f"The objection to recall {recall} stands.", f"회수 {recall}에 대한 이의가 접수되었습니다.")


def decide(
    session: Session,
    recall: Id,
    decision: Annotated[Decision, typer.Argument(help="What is decided.", show_default=False)],
    *,
    by: Annotated[str, typer.Option(help="Username of the operator or reviewer who decides.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why; the project's PIs are told.", show_default=False)],
    amount: Annotated[str | None, typer.Option(help="With reduced: what is recalled, as in 2PFh.")] = None,
) -> None:
    """Decide a recall: upheld, reduced to an amount, or withdrawn."""
    reduced_to = None if amount is None else amounts.budget("amount", amount)
    state = recall_steps.decide(
        session.database, recall, decision, reason=reason, by=by, now=session.now, reduced_to=reduced_to
    )
    session.say(f"Recall {recall}: {decision}, now {state}.", f"회수 {recall}: {decision}, 상태 {state}.")


def execute(session: Session, recall: Id) -> None:
    """Execute a recall that is due; repeated, it changes nothing."""
    found = recall_steps.execute(session.database, recall, actor=session.actor, now=session.now)
    if found.state is RecallState.LAPSED:
        session.say(
            f"Recall {recall} has lapsed: nothing of the award is left to recall.",
            f"회수 {recall}은(는) 소멸되었습니다. 회수할 잔여량이 없습니다.",
        )
        return
    amount, freed = show_budget(found.amount), show_rate(found.freed_gflops)
    done = ("Recalled", "회수했습니다") if found.now else ("Recalled before", "이미 회수되었습니다")
    session.say(f"{done[0]}: {amount}; {freed} is free to be awarded.", f"{done[1]}: {amount}, 반환 용량 {freed}.")


def _assessed(found: Assessed, session: Session) -> dict[str, Any]:
    return {
        "project": found.project,
        "standing": session.text(*STANDING[found.assessment.standing]),
        "months": [_short(each, session) for each in found.assessment.months],
        "amount_gflops_seconds": found.assessment.amount or None,
        "recall": found.recall,
    }


def _short(month: MonthOfAward, session: Session) -> str:
    excuse = "" if month.excuse is None else f" [{session.text(*EXCUSES[month.excuse])}]"
    shown = f"{month.month} {show_budget(month.used)} / {show_budget(month.expected)}"
    return f"{shown} ({_percent(month.used, month.expected)}){excuse}"


def _assessed_json(found: Assessed, policy: RecallPolicy) -> dict[str, Any]:
    return {
        "project": found.project,
        "standing": found.assessment.standing.value,
        "threshold_ppm": policy.threshold_ppm,
        "months": [
            {
                "month": str(each.month),
                "used_gflops_seconds": str(each.used),
                "expected_gflops_seconds": str(each.expected),
                "excuse": each.excuse.value if each.excuse else None,
                "counted_before": each.counted_before,
            }
            for each in found.assessment.months
        ],
        "amount_gflops_seconds": str(found.assessment.amount),
        "recall": found.recall,
    }


def _row(found: Recall) -> dict[str, Any]:
    return {
        "id": found.id,
        "project": found.project,
        "month": found.month,
        "state": found.state.value,
        "amount_gflops_seconds": found.amount,
        "object_until": found.object_until,
        "recalled_gflops_seconds": found.recalled,
        "proposed_gflops_seconds": found.proposed_amount,
        "proposed_at": found.proposed_at,
        "proposed_by": found.proposed_by,
        "notified_at": found.notified_at,
        "objected_at": found.objected_at,
        "objected_by": found.objected_by,
        "objection": found.objection,
        "decision": found.decision.value if found.decision else None,
        "decided_at": found.decided_at,
        "decided_by": found.decided_by,
        "reason": found.reason,
        "closed_at": found.closed_at,
        "freed_gflops": found.freed_gflops,
    }


def _month(month: str, used: int, expected: int, counted: bool) -> dict[str, Any]:
    return {
        "month": month,
        "used_gflops_seconds": used,
        "expected_gflops_seconds": expected,
        "used_percent": _percent(used, expected),
        "counted": counted,
    }


def _percent(part: int, whole: int) -> str:
    return f"{part * PPM // whole / 10_000:.1f} %" if whole else "-"
