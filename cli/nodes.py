"""`mudeung nodes`: machines with accelerators, their devices, and what befell these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from agent.options import TOKEN_VARIABLE
from cli.confirmation import Yes, confirm
from cli.session import Session, command
from cli.tables import Column, Format, FormatOption, Kind, as_json, show
from quotas.domain.inventory import STATE_WORDS, Cleaning, DeviceState
from quotas.domain.units import PPM
from quotas.services import cleaning, inventory, nodes
from quotas.services.inventory import DeviceView
from quotas.services.nodes import NODE_STATE_WORDS, NodeView

LIST = (
    Column("node", "machine", "장비"),
    Column("pool", "pool", "풀"),
    Column("state", "state", "상태"),
    Column("reported_at", "last report", "마지막 보고", Kind.INSTANT),
    Column("devices", "devices", "장치"),
    Column("reports_missed", "reports missed", "누락 보고", Kind.NUMBER),
    Column("agent_version", "agent", "에이전트"),
    Column("added_at", "added", "추가", Kind.INSTANT),
)
DEVICES = (
    Column("pool", "pool", "풀"),
    Column("node", "machine", "장비"),
    Column("position", "no.", "번호", Kind.NUMBER),
    Column("uuid", "UUID", "UUID"),
    Column("name", "name", "이름"),
    Column("device_model", "model", "모델"),
    Column("units", "multiprocessors", "멀티프로세서"),
    Column("state", "state", "상태"),
    Column("since", "since", "시작", Kind.INSTANT),
    Column("reason", "reason", "사유"),
    Column("run", "run", "실행"),
    Column("project", "project", "과제"),
    Column("person", "person", "사용자"),
    Column("busy_percent", "busy %", "사용률 %"),
    Column("read_at", "read", "측정", Kind.INSTANT),
)
EVENTS = (
    Column("at", "at", "시각", Kind.INSTANT),
    Column("node", "machine", "장비"),
    Column("uuid", "UUID", "UUID"),
    Column("kind", "what", "종류"),
    Column("code", "number", "번호", Kind.NUMBER),
    Column("run", "run", "실행"),
    Column("text", "text", "내용"),
)
MOST_EVENTS = 1000
Name = Annotated[str, typer.Argument(help="Name of the machine.", show_default=False)]
Device = Annotated[str, typer.Argument(help="UUID of the device, or its first 6 letters or more.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why; it stands in the audit.", show_default=False)]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Machines with accelerators, their devices and what befell these.", no_args_is_help=True)
    command(group, "add", example="mudeung nodes add gpu-1 --pool hall")(add)
    command(group, "list", example="mudeung nodes list -o json")(list_nodes)
    command(group, "rotate", example="mudeung nodes rotate gpu-1")(rotate)
    command(group, "remove", example="mudeung nodes remove gpu-1")(remove)
    command(group, "devices", example="mudeung nodes devices --pool hall -o csv")(list_devices)
    command(group, "match", example="mudeung nodes match GPU-5f0e h100")(match)
    command(group, "quarantine", example='mudeung nodes quarantine GPU-5f0e --reason "it is loud"')(quarantine)
    command(group, "release", example='mudeung nodes release GPU-5f0e --reason "reset and tested"')(release)
    command(group, "retire", example='mudeung nodes retire GPU-5f0e --reason "sent back"')(retire)
    command(group, "cleaning", example="mudeung nodes cleaning hall scrub")(set_cleaning)
    command(group, "events", example="mudeung nodes events --device GPU-5f0e")(list_events)
    app.add_typer(group, name="nodes")


def add(
    session: Session,
    name: Annotated[str, typer.Argument(help="a-z, 0-9 and '-', as in its host's name.", show_default=False)],
    *,
    pool: Annotated[str, typer.Option(help="Code of the pool; not a simulated one.", show_default=False)],
    output: Annotated[Format, typer.Option("--output", "-o", help="How to write it; table or json.")] = Format.TABLE,
) -> None:
    """Add a machine to a pool; its token is printed once. From then on the pool has what its machines report."""
    # A cluster gives its devices to pods itself; its machines tell which run has which.
    assigns = session.settings.backend != "kubernetes"
    token = nodes.add(session.database, name, pool, actor=session.actor, now=session.now, assigns=assigns)
    _say_token(session, name, token, output)


def rotate(
    session: Session,
    name: Name,
    *,
    yes: Yes = False,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to write it; table or json.")] = Format.TABLE,
) -> None:
    """Give a machine a new token; the old one is refused at once."""
    confirm(
        session,
        f"The agent on {name} is refused until it has the new token. Go on?",
        f"{name}의 에이전트는 새 토큰을 받을 때까지 거부됩니다. 계속할까요?",
        yes=yes,
    )
    _say_token(session, name, nodes.rotate(session.database, name, actor=session.actor, now=session.now), output)


def _say_token(session: Session, name: str, token: str, output: Format) -> None:
    if output is Format.JSON:
        print(as_json({"node": name, "token": token}))
        return
    session.say(
        f"Token of {name}, which is not shown again: {token}\nOn it: {TOKEN_VARIABLE}=… mudeung agent --url ADDRESS",
        f"{name}의 토큰(다시 표시되지 않음): {token}\n해당 장비에서: {TOKEN_VARIABLE}=… mudeung agent --url 주소",
    )


def list_nodes(session: Session, output: FormatOption = Format.TABLE) -> None:
    """List all machines: whether they report, since when not, and how their devices are."""
    found = nodes.list_nodes(session.database, session.now, session.settings.node_silence_seconds)
    show(session, LIST, [_node(session, view, plain=output is not Format.TABLE) for view in found], output)


def remove(session: Session, name: Name, *, yes: Yes = False) -> None:
    """Remove a machine on which no run holds a device; its devices are retired and the pool's capacity follows."""
    confirm(session, f"Remove {name} and retire its devices?", f"{name}과(와) 장치를 제거할까요?", yes=yes)
    count = nodes.remove(session.database, name, actor=session.actor, now=session.now)
    session.say(f"Removed {name} with {count} devices.", f"{name} 제거됨. 장치 {count}대 제외.")


