"""`mudeung copayments`: a month's statements in KRW, closed, paid and paid back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cli.confirmation import Yes, confirm
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, as_json, plain, show
from quotas.domain.copayments import Account, LineKind, show_numerator
from quotas.domain.months import read_month
from quotas.domain.units import show_instant
from quotas.services import copayments
from quotas.services.copayments import Statement

STATEMENTS = (
    Column("project", "project", "과제"),
    Column("month", "month", "월"),
    Column("carried_in_krw_seconds", "carried in", "이월", Kind.AMOUNT),
    Column("use_krw_seconds", "use", "사용", Kind.AMOUNT),
    Column("credit_krw_seconds", "credit", "공제", Kind.AMOUNT),
    Column("krw", "KRW", "청구(원)", Kind.NUMBER),
    Column("carried_out_krw_seconds", "carried on", "다음 이월", Kind.AMOUNT),
    Column("closed_at", "closed", "마감", Kind.INSTANT),
    Column("owed_krw", "owed", "미납(원)", Kind.NUMBER),
    Column("paid_krw", "paid", "납부(원)", Kind.NUMBER),
    Column("credit_krw", "in credit", "환급 대기(원)", Kind.NUMBER),
    Column("open_runs", "still running", "실행 중", Kind.NUMBER),
    Column("unpriced_runs", "not priced", "가격 없음", Kind.NUMBER),
)
LINES = (
    Column("project", "project", "과제"),
    Column("month", "month", "월"),
    Column("run", "run", "실행"),
    Column("profile", "profile", "프로필"),
    Column("kind", "kind", "구분"),
    Column("devices", "devices", "장치 수", Kind.NUMBER),
    Column("seconds", "time", "시간", Kind.SECONDS),
    Column("krw_per_device_month", "KRW a device-month", "장치·월 가격(원)", Kind.NUMBER),
    Column("krw_seconds", "KRW", "원", Kind.AMOUNT),
)
JOURNAL = (
    Column("sequence", "no.", "번호", Kind.NUMBER),
    Column("at", "at", "시각", Kind.INSTANT),
    Column("project", "project", "과제"),
    Column("kind", "event", "구분"),
    Column("debit", "from", "출금"),
    Column("credit", "to", "입금"),
    Column("krw", "KRW", "원", Kind.NUMBER),
    Column("key", "key", "키"),
    Column("note", "note", "비고"),
)
_NUMERATOR = "krw_seconds"
"""Such keys end so: KRW × device-seconds, shown as KRW with what is under one, and whole in JSON and CSV."""

MonthOption = Annotated[str, typer.Option("--month", help="As in 2026-11.", show_default=False, metavar="MONTH")]
ProjectOption = Annotated[str | None, typer.Option("--project", help="Only this project's.", metavar="CODE")]
ProjectCode = Annotated[str, typer.Argument(help="Code of the project.", show_default=False)]
Krw = Annotated[int, typer.Argument(help="Whole KRW.", show_default=False)]
Receipt = Annotated[str, typer.Option(help="Its number: repeated with the same one, it is recorded once.")]
Note = Annotated[str, typer.Option(help="Stands in the ledger.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="The co-payment in KRW for device-months.", no_args_is_help=True)
    command(group, "statement", example="mudeung copayments statement --month 2026-11 --project vision-lab -o csv")(
        statement
    )
    command(group, "close", example="mudeung copayments close --month 2026-11 --dry-run")(close)
    command(group, "pay", example="mudeung copayments pay vision-lab 138000 --receipt 2026-1204")(pay)
    command(group, "repay", example="mudeung copayments repay vision-lab 1000 --receipt R-17")(repay)
    command(group, "ledger", example="mudeung copayments ledger --project vision-lab")(ledger)
    app.add_typer(group, name="copayments")


def statement(
    session: Session, month: MonthOption, project: ProjectOption = None, output: FormatOption = Format.TABLE
) -> None:
    """Show a month's statements, or one project's with a line for each run; of a month not closed, as it stands."""
    which = read_month("month", month)
    if project is None:
        found = copayments.statements(session.database, which, session.now)
        _show(session, STATEMENTS, [_statement_row(each) for each in found], output)
        return
    one = copayments.statement(session.database, project, which, session.now)
    rows = [_line_row(one, each) for each in one.lines]
    if output is Format.JSON:
        head = plain(STATEMENTS, _statement_row(one))
        print(as_json({**head, "lines": [plain(LINES, row) for row in rows]}))
        return
    _show(session, LINES, rows, output)
    if output is Format.TABLE:
        _say_total(session, one)


def close(
    session: Session,
    month: MonthOption,
    project: ProjectOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be billed.")] = False,
    yes: Yes = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Close a month: its statements are billed and can never be changed. What was closed before stays as it was."""
    which = read_month("month", month)
    if project is None:
        preview = copayments.statements(session.database, which, session.now)
    else:
        preview = [copayments.statement(session.database, project, which, session.now)]
    new = [each for each in preview if each.closed_at is None]
    if dry_run:
        _show(session, STATEMENTS, map(_statement_row, preview), output)
        return
    krw = sum(each.total.amount for each in new)
    english = f"Close {which} for {len(new)} projects and bill {krw:,} KRW? It can never be changed."
    confirm(session, english, f"{which}월을 {len(new)}개 과제에 대해 마감하고 {krw:,}원을 청구할까요?", yes=yes)
    closed = copayments.close(session.database, which, project=project, actor=session.actor, now=session.now)
    _show(session, STATEMENTS, map(_statement_row, closed), output)


