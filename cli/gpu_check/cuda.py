"""CUDA as a server sees it, and whether this machine has a driver that can compute."""

from __future__ import annotations

import ctypes
import json
import re
from typing import Any

from cli.demo.story import Differs

LIBRARY = "libcuda.so.1"
NEEDED = ("cuInit", "cuDeviceGetUuid", "cuModuleLoadDataEx", "cuModuleGetFunction", "cuLaunchKernel")
"""Of the driver's functions those that see a device and compute on it."""

LOOK = """
import ctypes, json, os, uuid
seen = {"visible": os.environ.get("CUDA_VISIBLE_DEVICES"), "attached": os.environ.get("NVIDIA_VISIBLE_DEVICES")}
try:
    cuda = ctypes.CDLL("libcuda.so.1")
    count, device = ctypes.c_int(), ctypes.c_int()
    seen["init"] = cuda.cuInit(0)
    cuda.cuDeviceGetCount(ctypes.byref(count))
    seen["devices"] = []
    for index in range(count.value):
        own = (ctypes.c_char * 16)()
        cuda.cuDeviceGet(ctypes.byref(device), index)
        name = "cuDeviceGetUuid_v2" if hasattr(cuda, "cuDeviceGetUuid_v2") else "cuDeviceGetUuid"
        getattr(cuda, name)(ctypes.byref(own), device)
        seen["devices"].append(str(uuid.UUID(bytes=bytes(own))))
except (OSError, AttributeError) as error:
    seen["error"] = str(error)
print("seen = " + json.dumps(seen))
"""
"""What a server's kernel is asked; it prints a line of JSON."""


def missing() -> str:
    """Return why this machine cannot compute by CUDA, or nothing where it can."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        return str(error)
    without = [name for name in NEEDED if not hasattr(library, name)]
    return f"{LIBRARY} has no {without[0]}" if without else ""


def line(printed: str, name: str) -> dict[str, Any]:
    """Return what stands behind `name =` in the output. Raises Differs where nothing does."""
    found = re.search(rf"^{name} = (\{{.*\}})$", printed, re.MULTILINE)
    if found is None:
        raise Differs(f"a line with {name} =", printed[-1000:])
    read: dict[str, Any] = json.loads(found[1])
    return read


def plain(uuid: str) -> str:
    """Return the UUID without what NVML puts before it."""
    return uuid.partition("-")[2].lower()