def list_devices(
    session: Session,
    *,
    pool: Annotated[str | None, typer.Option(help="Only this pool's.", metavar="CODE")] = None,
    node: Annotated[str | None, typer.Option(help="Only this machine's.", metavar="NAME")] = None,
    retired: Annotated[bool, typer.Option("--all", help="Also those that are retired.")] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """List all devices: their state and why, who holds them, and how busy they are."""
    found = inventory.devices(session.database, retired=retired)
    chosen = [view for view in found if pool in {None, view.pool} and node in {None, view.node}]
    show(session, DEVICES, [_device(session, view, plain=output is not Format.TABLE) for view in chosen], output)
    if output is Format.TABLE:
        _say_what_differs(session, chosen)


def _say_what_differs(session: Session, found: list[DeviceView]) -> None:
    unmatched = sum(view.device_model is None for view in found)
    if unmatched:
        session.say(
            f"{unmatched} have no model and are given to nobody: mudeung nodes match UUID MODEL",
            f"모델이 없어 배정되지 않는 장치 {unmatched}대: mudeung nodes match UUID MODEL",
        )
    differ = sorted({str(view.device_model) for view in found if view.units_differ})
    if differ:
        listed = ", ".join(differ)
        session.say(
            f"Of another size than the catalogue says: {listed}", f"목록과 멀티프로세서 수가 다른 슬라이스: {listed}"
        )


def match(
    session: Session,
    device: Device,
    model: Annotated[str, typer.Argument(help="Code of the device model.", show_default=False)],
) -> None:
    """Say of which model a device is that the catalogue does not know by its name."""
    uuid = inventory.match(session.database, device, model, actor=session.actor, now=session.now)
    session.say(f"{uuid} is a {model}.", f"{uuid}: {model}.")


def quarantine(session: Session, device: Device, *, reason: Reason) -> None:
    """Put a device out of use until an operator releases it; one that a run holds, once that has ended."""
    at_once = cleaning.quarantine(session.database, device, reason, actor=session.actor, now=session.now)
    if at_once:
        session.say(f"{device} is quarantined.", f"{device} 격리됨.")
    else:
        session.say(
            f"A run holds {device}; it is quarantined once that has ended.", f"{device}: 실행이 끝난 뒤 격리됩니다."
        )


def release(session: Session, device: Device, *, reason: Reason, yes: Yes = False) -> None:
    """Let a device be held again: after a quarantine, a loss that asked for a reset, or instead of a scrub."""
    _after_asking(
        session,
        device,
        cleaning.release,
        (
            f"Is {device} in order, and is nothing of an earlier run in its memory?",
            f"{device}이(가) 정상이며 메모리에 이전 실행의 내용이 없습니까?",
        ),
        yes=yes,
        reason=reason,
    )
    session.say(f"{device} can be held again.", f"{device}을(를) 다시 사용할 수 있습니다.")


def retire(session: Session, device: Device, *, reason: Reason, yes: Yes = False) -> None:
    """Count a device no more that was taken out of its machine; it is counted again once a machine reports it."""
    asked = f"Was {device} taken out of its machine?", f"{device}을(를) 장비에서 제거했습니까?"
    _after_asking(session, device, cleaning.retire, asked, yes=yes, reason=reason)
    session.say(f"{device} is retired.", f"{device} 제외됨.")


def _after_asking(
    session: Session, device: str, work: Callable[..., str], asked: tuple[str, str], *, yes: bool, reason: str
) -> None:
    confirm(session, *asked, yes=yes)
    work(session.database, device, reason, actor=session.actor, now=session.now)


def set_cleaning(
    session: Session,
    pool: Annotated[str, typer.Argument(help="Code of the pool.", show_default=False)],
    kind: Annotated[Cleaning, typer.Argument(help="What happens to a device between two runs.", show_default=False)],
) -> None:
    """Choose what happens to a pool's devices between two runs: the agent scrubs, an operator releases, or nothing."""
    cleaning.set_cleaning(session.database, pool, kind, actor=session.actor, now=session.now)
    session.say(f"Between two runs in {pool}: {kind.value}.", f"{pool}의 실행 사이 처리: {kind.value}.")


def list_events(
    session: Session,
    *,
    device: Annotated[str | None, typer.Option(help="Only this device's.", metavar="UUID")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST_EVENTS, help="How many at most.")] = 50,
    output: FormatOption = Format.TABLE,
) -> None:
    """List what befell devices, newest first: error numbers, losses, returns."""
    rows = [
        {
            "at": each.at,
            "node": each.node,
            "uuid": each.uuid,
            "kind": each.kind,
            "code": each.code,
            "run": each.run_id,
            "text": each.text or None,
        }
        for each in inventory.events(session.database, limit, device)
    ]
    show(session, EVENTS, rows, output)


