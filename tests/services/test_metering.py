"""Samples are added to the run that held the device then; no instant counts twice, and what is not seen is a gap."""

from __future__ import annotations

import random
from typing import Any

import pytest
from sqlalchemy import func, select, update

from quotas.domain.metering import KEPT_DAYS, MOST_AHEAD_SECONDS, hour_of_text
from quotas.domain.node_reports import Process, Sample
from quotas.domain.recalls import RecallPolicy
from quotas.services import check, metering, periodic
from quotas.services.admission import started
from quotas.store.tables import device_events, devices, meter_hours, pools, project_meters
from tests.metered import GIB, WATTS_BUSY, Machine, machine, samples
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre

NOW = START + DAY
"""The beginning of an hour."""
HOUR = 3600


@pytest.fixture
def node(centre: Centre) -> Machine:
    centre.award("vision", 10**6 * GPU_GFLOPS, ends_at=START + 900 * DAY)
    return machine(centre.database, START)


def running(centre: Centre, now: int, **asked: object) -> str:
    run_id = centre.admitted(now, **asked).run_id
    started(centre.database, run_id, now)
    return run_id


def rows(centre: Centre, table: Any) -> list[Any]:
    with centre.database.read() as transaction:
        return transaction.rows(select(table))


def total(centre: Centre, run_id: str, name: str = "seen_milliseconds") -> int:
    return sum(getattr(row, name) for row in rows(centre, meter_hours) if row.run_id == run_id)


def device(centre: Centre, uuid: str) -> Any:
    return next(row for row in rows(centre, devices) if row.uuid == uuid)


def nothing_is_cleaned(centre: Centre) -> None:
    """A device can be held again at once."""
    with centre.database.write() as transaction:
        transaction.run(update(pools).values(cleaning="none"))


def ever(centre: Centre) -> Any:
    (row,) = rows(centre, project_meters)
    return row


def test_a_run_has_one_row_an_hour_with_its_buckets(centre: Centre, node: Machine) -> None:
    run_id = running(centre, NOW + 1800)
    node.take(list(samples(node.uuids[0], NOW + 1800, NOW + 5400, busy_ppm=750_000)), NOW + 5400)
    first, second = sorted(rows(centre, meter_hours), key=lambda row: row.hour_at)
    assert [(row.run_id, row.hour_at, row.samples) for row in (first, second)] == [
        (run_id, NOW, 180),
        (run_id, NOW + HOUR, 180),
    ]
    for row in (first, second):
        assert (row.seen_milliseconds, row.measured_milliseconds) == (1_800_000, 1_800_000)
        assert row.busy_milliseconds == 1_350_000
        assert row.energy_millijoules == 1800 * WATTS_BUSY * 1000
        assert row.most_memory_bytes == 10 * GIB
    seen = [bucket.seen_milliseconds for bucket in hour_of_text(first.buckets).buckets]
    assert seen == [0] * 6 + [300_000] * 6
    sums = ("samples", "seen_milliseconds", "measured_milliseconds", "busy_milliseconds", "energy_millijoules")
    for name in sums:
        assert getattr(ever(centre), name) == getattr(first, name) + getattr(second, name)
    assert check.findings(centre.database, NOW + 5400) == []


def test_reports_one_after_the_other_are_the_same_as_one(centre: Centre, node: Machine) -> None:
    run_id = running(centre, NOW, profile="gpu-2")
    chance = random.Random(5)  # noqa: S311 - repeatable, no secret
    everything = [each for uuid in node.uuids for each in samples(uuid, NOW, NOW + 1000, busy_ppm=333_333, every=7.3)]
    everything.sort(key=lambda sample: sample.at)
    while everything:
        part = everything[: chance.randint(1, 9)]
        del everything[: len(part)]
        chance.shuffle(part)
        node.take(part, NOW + 1000)
    assert total(centre, run_id) == 2_000_000
    assert total(centre, run_id, "busy_milliseconds") == 2_000_000 * 333_333 // 10**6
    assert ever(centre).busy_milliseconds == total(centre, run_id, "busy_milliseconds")


def test_only_time_in_which_the_run_held_the_device_is_its_own(centre: Centre, node: Machine) -> None:
    uuid = node.uuids[0]
    run_id = centre.admitted(NOW).run_id
    node.take(list(samples(uuid, NOW - 60, NOW + 30)), NOW + 30)
    assert rows(centre, meter_hours) == []  # granted, and not begun
    started(centre.database, run_id, NOW + 35)
    node.take([Sample(uuid, NOW + 50.0, 20.0, 500_000)], NOW + 50)
    assert total(centre, run_id) == 15_000
    centre.settle(run_id, NOW + 35, NOW + 100)
    other = running(centre, NOW + 104, person="bob")
    # The first sample ends after the first run's release, and before the second run's grant: it is of nobody.
    node.take([Sample(uuid, NOW + 102.0, 52.0, 500_000), Sample(uuid, NOW + 110.0, 8.0, 500_000)], NOW + 110)
    assert (total(centre, run_id), total(centre, other)) == (15_000, 0)


