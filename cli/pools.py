"""`mudeung pools`: where the devices are, from when on how many, which are out of use, and who holds them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.profiles import backend_terms
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, as_json, plain, show
from quotas.domain.awards import Programme
from quotas.domain.capacity import Promise, Span
from quotas.domain.pools import CapacityPhase, Drain
from quotas.domain.priorities import Priority
from quotas.domain.units import PPM, InvalidValue, parse_instant, parse_rate_gflops, show_instant, show_rate
from quotas.services import placement, pools, portfolio
from quotas.services.portfolio import Portfolio

LIST = (
    Column("pool", "pool", "풀"),
    Column("name", "name", "이름"),
    Column("device", "device", "장치"),
    Column("installed", "installed", "설치", Kind.NUMBER),
    Column("powered", "powered", "가동", Kind.NUMBER),
    Column("healthy", "healthy", "정상", Kind.NUMBER),
    Column("drained", "drained", "중단", Kind.NUMBER),
    Column("reserved", "kept for seats", "좌석 확보", Kind.NUMBER),
    Column("in_use", "in use", "사용 중", Kind.NUMBER),
    Column("free", "free", "여유", Kind.NUMBER),
    Column("healthy_gflops", "healthy rate", "정상 용량", Kind.RATE),
)
PHASES = (
    Column("device", "device", "장치"),
    Column("from_at", "from", "시작", Kind.INSTANT),
    Column("installed", "installed", "설치", Kind.NUMBER),
    Column("powered", "powered", "가동", Kind.NUMBER),
    Column("healthy", "healthy", "정상", Kind.NUMBER),
    Column("now", "now", "현재"),
)
DRAINS = (
    Column("id", "drain", "중단 번호", Kind.NUMBER),
    Column("device", "device", "장치"),
    Column("count", "devices", "대수", Kind.NUMBER),
    Column("since", "since", "시작", Kind.INSTANT),
    Column("reason", "reason", "사유"),
)
HOLDERS = (
    Column("turn", "gives way", "반납 순서", Kind.NUMBER),
    Column("run", "run", "실행"),
    Column("kind", "kind", "종류"),
    Column("project", "project", "과제"),
    Column("profile", "profile", "프로필"),
    Column("device", "device", "장치"),
    Column("count", "devices", "대수", Kind.NUMBER),
    Column("priority", "class", "우선 등급"),
    Column("fair_share", "F", "F"),
    Column("opened_at", "since", "시작", Kind.INSTANT),
    Column("until_at", "held until", "예약 종료", Kind.INSTANT),
    Column("ends_by", "not extended after", "연장 한도", Kind.INSTANT),
    Column("preempt_at", "gives way at", "반납 시각", Kind.INSTANT),
)
SPANS = (
    Column("starts_at", "from", "시작", Kind.INSTANT),
    Column("ends_at", "until", "종료", Kind.INSTANT),
    Column("promised_gflops", "promised", "배정", Kind.RATE),
    Column("promised_with_gflops", "with this award", "이 배정 포함", Kind.RATE),
    Column("installed_gflops", "installed", "설치", Kind.RATE),
    Column("powered_gflops", "powered", "가동", Kind.RATE),
    Column("healthy_gflops", "healthy", "정상", Kind.RATE),
    Column("promised_percent", "promised of powered %", "가동 대비 배정 %"),
)
PoolCode = Annotated[str, typer.Argument(help="Code of the pool.", show_default=False)]
Model = Annotated[str, typer.Argument(help="Code of the device model.", show_default=False)]
FromOption = Annotated[str, typer.Option("--from", help="Day or instant, as in 2026-12-01.", show_default=False)]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Pools of devices: dated phases, drains, holders, and what is promised.", no_args_is_help=True
    )
    command(group, "list", example="mudeung pools list -o csv")(list_pools)
    command(group, "show", example="mudeung pools show hall")(show_pool)
    command(group, "add", example='mudeung pools add hall --name-ko "전산실" --name-en "Own hall"')(add)
    command(
        group, "phase", example="mudeung pools phase hall h100 --installed 128 --powered 64 --from 2026-12-01T09:00"
    )(add_phase)
    command(group, "cancel-phase", example="mudeung pools cancel-phase hall h100 --from 2026-12-01T09:00")(cancel_phase)
    command(group, "drain", example='mudeung pools drain hall h100 2 --reason "XID 79 on node 3"')(drain)
    command(group, "undrain", example="mudeung pools undrain 7")(undrain)
    command(
        group,
        "terms",
        example="""mudeung pools terms hall --set '{"kubernetes": {"node_selector": {"hall": "own"}}}'""",
    )(terms)
    command(group, "plan", example="mudeung pools plan --award 0.08PF --starts 2026-12-01 --ends 2027-06-01")(plan)
    app.add_typer(group, name="pools")


def list_pools(session: Session, output: FormatOption = Format.TABLE) -> None:
    """List the devices of all pools as they are now."""
    show(session, LIST, [_row(session, view) for view in pools.capacity(session.database, session.now)], output)


def show_pool(session: Session, pool: PoolCode, output: FormatOption = Format.TABLE) -> None:
    """Show a pool: devices, phases, drains, and who holds its devices, in the order in which they would give way."""
    dated = pools.phases(session.database, pool, session.now)
    there = [each for each in pools.capacity(session.database, session.now) if each.code == pool]
    parts = {
        "devices": (LIST, [_row(session, view) for view in there]),
        "phases": (PHASES, [_phase(each) for each in dated]),
        "drains": (DRAINS, [_drain(each) for each in pools.open_drains(session.database) if each.pool == pool]),
        "holders": (HOLDERS, [_holder(each) for each in pools.holders(session.database, pool, session.now)]),
    }
    rows: list[dict[str, Any]]
    for number, row in enumerate(parts["holders"][1], start=1):
        row["turn"] = number
    if output is Format.JSON:
        print(as_json({name: [plain(columns, row) for row in rows] for name, (columns, rows) in parts.items()}))
        return
    if output is Format.CSV:
        columns, rows = parts["holders"]
        show(session, columns, rows, output)
        return
    for name, (columns, rows) in parts.items():
        headings = {
            "devices": ("Devices now", "현재 장치"),
            "phases": ("Phases", "단계"),
            "drains": ("Out of use", "중단"),
            "holders": ("Holders: who gives way first", "사용 중: 먼저 반납하는 순서"),
        }
        session.say(*headings[name])
        show(session, columns, [_in_words(session, row) for row in rows])


CLASSES = {
    Priority.RESERVED: "예약 좌석",
    Priority.GUARANTEED: "보장",
    Priority.BORROWED: "대여",
    Priority.OPPORTUNISTIC: "유휴 활용",
}
"""What the classes are called in Korean."""


def _in_words(session: Session, row: dict[str, Any]) -> dict[str, Any]:
    """Return the row as a table says it in the session's language."""
    said = dict(row)
    if "priority" in said:
        said["priority"] = session.text(said["priority"], CLASSES[Priority(said["priority"])])
    if "now" in said:
        said["now"] = session.text("in force", "현재") if said["now"] else None
    return said


