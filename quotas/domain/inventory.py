"""The devices of the machines: the states in which one is, and what a run is given of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DeviceState(StrEnum):
    """Whether a device can be held. All but `AVAILABLE` and `RETIRED` are counted as out of use in their pool."""

    AVAILABLE = "available"
    CLEANING = "cleaning"
    """Its last run has ended; it waits for the agent to scrub it."""
    QUARANTINED = "quarantined"
    """It waits for an operator to release it."""
    LOST = "lost"
    """It failed, or is gone from its machine."""
    RETIRED = "retired"
    """It is the platform's no more."""


OUT_OF_USE = frozenset({DeviceState.CLEANING, DeviceState.QUARANTINED, DeviceState.LOST})


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
