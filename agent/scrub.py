"""`python -m agent.scrub UUID`: all memory of one GPU or slice is overwritten with zeros, through CUDA's driver.

A program of its own, started with CUDA_VISIBLE_DEVICES set to the device: CUDA keeps some of a device's memory for as
long as a process has it open, and a driver that hangs takes only this process with it. The last line that it prints
is JSON: how many bytes were overwritten, or the problem. The status is 0 when all that could be had was overwritten.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARY = "libcuda.so.1"
LARGEST_PIECE = 2**30
SMALLEST_PIECE = 2**16
OUT_OF_MEMORY = 2
LEFT_FREE_SHARE, LEFT_FREE_BYTES = 100, 64 * 2**20
"""So much may be left that no allocation got: a hundredth of the memory, or 64 MiB where that is more."""
LEAST_FREE_PERCENT = 90
"""Where less of the memory is free before, another program holds it, and what it holds cannot be overwritten."""
NO_LIBRARY_STATUS = 3


class NotScrubbed(Exception):  # noqa: N818 - it says what is the case
    """The device's memory was not overwritten, or not all of it; the text says why."""


class Cuda:
    """The functions of CUDA's driver that are needed, each raising NotScrubbed where it fails."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        self.call("cuInit", 0)

    def result(self, name: str, *arguments: object) -> int:
        return int(getattr(self._library, name)(*arguments))

    def call(self, name: str, *arguments: object) -> None:
        result = self.result(name, *arguments)
        if result:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(result, ctypes.byref(text))
            raise NotScrubbed(f"{name}: {(text.value or b'error').decode(errors='replace')} ({result})")

    @contextmanager
    def device(self) -> Iterator[None]:
        """The only device that is visible is open; its memory is given back at the end."""
        count, device, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        if count.value != 1:
            raise NotScrubbed(f"{count.value} devices are visible, one is to be")
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        try:
            self.call("cuCtxSetCurrent", context)
            yield
        finally:
            self.result("cuDevicePrimaryCtxRelease_v2", device)

    def memory(self) -> tuple[int, int]:
        """Return the bytes that are free, and all."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def allocate(self, size: int) -> int | None:
        """Return the address of a piece, or None where there is none of that size."""
        address = ctypes.c_uint64()
        if self.result("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size)) == OUT_OF_MEMORY:
            return None
        if not address.value:
            raise NotScrubbed("cuMemAlloc: failed")
        return int(address.value)

    def zero(self, address: int, size: int) -> None:
        self.call("cuMemsetD8_v2", ctypes.c_uint64(address), ctypes.c_ubyte(0), ctypes.c_size_t(size))


def scrub(cuda: Cuda) -> int:
    """All free memory of the device is overwritten; return how many bytes. Raises NotScrubbed."""
    with cuda.device():
        free, total = cuda.memory()
        if free * 100 < total * LEAST_FREE_PERCENT:
            raise NotScrubbed(f"only {free} of {total} bytes are free: another program holds the rest")
        overwritten, size = 0, LARGEST_PIECE
        while size >= SMALLEST_PIECE:
            # Pieces are kept until the end, so that none is had twice; the context's end gives all of them back.
            address = cuda.allocate(size)
            if address is None:
                size //= 2
                continue
            cuda.zero(address, size)
            overwritten += size
        cuda.call("cuCtxSynchronize")
        if free - overwritten > max(total // LEFT_FREE_SHARE, LEFT_FREE_BYTES):
            raise NotScrubbed(f"only {overwritten} of {free} free bytes could be had")
        return overwritten


def main(arguments: list[str] | None = None) -> int:
    """The device is scrubbed, or the last line printed says why not."""
    parser = argparse.ArgumentParser(prog="python -m agent.scrub", description=__doc__)
    parser.add_argument("uuid", metavar="UUID", help="the device; CUDA_VISIBLE_DEVICES is to name it")
    uuid = parser.parse_args(arguments).uuid
    status = 1
    try:
        if os.environ.get("CUDA_VISIBLE_DEVICES") != uuid:
            raise NotScrubbed(f"CUDA_VISIBLE_DEVICES does not name {uuid}")
        said: dict[str, object] = {"overwritten_bytes": scrub(Cuda())}
        status = 0
    except OSError as missing:
        said, status = {"problem": f"CUDA's driver library is not there: {missing}"}, NO_LIBRARY_STATUS
    except NotScrubbed as problem:
        said = {"problem": str(problem)}
    print(json.dumps(said), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
