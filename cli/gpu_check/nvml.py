"""What NVML itself says: the machine's devices, and how one of them is used, read apart from the platform.

The binding is loaded with the first reading. A function that the driver has not, or refuses for a device, leaves None.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent.nvidia import NoLibrary, binding
from cli.demo.story import Differs


@dataclass(frozen=True)
class Device:
    """A device that a process can be given: a GPU that is not cut, or a slice of one."""

    uuid: str
    name: str
    memory_bytes: int
    is_slice: bool = False
    parent_uuid: str | None = None


@dataclass(frozen=True)
class Driver:
    """The driver's version, and the newest CUDA that it serves; empty where it does not say."""

    version: str
    cuda: str


@dataclass(frozen=True)
class Poll:
    """One reading at `at` (seconds UTC): `busy` is a share, since the reading before; None is what is not told."""

    at: float
    busy: float | None
    power_watts: float | None
    energy_joules: float | None
    memory_bytes: int | None


class NoDriver(Exception):  # noqa: N818 - it says what is the case
    """NVML, which comes with NVIDIA's driver, does not open; the text says why."""


@contextlib.contextmanager
def opened() -> Iterator[None]:
    """NVML is open within. Raises NoDriver where there is none."""
    try:
        nvml = binding()
    except NoLibrary as missing:
        raise NoDriver(str(missing)) from None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise NoDriver(str(error)) from None
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def driver() -> Driver:
    """Return the driver's versions. NVML must be open."""
    version = _told("nvmlSystemGetDriverVersion")
    cuda = _told("nvmlSystemGetCudaDriverVersion_v2")
    return Driver(
        "" if version is None else str(version), "" if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}"
    )


def devices() -> list[Device]:
    """Return what can be given to a process, in NVML's order. NVML must be open."""
    return [device for _, device in _handles()]


def _handles() -> Iterator[tuple[Any, Device]]:
    for index in range(binding().nvmlDeviceGetCount()):
        gpu = _told("nvmlDeviceGetHandleByIndex", index)
        if gpu is None:
            continue
        uuid = str(binding().nvmlDeviceGetUUID(gpu))
        mode = _told("nvmlDeviceGetMigMode", gpu)
        if mode is None or not mode[0]:
            yield gpu, Device(uuid, str(binding().nvmlDeviceGetName(gpu)), _total(gpu))
            continue
        for place in range(_told("nvmlDeviceGetMaxMigDeviceCount", gpu) or 0):
            part = _told("nvmlDeviceGetMigDeviceHandleByIndex", gpu, place)
            if part is not None:
                name = str(binding().nvmlDeviceGetName(part))
                yield part, Device(str(binding().nvmlDeviceGetUUID(part)), name, _total(part), True, uuid)


def _total(handle: Any) -> int:
    return int(binding().nvmlDeviceGetMemoryInfo(handle).total)


class Reader:
    """Reads one device again and again, with the finest sources that it has; `sources` names them. NVML is open."""

    def __init__(self, uuid: str) -> None:
        found = [(handle, device) for handle, device in _handles() if device.uuid == uuid]
        if not found:
            raise Differs(f"{uuid} in NVML's list", "none")
        self.handle, self.device = found[0]
        self.sources: dict[str, str] = {}
        self._seen_microseconds = 0
        self._latest_samples()

    def poll(self, at: float) -> Poll:
        """Return how the device is used now."""
        power = self._ask("power", "nvmlDeviceGetPowerUsage")
        energy = self._ask("energy", "nvmlDeviceGetTotalEnergyConsumption")
        memory = self._ask("memory", "nvmlDeviceGetMemoryInfo")
        return Poll(
            at,
            self._busy(),
            None if power is None else power / 1000,
            None if energy is None else energy / 1000,
            None if memory is None else int(memory.used),
        )

    def _ask(self, what: str, function: str) -> Any:
        value = _told(function, self.handle)
        if value is not None:
            self.sources[what] = function
        return value

    def _busy(self) -> float | None:
        samples = self._latest_samples()
        if samples:
            self.sources["busy"] = "nvmlDeviceGetSamples"
            return sum(samples) / len(samples) / 100
        rates = _told("nvmlDeviceGetUtilizationRates", self.handle)
        if rates is None:
            return None
        self.sources.setdefault("busy", "nvmlDeviceGetUtilizationRates")
        return float(rates.gpu) / 100

    def _latest_samples(self) -> list[int]:
        """Return the driver's own samples of the utilisation since the last call, in percent."""
        kind = binding().NVML_GPU_UTILIZATION_SAMPLES
        found = _told("nvmlDeviceGetSamples", self.handle, kind, self._seen_microseconds)
        if found is None:
            return []
        fresh = [each for each in found[1] if each.timeStamp > self._seen_microseconds]
        self._seen_microseconds = max([self._seen_microseconds, *(each.timeStamp for each in fresh)])
        return [int(each.sampleValue.uiVal) for each in fresh]


def _told(function: str, *arguments: Any) -> Any:
    """Return what NVML's function answers, or None where it has no answer for this device."""
    nvml = binding()
    try:
        return getattr(nvml, function)(*arguments)
    except nvml.NVMLError:
        return None
