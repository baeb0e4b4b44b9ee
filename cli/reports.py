"""`mudeung report`: what a calendar month was used for, by project and device."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, as_json, plain, show
from quotas.services import reports
from quotas.services.reports import MonthlyReport, MonthlyUse

_NUMBERS = (
    Column("runs", "runs", "실행", Kind.NUMBER),
    Column("device_seconds", "device time", "장치 시간", Kind.SECONDS),
    Column("idle_device_seconds", "unclaimed seats", "미사용 좌석", Kind.SECONDS),
    Column("used_gflops_seconds", "used", "사용", Kind.AMOUNT),
    Column("charged_gflops_seconds", "charged", "청구", Kind.AMOUNT),
    Column("overrun_gflops_seconds", "overrun", "초과", Kind.AMOUNT),
    Column("refunded_gflops_seconds", "refunded", "환급", Kind.AMOUNT),
)
USE = (Column("project", "project", "과제"), Column("device", "device", "장치"), *_NUMBERS)
_SOURCE = (
    Column("month", "month", "월"),
    Column("journal_offset", "journal up to", "거래 번호", Kind.NUMBER),
    Column("rate_cards", "rate cards", "요율표"),
    Column("is_final", "final", "확정"),
)
"""What makes the report reproducible: in CSV it stands on each line, as a file has one table."""


def register(app: typer.Typer) -> None:
    command(app, "report", example="mudeung report --month 2026-11 -o csv")(report)


def report(
    session: Session,
    month: Annotated[str, typer.Option(help="Calendar month in the centre's zone.", metavar="YYYY-MM")],
    offset: Annotated[
        int | None, typer.Option(help="As the ledger was at this transfer; the newest one if not given.")
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Report a month's use by project and device: the time that ran in it, and what was charged and refunded in it."""
    found = reports.monthly(session.database, month, now=session.now, offset=offset)
    source = {
        "month": str(found.month),
        "journal_offset": found.offset,
        "rate_cards": [str(version) for version in found.card_versions],
        "is_final": "yes" if found.is_final else "no",
    }
    lines = [_row(line) for line in found.lines]
    if output is Format.JSON:
        print(as_json(_document(found, source, lines)))
    elif output is Format.CSV:
        show(session, (*_SOURCE, *USE), [source | line for line in lines], output)
    else:
        _print(session, found, lines)


def _row(line: MonthlyUse) -> dict[str, Any]:
    return {
        "project": line.project or None,
        "device": line.device_model,
        "runs": line.runs,
        "device_seconds": line.device_seconds,
        "idle_device_seconds": line.idle_device_seconds,
        "used_gflops_seconds": line.used,
        "charged_gflops_seconds": line.charged,
        "overrun_gflops_seconds": line.overrun,
        "refunded_gflops_seconds": line.refunded,
    }


def _document(found: MonthlyReport, source: dict[str, Any], lines: list[dict[str, Any]]) -> dict[str, Any]:
    by_device = [plain((USE[1], *_NUMBERS), _row(line)) for line in found.by_device()]
    return plain(_SOURCE, source | {"is_final": found.is_final}) | {
        "open_runs": found.open_runs,
        "lines": [plain(USE, line) for line in lines],
        "devices": by_device,
        "total": plain(_NUMBERS, _row(found.total)),
    }


def _print(session: Session, found: MonthlyReport, lines: list[dict[str, Any]]) -> None:
    versions = ", ".join(map(str, found.card_versions)) or "-"
    session.say(
        f"{found.month} (KST), ledger up to transfer {found.offset:,}, rate cards: {versions}",
        f"{found.month} (KST), 원장 거래 {found.offset:,}번까지, 요율표: {versions}",
    )
    if not found.is_final:
        session.say(
            f"Not final: {found.open_runs} run(s) of it not charged yet"
            + ("." if found.is_over else ", and the month is not over."),
            f"미확정: 아직 청구되지 않은 실행 {found.open_runs}건" + ("" if found.is_over else ", 진행 중인 달"),
        )
    total = _row(found.total) | {"project": session.text("total", "합계")}
    show(session, USE, [*lines, total] if lines else [])
