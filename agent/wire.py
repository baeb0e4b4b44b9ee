"""Reports as JSON of at most `LIMIT_BYTES` each, and the platform's answers read from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from quotas.domain.node_reports import Answer, Cleaned, DeviceEvent, FoundDevice, PodDevices, Process, Report, Sample

LIMIT_BYTES = 48 * 1024 - 1
MOST_PROCESSES = 400
"""So many processes of one device are reported, the largest; their number bounds the size of a sample."""
MOST_SCRUBS = 1_000


@dataclass(frozen=True)
class Contents:
    """What is to be reported, before it is numbered."""

    devices: tuple[FoundDevice, ...] | None = None
    samples: tuple[Sample, ...] = ()
    events: tuple[DeviceEvent, ...] = ()
    cleaned: tuple[Cleaned, ...] = ()
    pods: tuple[PodDevices, ...] | None = None

    def __bool__(self) -> bool:
        told = self.devices is not None or self.pods is not None
        return told or bool(self.samples or self.events or self.cleaned)


_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=vars)


def encode(report: Report) -> bytes:
    """Return the report as JSON. What only a machine of a cluster tells is left out elsewhere."""
    values = {name: value for name, value in vars(report).items() if name != "pods" or value is not None}
    return _encoder.encode(values).encode()


def parts(contents: Contents, empty: Report) -> Iterator[Report]:
    """Yield reports that together hold all of `contents`, each small enough once it is encoded; at least one.

    `empty` gives what stands in every report. First comes which pod has which device, as all else is read by it; then
    events and what was scrubbed, then devices, then samples: what matters most is in the report that is written first.
    Pods stay together, and so do devices.
    """
    room = LIMIT_BYTES - len(encode(empty)) - 64
    held: dict[str, list[Any]] = {}
    used, some = 0, False
    for name, items, size in _sized(contents):
        if held and used + size > room:
            yield _filled(empty, held)
            held, used = {}, 0
        held.setdefault(name, []).extend(items)
        used, some = used + size, True
    if held or not some:
        yield _filled(empty, held)


def _sized(contents: Contents) -> Iterator[tuple[str, tuple[Any, ...], int]]:
    if contents.pods is not None:
        yield "pods", contents.pods, sum(map(_size, contents.pods))
    for name, items in (("events", contents.events), ("cleaned", contents.cleaned)):
        for item in items:
            yield name, (item,), _size(item)
    if contents.devices is not None:
        yield "devices", contents.devices, sum(map(_size, contents.devices))
    for sample in contents.samples:
        bounded = _bounded(sample)
        yield "samples", (bounded,), _size(bounded)


def _size(item: object) -> int:
    return len(_encoder.encode(vars(item)).encode()) + 1


def _bounded(sample: Sample) -> Sample:
    if len(sample.processes) <= MOST_PROCESSES:
        return sample
    largest: list[Process] = sorted(sample.processes, key=lambda process: -process.memory_bytes)
    return replace(sample, processes=tuple(largest[:MOST_PROCESSES]))


def _filled(empty: Report, held: dict[str, list[Any]]) -> Report:
    filled: dict[str, Any] = {name: tuple(items) for name, items in held.items()}
    return replace(empty, **filled)


def read_answer(body: bytes) -> Answer:
    """Return what the platform answered. Raises ValueError where that is no answer."""
    try:
        read = json.loads(body)
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise ValueError("the answer is no JSON") from None
    if not isinstance(read, dict):
        raise ValueError("the answer is no JSON object")
    accepted, scrub, wanted = read.get("accepted"), read.get("scrub", []), read.get("send_devices", False)
    if not isinstance(accepted, int) or isinstance(accepted, bool) or accepted < 0:
        raise ValueError("the answer names no accepted report")
    if not isinstance(scrub, list) or len(scrub) > MOST_SCRUBS or not all(isinstance(each, str) for each in scrub):
        raise ValueError("the answer's devices to scrub are no list of UUIDs")
    return Answer(accepted, tuple(scrub), wanted is True)
