"""Where machines' agents report, with a token of the machine's own; and the devices as operators' programs see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import TypeAdapter, ValidationError

from portal.door import AtPortal, Holder
from portal.errors import Problem, malformed
from portal.fleet import require_operator
from portal.login import PREFIX, bearer
from portal.views import instant
from quotas.domain.node_reports import FoundDevice, PodDevices, Report, Sample
from quotas.domain.units import DAY_SECONDS, LARGEST
from quotas.services import inventory
from quotas.services.inventory import DeviceView

router = APIRouter(prefix=f"{PREFIX}api")

LONGEST_TEXT = 400
LONGEST_TOKEN = 200
_REPORT = TypeAdapter(Report)
_SCHEMA = {"requestBody": {"content": {"application/json": {"schema": _REPORT.json_schema()}}, "required": True}}


def token_of(request: Request) -> str:
    """Return the token of a request's header, which is a machine's or nobody's. Raises Problem."""
    token = bearer(request.headers.get("authorization", ""))
    if not token.isascii() or not 0 < len(token) <= LONGEST_TOKEN:
        raise _unknown_machine()
    return token


async def body_of(request: Request) -> bytes:
    return await request.body()


@router.post("/nodes/report", openapi_extra=_SCHEMA)
def report(
    portal: AtPortal, token: Annotated[str, Depends(token_of)], body: Annotated[bytes, Depends(body_of)]
) -> dict[str, Any]:
    """Take a machine's report, once; return the newest number that was taken, and what the agent is to do.

    The token is one of `mudeung nodes add`, as in `Authorization: Bearer …`; the hub is not asked.
    """
    if not inventory.is_known(portal.database, token):
        raise _unknown_machine()
    settings = portal.home.settings
    policy, prefix = settings.policy(), settings.kubernetes_namespace_prefix
    try:
        answer = inventory.take_report(portal.database, token, read_report(body), portal.now, policy, prefix=prefix)
    except inventory.UnknownToken:
        raise _unknown_machine() from None
    return asdict(answer)


@router.get("/devices")
def list_devices(portal: AtPortal, holder: Holder) -> list[dict[str, Any]]:
    """Return every device of every machine, for operators."""
    require_operator(portal.database, holder)
    return [device_json(view) for view in inventory.devices(portal.database)]


def read_report(body: bytes) -> Report:
    """Return the report that the JSON is. Raises Problem for an unknown field, a wrong type and a size out of range."""
    try:
        read = _REPORT.validate_json(body, strict=True, extra="forbid")
    except ValidationError as error:
        raise malformed(error.errors(include_url=False, include_input=False)) from None
    for field, value, least, most in _sizes(read):
        size = len(value) if isinstance(value, str) else value
        if size is not None and not least <= size <= most:
            english = f"must be {least} to {most}" + (" characters" if isinstance(value, str) else "")
            raise Problem(400, "invalid_value", english, f"{least}~{most} 범위여야 합니다", field)
    return read


Size = tuple[str, str | float | None, int, int]
"""A field, its value, and between what the value, or a text's length, must lie for the ledger to take it."""
_UUID = 96
_NAME = 253
"""The longest name of an object of Kubernetes."""
_DEVICES = 1024
_SMALL = 10**6
_YEARS = 2**40


def _sizes(read: Report) -> Iterator[Size]:
    yield "stream", read.stream, 1, 36
    yield "sequence", read.sequence, 1, LARGEST
    yield "at", read.at, 0, _YEARS
    yield "agent_version", read.agent_version, 0, LONGEST_TEXT
    yield "interval_seconds", read.interval_seconds, 1, DAY_SECONDS
    for device in read.devices or ():
        yield from _sizes_of_device(device)
    for sample in read.samples:
        yield from _sizes_of_sample(sample)
    for event in read.events:
        yield "events.uuid", event.uuid, 1, _UUID
        yield "events.at", event.at, 0, _YEARS
        yield "events.code", event.code, -(2**31), 2**31 - 1
        yield "events.text", event.text, 0, LONGEST_TEXT
    for cleaned in read.cleaned:
        yield "cleaned.uuid", cleaned.uuid, 1, _UUID
        yield "cleaned.at", cleaned.at, 0, _YEARS
        yield "cleaned.problem", cleaned.problem, 0, LONGEST_TEXT
    for pod in read.pods or ():
        yield from _sizes_of_pod(pod)


def _sizes_of_pod(pod: PodDevices) -> Iterator[Size]:
    yield "pods.namespace", pod.namespace, 1, _NAME
    yield "pods.pod", pod.pod, 1, _NAME
    yield "pods.since", pod.since, 0, _YEARS
    yield "pods.uuids", float(len(pod.uuids)), 0, _DEVICES
    yield "pods.unknown", float(len(pod.unknown)), 0, _DEVICES
    for uuid in pod.uuids:
        yield "pods.uuids", uuid, 1, _UUID
    for name in pod.unknown:
        yield "pods.unknown", name, 1, LONGEST_TEXT


def _sizes_of_device(device: FoundDevice) -> Iterator[Size]:
    yield "devices.uuid", device.uuid, 1, _UUID
    yield "devices.name", device.name, 0, LONGEST_TEXT
    yield "devices.problem", device.problem, 0, LONGEST_TEXT
    yield "devices.parent_uuid", device.parent_uuid, 1, _UUID
    yield "devices.mig_profile", device.mig_profile, 1, 40
    yield "devices.memory_bytes", device.memory_bytes, 0, LARGEST
    yield "devices.position", device.position, 0, _SMALL
    yield "devices.units", device.units, 0, _SMALL
    yield "devices.paths", float(len(device.paths)), 0, 64
    for path in device.paths:
        yield "devices.paths", path, 1, LONGEST_TEXT


def _sizes_of_sample(sample: Sample) -> Iterator[Size]:
    yield "samples.uuid", sample.uuid, 1, _UUID
    yield "samples.at", sample.at, 0, _YEARS
    yield "samples.covers_seconds", sample.covers_seconds, 0, DAY_SECONDS
    yield "samples.busy_ppm", sample.busy_ppm, 0, 10**6
    yield "samples.memory_bytes", sample.memory_bytes, 0, LARGEST
    yield "samples.power_milliwatts", sample.power_milliwatts, 0, 10**9
    for process in sample.processes:
        yield "samples.processes.pid", process.pid, 0, 2**31 - 1
        yield "samples.processes.memory_bytes", process.memory_bytes, 0, LARGEST
        yield "samples.processes.run_id", process.run_id, 0, LONGEST_TEXT


def device_json(view: DeviceView) -> dict[str, Any]:
    """Return a device as the API has it: instants in ISO 8601."""
    shown = asdict(view) | {"units_differ": view.units_differ, "reason_en": view.reason}
    del shown["reason"]
    return shown | {"since": instant(view.since), "read_at": instant(view.read_at)}


def _unknown_machine() -> Problem:
    return Problem(
        401,
        "unauthenticated",
        "A machine's token is needed: Authorization: Bearer …",
        "장비의 토큰이 필요합니다. Authorization: Bearer …",
        "Authorization",
        "Make one with `mudeung nodes add` or `mudeung nodes rotate`.",
        "`mudeung nodes add` 또는 `mudeung nodes rotate`로 만드세요.",
    )
