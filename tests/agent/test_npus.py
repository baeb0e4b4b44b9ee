"""NPUs are found by their device files, and described by what their drivers say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import npus
from agent.monitor import Monitor
from quotas.domain.products import expected_model
from tests.agent.conftest import always


def put(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(empty_root: Path) -> Path:
    """Two ATOM-Max of Rebellions and an RNGD and a Warboy of FuriosaAI."""
    files = {"dev/rbln0": "", "dev/rbln1": "", "dev/rsd0": "", "dev/null": ""}
    for number in (0, 1):
        facts = f"sys/class/rebellions/rbln{number}"
        files |= {f"{facts}/card_name": "RBLN-CA25\n", f"{facts}/dram_total": f"{64 * 2**30}\n"}
        files |= {f"{facts}/status": "0\n"}
    for name in ("mgmt", "pe0", "pe0-1", "pe7", "ch0", "ch0r", "dmar", "bar0"):
        files[f"dev/rngd/npu3{name}"] = ""
    files["sys/class/rngd_mgmt/rngd!npu3mgmt/device_uuid"] = "09512C86-0702-4303-8F40-454746474A40\n"
    files |= {f"dev/npu0{name}": "" for name in ("", "_mgmt", "pe0", "pe0-1", "ch0")}
    files["sys/class/npu_mgmt/npu0_mgmt/device_sn"] = "WBYB0000000000000\n"
    put(empty_root, **files)
    return empty_root


def test_each_maker_s_devices_are_found_with_their_files(root: Path) -> None:
    found = npus.find(root)
    assert [(device.name, device.memory_bytes, device.position) for device in found] == [
        ("Rebellions RBLN-CA25", 64 * 2**30, 0),
        ("Rebellions RBLN-CA25", 64 * 2**30, 1),
        ("FuriosaAI RNGD", 48 * 2**30, 2),
        ("FuriosaAI Warboy", 0, 3),
    ]
    assert [expected_model(device) for device in found] == ["atom-max", "atom-max", "rngd", None]
    assert found[1].paths == ("/dev/rbln1",)
    assert set(found[2].paths) == {
        f"/dev/rngd/npu3{name}" for name in ("mgmt", "pe0", "pe0-1", "pe7", "ch0", "ch0r", "dmar", "bar0")
    }
    assert set(found[3].paths) == {f"/dev/npu0{name}" for name in ("", "_mgmt", "pe0", "pe0-1", "ch0")}
    assert {device.kind.value for device in found} == {"npu"}


def test_a_serial_makes_the_uuid_else_the_machine_and_the_path_do(root: Path) -> None:
    first, second, rngd, warboy = (device.uuid for device in npus.find(root))
    assert rngd == "NPU-09512C86-0702-4303-8F40-454746474A40"
    assert warboy == "NPU-WBYB0000000000000"
    assert first != second
    assert [device.uuid for device in npus.find(root)] == [first, second, rngd, warboy]
    (root / "etc/machine-id").write_text("another\n")
    assert {device.uuid for device in npus.find(root)} & {first, second, rngd, warboy} == {rngd, warboy}
    put(root, **{"sys/class/rngd_mgmt/rngd!npu3mgmt/device_uuid": "00000000-0000-0000-0000-000000000000"})
    assert rngd not in {device.uuid for device in npus.find(root)}


def test_without_sysfs_a_card_is_there_but_unknown(root: Path) -> None:
    (root / "sys/class/rebellions/rbln0/card_name").unlink()
    (root / "sys/class/rebellions/rbln0/dram_total").unlink()
    (root / "sys/class/rebellions/rbln1/dram_total").write_text("65536 MiB\n")
    first, second, *_ = npus.find(root)
    assert (first.name, first.memory_bytes) == ("Rebellions NPU", 0)
    assert second.memory_bytes == 64 * 2**30  # as the catalogue has it


def test_a_fault_of_the_driver_is_a_problem(root: Path) -> None:
    (root / "sys/class/rebellions/rbln0/status").write_text("3\n")
    assert [bool(device.problem) for device in npus.find(root)] == [True, False, False, False]


def test_npus_are_sampled_and_lost_without_nvml(root: Path, proc: Path) -> None:
    monitor = Monitor(root, proc, nvml=False)
    try:
        assert monitor.look() == []
        samples, events, _ = monitor.sample(always(1000))
        assert len(samples) == 4
        assert events == []
        assert {(sample.busy_ppm, sample.memory_bytes, sample.covers_seconds) for sample in samples} == {
            (None, None, 1.0)
        }
        (root / "dev/rbln1").unlink()
        assert len(monitor.sample(always(1000))[0]) == 3
        events = monitor.look()
        assert [event.kind.value for event in events] == ["lost"]
        assert events[0].uuid == samples[1].uuid
        (root / "dev/rbln1").touch()
        assert [(event.uuid, event.kind.value) for event in monitor.look()] == [(samples[1].uuid, "back")]
    finally:
        monitor.close()


def test_who_has_a_device_open_is_seen(root: Path) -> None:
    path = root / "dev/rbln0"
    assert npus.users([str(path)], Path("/proc")) == []
    with path.open():
        assert npus.users([str(path), "/dev/none"], Path("/proc")) == [npus.User(os.getpid(), str(path))]
