"""The agent as it runs: a thread samples and writes reports, one sends them, one scrubs; the main one waits to end."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import threading
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from agent.buffer import Buffer, Carried
from agent.monitor import Monitor
from agent.options import Options
from agent.processes import Labels
from agent.scrubbing import Scrubber
from agent.sending import Sender
from agent.wire import Contents
from quotas.domain.node_reports import Answer, Cleaned, DeviceEvent, FoundDevice, PodDevices, Report, Sample

if TYPE_CHECKING:
    from agent.pod_resources import Pods

LOOK_SECONDS = 60
"""So often devices and their health are listed anew; at once when a reading, an event or the platform asks for it."""
SEND_DEVICES_SECONDS = 600
PROMPT_PAUSE_SECONDS = 1.0
END_SECONDS = 0.5

log = logging.getLogger("agent.service")


def agent_version() -> str:
    try:
        return version("mudeung")
    except PackageNotFoundError:
        return "unknown"


class Agent:
    """One agent with its folder. `close` is to be called at the end. Raises BufferInUse and OSError."""

    def __init__(self, options: Options, labels: Labels | None = None) -> None:
        self.options = options
        self.buffer = Buffer(options.state, options.buffer_hours * 3600)
        self._wake = threading.Event()
        carried = self.buffer.carried
        self.monitor = Monitor(
            options.root,
            options.proc,
            nvml=options.nvml,
            wake=None if options.once else self._wake.set,
            labels=labels,
            on_cluster=options.pod_resources is not None,
            known=frozenset(carried.present),
            lost=frozenset(carried.lost),
        )
        self._pods = self._pods_of_kubelet()
        self.sender = Sender(self.buffer, options, self._heed)
        self.scrubber = Scrubber(self.monitor.found, self.monitor.users, options.scrub_command, self._cleaned_one)
        self._cleaned: queue.SimpleQueue[Cleaned] = queue.SimpleQueue()
        self._cleaned_in: dict[str, int] = {}
        self._events_waiting: list[DeviceEvent] = []
        self._cleaned_waiting: list[Cleaned] = []
        self._sampled_ms: dict[str, int] = {}
        self._devices_sent: tuple[FoundDevice, ...] | None = None
        self._devices_due_at = 0.0
        self._look_at = 0.0
        self._version = agent_version()
        self.failed = False

    # -- rounds

    def round(self) -> bool:
        """The devices were sampled, and the reports of it are on the disk; return whether they could be written."""
        dropped = self.buffer.drop_old()
        if dropped:
            log.warning("%d reports were older than %d h and dropped", dropped, self.options.buffer_hours)
        self._look_if_due()
        pods = None if self._pods is None else self._pods.look()
        samples, events, stale = self.monitor.sample(self._covers_ms)
        self._events_waiting += events
        if events or stale:
            self._events_waiting += self._look()
        return self._write(samples, pods, needed=True)

    def _pods_of_kubelet(self) -> Pods | None:
        """Return what asks the kubelet, on a machine of a cluster."""
        if self.options.pod_resources is None:
            return None
        from agent.pod_resources import Kubelet, Pods  # noqa: PLC0415 - gRPC is large, and most machines need none

        looked_at = self.buffer.carried.sampled_until_ms / 1000
        return Pods(Kubelet(self.options.pod_resources), self.monitor.named, looked_at)

    def _tell_promptly(self) -> None:
        """What befell a device, or was scrubbed, is on the disk before the next round."""
        self._look_if_due()
        self._write([], None, needed=False)

    def _look_if_due(self) -> None:
        events, now = self.monitor.told()
        self._events_waiting += events
        if now or self.monitor.lost or time.monotonic() >= self._look_at:
            self._events_waiting += self._look()

    def _look(self) -> list[DeviceEvent]:
        self._look_at = time.monotonic() + LOOK_SECONDS
        return self.monitor.look()

    def _covers_ms(self, uuid: str, at_ms: int) -> int:
        """Return for how long a sample stands: since the one before, or one interval after a pause or at first."""
        interval = self.options.interval_seconds * 1000
        before = self._sampled_ms.get(uuid, self.buffer.carried.sampled_until_ms)
        gap = at_ms - before
        return gap if gap <= 2 * interval else interval

    def _write(self, samples: list[Sample], pods: tuple[PodDevices, ...] | None, *, needed: bool) -> bool:
        while not self._cleaned.empty():
            self._cleaned_waiting.append(self._cleaned.get_nowait())
        devices = self._devices_to_send()
        told = tuple(self._events_waiting), tuple(self._cleaned_waiting)
        contents = Contents(devices, tuple(samples), *told, pods)
        if not contents and not needed:
            return True
        empty = Report("", 0, time.time_ns() // 1_000_000 / 1000, self._version, self.options.interval_seconds)
        sampled = {sample.uuid: round(sample.at * 1000) for sample in samples}
        until = max([self.buffer.carried.sampled_until_ms, *sampled.values()])
        carried = Carried(until, tuple(sorted(self.monitor.present)), tuple(sorted(self.monitor.lost)))
        try:
            newest = self.buffer.add(contents, empty, carried)
        except OSError as error:
            log.error("a report could not be written: %s", error)
            return False
        self._sampled_ms.update(sampled)
        self._events_waiting = []
        self._cleaned_in.update({cleaned.uuid: newest for cleaned in self._cleaned_waiting})
        self._cleaned_waiting = []
        if devices is not None:
            self._devices_sent = devices
            self._devices_due_at = time.monotonic() + SEND_DEVICES_SECONDS
        return True

    def _devices_to_send(self) -> tuple[FoundDevice, ...] | None:
        devices = self.monitor.devices()
        if devices is None or (devices == self._devices_sent and time.monotonic() < self._devices_due_at):
            return None
        return devices

    # -- what the platform answers, and what was scrubbed

    def _heed(self, answer: Answer, newest: bool) -> None:
        reported = [uuid for uuid, sequence in list(self._cleaned_in.items()) if sequence <= answer.accepted]
        for uuid in reported:
            self._cleaned_in.pop(uuid, None)
        self.scrubber.reported(reported)
        if answer.send_devices:
            self._devices_due_at = 0.0
        # An answer to an older report may ask for what a later one says is done; by now a run may have the device.
        if newest and not self.options.once:
            self.scrubber.ask(answer.scrub)

    def _cleaned_one(self, cleaned: Cleaned) -> None:
        self._cleaned.put(cleaned)
        self._wake.set()

    # -- life

    def run(self) -> int:
        """The agent runs until SIGTERM or SIGINT; return the status to end with."""
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: stop.set())
        works: tuple[tuple[str, Callable[[threading.Event], None]], ...] = (
            ("rounds", self._rounds),
            ("sender", self.sender.run),
            ("scrubber", self.scrubber.run),
        )
        threads = [
            threading.Thread(target=self._guarded, args=(work, stop), name=name, daemon=True) for name, work in works
        ]
        log.info("reports go to %s, every %d s", self.options.report_url, self.options.interval_seconds)
        for thread in threads:
            thread.start()
        stop.wait()
        self._wake.set()
        self.buffer.added.set()
        self.scrubber.end()
        deadline = time.monotonic() + END_SECONDS
        for thread in threads:
            # One that waits for a driver or an engine is left to end with the process: what it did is on the disk.
            thread.join(max(deadline - time.monotonic(), 0))
        log.info("ended; %d reports wait", len(self.buffer))
        return 1 if self.failed else 0

    def _guarded(self, work: Callable[[threading.Event], None], stop: threading.Event) -> None:
        try:
            work(stop)
        except BaseException:
            log.exception("the agent ends: it met what it does not expect")
            self.failed = True
            raise
        finally:
            stop.set()

    def _rounds(self, stop: threading.Event) -> None:
        next_at = time.monotonic()
        while not stop.is_set():
            now = time.monotonic()
            if now >= next_at:
                self.round()
                next_at = max(next_at + self.options.interval_seconds, now)
            elif self._wake.is_set():
                self._wake.clear()
                self._tell_promptly()
                stop.wait(min(PROMPT_PAUSE_SECONDS, max(next_at - time.monotonic(), 0)))
            self._wake.wait(max(next_at - time.monotonic(), 0))

    def once(self) -> int:
        """One round was sampled and everything sent; return 0 when the platform has all of it."""
        written = self.round()
        return 0 if self.sender.drain() and written else 1

    def close(self) -> None:
        """The folder and NVML are another's to use."""
        with contextlib.suppress(OSError):
            self.sender.close()
        self.monitor.close()
        self.buffer.close()
