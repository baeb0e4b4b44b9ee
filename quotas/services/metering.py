"""Samples of devices are added to the hours of the runs that held them; old hours are removed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from quotas.domain.metering import (
    HOUR_SECONDS,
    KEPT_DAYS,
    MILLISECONDS,
    MOST_AHEAD_SECONDS,
    Hour,
    Reading,
    Tenure,
    holder,
    hour_of,
    hour_of_text,
    pieces,
    reading,
)
from quotas.domain.node_reports import Sample
from quotas.domain.units import DAY_SECONDS
from quotas.store import metering as store
from quotas.store.database import Database, Row, Transaction

MOST_FOREIGN = 8
"""So many new processes on one device are noted of one report: what starts and ends in a loop fills no ledger."""
HOURS_A_PIECE = 24
"""The hours whose rows one piece of the removal takes away."""


def take(transaction: Transaction, node_id: int, samples: Sequence[Sample], now: int) -> None:
    """Each sample is added to the run that held its device then; the devices show their newest reading.

    No instant of a device is taken twice, however clocks step and samples overlap: of each sample only what lies after
    the device's last one counts, within the time for which a started run held the device. Samples of devices that the
    machine does not have are left aside. Nothing is known of times after `now`: where the machine's clock is ahead by
    a little, its samples are moved back by as much, and where by more, they are left aside. The transaction must be
    alone.
    """
    known = store.devices_of(transaction, node_id)
    by_device: defaultdict[str, list[tuple[Reading, Sample]]] = defaultdict(list)
    for read, sample in _until(now, samples):
        if sample.uuid in known:
            by_device[sample.uuid].append((read, sample))
    if not by_device:
        return
    first = min(read.start for listed in by_device.values() for read, _ in listed)
    held = _tenures(store.tenures(transaction, node_id, first // MILLISECONDS))
    hours = _Hours(transaction)
    for uuid, listed in by_device.items():
        listed.sort(key=lambda each: each[0].end)
        _take_device(transaction, known[uuid], listed, held, hours)
    hours.keep(held.projects)


def _until(now: int, samples: Sequence[Sample]) -> list[tuple[Reading, Sample]]:
    """Return what the samples say, none of it of a time after `now`."""
    found = [(read, sample) for sample in samples if (read := reading(sample)) is not None]
    if not found:
        return found
    latest = (now + MOST_AHEAD_SECONDS) * MILLISECONDS
    found = [(read, sample) for read, sample in found if read.end <= latest]
    ahead = max((read.end for read, _ in found), default=0) - (now + 1) * MILLISECONDS
    return found if ahead <= 0 else [(read.earlier(ahead), sample) for read, sample in found]


@dataclass(frozen=True)
class _Held:
    """Who held the machine's devices, by device id, and each run's project."""

    tenures: defaultdict[int, list[Tenure]]
    projects: dict[str, int]


def _tenures(rows: Iterable[Row]) -> _Held:
    held = _Held(defaultdict(list), {})
    for row in rows:
        # What a device did before the run began there was not the run's.
        start = max(row.granted_at, row.started_at) * MILLISECONDS
        end = None if row.released_at is None else row.released_at * MILLISECONDS
        held.tenures[row.device_id].append(Tenure(row.run_id, start, end))
        held.projects[row.run_id] = row.project_id
    return held


@dataclass
class _Hours:
    """The hours of runs that a report adds to, each read once and written once."""

    transaction: Transaction
    opened: dict[tuple[str, int], tuple[Hour, tuple[int, ...], bool]] = field(default_factory=dict)

    def add(self, run_id: str, read: Reading) -> None:
        for bucket_at, more in pieces(read):
            key = (run_id, hour_of(bucket_at))
            if key not in self.opened:
                row = store.hour(self.transaction, *key)
                known = Hour() if row is None else hour_of_text(row.buckets)
                self.opened[key] = (known, store.sums(row), row is None)
            self.opened[key][0].add(bucket_at, more)

    def keep(self, projects: dict[str, int]) -> None:
        """The hours are written, and what they grew by is added to their projects."""
        grown: defaultdict[int, list[int]] = defaultdict(lambda: [0] * len(store.SUMMED))
        for (run_id, hour_at), (hour, before, is_new) in self.opened.items():
            total = store.keep_hour(self.transaction, run_id, hour_at, hour, is_new=is_new)
            of_project = grown[projects[run_id]]
            for index, (now, was) in enumerate(zip(store.sums(total), before, strict=True)):
                of_project[index] += now - was
        for project_id in sorted(grown):
            store.add_to_project(self.transaction, project_id, dict(zip(store.SUMMED, grown[project_id], strict=True)))


def _take_device(
    transaction: Transaction, device: Row, listed: list[tuple[Reading, Sample]], held: _Held, hours: _Hours
) -> None:
    until = device.metered_until_milliseconds or 0
    before = until
    noted: dict[int, bool] = {}
    for read, sample in listed:
        tenure = holder(held.tenures[device.id], read.end)
        if tenure is not None:
            part = read.within(max(until, tenure.start), tenure.end)
            if part is not None:
                hours.add(tenure.run_id, part)
            _note_foreign(transaction, device.id, read.end // MILLISECONDS, sample, tenure.run_id, noted)
        until = max(until, read.end)
    newest, sample = listed[-1]
    at = newest.end // MILLISECONDS
    if device.read_at is None or device.read_at <= at:
        store.read(
            transaction,
            device.id,
            at,
            until,
            busy_ppm=newest.busy_ppm,
            used_bytes=None if sample.memory_bytes is None else newest.memory_bytes,
            power_milliwatts=newest.power_milliwatts,
        )
    elif until > before:
        store.metered(transaction, device.id, until)


def _note_foreign(
    transaction: Transaction, device_id: int, at: int, sample: Sample, run_id: str, noted: dict[int, bool]
) -> None:
    """Processes on the device that are not of the run which holds it are told, each once.

    `noted` are those that the report has named so far, and whether each is new.
    """
    for process in sample.processes:
        if process.run_id == run_id or process.pid in noted or sum(noted.values()) >= MOST_FOREIGN:
            continue
        is_new = noted[process.pid] = not store.is_known_foreign(transaction, device_id, process.pid)
        if is_new:
            of_run = process.run_id[:80]
            store.add_foreign(transaction, device_id, at, process.pid, of_run=of_run, held_by=run_id)


def remove_old(database: Database, now: int) -> bool:
    """A piece of the hours that are older than `KEPT_DAYS` is gone; return whether there is more to remove.

    What they add to their projects' sums stays there.
    """
    end = hour_of(now - KEPT_DAYS * DAY_SECONDS)
    with database.write() as transaction:
        oldest = store.oldest_hour(transaction, end)
        if oldest is None:
            return False
        store.remove_hours(transaction, oldest, min(oldest + HOURS_A_PIECE * HOUR_SECONDS, end))
        return store.oldest_hour(transaction, end) is not None
