"""What befalls devices: lost, back, an error number, memory errors, slices that come and go, a driver that is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from agent.monitor import Monitor
from quotas.domain.node_reports import DeviceEvent
from tests.agent.conftest import always
from tests.nvml.library import DOUBLE_BIT_ECC, XID, Scenario


def kinds(events: list[DeviceEvent]) -> list[tuple[str, str]]:
    return [(event.uuid, event.kind.value) for event in events]


def test_a_lost_gpu_is_told_once_and_when_it_is_back(monitor: Monitor, loaded: Scenario) -> None:
    monitor.look()
    loaded.lose(0)
    samples, events, _ = monitor.sample(always(1))
    assert kinds(events) == [(loaded.uuid(0), "lost")]
    assert loaded.uuid(0) not in {sample.uuid for sample in samples}
    for _ in range(3):
        assert monitor.look() == []
        assert monitor.sample(always(1))[1] == []
    assert loaded.uuid(0) not in {device.uuid for device in monitor.devices() or ()}
    loaded.lose(0, False)
    assert kinds(monitor.look()) == [(loaded.uuid(0), "back")]
    assert monitor.look() == []
    assert loaded.uuid(0) in {sample.uuid for sample in monitor.sample(always(1))[0]}


def test_all_slices_of_a_lost_gpu_are_lost(monitor: Monitor, loaded: Scenario) -> None:
    monitor.look()
    loaded.lose(7)
    _, events, _ = monitor.sample(always(1))
    assert kinds(events) == [(loaded.uuid(7, index), "lost") for index in range(7)]


def test_a_gpu_that_is_gone_is_found_again_when_nvml_is_opened_anew(
    monitor: Monitor, loaded: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor.look()
    loaded.gpu(0, gone=1)
    assert kinds(monitor.look()) == [(loaded.uuid(0), "lost")]
    monkeypatch.setattr("agent.monitor.REOPEN_SECONDS", 0)
    monkeypatch.setattr(monitor, "_open_again_at", 0.0)
    assert monitor.look() == []
    assert len(monitor.devices() or ()) == 19
    loaded.gpu(0, gone=0)
    assert kinds(monitor.look()) == [(loaded.uuid(0), "back")]
    assert len(monitor.devices() or ()) == 20


def test_a_destroyed_slice_is_lost_and_a_new_one_is_found(monitor: Monitor, loaded: Scenario) -> None:
    monitor.look()
    gone = loaded.uuid(6, 3)
    values = {"uuid": "MIG-new", "name": "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "memory_total": 2**33, "gi": 3, "ci": 0}
    loaded.remove_slice(6, 3)
    samples, events, stale = monitor.sample(always(1))
    assert (events, stale) == ([], True)
    assert len(samples) == 19
    assert kinds(monitor.look()) == [(gone, "lost")]
    loaded.slice(6, 3, **values)
    assert monitor.look() == []
    assert getattr(monitor.found("MIG-new"), "parent_uuid", "?") == loaded.uuid(6)


def test_a_gpu_that_is_cut_or_made_whole_is_not_lost(monitor: Monitor, loaded: Scenario) -> None:
    monitor.look()
    with loaded.together():
        loaded.gpu(0, mig=1)
        for index in range(2):
            loaded.slice(0, index, uuid=f"MIG-{index}", name="H100 MIG 3g.40gb", memory_total=2**35, gi=index + 1, ci=0)
    assert monitor.look() == []
    assert len(monitor.devices() or ()) == 21
    with loaded.together():
        loaded.slice(0, 1, uuid="MIG-2", name="H100 MIG 4g.40gb")
        loaded.remove_slice(0, 0)
    assert monitor.look() == []  # cut anew
    with loaded.together():
        loaded.gpu(0, mig=0)
        loaded.remove_slice(0, 1)
    assert monitor.look() == []  # whole again
    assert [device.uuid for device in monitor.devices() or ()] == loaded.uuids()


def test_memory_errors_are_told_as_they_rise(monitor: Monitor, loaded: Scenario) -> None:
    loaded.gpu(0, ecc_uncorrected=5)
    assert monitor.look() == []  # since when, nobody knows
    with loaded.together():
        loaded.gpu(0, ecc_uncorrected=7)
        loaded.gpu(6, ecc_uncorrected=1)
    events = monitor.look()
    assert [(event.uuid, event.kind.value, event.code) for event in events] == [
        (loaded.uuid(0), "ecc", 2),
        *((loaded.uuid(6, index), "ecc", 1) for index in range(7)),
    ]
    assert monitor.look() == []


@pytest.fixture
def woken() -> SimpleQueue[float]:
    return SimpleQueue()


@pytest.fixture
def watching(loaded: Scenario, empty_root: Path, proc: Path, woken: SimpleQueue[float]) -> Iterator[Monitor]:
    """A monitor that waits for what NVML tells."""
    assert loaded.path.exists()
    made = Monitor(empty_root, proc, wake=lambda: woken.put(time.time()))
    made.look()
    time.sleep(0.3)  # its thread has asked for events
    yield made
    made.close()


def test_an_error_number_wakes_the_agent_and_names_the_device(
    watching: Monitor, loaded: Scenario, woken: SimpleQueue[float]
) -> None:
    loaded.event(2, XID, 79)
    assert time.time() - woken.get(timeout=5) < 2
    events, look = watching.told()
    assert look
    assert [(event.uuid, event.kind.value, event.code) for event in events] == [(loaded.uuid(2), "xid", 79)]
    assert "bus" in events[0].text
    with pytest.raises(Empty):
        woken.get(timeout=0.3)


def test_an_error_number_of_a_slice_is_that_slice_s(
    watching: Monitor, loaded: Scenario, woken: SimpleQueue[float]
) -> None:
    loaded.event(6, XID, 13, gi=9, ci=0)
    woken.get(timeout=5)
    assert [event.uuid for event in watching.told()[0]] == [loaded.uuid(6, 2)]
    loaded.event(6, XID, 48)
    woken.get(timeout=5)
    assert [event.uuid for event in watching.told()[0]] == [loaded.uuid(6, index) for index in range(7)]


def test_an_error_number_of_a_gpu_that_is_lost_at_once_is_told(
    watching: Monitor, loaded: Scenario, woken: SimpleQueue[float]
) -> None:
    with loaded.together():
        loaded.lose(3)
        loaded.event(3, XID, 79)
    woken.get(timeout=5)
    assert [(event.uuid, event.code) for event in watching.told()[0]] == [(loaded.uuid(3), 79)]
    assert kinds(watching.look()) == [(loaded.uuid(3), "lost")]


def test_a_memory_error_is_a_reason_to_look_and_is_counted_once(
    watching: Monitor, loaded: Scenario, woken: SimpleQueue[float]
) -> None:
    with loaded.together():
        loaded.gpu(1, ecc_uncorrected=1)
        loaded.event(1, DOUBLE_BIT_ECC, 1)
    woken.get(timeout=5)
    assert watching.told() == ([], True)
    assert [(event.uuid, event.code) for event in watching.look()] == [(loaded.uuid(1), 1)]


def test_what_went_while_no_agent_ran_is_lost(loaded: Scenario, empty_root: Path, proc: Path) -> None:
    known = frozenset(loaded.uuids())
    loaded.gpu(0, gone=1)
    monitor = Monitor(empty_root, proc, known=known | {"NPU-1"})
    try:
        assert kinds(monitor.look()) == [(loaded.uuid(0), "lost"), ("NPU-1", "lost")]
    finally:
        monitor.close()
    again = Monitor(empty_root, proc, known=known, lost=frozenset({loaded.uuid(0)}))
    try:
        assert again.look() == []
    finally:
        again.close()


def test_a_driver_that_is_away_is_no_loss(
    loaded: Scenario, empty_root: Path, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.monitor.REOPEN_SECONDS", 0)
    known = frozenset(loaded.uuids())
    loaded.error("nvmlInitWithFlags", 9)
    monitor = Monitor(empty_root, proc, known=known)
    try:
        for _ in range(2):
            assert monitor.look() == []
            assert monitor.devices() is None  # nothing may be said of GPUs
            assert monitor.sample(always(1)) == ([], [], False)
        loaded.error("nvmlInitWithFlags", None)
        assert monitor.look() == []
        assert len(monitor.devices() or ()) == 20
        loaded.error("nvmlDeviceGetCount_v2", 999)
        assert monitor.look() == []
        assert monitor.devices() is None
    finally:
        monitor.close()


def test_a_machine_that_never_had_a_driver_has_no_gpus(loaded: Scenario, empty_root: Path, proc: Path) -> None:
    loaded.error("nvmlInitWithFlags", 9)
    monitor = Monitor(empty_root, proc)
    try:
        assert monitor.look() == []
        assert monitor.devices() == ()
    finally:
        monitor.close()
