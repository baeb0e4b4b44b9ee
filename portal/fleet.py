"""The fleet's page, for operators: each device as a labelled cell, and who waits for devices."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from portal.door import AtPortal, AVisitor, Visitor
from portal.errors import Problem
from portal.login import PREFIX
from quotas.domain.inventory import STATE_WORDS, DeviceState
from quotas.domain.metering import FOREIGN
from quotas.domain.units import show_instant
from quotas.services import fleet
from quotas.services.fleet import HELD, Holder, Overview
from quotas.services.inventory import DeviceView, EventView
from quotas.services.nodes import NODE_STATE_WORDS, NodeState, NodeView
from quotas.store.database import Database

REFRESH_SECONDS = 30
SIGNS = {
    HELD: "▸",
    DeviceState.AVAILABLE.value: "○",
    DeviceState.CLEANING.value: "…",
    DeviceState.QUARANTINED.value: "‖",
    DeviceState.LOST.value: "×",
    DeviceState.OCCUPIED.value: "◇",
    DeviceState.RETIRED.value: "–",
}
"""States are told apart by a word and a sign, as well as by colour."""

router = APIRouter(prefix=PREFIX.rstrip("/"), default_response_class=HTMLResponse, include_in_schema=False)


@router.get("/fleet")
def show_fleet(
    portal: AtPortal, visitor: AVisitor, refresh: Annotated[Literal["on", "off"], Query()] = "on"
) -> HTMLResponse:
    """Every machine with its devices. The browser asks again by itself until told to stop."""
    require_operator(portal.database, visitor.username)
    silence = portal.home.settings.node_silence_seconds
    found = fleet.overview(portal.database, portal.now, silence)
    page = portal.page(
        "fleet",
        visitor,
        visitor.language,
        machines=[_machine(machine, devices, found, visitor, portal.now) for machine, devices in found.machines],
        summary=_summary(found, visitor),
        waiting=sorted(found.waiting.items()),
        events=[_event(each) for each in found.events],
        at=show_instant(portal.now),
        refresh=refresh,
        refresh_seconds=REFRESH_SECONDS,
    )
    if refresh == "on":
        page.headers["Refresh"] = str(REFRESH_SECONDS)
    return page


def require_operator(database: Database, username: str) -> None:
    """The person is an operator. Raises Problem."""
    if not fleet.may_see(database, username):
        raise Problem(403, "operators_only", "Operators see this page.", "운영자만 볼 수 있는 페이지입니다.")


def state_word(state: str, visitor: Visitor) -> str:
    """Return the state of a device in the visitor's language."""
    if state == HELD:
        return visitor.translate("in use")
    english, korean = STATE_WORDS[DeviceState(state)]
    return korean if visitor.language == "ko" else english


def _summary(found: Overview, visitor: Visitor) -> list[tuple[str, str, int]]:
    """Return for each state in which a device is: the state, its word and how many are in it."""
    states = [fleet.state_of(device) for _, devices in found.machines for device in devices]
    return [(state, state_word(state, visitor), states.count(state)) for state in SIGNS if state in states]


def _machine(
    machine: NodeView, devices: tuple[DeviceView, ...], found: Overview, visitor: Visitor, now: int
) -> dict[str, Any]:
    english, korean = NODE_STATE_WORDS[machine.state]
    return {
        "name": machine.name,
        "pool": machine.pool,
        "well": machine.state is NodeState.REPORTING,
        "state": korean if visitor.language == "ko" else english,
        "reported": show_instant(machine.reported_at) if machine.reported_at is not None else None,
        "agent": machine.agent_version,
        "missed": machine.reports_missed,
        "devices": [_device(each, found.holders.get(each.uuid), visitor, now) for each in devices],
    }


def _device(device: DeviceView, holder: Holder | None, visitor: Visitor, now: int) -> dict[str, Any]:
    state = fleet.state_of(device)
    current = fleet.is_current(device, now)
    return {
        "position": device.position,
        "name": device.mig_profile or device.device_model or device.name,
        "uuid": device.uuid,
        "state": state,
        "sign": SIGNS[state],
        "word": state_word(state, visitor),
        "why": device.why(visitor.language),
        "person": device.person,
        "project": device.project,
        "run": device.run_id,
        "since": show_instant(holder.since if holder is not None else device.since),
        "busy_percent": device.busy_ppm // 10_000 if current and device.busy_ppm is not None else None,
        "memory_percent": device.used_bytes * 100 // device.memory_bytes
        if current and device.used_bytes is not None and device.memory_bytes
        else None,
    }


def _event(event: EventView) -> dict[str, Any]:
    return {
        "at": show_instant(event.at),
        "node": event.node,
        "uuid": event.uuid,
        "kind": event.kind,
        "foreign": event.kind == FOREIGN,
        "code": event.code,
        "text": event.text,
        "run": event.run_id,
    }
