"""What the real `pynvml` says of the scenario becomes devices and samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.monitor import Monitor
from quotas.domain.node_reports import DeviceKind, FoundDevice
from tests.agent.conftest import always
from tests.nvml.library import GPU_MEMORY, SLICE_MEMORY, Scenario

UNKNOWN, NOT_SUPPORTED, NO_PERMISSION = 999, 3, 4


def test_gpus_are_listed_whole_and_cut_ones_by_their_slices(monitor: Monitor, loaded: Scenario) -> None:
    assert monitor.look() == []
    devices = monitor.devices()
    assert devices is not None
    assert [device.uuid for device in devices] == loaded.uuids()
    assert len(devices) == 6 + 2 * 7
    assert devices[3] == FoundDevice(
        uuid=loaded.uuid(3),
        kind=DeviceKind.GPU,
        name="NVIDIA H100 80GB HBM3",
        memory_bytes=GPU_MEMORY,
        position=3,
        units=132,
        paths=("/dev/nvidia3", "/dev/nvidiactl", "/dev/nvidia-uvm"),
        ecc=True,
    )
    assert devices[7] == FoundDevice(
        uuid=loaded.uuid(6, 1),
        kind=DeviceKind.MIG,
        name="NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        memory_bytes=SLICE_MEMORY,
        position=7,
        units=16,
        mig_profile="1g.10gb",
        parent_uuid=loaded.uuid(6),
        paths=("/dev/nvidia6", "/dev/nvidiactl", "/dev/nvidia-uvm"),
        ecc=True,
    )


def test_a_slice_names_the_files_that_open_its_instances(monitor: Monitor, loaded: Scenario, proc: Path) -> None:
    instance = proc / "driver/nvidia/capabilities/gpu6/mig/gi8"
    (instance / "ci0").mkdir(parents=True)
    (instance / "access").write_text("DeviceFileMinor: 66\nDeviceFileMode: 292\n")
    (instance / "ci0/access").write_text("DeviceFileMinor: 67\nDeviceFileMode: 292\n")
    monitor.look()
    found = monitor.found(loaded.uuid(6, 1))
    assert found is not None
    assert found.paths[3:] == ("/dev/nvidia-caps/nvidia-cap66", "/dev/nvidia-caps/nvidia-cap67")


@pytest.mark.parametrize(
    ("capability", "cores", "units"),
    [("8.0", 6912, 108), ("8.6", 10752, 84), ("7.5", 2560, 40), ("99.0", 6912, None), ("8.0", 6911, None)],
)
def test_multiprocessors_are_counted_by_the_cores_of_one(
    monitor: Monitor, loaded: Scenario, capability: str, cores: int, units: int | None
) -> None:
    loaded.gpu(0, capability=capability, cores=cores)
    monitor.look()
    found = monitor.found(loaded.uuid(0))
    assert found is not None
    assert found.units == units


def test_a_profile_without_a_name_is_made_of_its_parts(monitor: Monitor, loaded: Scenario) -> None:
    loaded.slice(6, 0, name="NVIDIA H100 80GB HBM3", slices=3, memory_total=40 * 2**30)
    monitor.look()
    found = monitor.found(loaded.uuid(6, 0))
    assert found is not None
    assert found.mig_profile == "3g.40gb"


def test_an_ill_gpu_says_so_and_so_do_its_slices(monitor: Monitor, loaded: Scenario) -> None:
    for gpu in (1, 7):
        loaded.gpu(gpu, remap_failure=1)
    monitor.look()
    devices = monitor.devices()
    assert devices is not None
    ill = {device.uuid for device in devices if "could not be replaced" in device.problem}
    assert ill == {loaded.uuid(1), *(loaded.uuid(7, index) for index in range(7))}
    assert {device.problem for device in devices if device.uuid not in ill} == {""}


@pytest.mark.parametrize("values", [{"ecc_uncorrected": 3}, {"remap_pending": 1}, {"row_remapping": 0}])
def test_what_a_reset_cures_takes_no_gpu_from_its_run(
    monitor: Monitor, loaded: Scenario, values: dict[str, int]
) -> None:
    loaded.gpu(1, **values)
    monitor.look()
    devices = monitor.devices()
    assert devices is not None
    assert {device.problem for device in devices} == {""}


def test_a_gpu_without_ecc_cannot_tell(monitor: Monitor, loaded: Scenario) -> None:
    loaded.gpu(0, ecc=-1)
    loaded.gpu(1, ecc=0)
    monitor.look()
    assert [getattr(monitor.found(loaded.uuid(gpu)), "ecc", "?") for gpu in range(3)] == [None, False, True]


def test_a_sample_has_what_the_gpu_tells(monitor: Monitor, loaded: Scenario) -> None:
    with loaded.together():
        loaded.gpu(0, busy=93, memory_used=2**34, power=654_321)
        loaded.processes("gpu.0", {4_000_001: 2**33, 4_000_002: 2**30})
    monitor.look()
    samples, events, stale = monitor.sample(always(1000))
    assert (events, stale) == ([], False)
    assert [sample.uuid for sample in samples] == loaded.uuids()
    first = samples[0]
    assert (first.busy_ppm, first.memory_bytes, first.power_milliwatts) == (930_000, 2**34, 654_321)
    assert [(process.pid, process.memory_bytes, process.run_id) for process in first.processes] == [
        (4_000_001, 2**33, ""),
        (4_000_002, 2**30, ""),
    ]
    assert first.covers_seconds == 1.0


def test_a_slice_is_measured_between_two_samples_and_has_no_power(monitor: Monitor, loaded: Scenario) -> None:
    with loaded.together():
        loaded.slice(6, 2, busy=40, memory_used=2**31)
        loaded.processes("gpu.6.mig.2", {4_000_001: 2**31})
    monitor.look()
    uuid = loaded.uuid(6, 2)
    first = {sample.uuid: sample for sample in monitor.sample(always(1))[0]}[uuid]
    assert first.busy_ppm is None
    second = {sample.uuid: sample for sample in monitor.sample(always(1))[0]}
    assert second[uuid].busy_ppm == 400_000
    assert second[uuid].memory_bytes == 2**31
    assert [process.pid for process in second[uuid].processes] == [4_000_001]
    assert second[uuid].power_milliwatts is None
    assert second[loaded.uuid(6, 3)].busy_ppm == 0
    monitor.look()  # what is listed again keeps its last sample
    assert {sample.uuid: sample.busy_ppm for sample in monitor.sample(always(1))[0]}[uuid] == 400_000


def test_a_slice_of_a_gpu_without_gpm_tells_no_utilisation(monitor: Monitor, loaded: Scenario) -> None:
    loaded.gpu(6, gpm=0)
    monitor.look()
    for _ in range(2):
        samples, _, _ = monitor.sample(always(1))
    of_slice = {sample.uuid: sample for sample in samples}
    assert of_slice[loaded.uuid(6, 0)].busy_ppm is None
    assert of_slice[loaded.uuid(6, 0)].memory_bytes == 0
    assert of_slice[loaded.uuid(7, 0)].busy_ppm == 0


def test_counters_of_a_divided_instance_are_no_part_of_it(monitor: Monitor, loaded: Scenario) -> None:
    loaded.slice(6, 0, name="NVIDIA H100 80GB HBM3 MIG 1c.2g.20gb", busy=50)
    monitor.look()
    for _ in range(2):
        samples, _, _ = monitor.sample(always(1))
    assert {sample.uuid: sample.busy_ppm for sample in samples}[loaded.uuid(6, 0)] is None


@pytest.mark.parametrize("code", [UNKNOWN, NOT_SUPPORTED, NO_PERMISSION])
@pytest.mark.parametrize(
    ("function", "figure"),
    [
        ("nvmlDeviceGetUtilizationRates", "busy_ppm"),
        ("nvmlDeviceGetPowerUsage", "power_milliwatts"),
        ("nvmlDeviceGetMemoryInfo", "memory_bytes"),
    ],
)
def test_one_function_that_fails_costs_one_figure(
    monitor: Monitor, loaded: Scenario, function: str, figure: str, code: int
) -> None:
    with loaded.together():
        loaded.gpu(0, busy=10, memory_used=5)
        loaded.processes("gpu.0", {4_000_001: 5})
    monitor.look()
    loaded.error(function, code, "gpu.0")
    for _ in range(2):
        samples, events, _ = monitor.sample(always(1))
        assert events == []
        first = samples[0]
        told = {"busy_ppm": first.busy_ppm, "power_milliwatts": first.power_milliwatts}
        told["memory_bytes"] = first.memory_bytes
        assert {name for name, value in told.items() if value is None} == {figure}
        assert len(first.processes) == 1
    if code != NOT_SUPPORTED:
        loaded.error(function, None, "gpu.0")
        again = monitor.sample(always(1))[0][0]
        assert None not in {again.busy_ppm, again.power_milliwatts, again.memory_bytes}


def test_processes_that_cannot_be_listed_leave_the_rest(monitor: Monitor, loaded: Scenario) -> None:
    loaded.error("nvmlDeviceGetComputeRunningProcesses_v3", NO_PERMISSION)
    monitor.look()
    monitor.sample(always(1))
    samples, _, _ = monitor.sample(always(1))
    assert [sample.processes for sample in samples] == [()] * 20
    assert [sample.busy_ppm for sample in samples] == [0] * 20


@pytest.mark.parametrize(
    "function",
    ["nvmlDeviceGetName", "nvmlDeviceGetMinorNumber", "nvmlDeviceGetUUID"],
)
def test_a_failing_call_is_no_loss_of_a_known_gpu(monitor: Monitor, loaded: Scenario, function: str) -> None:
    monitor.look()
    loaded.error(function, UNKNOWN, "gpu.2")
    events = monitor.look()
    if function == "nvmlDeviceGetUUID":  # it does not even say which it is
        assert [(event.uuid, event.kind.value) for event in events] == [(loaded.uuid(2), "lost")]
        return
    assert events == []
    found = monitor.found(loaded.uuid(2))
    assert found is not None
    assert "does not answer" in found.problem
    loaded.error(function, None, "gpu.2")
    assert monitor.look() == []
    assert getattr(monitor.found(loaded.uuid(2)), "problem", "?") == ""


def test_a_gpu_whose_memory_does_not_answer_is_listed_as_ill(monitor: Monitor, loaded: Scenario) -> None:
    loaded.error("nvmlDeviceGetMemoryInfo", UNKNOWN, "gpu.2")
    monitor.look()
    found = monitor.found(loaded.uuid(2))
    assert found is not None
    assert "does not answer" in found.problem
