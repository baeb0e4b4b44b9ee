"""`mudeung rates buys`: what an award buys by the rate card."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import amounts
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, as_json, plain, show
from quotas.domain.award_value import AwardValue, ProfileValue
from quotas.domain.projects import Award
from quotas.domain.units import (
    PPM,
    InvalidValue,
    parse_instant,
    parse_rate_gflops,
    show_budget,
    show_instant,
    show_rate,
)
from quotas.services import award_value

BUYS = (
    Column("profile", "profile", "프로필"),
    Column("rate_gflops", "rate", "요율", Kind.RATE),
    Column("seconds", "hours of one", "한 개 사용 시간", Kind.SECONDS),
    Column("at_once", "at once", "동시 개수", Kind.NUMBER),
    Column("krw_an_hour", "KRW an hour", "시간당 원"),
    Column("krw_of_the_award", "KRW in all", "전체 원", Kind.NUMBER),
    Column("hint", "", ""),
)


def register(group: typer.Typer) -> None:
    """The command is in the group."""
    command(group, "buys", example="mudeung rates buys --award 0.02PF --starts 2026-12-01 --ends 2027-12-01")(buys)


def buys(  # noqa: PLR0913 - each is one part of an award
    session: Session,
    *,
    award: Annotated[str | None, typer.Option(help="Rate, as in 0.02PF.", show_default=False)] = None,
    starts: Annotated[str | None, typer.Option(help="First day, as in 2026-12-01.", show_default=False)] = None,
    ends: Annotated[str | None, typer.Option(help="Day after the last.", show_default=False)] = None,
    burst: Annotated[str, typer.Option(help="How many times the award may run at once.")] = "1",
    utilisation: Annotated[str, typer.Option(help="Share of the award × time that is granted.")] = "1",
    project: Annotated[
        str | None, typer.Option(help="What this project's award buys, instead.", metavar="CODE")
    ] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Say what an award buys: a budget, what may run at once and, for each profile, hours and KRW."""
    if project is not None:
        if (award, starts, ends, burst, utilisation) != (None, None, None, "1", "1"):
            raise InvalidValue(
                "project",
                "has an award with dates and factors of its own; leave the others out",
                "과제에는 이미 배정이 있으므로 다른 항목은 쓰지 마세요",
            )
        found = award_value.of_project(session.database, project, session.now)
    else:
        found = award_value.buys(
            session.database, _award(session, award, starts, ends, burst, utilisation), session.now
        )
    rows = [_bought(session, each) for each in found.profiles]
    if output is Format.JSON:
        print(as_json(_as_json(found, rows)))
        return
    if output is Format.TABLE:
        _say_means(session, found)
    show(session, BUYS, rows, output)


def _award(
    session: Session, award: str | None, starts: str | None, ends: str | None, burst: str, utilisation: str
) -> Award:
    for field, given in (("award", award), ("starts", starts), ("ends", ends)):
        if given is None:
            message = "must be given, or --project with a code"
            raise InvalidValue(field, message, "값을 주거나 --project로 과제를 지정하세요")
    share = amounts.factor_ppm("utilisation", utilisation)
    if share > PPM:
        raise InvalidValue("utilisation", f"must be at most 1, not {utilisation}", f"1 이하여야 합니다 ({utilisation})")
    return Award(
        gflops=parse_rate_gflops("award", award or ""),
        precision=session.settings.reference_precision.value,
        starts_at=parse_instant("starts", starts or ""),
        ends_at=parse_instant("ends", ends or ""),
        burst_ppm=amounts.factor_ppm("burst", burst),
        utilisation_ppm=share,
    )


def _bought(session: Session, each: ProfileValue) -> dict[str, Any]:
    an_hour = each.krw_of_an_hour
    return {
        "profile": each.profile,
        "rate_gflops": each.gflops,
        "seconds": each.seconds,
        "at_once": each.at_once,
        "krw_an_hour": None if an_hour is None else f"{an_hour[0]:,}.{an_hour[1]:02}",
        "krw_of_the_award": each.krw_of_the_award,
        "hint": each.hint(session.language),
        "burst_needed_ppm": each.burst_needed_ppm,
    }


def _say_means(session: Session, found: AwardValue) -> None:
    means = found.means
    starts, ends = show_instant(means.starts_at), show_instant(means.ends_at)
    rate, budget, ceiling = show_rate(means.gflops), show_budget(means.budget_gflops_seconds), means.ceiling_gflops
    session.say(
        f"{rate} ({means.precision}) from {starts} to {ends}: {budget}, at once at most {show_rate(ceiling)};"
        f" by rate card {found.card_version}.",
        f"{rate} ({means.precision}), {starts} ~ {ends}: {budget}, 동시 한도 {show_rate(ceiling)},"
        f" 요율표 {found.card_version} 기준.",
    )


def _as_json(found: AwardValue, rows: list[dict[str, Any]]) -> dict[str, Any]:
    means = found.means
    columns = (*BUYS, Column("burst_needed_ppm", "", ""))
    return {
        "award_gflops": str(means.gflops),
        "precision": means.precision,
        "budget_gflops_seconds": str(means.budget_gflops_seconds),
        "ceiling_gflops": str(means.ceiling_gflops),
        "card_version": found.card_version,
        "profiles": [plain(columns, row) for row in rows],
    }
