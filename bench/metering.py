"""What metering stores and costs: rows kept for each sample taken, and what of a core a large fleet's samples take.

A machine of 8 GPUs and 14 slices reports each 30 s three samples of each device, as its agent does by default; every
device is held by a run of its own. Each sample goes through `take` on SQLite, with its transaction. The processor's
time is counted, not the disk's; the second figure is that of 1,000 such devices in a second, in seconds. Its detail
has that of the plain way beside it, which writes one row for each sample in the same transactions.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Column, Integer, MetaData, String, Table, func, insert, select, update

from bench.contents import NOW, contents, load
from bench.measure import Result, at_most, paired, ratio_of
from quotas.domain.admission import Admitted, Request
from quotas.domain.node_reports import Process, Sample
from quotas.domain.policy import Policy
from quotas.domain.runs import RunKind, new_run_id
from quotas.domain.units import HOUR_SECONDS
from quotas.services import admission, check, metering
from quotas.store.database import Database, Prepared
from quotas.store.migrate import migrate
from quotas.store.tables import devices, meter_hours, nodes, pools

GPUS, SLICES = 8, 14
INTERVAL_SECONDS, REPORT_SECONDS = 10, 30
HOURS = 6
PAIRS = 9
REPORTS = 40
"""Reports in one measure of the processor's time."""
TARGET_ROWS = 1 / 50
FLEET = 1_000
TARGET_OF_CORE = 0.01
STARTED = NOW - NOW % HOUR_SECONDS + HOUR_SECONDS

PLAIN = Table(
    "plain_samples",
    MetaData(),
    Column("device_id", Integer, primary_key=True),
    Column("at", Integer, primary_key=True),
    Column("run_id", String(36), nullable=False),
    *(Column(name, Integer) for name in ("covers", "busy_ppm", "memory_bytes", "power_milliwatts", "processes")),
    sqlite_with_rowid=False,
)
_PLAIN = Prepared(insert(PLAIN))


class Machine:
    """A machine in a centre of its own, whose devices all are held, and the time that has passed on it."""

    def __init__(self, folder: Path, *, count: int = GPUS + SLICES) -> None:
        self.database = Database(f"sqlite:///{folder / 'metering.sqlite'}")
        migrate(self.database)
        load(self.database, contents(count))
        PLAIN.create(self.database.engine)
        self.node_id, self.uuids = self._add(count)
        self.runs = [self._begin(number) for number in range(1, count + 1)]
        self.now = self.now_of_plain = STARTED
        self.taken = 0

    def _add(self, count: int) -> tuple[int, list[str]]:
        uuids = [f"GPU-{number}" if number < GPUS else f"MIG-{number}" for number in range(count)]
        with self.database.write() as transaction:
            transaction.run(update(pools).values(simulated=0))
            node = {"name": "node-1", "pool_id": 1, "token_sha256": "0" * 64, "added_at": NOW, "added_by": "bench"}
            node_id = transaction.insert(nodes, node)
            for position, uuid in enumerate(uuids):
                found = {"node_id": node_id, "uuid": uuid, "kind": "gpu", "name": "H100", "device_model": "h100"}
                rest = {"memory_bytes": 2**36, "position": position, "paths": "[]", "state": "available"}
                times = dict.fromkeys(("since", "found_at", "seen_at"), NOW)
                transaction.insert(devices, {**found, **rest, **times})
        return node_id, uuids

    def _begin(self, number: int) -> str:
        request = Request(new_run_id(), RunKind.NOTEBOOK, f"person-{number}", f"project-{number}", "gpu")
        decision = admission.reserve(self.database, request, NOW, Policy())
        if not isinstance(decision, Admitted):
            raise RuntimeError(f"not admitted: {decision}")
        admission.started(self.database, request.run_id, STARTED)
        return request.run_id

    def report(self, end: int) -> list[Sample]:
        """Return what the agent reports at `end`: what each device did since the report before."""
        # A tenth of a slice's readings has no utilisation, and all differ, as real ones do.
        return [
            Sample(
                uuid,
                at + 0.25,
                float(INTERVAL_SECONDS),
                None if at % 100 == 0 and position >= GPUS else (at * 7919 + position * 104_729) % 1_000_000,
                2**30 + at % 1000 * 2**20,
                300_000 + at % 5000,
                (Process(1000 + position, 2**30, self.runs[position]),),
            )
            for position, uuid in enumerate(self.uuids)
            for at in range(end - REPORT_SECONDS + INTERVAL_SECONDS, end + 1, INTERVAL_SECONDS)
        ]

    def take(self, reports: int) -> float:
        """Return the microseconds of processor time of each sample that was taken through so many reports."""
        sent = [self.report(self.now + number * REPORT_SECONDS) for number in range(1, reports + 1)]
        begin = time.process_time()
        for samples in sent:
            self.now += REPORT_SECONDS
            with self.database.write() as transaction:
                metering.take(transaction, self.node_id, samples, self.now)
        spent = time.process_time() - begin
        number = sum(map(len, sent))
        self.taken += number
        return spent * 1e6 / number

    def keep_each(self, reports: int) -> float:
        """Return the same for one row of each sample."""
        sent = [self.report(self.now_of_plain + number * REPORT_SECONDS) for number in range(1, reports + 1)]
        position = {uuid: number for number, uuid in enumerate(self.uuids)}
        begin = time.process_time()
        for samples in sent:
            with self.database.write() as transaction:
                for sample in samples:
                    transaction.run(
                        _PLAIN,
                        device_id=position[sample.uuid],
                        at=int(sample.at),
                        run_id=self.runs[position[sample.uuid]],
                        covers=int(sample.covers_seconds),
                        busy_ppm=sample.busy_ppm,
                        memory_bytes=sample.memory_bytes,
                        power_milliwatts=sample.power_milliwatts,
                        processes=len(sample.processes),
                    )
        spent = time.process_time() - begin
        self.now_of_plain += reports * REPORT_SECONDS
        return spent * 1e6 / sum(map(len, sent))

    def stored(self) -> tuple[int, int, int]:
        """Return how many rows the meters have, the bytes of their buckets, and the seconds that they have seen."""
        columns = (
            func.count().label("rows"),
            func.sum(func.length(meter_hours.c.buckets)).label("bytes"),
            func.sum(meter_hours.c.seen_milliseconds).label("seen"),
        )
        with self.database.read() as transaction:
            row = transaction.one(select(*columns).select_from(meter_hours))
        if row is None:
            raise RuntimeError("nothing was stored")
        return row.rows, row.bytes, row.seen // 1000

    def close(self) -> None:
        """Close the database; raise RuntimeError if an invariant of the ledger does not hold."""
        found = check.findings(self.database, self.now)
        self.database.close()
        if found:
            raise RuntimeError(f"the ledger is broken: {found[:3]}")