def add(
    session: Session,
    pool: PoolCode,
    *,
    name_ko: Annotated[str, typer.Option(help="Name in Korean.", show_default=False)],
    name_en: Annotated[str, typer.Option(help="Name in English.", show_default=False)],
    simulated: Annotated[bool, typer.Option("--simulated", help="Nothing of it is attached to what runs.")] = False,
) -> None:
    """Add a pool: a leased cloud, an own hall. It has no devices before its first phase."""
    names = name_ko, name_en
    pools.add_pool(session.database, pool, *names, simulated=simulated, actor=session.actor, now=session.now)
    session.say(f"Added {pool}; it has no devices yet.", f"{pool} 추가됨. 아직 장치가 없습니다.")


def terms(
    session: Session,
    pool: PoolCode,
    given: Annotated[
        str | None,
        typer.Option("--set", help="New terms, a JSON object by backend; '{}' for none.", show_default=False),
    ] = None,
) -> None:
    """Show or set which machines of a cluster take a pool's runs: `node_selector` and `tolerations`, as in a pod.

    They hold for runs that start from then on, and count before those of a profile.
    """
    if given is not None:
        placement.set_terms(session.database, pool, backend_terms(given), actor=session.actor, now=session.now)
    print(as_json(placement.terms_of(session.database, pool)))


