"""NVIDIA's GPUs and MIG slices through NVML: opened once, then listed and read again and again.

A GPU that is cut into slices is not listed, its slices are. NVML itself lists the GPUs once, when it is opened; slices
come and go while it is open.
"""

from __future__ import annotations

import importlib
import logging
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from agent.multiprocessors import multiprocessors
from quotas.domain.node_reports import DeviceKind, FoundDevice
from quotas.domain.units import PPM

log = logging.getLogger("agent.nvidia")

SHARED_FILES = ("/dev/nvidiactl", "/dev/nvidia-uvm")
_PROFILE = re.compile(r" MIG (\S+)$")
_PERCENT = PPM // 100


class Lost(Exception):  # noqa: N818 - it says what the device is
    """The device answers no more: it fell off the bus, or its driver gave it up."""


class Stale(Exception):  # noqa: N818 - it says what the handle is
    """The slice is no more: what is there is to be listed again."""


class NoLibrary(Exception):  # noqa: N818 - it says what is the case
    """The machine has no NVML: no NVIDIA driver is installed, or it is not loaded."""


class Reading(NamedTuple):
    """A device's use as read. None is what it does not tell; `processes` are PID and bytes."""

    busy_ppm: int | None
    memory_bytes: int | None
    power_milliwatts: int | None
    processes: list[tuple[int, int]]


@dataclass
class Opened:
    """A listed device with what reading it needs. `samples` are GPM's last and next, of a slice's GPU instance."""

    found: FoundDevice
    handle: Any
    gpu: Any
    instance: int | None = None
    compute_instance: int | None = None
    samples: list[Any] = field(default_factory=list)
    primed: bool = False
    silent: set[str] = field(default_factory=set)
    """What NVML said it does not tell of this device; it is not asked again."""


@dataclass(frozen=True)
class Listing:
    """What the machine has: devices by UUID, and of each GPU its handle, UUID and count of uncorrected errors."""

    devices: dict[str, Opened]
    ecc_errors: dict[str, int]
    gpus: dict[str, Any]


