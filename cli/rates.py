"""`mudeung rates`: rate cards from draft to successor; with the facts behind them and what awards buy by them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import award_value, devices
from cli.confirmation import Yes, confirm
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, show
from quotas.domain import card_files
from quotas.domain.rate_cards import RateChange
from quotas.domain.rates import RateCard
from quotas.domain.units import InvalidValue, show_instant
from quotas.services import rates

CARDS = (
    Column("version", "card", "요율표"),
    Column("state", "state", "상태"),
    Column("effective_from", "in force from", "시행", Kind.INSTANT),
    Column("reference_precision", "counted in", "기준 정밀도"),
    Column("density", "density", "밀도"),
    Column("rates", "rates", "요율 수", Kind.NUMBER),
    Column("priced", "with a price", "가격 있음", Kind.NUMBER),
    Column("made_at", "published or drafted", "공표·작성", Kind.INSTANT),
    Column("made_by", "by", "작성자"),
)
CARD = (
    Column("profile", "profile", "프로필"),
    Column("rate_gflops", "rate", "요율", Kind.RATE),
    Column("krw_per_device_month", "KRW a device-month", "장치·월 가격(원)", Kind.NUMBER),
    Column("rule", "rule", "근거"),
    Column("reason", "reason", "사유"),
    Column("approver", "approved by", "승인자"),
)
CHANGES = (
    Column("profile", "profile", "프로필"),
    Column("old_gflops", "rate now", "현재 요율", Kind.RATE),
    Column("new_gflops", "new rate", "새 요율", Kind.RATE),
    Column("change_percent", "change", "변화"),
    Column("old_krw", "KRW a device-month", "장치·월 가격(원)", Kind.NUMBER),
    Column("new_krw", "new KRW", "새 가격(원)", Kind.NUMBER),
    Column("note", "", ""),
)
DraftNumber = Annotated[int, typer.Argument(help="Number of the draft.", show_default=False)]
CardFile = Annotated[Path, typer.Argument(help="TOML file; see docs/rates.md.", show_default=False)]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Rate cards, the facts that feed them, and what awards buy.", no_args_is_help=True)
    command(group, "list", example="mudeung rates list")(list_cards)
    command(group, "show", example="mudeung rates show 2 --toml > next.toml")(show_card)
    award_value.register(group)
    devices.register(group)
    command(group, "draft", example="mudeung rates draft next.toml")(draft)
    command(group, "discard", example='mudeung rates discard 3 --reason "prices not agreed"')(discard)
    command(group, "publish", example="mudeung rates publish next.toml --dry-run")(publish)
    app.add_typer(group, name="rates")


def list_cards(session: Session, output: FormatOption = Format.TABLE) -> None:
    """List the rate cards with their states, and the drafts of those to come."""
    show(session, CARDS, map(_card_row, rates.views(session.database, session.now)), output)


def _card_row(view: rates.CardView) -> dict[str, Any]:
    card = view.card
    priced = [rate for rate in card.rates if rate.krw_per_device_month is not None] if card else None
    return {
        "version": f"draft {view.draft}" if view.draft is not None or card is None else card.version,
        "state": view.state.value,
        "effective_from": card.effective_from if card else None,
        "reference_precision": card.reference_precision.value if card else None,
        "density": card.density.value if card else None,
        "rates": len(card.rates) if card else None,
        "priced": None if priced is None else len(priced),
        "made_at": view.made_at,
        "made_by": view.made_by,
    }


def show_card(
    session: Session,
    version: Annotated[int | None, typer.Argument(help="Of the card.", show_default="the one in force")] = None,
    draft: Annotated[int | None, typer.Option(help="Number of a draft, instead.", metavar="NUMBER")] = None,
    toml: Annotated[bool, typer.Option("--toml", help="As a file, from which to start the next card.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show a rate card: each profile's rate, its price, and where they come from."""
    card = rates.read_draft(session.database, draft) if draft is not None else _find_card(session, version)
    if toml:
        print(card_files.write(card), end="")
        return
    rows = [
        {
            "profile": rate.profile,
            "rate_gflops": rate.gflops,
            "krw_per_device_month": rate.krw_per_device_month,
            "rule": rate.rule.value,
            "reason": rate.reason,
            "approver": rate.approver,
        }
        for rate in card.rates
    ]
    if output is Format.TABLE:
        _say_card(session, card)
    show(session, CARD, rows, output)
    if output is Format.TABLE:
        session.say(
            "A device-month is 30 days of 86,400 s. A price of 0 is free; - is not priced.",
            "장치·월은 30일 × 86,400초입니다. 0은 무료, -는 가격 없음입니다.",
        )


