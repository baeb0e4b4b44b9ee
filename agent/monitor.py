"""The machine's devices as a whole: what is there, how each is used, and what befell any since the last look."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from agent import npus
from agent.nvidia import Listing, Lost, NoLibrary, Nvidia, Stale
from agent.processes import DockerLabels, Labels, PodLogs, Runs
from agent.watching import Told, Watch
from quotas.domain.node_reports import DeviceEvent, DeviceKind, EventKind, FoundDevice, Process, Sample
from quotas.domain.xids import xid

log = logging.getLogger("agent.monitor")

GPU_IDS = ("GPU-", "MIG-")
"""NVIDIA's plugin names GPUs and slices by their UUIDs, those that NVML has lost among them."""
REOPEN_SECONDS = 60
"""While a GPU is lost, NVML is opened anew so often: only so it finds one that was reset."""


class Monitor:
    """What can be seen of the machine's devices. `wake` is called when something befell one between two rounds;
    without it nothing is waited for.

    `known` and `lost` are those of an earlier agent on the machine: a device that went while none ran is lost as well.
    """

    def __init__(  # noqa: PLR0913 - what it looks through
        self,
        root: Path,
        proc: Path,
        *,
        nvml: bool = True,
        wake: Callable[[], None] | None = None,
        labels: Labels | None = None,
        on_cluster: bool = False,
        known: frozenset[str] = frozenset(),
        lost: frozenset[str] = frozenset(),
    ) -> None:
        self._root, self._proc = root, proc
        self._wants_nvml = nvml
        self._wake = wake
        own = PodLogs(root) if on_cluster else DockerLabels()
        self._runs = Runs(proc, labels or own)
        self._nvidia: Nvidia | None = None
        self._watch: Watch | None = None
        self._told: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._listing = Listing({}, {}, {})
        self._npus: dict[str, FoundDevice] = {}
        self._ecc: dict[str, int] = {}
        self.present: set[str] = set(known)
        self.lost: set[str] = set(lost)
        self._lock = threading.RLock()
        self._open_again_at = 0.0
        self.broken = ""
        """Why NVML cannot be asked, though the machine may well have GPUs; empty while it can, or has none."""

    def close(self) -> None:
        """Nothing of the machine is held open."""
        self._close_nvml()
        self._runs.close()

    def _close_nvml(self) -> None:
        if self._watch is not None:
            self._watch.close()
        if self._nvidia is not None:
            self._nvidia.close()
        self._watch = self._nvidia = None

    # -- what is there

    def look(self) -> list[DeviceEvent]:
        """All devices are listed anew; return what befell any of them since the last look."""
        with self._lock:
            at = _now()
            self._open_nvml()
            before = self._listing
            # Where NVML cannot be asked nothing is known of GPUs, least of all that they are lost.
            asked = self._list_nvml()
            self._npus = {device.uuid: device for device in npus.find(self._root)}
            there = set(self._npus) | set(self._listing.devices)
            missing = self.present - there - self.lost - self._cut_otherwise(before)
            if not asked:
                missing = {uuid for uuid in missing if not _is_nvidia(uuid)}
            events = [self._lose(uuid, at) for uuid in sorted(missing)]
            for uuid in sorted(there & self.lost):
                self.lost.discard(uuid)
                events.append(DeviceEvent(uuid, at, EventKind.BACK))
            self.present = there if asked else {*filter(_is_nvidia, self.present), *there}
            return [*events, *self._new_memory_errors(at)]

    def _cut_otherwise(self, before: Listing) -> set[str]:
        """Return what is no more as its GPU was cut, was cut anew, or is whole again: that is no loss."""
        listed = self._listing.devices
        cut = {opened.found.parent_uuid for opened in listed.values()}
        fresh = {opened.found.parent_uuid or uuid for uuid, opened in listed.items() if uuid not in before.devices}
        return {uuid for uuid, was in before.devices.items() if uuid in cut or was.found.parent_uuid in fresh}

    def _open_nvml(self) -> None:
        """NVML is open, where the machine has it; it is opened anew while that may help."""
        now = time.monotonic()
        needless = self._nvidia is not None and not self.broken and not any(map(_is_nvidia, self.lost))
        if not self._wants_nvml or needless or now < self._open_again_at:
            return
        self._open_again_at = now + REOPEN_SECONDS
        self._close_nvml()
        try:
            self._nvidia = Nvidia(self._proc)
        except NoLibrary as none:
            # A driver that is being replaced is away for a moment: its GPUs are not gone with it.
            self._told_broken(str(none) if any(map(_is_nvidia, self.present)) else "")
        except OSError as error:
            self._told_broken(str(error))

    def _list_nvml(self) -> bool:
        """NVML's devices are listed; return whether it could be asked, which it can where there is none."""
        if self._nvidia is None:
            self._listing = Listing({}, {}, {})
            return not self.broken
        try:
            self._listing = self._nvidia.look()
        except OSError as error:
            self._told_broken(str(error))
            return False
        self._told_broken("")
        if self._wake is not None and self._watch is None and self._listing.gpus:
            self._watch = Watch(self._nvidia, self._listing.gpus, self._tell)
        return True

    def _told_broken(self, why: str) -> None:
        if why and why != self.broken:
            log.error("GPUs cannot be read: %s", why)
        self.broken = why

    def _tell(self, told: Told) -> None:
        self._told.put(told)
        if self._wake is not None:
            self._wake()

    def devices(self) -> tuple[FoundDevice, ...] | None:
        """Return what the last look found; None where GPUs could not be asked for, of which nothing may be said."""
        if self.broken:
            return None
        gpus = [opened.found for uuid, opened in self._listing.devices.items() if uuid not in self.lost]
        first = len(gpus)
        return (*gpus, *(replace(each, position=first + each.position) for each in self._npus.values()))

    def named(self, plugin_id: str) -> str:
        """Return the UUID of the device that a device plugin of Kubernetes calls so; "" where none is known by it."""
        if plugin_id.startswith(GPU_IDS) or plugin_id in self.present:
            return plugin_id
        return npus.by_plugin_ids(self._root, self._npus.values()).get(plugin_id.lower(), "")

    def found(self, uuid: str) -> FoundDevice | None:
        """Return the device as the last look found it."""
        opened = self._listing.devices.get(uuid)
        return self._npus.get(uuid) if opened is None else opened.found

    def _new_memory_errors(self, at: float) -> list[DeviceEvent]:
        """Return an event for each GPU, or slice of one, whose count of uncorrected errors has risen."""
        before, self._ecc = self._ecc, dict(self._listing.ecc_errors)
        events = []
        for gpu, count in self._ecc.items():
            risen = count - before.get(gpu, count)
            if risen > 0:
                events += [DeviceEvent(uuid, at, EventKind.ECC, risen) for uuid in self._of_gpu(gpu)]
        return events

    def _of_gpu(self, gpu: str, instance: int | None = None, compute: int | None = None) -> list[str]:
        """Return the devices of the GPU: itself, or its slices, or the slices of one of its instances."""
        found = []
        for uuid, opened in self._listing.devices.items():
            if uuid == gpu:
                return [gpu]
            if opened.found.parent_uuid != gpu or instance not in {None, opened.instance}:
                continue
            if compute in {None, opened.compute_instance}:
                found.append(uuid)
        return found

    def told(self) -> tuple[list[DeviceEvent], bool]:
        """Return what NVML told since the last call, and whether it is a reason to look again at once."""
        events: list[DeviceEvent] = []
        look = False
        while True:
            try:
                told = self._told.get_nowait()
            except queue.Empty:
                return events, look
            look = True
            if told.xid is None:
                continue
            meaning = xid(told.xid).meaning_en
            events += [
                DeviceEvent(uuid, round(told.at, 3), EventKind.XID, told.xid, meaning)
                for uuid in self._of_gpu(told.gpu, told.instance, told.compute_instance)
            ]

    def _lose(self, uuid: str, at: float) -> DeviceEvent:
        log.error("device %s is lost", uuid)
        self.lost.add(uuid)
        return DeviceEvent(uuid, at, EventKind.LOST)

    # -- how it is used

    def sample(self, covers_ms: Callable[[str, int], int]) -> tuple[list[Sample], list[DeviceEvent], bool]:
        """Return a sample of each device, what befell any meanwhile, and whether the devices are to be listed again.

        `covers_ms` says for how long the sample of a device at that millisecond stands; none is taken for no time.
        """
        with self._lock:
            return self._sample(covers_ms)

    def _sample(self, covers_ms: Callable[[str, int], int]) -> tuple[list[Sample], list[DeviceEvent], bool]:
        samples: list[Sample] = []
        events: list[DeviceEvent] = []
        pids: set[int] = set()
        stale = False
        for uuid, opened in self._listing.devices.items():
            if self._nvidia is None or uuid in self.lost:
                continue
            try:
                busy, memory, power, running = self._nvidia.read(opened)
            except Lost:
                events.append(self._lose(uuid, _now()))
                continue
            except Stale:
                stale = True
                continue
            at_ms = time.time_ns() // 1_000_000
            covered = covers_ms(uuid, at_ms)
            if covered <= 0:
                continue
            processes: tuple[Process, ...] = ()
            if running:
                processes = tuple([Process(pid, size, self._runs.of(pid)) for pid, size in running])
                pids.update([pid for pid, _ in running])
            samples.append(Sample(uuid, at_ms / 1000, covered / 1000, busy, memory, power, processes))
        self._runs.forget_others(pids)
        samples += self._of_npus(covers_ms)
        return samples, events, stale

    def _of_npus(self, covers_ms: Callable[[str, int], int]) -> list[Sample]:
        """Return that the NPUs are there: their drivers' files say nothing of their use."""
        samples = []
        for uuid, device in self._npus.items():
            if not all((self._root / path.lstrip("/")).exists() for path in device.paths[:1]):
                continue
            at_ms = time.time_ns() // 1_000_000
            covered = covers_ms(uuid, at_ms)
            if covered > 0:
                samples.append(Sample(uuid, at_ms / 1000, covered / 1000))
        return samples

    def users(self, uuid: str) -> list[int]:
        """Return the processes that are on the device now. Raises OSError where that cannot be said."""
        opened = self._listing.devices.get(uuid)
        if opened is not None:
            with self._lock:
                if self._nvidia is None:
                    raise OSError("NVML is closed")
                return self._nvidia.processes(opened)
        device = self._npus.get(uuid)
        if device is None or device.kind is not DeviceKind.NPU:
            raise OSError("there is no such device")
        return [user.pid for user in npus.users(device.paths, self._proc)]


def _is_nvidia(uuid: str) -> bool:
    return not uuid.startswith(npus.PREFIX)


def _now() -> float:
    return time.time_ns() // 1_000_000 / 1000