def rows_of_hours(machine: Machine, hours: int) -> Iterator[tuple[int, int, int]]:
    """Yield for each hour that passes: the rows that it added, the bytes of their buckets, and its samples."""
    rows, size, _ = machine.stored() if machine.taken else (0, 0, 0)
    for _ in range(hours):
        before = machine.taken
        machine.take(HOUR_SECONDS // REPORT_SECONDS)
        now_rows, now_size, _ = machine.stored()
        yield now_rows - rows, now_size - size, machine.taken - before
        rows, size = now_rows, now_size


def measure(folder: Path, hours: int = HOURS, pairs: int = PAIRS, reports: int = REPORTS) -> list[Result]:
    """Return both figures. Raises RuntimeError where any of the time that passed was not seen."""
    with contextlib.closing(Machine(folder)) as machine:
        counted = list(rows_of_hours(machine, hours))
        rows = ratio_of([each[0] for each in counted], [each[2] for each in counted])
        of_time = paired(lambda: machine.take(reports), lambda: machine.keep_each(reports), pairs)
        of_core = ratio_of([each * FLEET / INTERVAL_SECONDS / 1e6 for each in of_time.a], [1.0] * pairs)
        _, _, seen = machine.stored()
        # Samples end a quarter of a second after the whole one, and the first begins before its run.
        lost = abs((machine.now - STARTED) * len(machine.uuids) - seen)
        if lost > len(machine.uuids):
            raise RuntimeError(f"{lost} s of device time were not seen, or were seen twice")
    detail = {
        "unit": "rows of an hour, and its samples",
        "devices": len(machine.uuids),
        "hours": hours,
        "samples": sum(each[2] for each in counted),
        "rows": sum(each[0] for each in counted),
        "bytes_of_buckets_per_sample": round(sum(each[1] for each in counted) / sum(each[2] for each in counted), 2),
    }
    timed = {
        "unit": "seconds of processor time, and a second",
        "devices": FLEET,
        "samples_of_a_report": len(machine.report(STARTED)),
        "microseconds_of_a_sample": round(statistics.median(of_time.a), 2),
        "microseconds_of_a_row_each": round(statistics.median(of_time.b), 2),
        "ratio_to_a_row_each": round(of_time.median, 3),
    }
    return [
        at_most("metering_rows_per_sample", rows, TARGET_ROWS, detail),
        at_most("metering_of_a_core", of_core, TARGET_OF_CORE, timed),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.metering", description=__doc__)
    parser.add_argument("--hours", type=int, default=HOURS, help=f"simulated hours (default {HOURS})")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"pairs of measures (default {PAIRS})")
    parser.add_argument("--folder", type=Path, default=Path("build"), help="a folder on the disk to measure")
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=chosen.folder, prefix="metering-") as folder:
        results = measure(Path(folder), chosen.hours, chosen.pairs)
    for result in results:
        print(result.to_json())
    return 0 if all(result.met for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