def _find_card(session: Session, version: int | None) -> RateCard:
    if version is None:
        card = rates.card_in_force(session.database, session.now)
        if card is None:
            raise InvalidValue("version", "no rate card is in force yet", "시행 중인 요율표가 없습니다")
        return card
    for each in rates.cards(session.database):
        if each.version == version:
            return each
    raise InvalidValue("version", f"there is no rate card {version}", f"요율표 {version}이(가) 없습니다")


def _say_card(session: Session, card: RateCard) -> None:
    since, counted = show_instant(card.effective_from), f"{card.reference_precision.value}, {card.density.value}"
    session.say(
        f"Rate card {card.version}, in force from {since}; GFLOPS in {counted}.",
        f"요율표 {card.version}, {since}부터 시행, 기준 {counted}.",
    )


def draft(session: Session, file: CardFile) -> None:
    """Keep a card as a draft, and show what publishing it would change."""
    number, preview = rates.draft(session.database, _read(file), actor=session.actor, now=session.now)
    _show_changes(session, preview, Format.TABLE)
    session.say(
        f"Draft {number}; `mudeung rates publish --draft {number}` publishes it.",
        f"초안 {number}. `mudeung rates publish --draft {number}`로 공표합니다.",
    )


def discard(
    session: Session,
    number: DraftNumber,
    reason: Annotated[str, typer.Option(help="Why; it stands in the audit.", show_default=False)],
) -> None:
    """Discard a draft."""
    rates.discard(session.database, number, reason=reason, actor=session.actor, now=session.now)
    session.say(f"Draft {number} is discarded.", f"초안 {number} 폐기됨.")


def publish(
    session: Session,
    file: Annotated[Path | None, typer.Argument(help="TOML file; see docs/rates.md.", show_default=False)] = None,
    draft: Annotated[int | None, typer.Option(help="Number of a draft, instead.", metavar="NUMBER")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would change.")] = False,
    yes: Yes = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Publish a rate card: it can never be changed after. Open holds and past charges keep their rates."""
    if (file is None) == (draft is None):
        raise InvalidValue("file", "give a file, or --draft with a number", "파일 또는 --draft 번호 중 하나를 주세요")
    if draft is not None:
        card = rates.read_draft(session.database, draft)
    else:
        card = rates.read_file(session.database, _read(file or Path()))
    preview = rates.preview(session.database, card, session.now)
    _show_changes(session, preview, output)
    if dry_run:
        return
    since = show_instant(card.effective_from)
    question = (
        f"Publish rate card {card.version}, in force from {since}? It can never be changed.",
        f"요율표 {card.version}을(를) {since} 시행으로 공표할까요? 이후 바꿀 수 없습니다.",
    )
    confirm(session, *question, yes=yes)
    rates.publish(session.database, card, actor=session.actor, now=session.now, draft=draft)
    if output is Format.TABLE:
        session.say(f"Published rate card {card.version}.", f"요율표 {card.version} 공표됨.")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(
            "file", f"{file} cannot be read: {error}", f"{file}을(를) 읽을 수 없습니다: {error}"
        ) from None


def _show_changes(session: Session, preview: rates.Preview, output: Format) -> None:
    if output is Format.TABLE:
        _say_card(session, preview.card)
    rows = [
        {
            "profile": each.profile,
            "old_gflops": each.old_gflops,
            "new_gflops": each.new_gflops,
            "change_percent": None if each.change_ppm is None else f"{each.change_ppm / 10_000:+.2f} %",
            "old_krw": each.old_krw,
            "new_krw": each.new_krw,
            "note": _change_note(session, each),
        }
        for each in preview.changes
    ]
    show(session, CHANGES, rows, output)


def _change_note(session: Session, change: RateChange) -> str:
    if change.new_gflops is None:
        return session.text("can no longer be started", "더 이상 시작할 수 없음")
    if change.old_gflops is None:
        return session.text("new", "신규")
    return session.text("changed", "변경") if change.is_change else ""