def test_the_next_holder_has_its_part_of_a_sample(centre: Centre, node: Machine) -> None:
    uuid = node.uuids[0]
    nothing_is_cleaned(centre)
    first = running(centre, NOW)
    centre.settle(first, NOW, NOW + 100)
    second = running(centre, NOW + 103, person="bob")
    node.take([Sample(uuid, NOW + 100.0, 10.0, 10**6), Sample(uuid, NOW + 110.0, 10.0, 10**6)], NOW + 110)
    assert (total(centre, first), total(centre, second)) == (10_000, 7_000)


def test_what_comes_late_is_of_the_run_that_held_the_device_then(centre: Centre, node: Machine) -> None:
    """The agent was cut off for an hour in which the run ended: its buffer comes afterwards."""
    run_id = running(centre, NOW)
    buffered = list(samples(node.uuids[0], NOW, NOW + HOUR))
    centre.settle(run_id, NOW, NOW + 1000)
    node.take(buffered, NOW + HOUR)
    assert total(centre, run_id) == 1_000_000


def test_no_instant_counts_twice_however_the_clock_steps(centre: Centre, node: Machine) -> None:
    uuid = node.uuids[0]
    run_id = running(centre, NOW)
    node.take(list(samples(uuid, NOW, NOW + 600)), NOW + 600)
    node.take(list(samples(uuid, NOW, NOW + 600)), NOW + 600)  # the same once more
    assert total(centre, run_id) == 600_000
    node.take(list(samples(uuid, NOW + 300, NOW + 700)), NOW + 700)  # the clock stepped back by five minutes
    assert total(centre, run_id) == 700_000
    node.take([Sample(uuid, NOW + 705.0, 60.0, 10**6), Sample(uuid, NOW + 703.0, 60.0, 10**6)], NOW + 710)
    assert total(centre, run_id) == 705_000
    assert total(centre, run_id, "busy_milliseconds") == 355_000


@pytest.mark.parametrize("seed", range(8))
def test_seen_never_exceeds_held(centre: Centre, node: Machine, seed: int) -> None:
    """Samples of any kind, from a clock that jumps, on devices that change hands."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, no secret
    nothing_is_cleaned(centre)
    now, held = NOW, {}
    for _ in range(6):
        run_id = running(centre, now)
        length = chance.randint(30, 900)
        for second in sorted(chance.choices(range(length), k=20)):
            at = now + second + chance.uniform(-400, 400)
            node.take([Sample(chance.choice(node.uuids), at, chance.uniform(0, 400), 10**6)], now + second)
        centre.settle(run_id, now, now + length)
        # A run ends at a whole second, and what is read within that second may have been taken before.
        held[run_id] = (length + 1) * 1000
        now += length + chance.randint(0, 5)
    for run_id, milliseconds in held.items():
        assert total(centre, run_id, "busy_milliseconds") <= total(centre, run_id) <= milliseconds
    assert any(total(centre, run_id) for run_id in held)


def test_an_hour_of_silence_is_a_gap(centre: Centre, node: Machine) -> None:
    run_id = running(centre, NOW)
    uuid = node.uuids[0]
    node.take(list(samples(uuid, NOW, NOW + 600)), NOW + 600)
    node.take(list(samples(uuid, NOW + 600 + HOUR, NOW + 1200 + HOUR)), NOW + 1200 + HOUR)
    assert total(centre, run_id) == 1_200_000
    by_hour = {row.hour_at: hour_of_text(row.buckets).buckets for row in rows(centre, meter_hours)}
    seen = [bucket.seen_milliseconds // 1000 for at in sorted(by_hour) for bucket in by_hour[at]]
    assert seen == [300, 300, *[0] * 12, 300, 300, *[0] * 8]


def test_devices_show_their_newest_reading_whoever_holds_them(centre: Centre, node: Machine) -> None:
    uuid = node.uuids[1]
    newest = Sample(uuid, NOW + 20.5, 10.0, 250_000, 3 * GIB, 90_000)
    node.take([newest, Sample(uuid, NOW + 10.0, 10.0, 999, 1, 2)], NOW + 30)
    found = device(centre, uuid)
    assert (found.read_at, found.busy_ppm, found.used_bytes, found.power_milliwatts) == (
        NOW + 20,
        250_000,
        3 * GIB,
        90_000,
    )
    node.take([Sample(uuid, NOW + 15.0, 10.0, 999, 1, 2)], NOW + 30)
    assert device(centre, uuid).busy_ppm == 250_000
    node.take([Sample(uuid, NOW + 30.0, 10.0)], NOW + 30)
    found = device(centre, uuid)
    assert (found.read_at, found.busy_ppm, found.used_bytes) == (NOW + 30, None, None)
    assert rows(centre, meter_hours) == []
    assert rows(centre, project_meters) == []


def test_what_is_not_of_this_machine_or_not_of_now_is_left_aside(centre: Centre, node: Machine) -> None:
    run_id = running(centre, NOW)
    other = machine(centre.database, START, name="node-2", count=1)
    other.take(list(samples(node.uuids[0], NOW, NOW + 60)), NOW + 60)
    node.take([Sample("GPU-unknown", NOW + 10.0, 10.0, 5), Sample(node.uuids[0], float("nan"), 10.0)], NOW + 60)
    node.take([Sample(node.uuids[0], NOW + 60.0 + MOST_AHEAD_SECONDS + 1, 10.0, 5)], NOW + 60)
    assert total(centre, run_id) == 0
    assert device(centre, node.uuids[0]).read_at is None
    node.take(list(samples(node.uuids[0], NOW, NOW + 60)), NOW + 60)
    assert total(centre, run_id) == 60_000


def test_a_clock_that_is_ahead_moves_nothing_into_the_future(centre: Centre, node: Machine) -> None:
    """The machine's clock is 100 s ahead, and its reports come each 10 s: the run has all of its time."""
    run_id = running(centre, NOW)
    uuid = node.uuids[0]
    for at in range(NOW + 10, NOW + 310, 10):
        node.take([Sample(uuid, at + 100.0, 10.0, 10**6)], at)
    assert 299_000 <= total(centre, run_id) <= 301_000
    assert device(centre, uuid).read_at <= NOW + 301


