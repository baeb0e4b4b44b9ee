"""Reports on the disk: numbered without a gap, whole or not there, and small enough."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from agent import wire
from agent.buffer import Buffer, BufferInUse, Carried
from agent.wire import LIMIT_BYTES, Contents
from portal.nodes import read_report
from quotas.domain.node_reports import (
    Answer,
    Cleaned,
    DeviceEvent,
    DeviceKind,
    EventKind,
    FoundDevice,
    PodDevices,
    Process,
    Report,
    Sample,
)

EMPTY = Report("", 0, 1.5, "1", 10)
DAY = 24 * 3600


def sample(number: int, processes: int = 0) -> Sample:
    own = tuple(Process(4_000_000 + k, 2**33 + k, "0f0e0d0c-0000-4000-8000-000000000001") for k in range(processes))
    return Sample(f"GPU-{number:036}", 1_700_000_000.123, 10.0, 930_000, 2**34, 700_000, own)


def sent(buffer: Buffer) -> list[int]:
    """Return the sequences of all that waits, as the platform acknowledges one after the other."""
    found = []
    while (pending := buffer.oldest()) is not None:
        found.append(pending.sequence)
        buffer.acknowledge(pending.sequence)
    return found


@pytest.fixture
def buffer(tmp_path: Path) -> Buffer:
    return Buffer(tmp_path / "state", DAY)


def test_a_report_is_json_with_the_contract_s_names() -> None:
    device = FoundDevice("GPU-1", DeviceKind.GPU, "H100", 80, 0, 132, paths=("/dev/nvidia0",), ecc=True)
    event = DeviceEvent("GPU-1", 2.5, EventKind.XID, 79, "gone")
    report = Report("s", 3, 1.5, "0.1", 10, (device,), (sample(1, 1),), (event,), (Cleaned("GPU-1", 3.5, "no"),))
    read = json.loads(wire.encode(report))
    assert set(read) == set(vars(report)) - {"pods"}
    assert read["devices"] == [{**vars(device), "kind": "gpu", "paths": ["/dev/nvidia0"]}]
    assert read["samples"][0]["processes"] == [vars(sample(1, 1).processes[0])]
    assert read["events"] == [{"uuid": "GPU-1", "at": 2.5, "kind": "xid", "code": 79, "text": "gone"}]
    assert read["cleaned"] == [{"uuid": "GPU-1", "at": 3.5, "problem": "no"}]


def test_only_on_a_cluster_pods_are_told_so_that_an_earlier_platform_takes_the_report() -> None:
    pod = PodDevices("mudeung-vision", "mudeung-1", 2.5, ("GPU-1",), ("a/b c",), shared=True)
    own = {"namespace": "mudeung-vision", "pod": "mudeung-1", "since": 2.5, "uuids": ["GPU-1"]}
    for pods, read in ((None, None), ((), []), ((pod,), [{**own, "unknown": ["a/b c"], "shared": True}])):
        report = Report("s" * 36, 3, 1.5, "0.1", 10, pods=pods)
        assert json.loads(wire.encode(report)).get("pods") == read
        assert read_report(wire.encode(report)) == report
    earlier = {name: value for name, value in vars(Report("s", 3, 1.5, "0.1", 10)).items() if name != "pods"}
    assert read_report(json.dumps(earlier).encode()) == Report("s", 3, 1.5, "0.1", 10)


def test_the_platform_reads_what_the_agent_writes() -> None:
    device = FoundDevice("MIG-1", DeviceKind.MIG, "H100", 80, 0, 16, "1g.10gb", "GPU-1", ("/dev/nvidia0",), True, "ill")
    event = DeviceEvent("GPU-1", 2.5, EventKind.XID, 79, "gone")
    cleaned = Cleaned("GPU-1", 3.5, "no")
    report = Report("s" * 36, 3, 1.0, "0.1", 10, (device,), (sample(1, 2), sample(2)), (event,), (cleaned,))
    assert read_report(wire.encode(report)) == report


def test_what_is_large_is_split_and_nothing_is_lost() -> None:
    samples = tuple(sample(number, 60) for number in range(40))
    devices = tuple(FoundDevice(f"G{k}", DeviceKind.GPU, "x" * 60, 1, k, paths=("/dev/nvidia0",)) for k in range(64))
    event, cleaned = DeviceEvent("G1", 2.5, EventKind.LOST), Cleaned("G2", 2.5)
    pods = tuple(PodDevices("n" * 60, f"p-{k:0200}", 1.5, (f"GPU-{k:036}",)) for k in range(16))
    parts = list(wire.parts(Contents(devices, samples, (event,), (cleaned,), pods), EMPTY))
    assert len(parts) > 2
    assert max(len(wire.encode(part)) for part in parts) <= LIMIT_BYTES
    assert [part.devices for part in parts if part.devices is not None] == [devices]
    assert tuple(each for part in parts for each in part.samples) == samples
    assert (parts[0].pods, parts[0].events, parts[0].cleaned) == (pods, (event,), (cleaned,))
    assert [part.pods for part in parts[1:]] == [None] * (len(parts) - 1)
    assert [part.events for part in parts[1:]] == [()] * (len(parts) - 1)


def test_too_many_processes_of_a_device_are_left_out() -> None:
    (part,) = wire.parts(Contents(samples=(sample(1, 5000),)), EMPTY)
    assert len(wire.encode(part)) <= LIMIT_BYTES
    kept = part.samples[0].processes
    assert len(kept) == wire.MOST_PROCESSES
    assert min(process.memory_bytes for process in kept) == 2**33 + 5000 - wire.MOST_PROCESSES


def test_without_contents_there_is_still_a_report() -> None:
    assert list(wire.parts(Contents(), EMPTY)) == [EMPTY]
    assert list(wire.parts(Contents(devices=()), EMPTY)) == [Report("", 0, 1.5, "1", 10, devices=())]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"accepted": true}', b'{"accepted": -1}', b'{"accepted": "1"}', b"\xff",
     b'{"accepted": 1, "scrub": "GPU"}', b'{"accepted": 1, "scrub": [1]}'],
)  # fmt: skip
def test_what_is_no_answer_is_not_taken_for_one(body: bytes) -> None:
    with pytest.raises(ValueError, match="answer"):
        wire.read_answer(body)


def test_an_answer_is_read() -> None:
    assert wire.read_answer(b'{"accepted": 7}') == Answer(7)
    whole = b'{"accepted": 7, "scrub": ["GPU-1"], "send_devices": true, "later": 1}'
    assert wire.read_answer(whole) == Answer(7, ("GPU-1",), True)


def test_reports_wait_in_their_order_until_they_are_acknowledged(buffer: Buffer) -> None:
    for number in range(1, 6):
        assert buffer.add(Contents(samples=(sample(number),)), EMPTY, Carried()) == number
    oldest = buffer.oldest()
    assert oldest is not None
    assert oldest.sequence == 1
    assert json.loads(oldest.body)["stream"] == buffer.stream
    assert buffer.oldest() == oldest
    buffer.acknowledge(3)
    assert len(buffer) == 2
    assert sent(buffer) == [4, 5]


def test_a_new_agent_goes_on_where_the_last_one_was(buffer: Buffer, tmp_path: Path) -> None:
    carried = Carried(123_456, ("GPU-1", "GPU-2"), ("GPU-2",))
    buffer.add(Contents(), EMPTY, Carried())
    buffer.add(Contents(), EMPTY, carried)
    buffer.acknowledge(1)
    body = buffer.oldest()
    buffer.close()
    again = Buffer(tmp_path / "state", DAY)
    assert (again.stream, again.newest, again.carried) == (buffer.stream, 2, carried)
    assert again.oldest() == body
    again.acknowledge(2)
    again.close()
    third = Buffer(tmp_path / "state", DAY)
    assert (third.stream, third.newest, third.carried, third.oldest()) == (buffer.stream, 2, carried, None)
    assert third.add(Contents(), EMPTY, carried) == 3
    assert len(list((tmp_path / "state/reports").iterdir())) == 1  # nothing is left of what was acknowledged


def test_what_was_cut_off_while_it_was_written_was_never_there(buffer: Buffer, tmp_path: Path) -> None:
    buffer.add(Contents(), EMPTY, Carried(5))
    buffer.close()
    (tmp_path / "state/reports/000000000002.new").write_bytes(b'{"sampled_until_ms": 9')
    again = Buffer(tmp_path / "state", DAY)
    assert (again.newest, again.carried.sampled_until_ms) == (1, 5)
    assert sent(again) == [1]


def test_a_file_that_cannot_be_read_is_put_aside_and_its_number_is_not_used_again(
    buffer: Buffer, tmp_path: Path
) -> None:
    for _ in range(3):
        buffer.add(Contents(), EMPTY, Carried(5))
    buffer.close()
    (tmp_path / "state/reports/000000000003.report").write_bytes(b"\0" * 100)
    again = Buffer(tmp_path / "state", DAY)
    assert (again.stream, again.newest, again.carried.sampled_until_ms) == (buffer.stream, 3, 5)
    assert sent(again) == [1, 2]
    assert again.add(Contents(), EMPTY, Carried(6)) == 4
    assert [path.name for path in (tmp_path / "state/refused").iterdir()] == ["000000000003.unreadable"]


def test_old_reports_are_dropped_and_the_rest_keeps_its_numbers(buffer: Buffer, tmp_path: Path) -> None:
    for _ in range(4):
        buffer.add(Contents(), EMPTY, Carried())
    old = time.time() - DAY - 60
    for number in (1, 2):
        os.utime(tmp_path / f"state/reports/{number:012}.report", (old, old))
    assert buffer.drop_old() == 2
    assert sent(buffer) == [3, 4]


def test_one_that_is_refused_is_put_aside(buffer: Buffer, tmp_path: Path) -> None:
    for _ in range(2):
        buffer.add(Contents(), EMPTY, Carried())
    buffer.refuse(1, "HTTP 400\nno")
    assert sent(buffer) == [2]
    aside = {path.suffix: path.read_text() for path in (tmp_path / "state/refused").iterdir()}
    assert aside[".answer"] == "HTTP 400\nno"
    assert json.loads(aside[".json"])["sequence"] == 1
    buffer.add(Contents(), EMPTY, Carried())
    buffer.refuse(3, "HTTP 400")  # the newest of all: its number stays taken
    buffer.close()
    assert Buffer(tmp_path / "state", DAY).newest == 3


def test_one_agent_has_the_folder(buffer: Buffer, tmp_path: Path) -> None:
    with pytest.raises(BufferInUse):
        Buffer(tmp_path / "state", DAY)
    buffer.close()
    Buffer(tmp_path / "state", DAY).close()


def test_a_disk_that_takes_nothing_uses_no_number(buffer: Buffer, tmp_path: Path) -> None:
    buffer.add(Contents(), EMPTY, Carried(5))
    folder = tmp_path / "state/reports"
    (folder / "000000000002.new").mkdir()  # where the next one would be written
    with pytest.raises(OSError, match="directory"):
        buffer.add(Contents(), EMPTY, Carried(6))
    assert (buffer.newest, buffer.carried.sampled_until_ms) == (1, 5)
    (folder / "000000000002.new").rmdir()
    assert buffer.add(Contents(), EMPTY, Carried(7)) == 2
    assert sent(buffer) == [1, 2]


def test_a_platform_that_is_ahead_of_the_folder_is_caught_up_with(buffer: Buffer) -> None:
    buffer.add(Contents(), EMPTY, Carried())
    buffer.acknowledge(40)
    assert buffer.add(Contents(), EMPTY, Carried()) == 41
