"""Servers as pods on simulated machines, ours to plain KubeSpawner's: starts, memory and the delay of the hub's loop.

Both hubs are processes of this machine beside the cluster that ``KUBECONFIG`` names, with the same proxy and the same
kind of database; their pods have the same size. Each round starts as many more servers on either side, in the order
A B B A, until all run; then they are stopped in the same rounds. Every server of ours is metered while it runs and
charged in the end, with no invariant of the ledger broken. Volumes are there from the beginning, as those are that
people have from an earlier start.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.kubernetes_meters import Machines, charged, metered
from bench.kubernetes_sides import (
    BY,
    POOL,
    Place,
    Side,
    needs_cluster,
    our_side,
    places,
    plain_side,
    prepare_projects,
    side_of,
    stand_in,
)
from bench.loop_delay import share
from bench.measure import Result, at_least, at_most, ratio_of
from bench.simulated_nodes import LABEL, VALUE, Ground, capacity, together
from quotas.backends.kubernetes_api import Api
from quotas.backends.port import BackendAway
from quotas.services import check
from tests.platform import Platform

SERVERS, PROJECTS, ROUNDS, AT_ONCE = 1_000, 200, 10, 32
TARGET_RATE, TARGET_MEMORY = 0.95, 1.10
WARM_UPS = 2
METER_SECONDS = 30
CLEAR_AGAIN_SECONDS = 10
MIB = 2**20

log = logging.getLogger("bench")


@dataclass
class Told:
    """What one side did, round by round; `late` is how late its loop was while servers were started."""

    side: Side
    rates: list[float] = field(default_factory=list)
    stop_rates: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    at_rest_bytes: int = 0
    running_bytes: int = 0
    peak_bytes: int = 0
    after_bytes: int = 0

    def start(self, at: Sequence[Place], at_once: int) -> None:
        since, used = time.monotonic(), self.side.processor_seconds()
        took, each = self.side.start(at, at_once)
        self.rates.append(len(at) / took)
        self.starts += each
        self.processor_seconds.append((self.side.processor_seconds() - used) / len(at))
        self.spans.append((since, time.monotonic()))
        log.info("%s: %d started, %.2f a second", self.side.log.parent, len(at), self.rates[-1])

    def stop(self, at: Sequence[Place], at_once: int) -> None:
        took, _ = self.side.stop(at, at_once)
        self.stop_rates.append(len(at) / took)
        log.info("%s: %d stopped, %.2f a second", self.side.log.parent, len(at), self.stop_rates[-1])

    def figures(self) -> dict[str, Any]:
        """Return what is published beside the ratios."""
        starts, late = sorted(self.starts), self.late
        return {
            "starts_a_second": round(statistics.median(self.rates), 3),
            "stops_a_second": round(statistics.median(self.stop_rates), 3),
            "start_seconds_p50": round(share(starts, 0.5), 2),
            "processor_ms_of_a_start": round(statistics.median(self.processor_seconds) * 1e3, 1),
            "start_seconds_p95": round(share(starts, 0.95), 2),
            "loop_late_ms_p50": round(share(late, 0.5) * 1e3, 2),
            "loop_late_ms_p95": round(share(late, 0.95) * 1e3, 1),
            "loop_late_ms_max": round(late[-1] * 1e3),
            "memory_mib_at_rest": round(self.at_rest_bytes / MIB, 1),
            "memory_mib_running": round(self.running_bytes / MIB, 1),
            "memory_mib_peak": round(self.peak_bytes / MIB, 1),
            "memory_mib_after": round(self.after_bytes / MIB, 1),
        }


def rounds_of(at: Sequence[Place], rounds: int) -> list[Sequence[Place]]:
    """Return the places in `rounds` parts of about the same size."""
    size = -(-len(at) // rounds)
    return [at[first : first + size] for first in range(0, len(at), size)]


def in_turn(ours: Callable[[Sequence[Place]], None], plain: Callable[[Sequence[Place]], None], parts: Any) -> None:
    """Both have done every part, in the order A B B A."""
    for number, part in enumerate(parts):
        for work in (ours, plain) if number % 2 == 0 else (plain, ours):
            work(part)


@contextlib.contextmanager
def ground_of(servers: int) -> Iterator[tuple[Ground, int]]:
    """Yield the bench's part of the cluster, and how many GPUs that has. Raises SystemExit for too small a one."""
    with contextlib.closing(Api(30)) as api:
        pods, gpus = capacity(api)
        if min(pods, gpus) < 2 * (servers + WARM_UPS):
            raise SystemExit(
                f"the machines with the label type=simulated take {pods} pods and have {gpus} GPUs,"
                f" and two hubs with {servers} servers each need twice as many: see docs/benchmarks.md"
            )
        ground = Ground(api, f"mdb-{secrets.token_hex(2)}")
        try:
            ground.make()
            yield ground, gpus
        finally:
            clear(ground)


def clear(ground: Ground) -> None:
    """Nothing of the bench is on the cluster, even where that was away for a moment. Raises BackendAway."""
    for last in (*[False] * 5, True):
        try:
            ground.clear()
        except BackendAway:
            if last:
                raise
            time.sleep(CLEAR_AGAIN_SECONDS)
        else:
            return


