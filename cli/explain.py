"""`mudeung explain`: the decision on a start, rule by rule, with the numbers that it read."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, as_json, show
from quotas.domain.admission import Admitted, Request
from quotas.domain.refusals import Refused
from quotas.domain.runs import RunKind
from quotas.domain.units import moment, show_budget, show_duration, show_instant, show_rate
from quotas.services.offers import Explained, explain

RULES = (
    Column("outcome", "", ""),
    Column("rule", "rule", "규칙"),
    Column("asks", "asks", "조건"),
    Column("answer", "outcome", "결과"),
)
NUMBERS = (Column("name", "number", "값"), Column("shown", "", ""))
_STRINGS = ("_gflops", "_gflops_seconds")


def register(app: typer.Typer) -> None:
    command(app, "explain", example="mudeung explain minji vision-lab cpu-small")(explain_start)


def explain_start(
    session: Session,
    person: Annotated[str, typer.Argument(help="Username.", show_default=False)],
    project: Annotated[str, typer.Argument(help="Code of the project.", show_default=False)],
    profile: Annotated[str, typer.Argument(help="Code of the profile.", show_default=False)],
    batch_seconds: Annotated[
        int | None, typer.Option("--batch", help="Ask for a batch run of so many seconds.", metavar="SECONDS", min=1)
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Say whether PERSON may start PROFILE on PROJECT now, with each rule's outcome; nothing is held."""
    kind = RunKind.NOTEBOOK if batch_seconds is None else RunKind.BATCH
    request = Request("", kind, person, project, profile, batch_seconds)
    explained = explain(session.database, request, session.now, session.settings.policy())
    if output is Format.JSON:
        print(as_json(_json(session, explained)))
        return
    rows = [
        {
            "outcome": "✓" if each.refused is None else "✗",
            "rule": each.rule,
            "asks": each.asks,
            "answer": "" if each.refused is None else each.refused.message(session.language),
        }
        for each in explained.rules
    ]
    show(session, RULES, rows, output)
    if output is Format.CSV:
        return
    show(session, NUMBERS, [{"name": name, "shown": _shown(name, value)} for name, value in explained.numbers.items()])
    _print_decision(session, explained.decision)


def _print_decision(session: Session, decision: Admitted | Refused) -> None:
    at = show_instant(session.now)
    if isinstance(decision, Refused):
        sentence = decision.sentence(session.language)
        session.say(f"Refused at {at} ({decision.code}): {sentence}", f"거부 ({at}, {decision.code}): {sentence}")
        return
    amount, rate = show_budget(decision.amount), show_rate(decision.gflops)
    seconds = show_duration(decision.until_at - decision.opened_at, session.language)
    session.say(
        f"Admitted at {at}: it would hold {amount} for {seconds} at {rate} (rate card {decision.card_version}).",
        f"허용 ({at}): {rate}로 {seconds} 동안 {amount} 예약 (요율표 {decision.card_version}).",
    )


def _shown(name: str, value: str | int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if name.endswith("_at"):
        return show_instant(value)
    if name.endswith("_gflops_seconds"):
        return f"{show_budget(value)} ({value:,} GFLOPS·s)"
    return f"{show_rate(value)} ({value:,} GFLOPS)" if name.endswith("_gflops") else f"{value:,}"


def _json(session: Session, explained: Explained) -> dict[str, object]:
    decision = explained.decision
    answer: dict[str, object] = {"at": _instant(session.now), "admitted": isinstance(decision, Admitted)}
    if isinstance(decision, Refused):
        answer |= {"code": decision.code.value, "status": decision.status, "fits_now": decision.fits_now}
        answer |= {"message": decision.message(session.language), "next": decision.next_step(session.language)}
        answer["earliest_at"] = None if decision.earliest_at is None else _instant(decision.earliest_at)
    else:
        answer |= {"hold_gflops_seconds": str(decision.amount), "rate_gflops": str(decision.gflops)}
        answer |= {"until_at": _instant(decision.until_at), "card_version": decision.card_version}
    answer["rules"] = [
        {
            "rule": each.rule,
            "passes": each.refused is None,
            "code": None if each.refused is None else each.refused.code.value,
            "message": None if each.refused is None else each.refused.message(session.language),
        }
        for each in explained.rules
    ]
    answer["numbers"] = {name: _number(name, value) for name, value in explained.numbers.items()}
    return answer


def _number(name: str, value: str | int | None) -> str | int | None:
    if isinstance(value, int) and name.endswith("_at"):
        return _instant(value)
    return str(value) if isinstance(value, int) and name.endswith(_STRINGS) else value


def _instant(at: int) -> str:
    return moment(at).isoformat().replace("+00:00", "Z")
