"""What the machine has: as NVML says, as `nvidia-smi` says where it is installed, and as the platform has it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cli.demo.story import Differs, NotDone, Step
from cli.gpu_check import nvml
from cli.supervision.programs import ROOT

SMI = "nvidia-smi"
SMI_SECONDS = 60
NVIDIA = ("GPU-", "MIG-")
"""How the UUIDs of NVIDIA's devices begin; a machine may have NPUs beside them."""
MEMORY_SHARE = 0.02
"""By which two readings of a device's memory may differ: some leave out what the driver keeps for itself."""
_GPU = re.compile(r"GPU \d+: .* \(UUID: (GPU-[^)]+)\)")
_SLICE = re.compile(r"\s+MIG .*\(UUID: (MIG-[^)]+)\)")


@dataclass(frozen=True)
class Machine:
    """What NVML says of the machine."""

    driver: nvml.Driver
    devices: tuple[nvml.Device, ...]


def read(step: Step) -> Machine:
    """Return what NVML says. Raises NotDone for a machine without NVIDIA's driver, or without a device."""
    try:
        with nvml.opened():
            machine = Machine(nvml.driver(), tuple(nvml.devices()))
    except nvml.NoDriver as missing:
        raise NotDone(f"no NVIDIA driver: {missing}", f"NVIDIA 드라이버 없음: {missing}") from None
    if not machine.devices:
        raise NotDone("NVML finds no device on this machine", "NVML이 이 장비에서 장치를 찾지 못함")
    step.note(f"driver {machine.driver.version or '-'}, CUDA {machine.driver.cuda or '-'}")
    for device in machine.devices:
        step.note(f"{device.name}, {device.memory_bytes / 2**20:,.0f} MiB, {device.uuid}")
    return machine


def compare_with_smi(step: Step, machine: Machine) -> None:
    """`nvidia-smi` lists the same devices with the same memory; where it is not installed that is noted."""
    program = shutil.which(SMI)
    if program is None:
        raise NotDone(f"{SMI} is not installed", f"{SMI}이(가) 설치되어 있지 않음")
    listed = held_uuids(_printed(program, "-L"), _cut(program))
    own = {device.uuid for device in machine.devices}
    step.expect(listed == own, f"the devices of {SMI} -L: {sorted(listed)}", sorted(own))
    memory = dict(_rows(program, "uuid,memory.total"))
    for device in machine.devices:
        if not device.is_slice:
            said = int(memory[device.uuid]) * 2**20
            near = abs(said - device.memory_bytes) <= MEMORY_SHARE * said
            step.expect(near, f"{said} bytes, as {SMI} says of {device.uuid}", device.memory_bytes)
    step.note(f"{len(listed)} = {len(own)}")


def held_uuids(listing: str, cut: Iterable[str] = ()) -> set[str]:
    """Return the UUIDs in the output of `nvidia-smi -L` that a process can be given: GPUs not `cut`, and slices."""
    without = set(cut)
    found: set[str] = set()
    for line in listing.splitlines():
        gpu, part = _GPU.match(line), _SLICE.match(line)
        if gpu and gpu[1] not in without:
            found.add(gpu[1])
        if part:
            found.add(part[1])
    return found


def _cut(program: str) -> set[str]:
    return {uuid for uuid, mode in _rows(program, "uuid,mig.mode.current") if mode == "Enabled"}


def _rows(program: str, fields: str) -> list[tuple[str, str]]:
    printed = _printed(program, f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    return [
        (first.strip(), second.strip()) for first, _, second in (row.partition(",") for row in printed.splitlines())
    ]


def _printed(program: str, *words: str) -> str:
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=SMI_SECONDS, check=False)
    if done.returncode:
        raise Differs(f"{SMI} {' '.join(words)} to succeed", f"exit {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def compare_with_agent(step: Step, machine: Machine) -> None:
    """What the agent would report are NVML's devices, with the same memory; slices are named with their profile."""
    done = subprocess.run(
        [sys.executable, "-m", "cli", "agent", "--print", "-o", "json"],
        capture_output=True,
        text=True,
        timeout=SMI_SECONDS,
        cwd=ROOT,
        check=False,
    )
    step.expect(done.returncode == 0, "mudeung agent --print to succeed", f"exit {done.returncode}: {done.stderr}")
    read = {str(each["uuid"]): each for each in json.loads(done.stdout) if each["kind"] != "npu"}
    own = {device.uuid: device for device in machine.devices}
    step.expect(read.keys() == own.keys(), f"NVML's devices {sorted(own)}", sorted(read))
    for uuid, device in own.items():
        found = read[uuid]
        near = abs(found["memory_bytes"] - device.memory_bytes) <= MEMORY_SHARE * device.memory_bytes
        step.expect(near, f"{device.memory_bytes} bytes of {uuid}", found["memory_bytes"])
        step.expect(bool(found["mig_profile"]) == device.is_slice, f"{uuid} to be a slice, or none", found)
        step.expect(found["parent_uuid"] == device.parent_uuid, f"{uuid} to be of {device.parent_uuid}", found)
        units = "-" if found["units"] is None else f"{found['units']} SM"
        step.note(f"{uuid}: {found['memory_bytes'] / 2**20:,.0f} MiB, {units}, MIG {found['mig_profile'] or '-'}")


def compare_with_platform(step: Step, machine: Machine, rows: Iterable[Mapping[str, Any]]) -> None:
    """The platform's devices are NVML's; each is noted with its model of the catalogue, or that it has none."""
    listed = {str(row["uuid"]): row for row in rows if str(row["uuid"]).startswith(NVIDIA)}
    own = {device.uuid: device for device in machine.devices}
    step.expect(listed.keys() == own.keys(), f"NVML's devices {sorted(own)}", sorted(listed))
    for uuid, device in own.items():
        step.note(f"{uuid}: {device.name} → {listed[uuid]['device_model'] or '?'}")
