"""`mudeung ledger`, `refund` and `check`: the transfers, one that gives back, and every invariant over all of them."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import amounts
from cli.projects import must_exist
from cli.session import FAILED, Session, command
from cli.tables import Column, Format, FormatOption, Kind, show
from quotas.domain.units import show_budget
from quotas.services import check, refunds, reports

JOURNAL = (
    Column("sequence", "no.", "번호", Kind.NUMBER),
    Column("at", "at", "시각", Kind.INSTANT),
    Column("project", "project", "과제"),
    Column("kind", "event", "구분"),
    Column("debit", "from", "출금"),
    Column("credit", "to", "입금"),
    Column("amount_gflops_seconds", "amount", "양", Kind.AMOUNT),
    Column("run", "run", "실행"),
    Column("note", "note", "비고"),
)
BALANCES = (
    Column("project", "project", "과제"),
    Column("granted_gflops_seconds", "granted", "배정", Kind.AMOUNT),
    Column("available_gflops_seconds", "available", "잔여", Kind.AMOUNT),
    Column("held_gflops_seconds", "held", "예약", Kind.AMOUNT),
    Column("spent_gflops_seconds", "spent", "사용", Kind.AMOUNT),
    Column("expired_gflops_seconds", "expired", "소멸", Kind.AMOUNT),
    Column("overrun_gflops_seconds", "overrun", "초과", Kind.AMOUNT),
)
FINDINGS = (
    Column("invariant", "invariant", "불변식"),
    Column("subject", "subject", "대상"),
    Column("detail", "finding", "내용"),
)


def register(app: typer.Typer) -> None:
    command(app, "ledger", example="mudeung ledger --project vision-lab -o csv")(list_transfers)
    command(app, "refund", example='mudeung refund 0190c8d4-… 0.5TFh --reason "device failure"')(refund)
    command(app, "check", example="mudeung check")(check_all)


def list_transfers(
    session: Session,
    project: Annotated[str | None, typer.Option(help="Only this project's.", metavar="CODE")] = None,
    balances: Annotated[bool, typer.Option("--balances", help="What each account comes to, instead.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """List the transfers of the ledger in the order in which they were written."""
    if project is not None:
        must_exist(session, project)
    if balances:
        rows = [
            _balance(each) for each in reports.balances(session.database) if project is None or each.project == project
        ]
        show(session, BALANCES, rows, output)
    else:
        show(session, JOURNAL, map(_entry, reports.journal(session.database, project)), output)


def _entry(entry: reports.Entry) -> dict[str, object]:
    return {
        "sequence": entry.sequence,
        "at": entry.at,
        "project": entry.project,
        "kind": entry.kind.value,
        "debit": entry.debit.value,
        "credit": entry.credit.value,
        "amount_gflops_seconds": entry.amount,
        "run": entry.run_id,
        "note": entry.note,
    }


def _balance(balance: reports.Balance) -> dict[str, object]:
    return {
        "project": balance.project,
        "granted_gflops_seconds": balance.granted,
        "available_gflops_seconds": balance.available,
        "held_gflops_seconds": balance.held,
        "spent_gflops_seconds": balance.spent,
        "expired_gflops_seconds": balance.expired,
        "overrun_gflops_seconds": balance.overrun,
    }


def refund(
    session: Session,
    run: Annotated[str, typer.Argument(help="Id of the run.", show_default=False)],
    amount: Annotated[str, typer.Argument(help="GFLOPS·s, or as in 0.5TFh.", show_default=False)],
    reason: Annotated[str, typer.Option(help="Why; it stands in the ledger.", show_default=False)],
    key: Annotated[
        str | None, typer.Option(help="Name of this refund: repeated with the same one, it is done once.")
    ] = None,
) -> None:
    """Give back to the project a part of what a run was charged."""
    wanted = amounts.budget("amount", amount)
    total = refunds.refund_charge(
        session.database, run, wanted, reason=reason, actor=session.actor, now=session.now, key=key
    )
    given, whole = show_budget(wanted), show_budget(total)
    session.say(f"Refunded {given}; of this run {whole} in all.", f"{given} 환급 (이 실행의 환급 합계: {whole}).")


def check_all(session: Session, output: FormatOption = Format.TABLE) -> None:
    """Check every invariant of the ledger over the stored data; exit 1 with the findings if one fails."""
    findings = check.findings(session.database, session.now)
    rows = [{"invariant": each.invariant, "subject": each.subject, "detail": each.detail} for each in findings]
    if rows or output is not Format.TABLE:
        show(session, FINDINGS, rows, output)
    if rows:
        raise typer.Exit(FAILED)
    if output is Format.TABLE:
        session.say("Every invariant holds.", "모든 불변식이 성립합니다.")