def test_processes_of_others_are_told_once_each(centre: Centre, node: Machine) -> None:
    uuid = node.uuids[0]
    run_id = running(centre, NOW)
    own, stray, none = Process(10, GIB, run_id), Process(11, GIB, "another"), Process(12, GIB)
    for _ in range(2):
        node.take(list(samples(uuid, NOW, NOW + 30, processes=(own, stray, none))), NOW + 30)
        node.take([Sample(uuid, NOW + 40.0, 10.0, processes=(own, none))], NOW + 40)
    found = sorted(rows(centre, device_events), key=lambda row: row.code)
    assert [(row.kind, row.code, row.text, row.run_id, row.at) for row in found] == [
        ("foreign", 11, "another", run_id, NOW + 10),
        ("foreign", 12, "", run_id, NOW + 10),
    ]
    (hour,) = rows(centre, meter_hours)
    assert max(bucket.most_processes for bucket in hour_of_text(hour.buckets).buckets) == 3
    many = tuple(Process(pid, 1) for pid in range(100, 200))
    node.take([Sample(uuid, NOW + 50.0, 10.0, processes=many)], NOW + 50)
    assert len(rows(centre, device_events)) == 2 + metering.MOST_FOREIGN
    # Where nobody holds a device, whoever is on it disturbs no run.
    node.take([Sample(node.uuids[1], NOW + 50.0, 10.0, processes=many)], NOW + 50)
    assert len(rows(centre, device_events)) == 2 + metering.MOST_FOREIGN


def test_what_cannot_be_breaks_no_sum(centre: Centre, node: Machine) -> None:
    run_id = running(centre, NOW)
    node.take([Sample(node.uuids[0], NOW + 10.0, 10.0, 10**12, 2**62, 2**62)], NOW + 10)
    assert total(centre, run_id, "busy_milliseconds") == 10_000
    assert total(centre, run_id, "energy_millijoules") == 10 * 100_000 * 1000


def test_hours_are_removed_when_they_are_old_and_the_sums_stay(centre: Centre, node: Machine) -> None:
    uuid = node.uuids[0]
    nothing_is_cleaned(centre)
    for day in (0, 1, 2):
        start = NOW + day * DAY
        run_id = running(centre, start)
        node.take(list(samples(uuid, start, start + 2 * HOUR)), start + 2 * HOUR)
        centre.settle(run_id, start, start + 2 * HOUR)
    assert centre.count(meter_hours) == 6
    before = ever(centre)
    jobs = tuple(job for job in periodic.jobs(RecallPolicy()) if job.name == "old measurements")
    later = NOW + (KEPT_DAYS + 1) * DAY + HOUR
    assert periodic.run(centre.database, jobs, later) == ["old measurements"]
    assert periodic.run(centre.database, jobs, later) == ["old measurements"]
    left = rows(centre, meter_hours)
    assert {row.hour_at for row in left} == {NOW + DAY + HOUR, NOW + 2 * DAY, NOW + 2 * DAY + HOUR}
    assert ever(centre) == before
    with centre.database.read() as transaction:
        kept = transaction.one(select(func.sum(meter_hours.c.seen_milliseconds).label("kept")))
    assert int(kept.kept) == ever(centre).seen_milliseconds // 2
    assert not metering.remove_old(centre.database, later)
