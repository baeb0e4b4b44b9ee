"""What a machine's agent reports: its devices, samples of their use, and what befell them.

These shapes are the contract between the agent and the platform; as JSON they have the same names. A report is
numbered within the stream of its agent, and none is taken twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DeviceKind(StrEnum):
    """What a device is: a whole GPU, a slice of one, or an NPU."""

    GPU = "gpu"
    MIG = "mig"
    NPU = "npu"


class EventKind(StrEnum):
    """What befell a device."""

    XID = "xid"
    """The driver reported an error of the GPU; `code` is its number."""
    LOST = "lost"
    """It answers no more, or is gone from the machine."""
    BACK = "back"
    """It answers again."""
    ECC = "ecc"
    """It counted memory errors that could not be corrected; `code` is how many."""


@dataclass(frozen=True)
class FoundDevice:
    """A device as the machine has it.

    `uuid` is the maker's (``GPU-…``, ``MIG-…``), or made of machine and path where there is none. `units` is its real
    number of streaming multiprocessors, None where it has none or does not say. A GPU that is cut into slices is not
    listed itself; a slice names it as `parent_uuid`. `paths` are the device files that a container needs for it.
    `ecc` is None where it cannot tell. `problem` is empty for a healthy device.
    """

    uuid: str
    kind: DeviceKind
    name: str
    memory_bytes: int
    position: int
    units: int | None = None
    mig_profile: str | None = None
    parent_uuid: str | None = None
    paths: tuple[str, ...] = ()
    ecc: bool | None = None
    problem: str = ""


@dataclass(frozen=True)
class Process:
    """A process on a device; `run_id` is empty where it belongs to no run of the platform."""

    pid: int
    memory_bytes: int
    run_id: str = ""


@dataclass(frozen=True)
class Sample:
    """A device's use as read at `at` (seconds UTC), which stands for the `covers_seconds` before it.

    Together the samples of a device never cover an instant twice. None is what the device does not tell.
    """

    uuid: str
    at: float
    covers_seconds: float
    busy_ppm: int | None = None
    memory_bytes: int | None = None
    power_milliwatts: int | None = None
    processes: tuple[Process, ...] = ()


@dataclass(frozen=True)
class DeviceEvent:
    """Something that befell a device at `at` (seconds UTC)."""

    uuid: str
    at: float
    kind: EventKind
    code: int | None = None
    text: str = ""


@dataclass(frozen=True)
class Cleaned:
    """The device was scrubbed as asked: nothing of an earlier run is on it; or `problem` says why that failed."""

    uuid: str
    at: float
    problem: str = ""


@dataclass(frozen=True)
class PodDevices:
    """The devices that a machine's kubelet has given to a pod, at `since` (seconds UTC) or a little later.

    `unknown` are those whose plugin names them otherwise than the machine does, each as its resource and its id.
    `shared`: the plugin gives the same device to several pods at a time.
    """

    namespace: str
    pod: str
    since: float
    uuids: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    shared: bool = False


@dataclass(frozen=True)
class Report:
    """One report of an agent. `devices` is None where nothing changed since the one before.

    `pods` are all pods of the machine that hold devices, by its kubelet; None where it has none, or none that answers.

    `stream` is a UUID that the agent made with its buffer; `sequence` rises by one with each report of the stream.
    `at` is when it was made, seconds UTC by the machine's clock.
    """

    stream: str
    sequence: int
    at: float
    agent_version: str
    interval_seconds: int
    devices: tuple[FoundDevice, ...] | None = None
    samples: tuple[Sample, ...] = ()
    events: tuple[DeviceEvent, ...] = ()
    cleaned: tuple[Cleaned, ...] = ()
    pods: tuple[PodDevices, ...] | None = None


@dataclass(frozen=True)
class Answer:
    """What the platform answers: the newest sequence that it has of the stream, and what the agent is to do.

    `scrub` are devices to scrub now; asked again until a report says that it was done. `send_devices`: the next report
    is to hold the devices.
    """

    accepted: int
    scrub: tuple[str, ...] = ()
    send_devices: bool = False
