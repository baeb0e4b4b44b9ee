"""`mudeung rates facts` and `devices`: what the sources say of the devices that rates are for."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, show
from quotas.domain.rates import CapabilityFact, Density, FactStatus, Precision
from quotas.domain.units import InvalidValue, parse_rate_gflops, show_rate
from quotas.services import images, profiles

FACTS = (
    Column("device", "device", "장치"),
    Column("precision", "precision", "정밀도"),
    Column("density", "density", "밀도"),
    Column("peak_gflops", "peak", "최대 성능", Kind.RATE),
    Column("status", "status", "상태"),
    Column("counts", "counts", "적용"),
    Column("source", "source", "출처"),
    Column("source_date", "of", "출처 일자"),
)
DEVICES = (
    Column("device", "device", "장치"),
    Column("name", "name", "이름"),
    Column("kind", "kind", "종류"),
    Column("memory_gib", "memory GiB", "메모리 GiB"),
    Column("parent", "slice of", "상위 장치"),
    Column("share", "share", "비율"),
    Column("share_status", "share is", "비율 상태"),
    Column("share_source", "share's source", "비율 출처"),
)
Device = Annotated[str, typer.Argument(help="Code of the device model.", show_default=False)]


def register(group: typer.Typer) -> None:
    """The commands are in the group."""
    command(group, "facts", example="mudeung rates facts --device h100")(list_facts)
    command(group, "devices", example="mudeung rates devices -o csv")(list_devices)
    command(group, "load-devices", example="mudeung rates load-devices")(load_devices)
    command(
        group,
        "add-fact",
        example='mudeung rates add-fact t4 --precision fp32 --peak 8.1TF --source "NVIDIA T4 data sheet"'
        " --status official --date 2019-03",
    )(add_fact)
    command(
        group, "supersede-fact", example='mudeung rates supersede-fact b200 --precision fp32 --source "early brief"'
    )(supersede_fact)


def list_facts(
    session: Session,
    device: Annotated[str | None, typer.Option(help="Only this device model's.", metavar="CODE")] = None,
    precision: Annotated[Precision | None, typer.Option(help="Only at this precision.")] = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """List what the sources say of the devices. What no source says of a device is not there."""
    models, facts = profiles.devices(session.database)
    if device is not None:
        _must_know(device, [model.code for model in models])
    rows = [
        _fact_row(session, fact)
        for fact in facts
        if device in {None, fact.device_model} and precision in {None, fact.precision}
    ]
    show(session, FACTS, rows, output)


def _must_know(device: str, known: list[str]) -> None:
    if device not in known:
        there = ", ".join(known)
        raise InvalidValue(
            "device", f"there is no {device!r:.60}; there are: {there}", f"{device!r:.60}. 가능: {there}"
        )


def _fact_row(session: Session, fact: CapabilityFact) -> dict[str, Any]:
    return {
        "device": fact.device_model,
        "precision": fact.precision.value,
        "density": fact.density.value,
        "peak_gflops": fact.peak_gflops,
        "status": fact.status.value,
        "counts": session.text("no, superseded", "아니요(대체됨)") if fact.superseded else session.text("yes", "예"),
        "source": fact.source,
        "source_date": fact.source_date,
    }


def list_devices(session: Session, output: FormatOption = Format.TABLE) -> None:
    """List the device models; of slices with their share of the whole device and how it is known."""
    rows = [
        {
            "device": model.code,
            "name": model.name,
            "kind": model.kind,
            "memory_gib": f"{model.memory_bytes / 2**30:.4g}",
            "parent": model.parent,
            "share": f"{model.units}/{model.units_total}" if model.parent else None,
            "share_status": model.units_status.value if model.parent else None,
            "share_source": (model.units_source or None) if model.parent else None,
        }
        for model in profiles.devices(session.database)[0]
    ]
    show(session, DEVICES, rows, output)


def load_devices(session: Session) -> None:
    """Add the device models that the program knows, with what sources say of them, where they are not there yet."""
    added = images.add_known_devices(session.database, actor=session.actor, now=session.now)
    session.say(f"{added} device models added.", f"장치 모델 {added}개를 추가했습니다.")


def add_fact(  # noqa: PLR0913 - each is one column of a fact
    session: Session,
    device: Device,
    *,
    precision: Annotated[Precision, typer.Option(help="Number format.", show_default=False)],
    peak: Annotated[str, typer.Option(help="Rate, as in 66.9TF.", show_default=False)],
    source: Annotated[str, typer.Option(help="Where it is stated.", show_default=False)],
    status: Annotated[FactStatus, typer.Option(help="How it is known.", show_default=False)],
    density: Annotated[Density, typer.Option(help="Without or with sparsity.")] = Density.DENSE,
    date: Annotated[str | None, typer.Option(help="The source's: 2018, 2018-09 or 2018-09-13.")] = None,
) -> None:
    """Add what a source says of a device; other sources' figures stay beside it."""
    fact = CapabilityFact(device, precision, parse_rate_gflops("peak", peak), source, status, density, date)
    profiles.add_fact(session.database, fact, actor=session.actor, now=session.now)
    shown = f"{device} {precision.value} {show_rate(fact.peak_gflops)} ({status.value})"
    session.say(f"Added: {shown}.", f"추가됨: {shown}.")


def supersede_fact(
    session: Session,
    device: Device,
    *,
    precision: Annotated[Precision, typer.Option(help="Number format.", show_default=False)],
    source: Annotated[str, typer.Option(help="As `rates facts` shows it.", show_default=False)],
) -> None:
    """Let a figure count no more, as its source has stated another; it stays in the list."""
    profiles.supersede_fact(session.database, device, precision, source, actor=session.actor, now=session.now)
    session.say(f"It counts no more for {device}.", f"{device}: 더 이상 적용되지 않습니다.")