def _node(session: Session, view: NodeView, *, plain: bool) -> dict[str, Any]:
    return {
        "node": view.name,
        "pool": view.pool,
        "state": view.state.value if plain else session.text(*NODE_STATE_WORDS[view.state]),
        "reported_at": view.reported_at,
        "devices": {
            (state.value if plain else session.text(*STATE_WORDS[state])): view.counts[state]
            for state in DeviceState
            if state in view.counts
        },
        "reports_missed": view.reports_missed,
        "agent_version": view.agent_version,
        "added_at": view.added_at,
    }


def _device(session: Session, view: DeviceView, *, plain: bool) -> dict[str, Any]:
    state = view.state.value if plain else session.text(*STATE_WORDS[view.state])
    if view.after_run and not plain:
        state = session.text(f"{state}, then quarantined", f"{state}, 이후 격리")
    units: str | None = None if view.units is None else str(view.units)
    if view.units_differ:
        units = session.text(f"{view.units}, not {view.model_units}", f"{view.units} (목록: {view.model_units})")
    return {
        "pool": view.pool,
        "node": view.node,
        "position": view.position,
        "uuid": view.uuid,
        "name": view.name,
        "device_model": view.device_model,
        "units": units,
        "state": state,
        "since": view.since,
        "reason": view.why(session.language) or None,
        "run": view.run_id,
        "project": view.project,
        "person": view.person,
        "busy_percent": None if view.busy_ppm is None else f"{view.busy_ppm * 100 / PPM:.0f}",
        "read_at": view.read_at,
    }
