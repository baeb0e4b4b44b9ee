"""A device's memory is overwritten before another tenant gets it."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.conftest import Run
from tests.agent.platform import Platform
from tests.nvml.library import CUDA, Scenario

SIZE = 192 * 2**20
SECRET = b"what an earlier tenant computed\0"

TENANT = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
context, address = ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert cuda.cuCtxSetCurrent(context) == 0
for number in range(int(sys.argv[2])):
    assert cuda.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(2**20)) == 0
    if sys.argv[1] == "write":
        secret = sys.argv[3].encode() * (2**20 // len(sys.argv[3]))
        assert cuda.cuMemcpyHtoD_v2(address, secret, ctypes.c_size_t(len(secret))) == 0
    else:
        found = ctypes.create_string_buffer(2**20)
        assert cuda.cuMemcpyDtoH_v2(found, address, ctypes.c_size_t(2**20)) == 0
        print(found.raw.strip(b"\\0")[:20].decode(), end="")
"""


@pytest.fixture
def memory(tmp_path: Path, scenario: Scenario, monkeypatch: pytest.MonkeyPatch, surroundings: dict[str, str]) -> Path:
    """A folder with the memory of two devices, in which an earlier tenant left what it had."""
    folder = tmp_path / "memory"
    folder.mkdir()
    for uuid in (scenario.uuid(0), scenario.uuid(6, 0)):
        with (folder / uuid).open("wb") as file:
            file.truncate(SIZE)
    monkeypatch.setitem(surroundings, "MUDEUNG_CUDA_MEMORY", str(folder))
    return folder


