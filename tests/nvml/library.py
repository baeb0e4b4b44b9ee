"""NVML's and CUDA's C libraries for machines without a GPU, built with the compiler, driven by a scenario file.

What calls them is the real thing: `pynvml` as it comes from the package index, and ctypes. `pynvml` opens
``libnvidia-ml.so.1`` by name, so a process is pointed at ours in one of two ways:

- a subprocess: `environment` puts the folder in front of ``LD_LIBRARY_PATH``, which the loader reads at start;
- this process: `load` opens the library first. The loader finds a library that is already open by its own name
  (its SONAME), so `pynvml` gets it. One that has been opened stays so until the process ends.

The scenario file has a line for each key: ``gpu.0.busy 93``. It is read again at the next call after it was replaced,
so that a test changes the machine under a program that runs. Keys:

- ``driver``;
- ``gpu.N.KEY`` with uuid, name, memory_total, memory_used (bytes), busy (percent), power (milliwatts), minor, cores,
  capability (``9.0``), ecc (1, 0, or -1: not supported), ecc_uncorrected (count), mig (1, 0, -1), gpm (1, 0),
  row_remapping (1: has remapping, 0: has page retirement), remap_pending, remap_failure, pages_pending (0, 1),
  lost (1: every call says GPU_IS_LOST), gone (1: likewise, and it is not listed by an initialisation after it);
- ``gpu.N.mig.M.KEY`` with uuid, name, memory_total, memory_used, busy, gi, ci (instance numbers), units (SMs), slices;
- ``gpu.N.process.K PID BYTES`` and ``gpu.N.mig.M.process.K PID BYTES``;
- ``error.FUNCTION CODE``, ``error.FUNCTION.gpu.N CODE`` (not its slices), ``error.FUNCTION.gpu.N.mig.M CODE``:
  the function returns this NVML code;
- ``event.SERIAL GPU TYPE DATA GI CI``: told once to each event set that was there before, in the serials' order.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SOURCES = Path(__file__).resolve().parent
NVML = "libnvidia-ml.so.1"
CUDA = "libcuda.so.1"
COMPILE_SECONDS = 120

GPUS = 8
CUT = (6, 7)
"""Of `Scenario.standard`: which of its GPUs are cut into slices."""
SLICES = 7
GPU_MEMORY = 85_520_809_984
SLICE_MEMORY = 10_468_982_784
XID = 0x8
DOUBLE_BIT_ECC = 0x2
NO_INSTANCE = 0xFFFFFFFF


def build(folder: Path) -> Path:
    """Both libraries are in `folder`; return NVML's path. Raises RuntimeError without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("these tests build a small C library: a C compiler (cc or gcc) is needed on PATH")
    folder.mkdir(parents=True, exist_ok=True)
    for name, sources in ((NVML, ("nvml.c", "scenario.c")), (CUDA, ("cuda.c",))):
        command = [compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread"]
        command += [f"-Wl,-soname,{name}", "-fvisibility=hidden", "-o", str(folder / name)]
        command += [str(SOURCES / source) for source in sources]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS, check=False)
        if done.returncode:
            raise RuntimeError(f"{name} was not built:\n{done.stderr}")
    return folder / NVML


def environment(library: Path, scenario: Path | Scenario) -> dict[str, str]:
    """Return the variables with which a subprocess finds the libraries of `build` and the scenario.

    They are to be merged into an environment: ``{**os.environ, **environment(library, scenario)}``.
    """
    path = scenario.path if isinstance(scenario, Scenario) else scenario
    earlier = os.environ.get("LD_LIBRARY_PATH")
    folders = [str(library.parent), *([earlier] if earlier else [])]
    return {"LD_LIBRARY_PATH": os.pathsep.join(folders), "MUDEUNG_NVML_SCENARIO": str(path)}


def load(library: Path, scenario: Path | Scenario) -> None:
    """`pynvml` in this process finds the library of `build` from here on, with this scenario."""
    path = scenario.path if isinstance(scenario, Scenario) else scenario
    os.environ["MUDEUNG_NVML_SCENARIO"] = str(path)
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