def binding() -> Any:
    """Return the module `pynvml`. Raises NoLibrary where it is not installed."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        raise NoLibrary("the package nvidia-ml-py is not installed") from None


class Nvidia:
    """NVML, open. `proc` is where the driver says which file is which slice's.

    Raises NoLibrary where there is none, and OSError where it is there and cannot be opened.
    """

    def __init__(self, proc: Path) -> None:
        self.nvml = binding()
        self._error: type[Exception] = self.nvml.NVMLError
        self._proc = proc
        self._known: dict[str, Opened] = {}
        self._metrics = self.nvml.c_nvmlGpmMetricsGet_t()
        self._metrics.version = self.nvml.NVML_GPM_METRICS_GET_VERSION
        self._metrics.numMetrics = 1
        self._metrics.metrics[0].metricId = self.nvml.NVML_GPM_METRIC_SM_UTIL
        self._told: set[tuple[str, int]] = set()
        # Looked up once: these are called for each device in each round.
        self._utilisation = self.nvml.nvmlDeviceGetUtilizationRates
        self._power = self.nvml.nvmlDeviceGetPowerUsage
        self._memory_info = self.nvml.nvmlDeviceGetMemoryInfo
        self._running = self.nvml.nvmlDeviceGetComputeRunningProcesses
        self._sample_of_slice = self.nvml.nvmlGpmMigSampleGet
        self._measure = self.nvml.nvmlGpmMetricsGet
        try:
            self.nvml.nvmlInit()
        except self._error as error:
            if _code(error) in {self.nvml.NVML_ERROR_LIBRARY_NOT_FOUND, self.nvml.NVML_ERROR_DRIVER_NOT_LOADED}:
                raise NoLibrary(f"there is no NVIDIA driver: {error}") from None
            raise OSError(f"NVML cannot be opened: {error}") from None

    def close(self) -> None:
        """NVML is closed; what was listed can be read no more."""
        for opened in self._known.values():
            self._free(opened)
        self._known = {}
        try:
            self.nvml.nvmlShutdown()
        except self._error as error:
            log.warning("NVML was not closed: %s", error)

    # -- what is there

    def look(self) -> Listing:
        """Return what the machine has now. Raises OSError when NVML itself does not answer."""
        try:
            count = self.nvml.nvmlDeviceGetCount()
        except self._error as error:
            raise OSError(f"NVML does not list GPUs: {error}") from None
        listing = Listing({}, {}, {})
        for index in range(count):
            uuid = ""
            try:
                gpu = self.nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = str(self.nvml.nvmlDeviceGetUUID(gpu))
                listing.gpus[uuid] = gpu
                self._list_gpu(gpu, uuid, listing)
            except self._error as error:
                log.info("GPU %d is not listed: %s", index, error)
                if _code(error) != self.nvml.NVML_ERROR_GPU_IS_LOST:
                    self._list_as_before(uuid, f"it does not answer: {error}", listing)
        for gone in self._known.keys() - listing.devices.keys():
            self._free(self._known[gone])
        self._known = dict(listing.devices)
        return listing

    def _list_as_before(self, gpu: str, problem: str, listing: Listing) -> None:
        """What was known of the GPU, or of its slices, is listed with its problem: a failing call is no loss."""
        for uuid, opened in self._known.items():
            if gpu and gpu in {uuid, opened.found.parent_uuid}:
                opened.found = replace(opened.found, problem=problem, position=len(listing.devices))
                listing.devices[uuid] = opened

    def _list_gpu(self, gpu: Any, uuid: str, listing: Listing) -> None:
        errors = self._or_none("nvmlDeviceGetTotalEccErrors", gpu, self.nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, 0)
        if errors is not None:
            listing.ecc_errors[uuid] = errors
        mode = self._or_none("nvmlDeviceGetEccMode", gpu)
        shared: dict[str, Any] = {"ecc": None if mode is None else bool(mode[0]), "problem": self._problem(gpu)}
        cut = self._or_none("nvmlDeviceGetMigMode", gpu)
        if cut is not None and cut[0]:
            self._list_slices(gpu, uuid, shared, listing)
            return
        minor = self.nvml.nvmlDeviceGetMinorNumber(gpu)
        found = FoundDevice(
            uuid=uuid,
            kind=DeviceKind.GPU,
            name=str(self.nvml.nvmlDeviceGetName(gpu)),
            memory_bytes=self._memory(gpu),
            position=len(listing.devices),
            units=self._units(gpu),
            paths=(f"/dev/nvidia{minor}", *SHARED_FILES),
            **shared,
        )
        self._add(listing, Opened(found, gpu, gpu))

    def _list_slices(self, gpu: Any, parent: str, shared: dict[str, Any], listing: Listing) -> None:
        minor = self.nvml.nvmlDeviceGetMinorNumber(gpu)
        for index in range(self.nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            handle = self._or_none("nvmlDeviceGetMigDeviceHandleByIndex", gpu, index)
            if handle is None:
                continue
            name = str(self.nvml.nvmlDeviceGetName(handle))
            attributes = self._or_none("nvmlDeviceGetAttributes_v2", handle)
            instance = self._or_none("nvmlDeviceGetGpuInstanceId", handle)
            compute = self._or_none("nvmlDeviceGetComputeInstanceId", handle)
            found = FoundDevice(
                uuid=str(self.nvml.nvmlDeviceGetUUID(handle)),
                kind=DeviceKind.MIG,
                name=name,
                memory_bytes=self._memory(handle),
                position=len(listing.devices),
                units=None if attributes is None else attributes.multiprocessorCount or None,
                mig_profile=_profile(name, attributes),
                parent_uuid=parent,
                paths=(f"/dev/nvidia{minor}", *SHARED_FILES, *self._capabilities(minor, instance, compute)),
                **shared,
            )
            self._add(listing, Opened(found, handle, gpu, instance, compute))

    def _add(self, listing: Listing, opened: Opened) -> None:
        """The device is listed; one that was listed before keeps its samples."""
        before = self._known.get(opened.found.uuid)
        if before is not None and before.instance == opened.instance:
            before.found, before.handle, before.gpu = opened.found, opened.handle, opened.gpu
            opened = before
        listing.devices[opened.found.uuid] = opened

    def _memory(self, handle: Any) -> int:
        memory = self._or_none("nvmlDeviceGetMemoryInfo", handle)
        return 0 if memory is None else int(memory.total)

    def _units(self, gpu: Any) -> int | None:
        """Return the GPU's multiprocessors: all its cores by those of one."""
        cores = self._or_none("nvmlDeviceGetNumGpuCores", gpu)
        capability = self._or_none("nvmlDeviceGetCudaComputeCapability", gpu)
        return None if cores is None or capability is None else multiprocessors(int(cores), tuple(capability))

    def _capabilities(self, minor: int, instance: int | None, compute: int | None) -> tuple[str, ...]:
        """Return the files that open the slice's two instances, as the driver says in ``/proc``."""
        folder = self._proc / "driver/nvidia/capabilities" / f"gpu{minor}" / "mig" / f"gi{instance}"
        files = []
        for access in (folder / "access", folder / f"ci{compute}" / "access"):
            try:
                number = re.search(r"DeviceFileMinor:\s*(\d+)", access.read_text(encoding="ascii"))
            except (OSError, UnicodeError):
                number = None
            if number is not None:
                files.append(f"/dev/nvidia-caps/nvidia-cap{number.group(1)}")
        return tuple(files)

    def _problem(self, gpu: Any) -> str:
        """Return why the GPU cannot be used on, or an empty string.

        Memory errors that a reset cures are told as an event: its run may go on to its end.
        """
        problems = []
        try:
            self.nvml.nvmlDeviceGetMemoryInfo(gpu)
        except self._error as error:
            if _code(error) not in {self.nvml.NVML_ERROR_NOT_SUPPORTED, self.nvml.NVML_ERROR_NO_PERMISSION}:
                problems.append(f"it does not answer: {error}")
        rows = self._or_none("nvmlDeviceGetRemappedRows", gpu)
        if rows is not None and rows[3]:
            problems.append("faulty memory rows could not be replaced")
        return "; ".join(problems)

    def _or_none(self, name: str, *arguments: object) -> Any:
        """Return what the function says, or None when it says an error; a device's loss is raised as NVML's error."""
        try:
            return getattr(self.nvml, name)(*arguments)
        except self._error as error:
            if _code(error) == self.nvml.NVML_ERROR_GPU_IS_LOST:
                raise
            return None

    # -- how it is used

    def read(self, opened: Opened) -> Reading:
        """Return how the device is used now. Raises Lost when it answers no more, and Stale when it is another."""
        handle, silent = opened.handle, opened.silent
        busy: int | None = None
        power: int | None = None
        try:
            if opened.instance is None:
                if "busy" not in silent:
                    busy = self._utilisation(handle).gpu * _PERCENT
                if "power" not in silent:
                    power = self._power(handle)
            elif "busy" not in silent:
                busy = self._busy_of_slice(opened)
            memory = self._memory_info(handle).used
            running = self._running(handle)
        except self._error:
            return self._read_apart(opened, busy)
        return Reading(busy, memory, power, [(each.pid, each.usedGpuMemory or 0) for each in running])

    def processes(self, opened: Opened) -> list[int]:
        """Return the processes on the device now. Raises OSError where that cannot be said."""
        try:
            return [each.pid for each in self._running(opened.handle)]
        except self._error as error:
            raise OSError(str(error)) from None

    def _read_apart(self, opened: Opened, busy: int | None) -> Reading:
        """The same where a function failed: each for itself, so that one error costs one figure."""
        nvml, handle = self.nvml, opened.handle
        power = None
        if opened.instance is None:
            rates = self._ask(opened, "busy", nvml.nvmlDeviceGetUtilizationRates, handle)
            busy = None if rates is None else rates.gpu * _PERCENT
            power = self._ask(opened, "power", nvml.nvmlDeviceGetPowerUsage, handle)
        memory = self._ask(opened, "memory", nvml.nvmlDeviceGetMemoryInfo, handle)
        running = self._ask(opened, "processes", nvml.nvmlDeviceGetComputeRunningProcesses, handle) or []
        processes = [(each.pid, each.usedGpuMemory or 0) for each in running]
        return Reading(busy, None if memory is None else memory.used, power, processes)

    def _ask(self, opened: Opened, what: str, function: Any, *arguments: object) -> Any:
        """Return what the function says, None where it does not tell. Raises Lost, Stale."""
        nvml = self.nvml
        if what in opened.silent:
            return None
        try:
            return function(*arguments)
        except self._error as error:
            code = _code(error)
            if code == nvml.NVML_ERROR_GPU_IS_LOST:
                raise Lost(str(error)) from None
            if opened.instance is not None and code in {nvml.NVML_ERROR_NOT_FOUND, nvml.NVML_ERROR_INVALID_ARGUMENT}:
                raise Stale(str(error)) from None
            if code in {nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND}:
                opened.silent.add(what)
            if (what, code) not in self._told:
                self._told.add((what, code))
                log.warning("%s of %s is not read: %s", what, opened.found.uuid, error)
            return None

    def _busy_of_slice(self, opened: Opened) -> int | None:
        """Return the share of its multiprocessors that were busy since the last reading, from GPM.

        Utilisation of slices is told by nothing else. The counters are a GPU instance's: of one that is divided
        further they say nothing of a part.
        """
        metrics, samples = self._metrics, opened.samples
        try:
            if not samples:
                self._begin_measuring(opened)
                return None
            samples.reverse()
            self._sample_of_slice(opened.gpu, opened.instance, samples[1])
            if not opened.primed:
                opened.primed = True
                return None
            metrics.sample1, metrics.sample2 = samples
            self._measure(metrics)
        except self._error as error:
            opened.primed = False
            self._ask(opened, "busy", _raise, error)
            return None
        metric = metrics.metrics[0]
        percent = float(metric.value)
        return None if metric.nvmlReturn or not 0 <= percent <= 100 else round(percent * _PERCENT)

    def _begin_measuring(self, opened: Opened) -> None:
        """The slice's first sample is taken, where its GPU has such counters and it does not share them."""
        divided = "c." in (opened.found.mig_profile or "")
        if divided or not self.nvml.nvmlGpmQueryDeviceSupport(opened.gpu).isSupportedDevice:
            opened.silent.add("busy")
            return
        opened.samples = [self.nvml.nvmlGpmSampleAlloc(), self.nvml.nvmlGpmSampleAlloc()]
        self._sample_of_slice(opened.gpu, opened.instance, opened.samples[1])
        opened.primed = True

    def _free(self, opened: Opened) -> None:
        for sample in opened.samples:
            self._or_none("nvmlGpmSampleFree", sample)
        opened.samples, opened.primed = [], False


def _raise(error: Exception) -> None:
    raise error


def _code(error: Exception) -> int:
    return int(getattr(error, "value", -1))


def _profile(name: str, attributes: Any) -> str | None:
    """Return the MIG profile: as the slice's name says, else made of its parts."""
    named = _PROFILE.search(name)
    if named is not None:
        return named.group(1)
    if attributes is None:
        return None
    whole, part = attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount
    return f"{'' if part == whole else f'{part}c.'}{whole}g.{round(attributes.memorySizeMB / 1024)}gb"
