"""PTX carried out by numpy, and CUDA's driver interface on it: what a kernel computes is seen without a GPU.

Only what the project's own kernels use is known; anything else raises. All threads go in step, so a branch that some
of them take and others do not raises as well. An access outside of what was allocated raises.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

TYPES: dict[str, Any] = {"u32": np.uint32, "b32": np.uint32, "u64": np.uint64, "b64": np.uint64, "f32": np.float32}
PARAMETERS: dict[str, Any] = {"u32": ctypes.c_uint32, "u64": ctypes.c_uint64, "f32": ctypes.c_float}
BASE = 0x7F00_0000_0000
GAP = 4096
_ENTRY = re.compile(r"\.visible \.entry (\w+)\(([^)]*)\)\s*\{([^}]*)\}")
_ADDRESS = re.compile(r"\[(%?\w+)(?:\+(\d+))?\]")


@dataclass(frozen=True)
class Instruction:
    operation: str
    operands: tuple[str, ...]
    guard: str


@dataclass(frozen=True)
class Kernel:
    """A kernel: its parameters as (type, name), its instructions, and where its labels stand."""

    parameters: tuple[tuple[str, str], ...]
    code: tuple[Instruction, ...]
    labels: dict[str, int]


def parse(source: str) -> dict[str, Kernel]:
    """Return the kernels by name."""
    plain = re.sub(r"//.*", "", source)
    for needed in (".version 6.0", ".target sm_60", ".address_size 64"):
        assert needed in plain, needed
    return {name: _kernel(head, body) for name, head, body in _ENTRY.findall(plain)}


def _kernel(head: str, body: str) -> Kernel:
    parameters = tuple((kind, name) for kind, name in re.findall(r"\.param \.(\w+) (\w+)", head))
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    for statement in re.split(r"(?<=[;:])", body):
        words = statement.strip()
        if words.endswith(":"):
            labels[words[:-1]] = len(code)
        elif words and not words.startswith(".reg"):
            found = re.fullmatch(r"(?:@(%\w+)\s+)?([\w.]+)\s*(.*);", words, re.DOTALL)
            assert found, words
            operands = tuple(each.strip() for each in found[3].split(",")) if found[3] else ()
            code.append(Instruction(found[2], operands, found[1] or ""))
    return Kernel(parameters, tuple(code), labels)


@dataclass
class Memory:
    """A device's memory: pieces at addresses, with a gap between two."""

    pieces: dict[int, np.ndarray[Any, Any]] = field(default_factory=dict)
    next_address: int = BASE

    def allocate(self, size: int) -> int:
        address = self.next_address
        self.pieces[address] = np.zeros(-(-size // 4), np.float32)
        self.next_address += size + GAP
        return address

    def at(self, address: int, size: int) -> np.ndarray[Any, Any]:
        """Return a view of so many bytes. Raises where they are not in one piece."""
        for start, piece in self.pieces.items():
            if start <= address and address + size <= start + piece.nbytes:
                return piece.view(np.uint8)[address - start : address - start + size]
        raise IndexError(f"{size} bytes at {address:#x} were not allocated")

    def words(self, addresses: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return a piece and the indices of its words, one for each address."""
        low, high = int(addresses.min()), int(addresses.max())
        for start, piece in self.pieces.items():
            if start <= low and high + 4 <= start + piece.nbytes:
                offsets = addresses.astype(np.int64) - start
                assert not (offsets % 4).any(), "an address that is not aligned"
                return piece, offsets // 4
        raise IndexError(f"{low:#x} to {high:#x} were not allocated")


class Threads:
    """All threads of one launch, which go through the kernel together."""

    def __init__(self, kernel: Kernel, memory: Memory, grid: Sequence[int], block: Sequence[int]) -> None:
        self.kernel, self.memory = kernel, memory
        shape = (grid[1], grid[0], block[1], block[0])
        count = int(np.prod(shape))
        numbers = np.unravel_index(np.arange(count), shape)
        names = ("%ctaid.y", "%ctaid.x", "%tid.y", "%tid.x")
        self.registers: dict[str, Any] = {
            name: values.astype(np.uint32) for name, values in zip(names, numbers, strict=True)
        }
        self.count = count

    def run(self, arguments: dict[str, Any]) -> None:
        """Carry the kernel out."""
        place = 0
        for _ in range(10_000_000):
            step = self.kernel.code[place]
            place += 1
            if step.operation == "ret":
                return
            if step.operation == "bra":
                taken = self.registers[step.guard] if step.guard else np.ones(1, bool)
                assert taken.all() or not taken.any(), "threads part"
                place = self.kernel.labels[step.operands[0]] if taken.all() else place
            else:
                assert not step.guard, step
                self._do(step, arguments)
        raise TimeoutError("the kernel does not end")

    def _do(self, step: Instruction, arguments: dict[str, Any]) -> None:
        operation, *rest = step.operation.split(".")
        kind = rest[-1]
        if operation in {"st", "red"}:
            self._write(step)
            return
        target, *sources = step.operands
        if operation == "ld" and rest[0] == "param":
            value = np.full(self.count, arguments[sources[0].strip("[]")], TYPES[kind])
        elif operation == "ld":
            piece, where = self.memory.words(self._address(sources[0]))
            value = piece[where]
        else:
            value = self._computed(step.operation, kind, [self._value(each, kind) for each in sources])
        self.registers[target] = value

    def _write(self, step: Instruction) -> None:
        piece, where = self.memory.words(self._address(step.operands[0]))
        value = self._value(step.operands[1], "f32")
        if step.operation == "red.global.add.f32":
            np.add.at(piece, where, value)
        else:
            assert step.operation == "st.global.f32", step
            piece[where] = value

    def _address(self, operand: str) -> np.ndarray[Any, Any]:
        found = _ADDRESS.fullmatch(operand)
        assert found, operand
        address: np.ndarray[Any, Any] = self.registers[found[1]] + np.uint64(int(found[2] or 0))
        return address

    def _value(self, operand: str, kind: str) -> np.ndarray[Any, Any]:
        if operand.startswith("%"):
            value: np.ndarray[Any, Any] = self.registers[operand]
            return value
        if operand.startswith("0f"):
            return np.full(self.count, np.frombuffer(bytes.fromhex(operand[2:])[::-1], np.float32)[0])
        return np.full(self.count, int(operand), TYPES[kind])

    def _computed(  # noqa: PLR0911 - a case for each instruction
        self, operation: str, kind: str, values: list[np.ndarray[Any, Any]]
    ) -> np.ndarray[Any, Any]:
        wanted = np.uint32 if operation == "mul.wide.u32" else TYPES[kind]
        assert all(value.dtype == wanted for value in values), (operation, [value.dtype for value in values])
        match operation:
            case "cvta.to.global.u64" | "mov.u32" | "mov.f32":
                return values[0].copy()
            case "add.u64" | "add.u32":
                return values[0] + values[1]
            case "sub.u32" | "sub.f32":
                return values[0] - values[1]
            case "neg.f32":
                return -values[0]
            case "mul.lo.u32":
                return values[0] * values[1]
            case "mul.wide.u32":
                return values[0].astype(np.uint64) * values[1].astype(np.uint64)
            case "mad.lo.u32":
                return values[0] * values[1] + values[2]
            case "fma.rn.f32":
                exact = values[0].astype(np.float64) * values[1].astype(np.float64) + values[2].astype(np.float64)
                return exact.astype(np.float32)
            case "setp.ne.u32":
                return values[0] != values[1]
        raise LookupError(f"an instruction that is not known here: {operation}")


class Driver:
    """The functions of libcuda that the notebook calls, on one device; each returns 0, as they do."""

    def __init__(self, uuid_bytes: bytes, name: str = "PTX by numpy") -> None:
        self.uuid_bytes, self.name = uuid_bytes, name
        self.memory = Memory()
        self.kernels: dict[str, Kernel] = {}
        self.handles: list[str] = []
        self.launches = 0

    def __getattr__(self, name: str) -> Any:
        if name in {"cuInit", "cuCtxSetCurrent", "cuCtxSynchronize", "cuModuleUnload", "cuDevicePrimaryCtxRelease_v2"}:
            return lambda *_: 0
        numbers = {"cuDriverGetVersion": 12040, "cuDeviceGetCount": 1, "cuDeviceGet": 0, "cuDevicePrimaryCtxRetain": 1}
        if name in numbers:
            return lambda found, *_: self._put(found, numbers[name])
        raise AttributeError(name)

    @staticmethod
    def _put(found: Any, value: Any) -> int:
        found._obj.value = value
        return 0

    def cuDeviceGetName(self, text: Any, size: Any, device: Any) -> int:  # noqa: N802 - CUDA's own name
        del device
        text.value = self.name.encode()[: size.value]
        return 0

    def cuDeviceGetUuid_v2(self, found: Any, device: Any) -> int:  # noqa: N802 - as above
        del device
        ctypes.memmove(found._obj, self.uuid_bytes, 16)
        return 0

    def cuModuleLoadDataEx(self, module: Any, source: Any, *_: Any) -> int:  # noqa: N802 - as above
        self.kernels = parse(source.value.decode("ascii"))
        return self._put(module, 1)

    def cuModuleGetFunction(self, function: Any, module: Any, name: Any) -> int:  # noqa: N802 - as above
        del module
        self.handles.append(name.value.decode())
        assert self.handles[-1] in self.kernels
        return self._put(function, len(self.handles))

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:  # noqa: N802 - as above
        return self._put(address, self.memory.allocate(size.value))

    def cuMemFree_v2(self, address: Any) -> int:  # noqa: N802 - as above
        del self.memory.pieces[address.value]
        return 0

    def cuMemcpyHtoD_v2(self, address: Any, host: Any, size: Any) -> int:  # noqa: N802 - as above
        self.memory.at(address.value, size.value)[:] = np.frombuffer(ctypes.string_at(host, size.value), np.uint8)
        return 0

    def cuMemcpyDtoH_v2(self, host: Any, address: Any, size: Any) -> int:  # noqa: N802 - as above
        ctypes.memmove(host, self.memory.at(address.value, size.value).tobytes(), size.value)
        return 0

    def cuLaunchKernel(self, function: Any, *words: Any) -> int:  # noqa: N802 - as above
        gx, gy, gz, bx, by, bz, shared = (word.value for word in words[:7])
        pointers = words[8]
        assert (gz, bz, shared) == (1, 1, 0)
        kernel = self.kernels[self.handles[function.value - 1]]
        assert len(pointers) == len(kernel.parameters)
        arguments = {
            name: PARAMETERS[kind].from_address(pointer).value
            for (kind, name), pointer in zip(kernel.parameters, pointers, strict=True)
        }
        Threads(kernel, self.memory, (gx, gy), (bx, by)).run(arguments)
        self.launches += 1
        return 0