class Scenario:
    """The machine as a scenario file; each change is in the file when the method returns, all of it or none.

    Several changes are made at once within ``with scenario.together():``.
    """

    def __init__(self, path: Path, values: Mapping[str, object]) -> None:
        self.path = path
        self._values: dict[str, object] = dict(values)
        self._open = 0
        self._serial = 0
        self._write()

    @classmethod
    def standard(cls, path: Path, seed: str = "node") -> Scenario:
        """A machine with eight H100 80GB HBM3, idle; GPUs 6 and 7 are cut into seven 1g.10gb each: 20 devices.

        UUIDs are made of `seed`, so that two machines of one test have different ones.
        """
        values: dict[str, object] = {"driver": "550.90.07"}
        for gpu in range(GPUS):
            values |= whole_gpu(seed, gpu, cut=gpu in CUT)
            if gpu in CUT:
                for index in range(SLICES):
                    values |= gpu_slice(seed, gpu, index)
        return cls(path, values)

    @classmethod
    def uncut(cls, path: Path, count: int, seed: str = "node") -> Scenario:
        """A machine with `count` whole H100, idle."""
        values: dict[str, object] = {"driver": "550.90.07"}
        for gpu in range(count):
            values |= whole_gpu(seed, gpu, cut=False)
        return cls(path, values)

    def set(self, values: Mapping[str, object] | None = None, **of_driver: object) -> None:
        """The keys have these values; one whose value is None is no longer there."""
        for key, value in {**(values or {}), **of_driver}.items():
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value
        self._write()

    def gpu(self, gpu: int, **values: object) -> None:
        """The GPU has these values: ``scenario.gpu(0, busy=93, memory_used=2**30)``."""
        self.set({f"gpu.{gpu}.{key}": value for key, value in values.items()})

    def slice(self, gpu: int, index: int, **values: object) -> None:
        """The slice has these values: ``scenario.slice(6, 0, busy=50)``."""
        self.set({f"gpu.{gpu}.mig.{index}.{key}": value for key, value in values.items()})

    def remove_slice(self, gpu: int, index: int) -> None:
        """The slice was destroyed."""
        self._remove(f"gpu.{gpu}.mig.{index}.")

    def processes(self, where: str, processes: Mapping[int, int]) -> None:
        """Exactly these processes (PID → bytes) are on ``gpu.0`` or ``gpu.6.mig.1``."""
        with self.together():
            self._remove(f"{where}.process.")
            self.set({f"{where}.process.{k}": f"{pid} {size}" for k, (pid, size) in enumerate(processes.items())})

    def error(self, function: str, code: int | None, where: str = "") -> None:
        """The function returns `code` for ``gpu.0`` or ``gpu.6.mig.1``, or for all; with None it works again."""
        self.set({".".join(word for word in ("error", function, where) if word): code})

    def event(self, gpu: int, kind: int, data: int, gi: int = NO_INSTANCE, ci: int = NO_INSTANCE) -> None:
        """An event befell the GPU: `XID` with its number, or `DOUBLE_BIT_ECC`."""
        self._serial += 1
        self.set({f"event.{self._serial}": f"{gpu} {kind} {data} {gi} {ci}"})

    def lose(self, gpu: int, lost: bool = True) -> None:
        """The GPU and its slices answer GPU_IS_LOST, or answer again."""
        self.gpu(gpu, lost=int(lost))

    def uuid(self, gpu: int, index: int | None = None) -> str:
        """Return the UUID of the GPU, or of its slice."""
        return str(self._values[f"gpu.{gpu}.uuid" if index is None else f"gpu.{gpu}.mig.{index}.uuid"])

    def uuids(self) -> list[str]:
        """Return the UUIDs of all that can be held: GPUs that are not cut, and slices."""
        cut = {key.split(".")[1] for key in self._values if ".mig." in key}
        return [
            str(value)
            for key, value in self._values.items()
            if key.endswith(".uuid") and (".mig." in key or key.split(".")[1] not in cut)
        ]

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is changed within becomes visible at its end, at once."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            self._write()

    def _remove(self, prefix: str) -> None:
        self._values = {key: value for key, value in self._values.items() if not key.startswith(prefix)}
        self._write()

    def _write(self) -> None:
        if self._open:
            return
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.write_text("".join(f"{key} {value}\n" for key, value in self._values.items()), encoding="utf-8")
        fresh.replace(self.path)


def whole_gpu(seed: str, gpu: int, *, cut: bool) -> dict[str, object]:
    """Return the keys of an idle H100 80GB HBM3."""
    values = {
        "uuid": f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, f'{seed}/{gpu}')}",
        "name": "NVIDIA H100 80GB HBM3",
        "memory_total": GPU_MEMORY,
        "memory_used": 0,
        "busy": 0,
        "power": 70_000 + gpu,
        "minor": gpu,
        "cores": 16_896,
        "capability": "9.0",
        "ecc": 1,
        "mig": int(cut),
        "gpm": 1,
        "row_remapping": 1,
    }
    return {f"gpu.{gpu}.{key}": value for key, value in values.items()}


def gpu_slice(seed: str, gpu: int, index: int) -> dict[str, object]:
    """Return the keys of an idle 1g.10gb of an H100: GPU instances 7 to 13, one compute instance in each."""
    values = {
        "uuid": f"MIG-{uuid.uuid5(uuid.NAMESPACE_OID, f'{seed}/{gpu}/{index}')}",
        "name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "memory_total": SLICE_MEMORY,
        "memory_used": 0,
        "busy": 0,
        "gi": 7 + index,
        "ci": 0,
        "units": 16,
        "slices": 1,
    }
    return {f"gpu.{gpu}.mig.{index}.{key}": value for key, value in values.items()}