def tenant(surroundings: dict[str, str], uuid: str, does: str, pieces: int = 150) -> str:
    """Return what a program of a tenant printed that has the device to itself."""
    done = subprocess.run(
        [sys.executable, "-c", TENANT, does, str(pieces), "tenant's secret."],
        env={**surroundings, "CUDA_VISIBLE_DEVICES": uuid},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def scrub(surroundings: dict[str, str], uuid: str, **variables: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "agent.scrub", uuid],
        env={**surroundings, "CUDA_VISIBLE_DEVICES": uuid, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("where", [(0, None), (6, 0)])
def test_the_next_tenant_finds_nothing(
    memory: Path, surroundings: dict[str, str], scenario: Scenario, where: tuple[int, int | None]
) -> None:
    uuid = scenario.uuid(*where)
    tenant(surroundings, uuid, "write")
    assert "tenant's secret" in tenant(surroundings, uuid, "read")
    status, said = scrub(surroundings, uuid)
    assert (status, said) == (0, {"overwritten_bytes": SIZE})
    assert tenant(surroundings, uuid, "read") == ""
    assert (memory / uuid).read_bytes().count(0) == SIZE


def test_memory_that_another_program_holds_is_no_success(
    memory: Path, surroundings: dict[str, str], scenario: Scenario
) -> None:
    assert memory.is_dir()
    status, said = scrub(surroundings, scenario.uuid(0), MUDEUNG_CUDA_HELD=str(SIZE // 5))
    assert status == 1
    assert "another program holds" in str(said["problem"])


def test_a_device_that_cuda_does_not_show_is_no_success(
    memory: Path, surroundings: dict[str, str], scenario: Scenario
) -> None:
    assert memory.is_dir()
    status, said = scrub(surroundings, scenario.uuid(1))
    assert status == 1
    assert "no CUDA-capable device" in str(said["problem"])
    status, said = scrub(surroundings, scenario.uuid(0), CUDA_VISIBLE_DEVICES=scenario.uuid(1))
    assert "does not name" in str(said["problem"])


def test_the_agent_scrubs_what_the_platform_asks_for_once(
    run: Run, platform: Platform, memory: Path, surroundings: dict[str, str], scenario: Scenario
) -> None:
    uuid = scenario.uuid(6, 0)
    tenant(surroundings, uuid, "write")
    platform.scrub = [uuid]
    agent = run()
    platform.wait(lambda it: bool(it.all("cleaned")))
    assert (memory / uuid).read_bytes().count(0) == SIZE
    reports = len(platform.reports)
    platform.wait(lambda it: len(it.reports) >= reports + 3)
    (cleaned,) = platform.all("cleaned")
    assert (cleaned["uuid"], cleaned["problem"]) == (uuid, "")
    tenant(surroundings, uuid, "write")  # it is asked again when another run had the device
    platform.scrub = [uuid]
    platform.wait(lambda it: len(it.all("cleaned")) == 2)
    assert (memory / uuid).read_bytes().count(0) == SIZE
    agent.terminate()
    assert agent.wait(5) == 0


def test_a_device_with_a_process_on_it_is_not_scrubbed(
    run: Run, platform: Platform, memory: Path, surroundings: dict[str, str], scenario: Scenario
) -> None:
    uuid = scenario.uuid(0)
    tenant(surroundings, uuid, "write")
    scenario.processes("gpu.0", {os.getpid(): 2**30})
    platform.scrub = [uuid]
    agent = run()
    platform.wait(lambda it: bool(it.all("cleaned")))
    (cleaned,) = platform.all("cleaned")
    assert cleaned["problem"] == f"a process is on it: {os.getpid()}"
    assert (memory / uuid).read_bytes().count(0) < SIZE
    agent.terminate()
    assert agent.wait(5) == 0


def put_npu(root: Path) -> None:
    (root / "dev/rbln0").touch()


def test_what_cannot_be_scrubbed_is_said_so(
    run: Run, platform: Platform, empty_root: Path, scenario: Scenario, library: Path
) -> None:
    put_npu(empty_root)
    agent = run(LD_LIBRARY_PATH=str(without_cuda(library)))
    platform.wait(lambda it: bool(it.devices()))
    npu = next(device["uuid"] for device in platform.devices()[0] if device["kind"] == "npu")
    platform.scrub = [npu, scenario.uuid(0), "GPU-of-another-machine"]
    platform.wait(lambda it: len(it.all("cleaned")) == 3)
    problems = {each["uuid"]: each["problem"] for each in platform.all("cleaned")}
    assert "release it by hand or use quarantine" in problems[npu]
    assert "release it by hand or use quarantine" in problems[scenario.uuid(0)]
    assert problems["GPU-of-another-machine"] == "the device is not on this machine"
    agent.terminate()
    assert agent.wait(5) == 0


def without_cuda(library: Path) -> Path:
    """Return a folder with NVML alone."""
    folder = library.parent / "nvml-alone"
    folder.mkdir(exist_ok=True)
    link = folder / library.name
    if not link.exists():
        link.symlink_to(library)
    with pytest.raises(OSError, match="libcuda"):
        ctypes.CDLL(str(folder / CUDA))
    return folder


def test_an_operator_s_own_command_scrubs_the_rest(
    run: Run, platform: Platform, empty_root: Path, tmp_path: Path, library: Path
) -> None:
    put_npu(empty_root)
    script = tmp_path / "scrub"
    script.write_text('#!/bin/sh\necho "$MUDEUNG_DEVICE_UUID $MUDEUNG_DEVICE_PATHS" >> "$1"\ntest ! -e "$1.fail"\n')
    script.chmod(0o755)
    told = tmp_path / "told"
    agent = run("--scrub-command", f"{script} {told}", LD_LIBRARY_PATH=str(without_cuda(library)))
    platform.wait(lambda it: bool(it.devices()))
    npu = next(device["uuid"] for device in platform.devices()[0] if device["kind"] == "npu")
    platform.scrub = [npu]
    platform.wait(lambda it: len(it.all("cleaned")) == 1)
    assert platform.all("cleaned")[0]["problem"] == ""
    assert told.read_text() == f"{npu} /dev/rbln0\n"
    (tmp_path / "told.fail").touch()
    platform.scrub = [npu]
    platform.wait(lambda it: len(it.all("cleaned")) == 2)
    assert "ended with status 1" in platform.all("cleaned")[1]["problem"]
    agent.terminate()
    assert agent.wait(5) == 0