def add_phase(  # noqa: PLR0913 - each is one field of a phase
    session: Session,
    pool: PoolCode,
    device: Model,
    *,
    from_at: FromOption,
    installed: Annotated[int, typer.Option(help="How many are there.", show_default=False)],
    powered: Annotated[int | None, typer.Option(help="How many have power.", show_default="as installed")] = None,
    healthy: Annotated[int | None, typer.Option(help="How many can be used.", show_default="as powered")] = None,
) -> None:
    """From an instant on, until the next phase of the same model, the pool has these devices."""
    powered = installed if powered is None else powered
    phase = CapacityPhase(
        device, parse_instant("from", from_at), installed, powered, powered if healthy is None else healthy
    )
    pools.add_phase(session.database, pool, phase, actor=session.actor, now=session.now)
    at = show_instant(phase.from_at)
    session.say(
        f"From {at} on {pool} has {phase.healthy} healthy {device}.",
        f"{at}부터 {pool}의 정상 {device}: {phase.healthy}대.",
    )


def cancel_phase(session: Session, pool: PoolCode, device: Model, *, from_at: FromOption) -> None:
    """Cancel a phase that has not begun: the one before it goes on."""
    at = parse_instant("from", from_at)
    pools.cancel_phase(session.database, pool, device, at, actor=session.actor, now=session.now)
    shown = show_instant(at)
    session.say(f"The phase of {device} in {pool} at {shown} is cancelled.", f"{pool} {device} {shown} 단계 취소됨.")


def drain(
    session: Session,
    pool: PoolCode,
    device: Model,
    count: Annotated[int, typer.Argument(help="How many devices.", show_default=False)],
    *,
    reason: Annotated[str, typer.Option(help="Why; those who must end are told.", show_default=False)],
) -> None:
    """Take devices out of use from now on: nothing new starts on them, and nothing inside a hold is stopped."""
    drained = pools.drain(session.database, pool, device, count, reason, actor=session.actor, now=session.now)
    session.say(
        f"Drain {drained.id}: {count} {device} of {pool} are out of use.",
        f"중단 {drained.id}: {pool}의 {device} {count}대를 중단했습니다.",
    )


def undrain(
    session: Session,
    number: Annotated[int, typer.Argument(metavar="DRAIN", help="As `mudeung pools show` says.", show_default=False)],
    *,
    count: Annotated[int | None, typer.Option(help="How many devices of it.", show_default="all")] = None,
) -> None:
    """Put drained devices into use again."""
    left = pools.undrain(session.database, number, count=count, actor=session.actor, now=session.now)
    if left is None:
        session.say(f"Drain {number} has ended.", f"중단 {number} 종료.")
        return
    session.say(
        f"Drain {number} has ended; {left.count} {left.device_model} are left out of use as drain {left.id}.",
        f"중단 {number} 종료. 남은 {left.device_model} {left.count}대는 중단 {left.id}(으)로 이어집니다.",
    )