def pay(
    session: Session, project: ProjectCode, krw: Krw, *, receipt: Receipt, note: Note = "", yes: Yes = False
) -> None:
    """Record what a project has paid."""
    question = f"Record {krw:,} KRW from {project} under receipt {receipt}?"
    confirm(session, question, f"{project}의 납부 {krw:,}원을 영수증 {receipt}(으)로 기록할까요?", yes=yes)
    account = copayments.pay(
        session.database, project, krw, receipt=receipt, actor=session.actor, now=session.now, note=note
    )
    _say_account(session, project, account)


def repay(
    session: Session, project: ProjectCode, krw: Krw, *, receipt: Receipt, note: Note = "", yes: Yes = False
) -> None:
    """Record that a project's credit was paid back to it."""
    question = f"Record {krw:,} KRW paid back to {project} under receipt {receipt}?"
    confirm(session, question, f"{project}에 반환한 {krw:,}원을 영수증 {receipt}(으)로 기록할까요?", yes=yes)
    account = copayments.repay(
        session.database, project, krw, receipt=receipt, actor=session.actor, now=session.now, note=note
    )
    _say_account(session, project, account)


def ledger(session: Session, project: ProjectOption = None, output: FormatOption = Format.TABLE) -> None:
    """List the transfers in KRW in the order in which they were written."""
    rows = [
        {
            "sequence": each.sequence,
            "at": each.at,
            "project": each.project,
            "kind": each.kind.value,
            "debit": each.debit.value,
            "credit": each.credit.value,
            "krw": each.krw,
            "key": each.key,
            "note": each.note,
        }
        for each in copayments.journal(session.database, project)
    ]
    show(session, JOURNAL, rows, output)


def _say_account(session: Session, project: str, account: Account) -> None:
    session.say(
        f"{project}: {account.owed:,} KRW owed, {account.paid:,} paid, {account.credit:,} in credit.",
        f"{project}: 미납 {account.owed:,}원, 납부 {account.paid:,}원, 환급 대기 {account.credit:,}원.",
    )


def _say_total(session: Session, one: Statement) -> None:
    total = one.total
    carried_in, carried_out = show_numerator(total.carried_in), show_numerator(total.carried_out)
    use, credit = show_numerator(total.use), show_numerator(total.credit)
    session.say(
        f"Carried in {carried_in}, use {use}, credit {credit}: {total.amount:,} KRW, carried on {carried_out}.",
        f"이월 {carried_in}, 사용 {use}, 공제 {credit}: 청구 {total.amount:,}원, 다음 이월 {carried_out}.",
    )
    if one.closed_at is None:
        session.say(
            f"Preliminary; {one.open_runs} runs are still open and come with a later statement.",
            f"잠정 내역. 아직 끝나지 않은 실행 {one.open_runs}건은 이후 명세서에 포함됩니다.",
        )
    else:
        at = show_instant(one.closed_at)
        session.say(f"Closed {at} by {one.closed_by}.", f"{at}에 {one.closed_by}이(가) 마감.")
    _say_account(session, one.project, one.account)


def _statement_row(one: Statement) -> dict[str, Any]:
    return {
        "project": one.project,
        "month": str(one.month),
        "carried_in_krw_seconds": one.total.carried_in,
        "use_krw_seconds": one.total.use,
        "credit_krw_seconds": one.total.credit,
        "krw": one.total.amount,
        "carried_out_krw_seconds": one.total.carried_out,
        "closed_at": one.closed_at,
        "owed_krw": one.account.owed,
        "paid_krw": one.account.paid,
        "credit_krw": one.account.credit,
        "open_runs": one.open_runs,
        "unpriced_runs": one.unpriced_runs,
    }


def _line_row(one: Statement, each: copayments.StatementLine) -> dict[str, Any]:
    line = each.line
    return {
        "project": one.project,
        "month": str(line.month),
        "run": line.run_id,
        "profile": each.profile,
        "kind": line.kind.value,
        "devices": line.devices,
        "seconds": line.seconds,
        "krw_per_device_month": line.krw_per_device_month,
        "krw_seconds": line.numerator if line.kind is LineKind.USE else -line.numerator,
    }


def _show(session: Session, columns: Sequence[Column], rows: Any, output: Format) -> None:
    """Numerators are amounts of their own unit: KRW for people, KRW × seconds for programs."""
    if output is not Format.TABLE:
        show(session, columns, rows, output)
        return
    texts = tuple(
        Column(each.key, each.english, each.korean) if each.key.endswith(_NUMERATOR) else each for each in columns
    )
    shown = [
        {key: show_numerator(value) if key.endswith(_NUMERATOR) else value for key, value in row.items()}
        for row in rows
    ]
    show(session, texts, shown, output)
