"""A thread that waits for what NVML tells by itself: errors of a GPU by their numbers (Xid)."""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from agent.nvidia import Nvidia

WAIT_MILLISECONDS = 1000
PAUSE_SECONDS = 5
NO_INSTANCE = 0xFFFFFFFF

log = logging.getLogger("agent.watching")


class Told(NamedTuple):
    """What NVML told of a GPU at `at`. `xid` is None where it is only a reason to look; slices by their instances."""

    gpu: str
    at: float
    xid: int | None
    instance: int | None
    compute_instance: int | None


class Watch:
    """Hands each event to `tell`, from a thread of its own, until `close`."""

    def __init__(self, nvidia: Nvidia, gpus: dict[str, Any], tell: Callable[[Told], None]) -> None:
        self._nvml = nvidia.nvml
        self._tell = tell
        # By address: a GPU that has fallen off the bus no longer says which it was.
        self._gpus = {_address(gpu): uuid for uuid, gpu in gpus.items()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(dict(gpus),), name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No event is told any more, and NVML is not waited for."""
        self._stop.set()
        self._thread.join(2 * WAIT_MILLISECONDS / 1000)

    def _run(self, gpus: dict[str, Any]) -> None:
        nvml = self._nvml
        try:
            events = nvml.nvmlEventSetCreate()
        except nvml.NVMLError as error:
            log.warning("errors of GPUs (Xid) are not told: %s", error)
            return
        wanted = nvml.nvmlEventTypeXidCriticalError | nvml.nvmlEventTypeDoubleBitEccError
        for uuid, gpu in gpus.items():
            try:
                nvml.nvmlDeviceRegisterEvents(gpu, wanted & nvml.nvmlDeviceGetSupportedEventTypes(gpu), events)
            except nvml.NVMLError as error:
                log.warning("errors (Xid) of %s are not told: %s", uuid, error)
        while not self._stop.is_set():
            try:
                data = nvml.nvmlEventSetWait_v2(events, WAIT_MILLISECONDS)
                self._tell(self._told(data))
            except nvml.NVMLError as error:
                if getattr(error, "value", None) != nvml.NVML_ERROR_TIMEOUT:
                    log.info("waiting for errors of GPUs failed: %s", error)
                    self._stop.wait(PAUSE_SECONDS)
        nvml.nvmlEventSetFree(events)

    def _told(self, data: Any) -> Told:
        nvml = self._nvml
        is_xid = data.eventType == nvml.nvmlEventTypeXidCriticalError
        return Told(
            self._gpus.get(_address(data.device), ""),
            time.time(),
            int(data.eventData) if is_xid else None,
            None if data.gpuInstanceId == NO_INSTANCE else data.gpuInstanceId,
            None if data.computeInstanceId == NO_INSTANCE else data.computeInstanceId,
        )


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