def plan(
    session: Session,
    *,
    months: Annotated[int, typer.Option(help="How many months from this one on.")] = 12,
    award: Annotated[
        str | None, typer.Option(help="Rate that is thought of, as in 0.08PF.", show_default=False)
    ] = None,
    starts: Annotated[str | None, typer.Option(help="Its first day.", show_default="now")] = None,
    ends: Annotated[str | None, typer.Option(help="The day after its last.", show_default=False)] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Show what is promised against what there is, by month and phase: also with an award that is thought of."""
    promise = None
    if award is not None:
        if ends is None:
            raise InvalidValue("ends", "an award needs an end, as in 2027-06-01", "2027-06-01처럼 종료일이 필요합니다")
        starts_at = session.now if starts is None else parse_instant("starts", starts)
        promise = Promise(parse_rate_gflops("award", award), starts_at, parse_instant("ends", ends))
    elif starts is not None or ends is not None:
        raise InvalidValue("award", "say the rate of the award, as in 0.08PF", "0.08PF처럼 배정 용량을 지정하세요")
    settings = session.settings
    programme = Programme(settings.reference_precision, settings.oversubscription_limit_ppm)
    found = portfolio.plan(session.database, session.now, programme, months=months, award=promise)
    columns = [each for each in SPANS if promise is not None or each.key != "promised_with_gflops"]
    rows = [_span(each) for each in found.spans]
    if output is Format.JSON:
        print(as_json(_plan(found, [plain(columns, row) for row in rows])))
        return
    show(session, columns, rows, output)
    if output is Format.TABLE:
        _say_verdict(session, found)


def _say_verdict(session: Session, found: Portfolio) -> None:
    limit = f"{found.limit_ppm * 100 / PPM:g} %"
    session.say(
        f"At {found.precision}; awards may be promised up to {limit} of what is powered.",
        f"{found.precision} 기준. 배정 한도는 가동 용량의 {limit}입니다.",
    )
    if found.award is None:
        return
    if found.over is None:
        session.say("This award stays within the limit.", "이 배정은 한도 안에 있습니다.")
        return
    at, promised, powered = show_instant(found.over.at), show_rate(found.over.promised), show_rate(found.over.powered)
    session.say(
        f"This award needs consent: at {at} {promised} would be promised on {powered} powered.",
        f"이 배정에는 동의가 필요합니다: {at} 기준 가동 {powered}에 배정 {promised}가 됩니다.",
    )


def _plan(found: Portfolio, spans: list[dict[str, Any]]) -> dict[str, Any]:
    answer: dict[str, Any] = {"precision": found.precision.value, "limit_ppm": found.limit_ppm, "spans": spans}
    if found.award is not None:
        over = found.over
        answer["needs_consent"] = over is not None
        answer["worst"] = over and {
            "at": show_instant(over.at),
            "promised_gflops": str(over.promised),
            "powered_gflops": str(over.powered),
        }
    return answer


def _row(session: Session, view: pools.PoolView) -> dict[str, Any]:
    return {
        "pool": view.code,
        "name": view.name(session.language),
        "device": view.device_model,
        "installed": view.installed,
        "powered": view.powered,
        "healthy": view.healthy,
        "drained": view.drained,
        "reserved": view.reserved,
        "in_use": view.in_use,
        "free": max(view.usable - view.in_use, 0),
        "healthy_gflops": None if view.device_gflops is None else view.healthy_gflops,
    }


def _phase(view: pools.PhaseView) -> dict[str, Any]:
    phase = view.phase
    return {
        "device": phase.device_model,
        "from_at": phase.from_at,
        "installed": phase.installed,
        "powered": phase.powered,
        "healthy": phase.healthy,
        "now": view.is_in_force,
    }


def _drain(drain: Drain) -> dict[str, Any]:
    return {
        "id": drain.id,
        "device": drain.device_model,
        "count": drain.count,
        "since": drain.since,
        "reason": drain.reason,
    }


def _holder(view: pools.HolderView) -> dict[str, Any]:
    return {
        "run": view.run_id,
        "kind": view.kind,
        "project": view.project,
        "profile": view.profile,
        "device": view.device_model,
        "count": view.device_count,
        "priority": view.priority.value,
        "fair_share": f"{view.fair_share:.3f}",
        "opened_at": view.opened_at,
        "until_at": view.until_at,
        "ends_by": view.ends_by,
        "preempt_at": view.preempt_at,
    }


def _span(span: Span) -> dict[str, Any]:
    part = span.promised_ppm
    return {
        "starts_at": span.starts_at,
        "ends_at": span.ends_at,
        "promised_gflops": span.promised,
        "promised_with_gflops": span.promised_with,
        "installed_gflops": span.installed,
        "powered_gflops": span.powered,
        "healthy_gflops": span.healthy,
        "promised_percent": None if part is None else f"{part * 100 / PPM:.1f}",
    }
