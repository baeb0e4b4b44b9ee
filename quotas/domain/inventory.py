"""The devices of the machines: the states in which one is, and what a run is given of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.units import HOUR_SECONDS, InvalidValue


class DeviceState(StrEnum):
    """Whether a device can be held. All but `AVAILABLE` and `RETIRED` are counted as out of use in their pool."""

    AVAILABLE = "available"
    CLEANING = "cleaning"
    """Its last run has ended; it waits for the agent to scrub it."""
    QUARANTINED = "quarantined"
    """It waits for an operator to release it."""
    LOST = "lost"
    """It failed, or is gone from its machine."""
    OCCUPIED = "occupied"
    """On a cluster: a pod that is no run of the platform has it."""
    RETIRED = "retired"
    """It is the platform's no more."""


STATE_WORDS = {
    DeviceState.AVAILABLE: ("available", "사용 가능"),
    DeviceState.CLEANING: ("being scrubbed", "메모리 소거 중"),
    DeviceState.QUARANTINED: ("quarantined", "격리"),
    DeviceState.LOST: ("lost", "장애"),
    DeviceState.OCCUPIED: ("used by others", "외부 사용 중"),
    DeviceState.RETIRED: ("retired", "제외"),
}
"""State → its name in English and Korean."""

OUT_OF_USE = frozenset({DeviceState.CLEANING, DeviceState.QUARANTINED, DeviceState.LOST, DeviceState.OCCUPIED})


class Loss(StrEnum):
    """What must happen before a lost device can be held again."""

    GONE = "gone"
    """Its machine reports it healthy."""
    FAULT = "fault"
    """An operator releases it: its error asks for a reset."""
    TAKEN = "taken"
    """The run that it was taken from has it again, or has ended: its machine has it all the time."""


class Cleaning(StrEnum):
    """What happens to a device between two runs; each pool's is its operator's choice."""

    SCRUB = "scrub"
    """The agent overwrites its memory; then it can be held again."""
    QUARANTINE = "quarantine"
    """An operator releases it."""
    NONE = "none"
    """It can be held at once: for a pool that a single team uses."""


AFTER_RELEASE = {
    Cleaning.SCRUB: DeviceState.CLEANING,
    Cleaning.QUARANTINE: DeviceState.QUARANTINED,
    Cleaning.NONE: DeviceState.AVAILABLE,
}


@dataclass(frozen=True)
class AssignedDevice:
    """A device that a run holds: `paths` are its files on the machine, `kind` is ``gpu``, ``mig`` or ``npu``."""

    uuid: str
    kind: str
    name: str
    device_model: str
    position: int
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class FreeDevice:
    """A device that can be held now. `siblings_in_use` counts the slices of the same GPU that runs hold."""

    id: int
    node_id: int
    position: int
    siblings_in_use: int = 0


def choose(free: list[FreeDevice], count: int) -> tuple[int, ...] | None:
    """Return the ids of `count` devices of one machine, or None where no machine has so many free.

    The machine with the fewest that suffice is taken, and slices of GPUs that are in use before others, so that whole
    machines and whole GPUs stay free for those who need them.
    """
    by_node: dict[int, list[FreeDevice]] = {}
    for device in free:
        by_node.setdefault(device.node_id, []).append(device)
    fitting = [devices for devices in by_node.values() if len(devices) >= count]
    if not fitting:
        return None
    fewest = min(fitting, key=lambda devices: (len(devices), devices[0].node_id))
    fewest.sort(key=lambda device: (-device.siblings_in_use, device.position, device.id))
    return tuple(device.id for device in fewest[:count])


REPORTED_BACK_SECONDS = 48 * HOUR_SECONDS
REPORTED_AHEAD_SECONDS = 300


def is_recent(at: float, now: int) -> bool:
    """Return whether something reported of `at` is taken: not older than two days, not from five minutes ahead on."""
    return now - REPORTED_BACK_SECONDS <= at <= now + REPORTED_AHEAD_SECONDS


_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def node_name(text: object) -> str:
    """Return `text` as a machine's name: a DNS label in small letters. Raises InvalidValue."""
    if not isinstance(text, str) or _LABEL.fullmatch(text) is None:
        raise InvalidValue(
            "node",
            f"{text!r:.60} is no machine's name: 1 to 63 of a-z, 0-9 and '-', neither first nor last '-'",
            f"{text!r:.60}은(는) 장비 이름이 아닙니다. a-z, 0-9, '-' 1~63자이며 '-'로 시작하거나 끝날 수 없습니다",
        )
    return text


GONE_REASON, TAKEN_REASON, XID_REASON, ECC_REASON = "gone", "taken", "xid ", "ecc "
"""How the store keeps why a device is out of use: one of these words, the last two with a number, or someone's text."""