def measure(
    servers: int, of_projects: int, rounds: int, at_once: int, meter_seconds: int = METER_SECONDS
) -> list[Result]:
    """Return the figures. Raises RuntimeError where a server did not start, or was not charged."""
    at = places(servers + WARM_UPS, of_projects)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kubernetes-")))
        ground, gpus = stack.enter_context(ground_of(servers))
        port = stack.enter_context(stand_in())
        stack.enter_context(ground.ending_pods())
        platform = stack.enter_context(our_side(folder / "ours", ground, at, gpus, port))
        ours, plain = (
            Told(side_of(platform)),
            Told(stack.enter_context(plain_side(folder / "plain", ground, port))),
        )
        prepare(platform, ground, at)
        machines = Machines(ground.api, platform, f"mudeung.home={ground.name}")
        machines.add(POOL, f"{LABEL}={VALUE}", BY)
        for each in (ours, plain):
            each.side.enrol(at)
            each.side.start(at[servers:], at_once)
            each.at_rest_bytes = each.side.memory_bytes()
        parts = rounds_of(at[:servers], rounds)
        in_turn(lambda part: ours.start(part, at_once), lambda part: plain.start(part, at_once), parts)
        for each in (ours, plain):
            each.running_bytes = each.side.memory_bytes()
        report_seconds = machines.meter(meter_seconds)
        in_turn(lambda part: ours.stop(part, at_once), lambda part: plain.stop(part, at_once), parts)
        for each in (ours, plain):
            each.side.stop(at[servers:], at_once)
            each.after_bytes, each.peak_bytes = each.side.memory_bytes(), each.side.peak_bytes()
            each.late = sorted(delay for span in each.spans for delay in each.side.late(*span))
        counted = must_be_charged(platform, len(at), meter_seconds) | {"report_ms": round(report_seconds * 1e3, 1)}
    shape = {"servers": servers, "projects": of_projects, "at_once": at_once, "rounds": len(parts)}
    detail = {**shape, **counted, "ours": ours.figures(), "plain": plain.figures()}
    return results(ours, plain, detail)


def prepare(platform: Platform, ground: Ground, at: Sequence[Place]) -> None:
    """Everyone has their volumes on both sides."""
    began = time.monotonic()
    prepare_projects(platform, at)
    together(ground.claim, [f"claim-{each.person}" for each in at])
    count = ground.bind_claims()
    log.info("%d claims are bound, after %.0f s", count, time.monotonic() - began)


def must_be_charged(platform: Platform, servers: int, meter_seconds: int) -> dict[str, Any]:
    """Return how much was charged. Raises RuntimeError unless each server was, and metered."""
    found = check.findings(platform.database, int(time.time()))
    number = charged(platform.database)
    if found or number != servers:
        raise RuntimeError(f"{number} of {servers} servers are charged; the ledger's check: {found[:3]}")
    runs, seconds = metered(platform.database)
    if runs != servers or seconds < servers * meter_seconds // 2:
        raise RuntimeError(f"{runs} of {servers} servers are metered, for {seconds} s together")
    return {"charged": number, "metered": runs, "metered_seconds": seconds}


def results(ours: Told, plain: Told, detail: dict[str, Any]) -> list[Result]:
    """Return the ratios of ours to the plain hub's."""
    rate = ratio_of(ours.rates, plain.rates)
    stops = ratio_of(ours.stop_rates, plain.stop_rates)
    memory = ratio_of([ours.peak_bytes / MIB], [plain.peak_bytes / MIB])
    running = round(ours.running_bytes / plain.running_bytes, 3)
    late = {
        f"loop_late_{name}": round(share(ours.late, part) / share(plain.late, part), 3)
        for name, part in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    }
    used = ratio_of(ours.processor_seconds, plain.processor_seconds)
    late["processor"] = round(used.median, 3)
    ratios = {**late, "stops": round(stops.median, 3), "memory_running": running}
    return [
        at_least("kubernetes_starts", rate, TARGET_RATE, {"unit": "servers a second", **detail, "ratios": ratios}),
        at_most("kubernetes_memory", memory, TARGET_MEMORY, {"unit": "MiB of the hub's process at its most"}),
    ]


def main(arguments: list[str] | None = None) -> int:
    """The figures are printed as lines of JSON; the status is 0 when all are met."""
    parser = argparse.ArgumentParser(prog="python -m bench.kubernetes", description=__doc__)
    parser.add_argument("--servers", type=int, default=SERVERS, help=f"on either side (default {SERVERS})")
    parser.add_argument("--projects", type=int, default=PROJECTS, help=f"of our centre (default {PROJECTS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"pairs of rounds (default {ROUNDS})")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help=f"starts under way (default {AT_ONCE})")
    asked = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    for name in ("httpx", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    needs_cluster()
    found = measure(asked.servers, asked.projects, asked.rounds, asked.at_once)
    for result in found:
        print(result.to_json())
    return 0 if all(result.met for result in found) else 1


if __name__ == "__main__":
    sys.exit(main())
