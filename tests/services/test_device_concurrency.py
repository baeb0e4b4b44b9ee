"""Many start, stop and crash at once on six GPUs and fourteen slices: no device is held twice, and none is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Lock

import pytest
from sqlalchemy import select

from quotas.domain.admission import Admitted
from quotas.domain.node_reports import Cleaned, DeviceEvent, EventKind
from quotas.domain.policy import Policy
from quotas.domain.runs import Outcome
from quotas.services import admission, check
from quotas.services.admission import RACED, Ended
from quotas.store.tables import device_grants
from tests.services.centre import DAY, GPU_GFLOPS, START, Centre, request
from tests.services.machines import SLICE, Machine, Machines, cut, gpu

NOW = START + DAY
POLICY = Policy()
THREADS = 8
STARTS_AND_STOPS = 200
PROFILES = ("gpu", "gpu", "gpu-2", "slice", "slice", "slice")
PEOPLE = [f"person-{number}" for number in range(24)]


class Crash(Exception):  # noqa: N818 - named for what happens
    """The process dies before it commits."""


@dataclass
class Storm:
    """What threads do to the centre's devices; `open_runs` are those that were admitted and not yet ended."""

    machines: Machines
    machine: Machine
    draw: random.Random
    now: int = NOW
    open_runs: list[str] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    done: Counter[str] = field(default_factory=Counter)
    lock: Lock = field(default_factory=Lock)

    def round(self) -> None:
        """Every thread does one thing, all at the same moment; afterwards each has found the ledger sound."""
        self.now += 7
        calls = [self._drawn() for _ in range(THREADS)]
        with ThreadPoolExecutor(THREADS) as threads:
            for what in threads.map(self._checked, calls, timeout=120):
                self.done[what] += 1

    def _checked(self, call: Callable[[], str]) -> str:
        what = call()
        assert check.findings(self.machines.database, self.now) == []
        return what

    def _drawn(self) -> Callable[[], str]:
        seed = self.draw.random()
        if seed < 0.45:
            return self._start(self.draw.choice(PEOPLE), self.draw.choice(PROFILES), crashes=seed < 0.06)
        if seed < 0.8 and self.open_runs:
            run_id = self.draw.choice(self.open_runs)
            if seed < 0.7:  # else it crashes, or another thread ends it as well
                self.open_runs.remove(run_id)
            return self._stop(run_id, crashes=seed > 0.75)
        if seed < 0.92:
            return self._scrub
        device = self.draw.choice(list(self.machine.devices))
        return lambda: self._befalls(device)

    def _start(self, person: str, profile: str, *, crashes: bool) -> Callable[[], str]:
        asked = request(person=person, profile=profile)

        def start() -> str:
            database = self.machines.database
            if crashes:
                try:
                    with database.write(shared=True) as transaction:
                        admission.reserve_in(transaction, asked, self.now, POLICY)
                        raise Crash
                except (Crash, *RACED):
                    return "crashed start"
            decision = admission.reserve(database, asked, self.now, POLICY)
            if not isinstance(decision, Admitted):
                return f"refused {decision.code}"
            admission.started(database, asked.run_id, self.now)
            with self.lock:
                self.open_runs.append(asked.run_id)
            return "start"

        return start

    def _stop(self, run_id: str, *, crashes: bool) -> Callable[[], str]:
        ended = Ended(None, float(self.now), Outcome.STOPPED)

        def stop() -> str:
            database = self.machines.database
            if crashes:
                try:
                    with database.write(shared=True) as transaction:
                        admission.settle_in(transaction, run_id, ended, self.now)
                        raise Crash
                except (Crash, *RACED):
                    return "crashed stop"
            charge = admission.settle(database, run_id, ended, self.now)
            return "stop" if charge is not None and charge.settled_now else "stopped before"

        return stop

    def _scrub(self) -> str:
        with self.lock:  # an agent is one
            asked = self.machine.report(self.now).scrub
            self.machine.report(self.now, cleaned=tuple(Cleaned(each, float(self.now)) for each in asked))
        return "scrub"

    def _befalls(self, device: str) -> str:
        """The one that is lost is back, or else this one is lost."""
        with self.lock:
            back = min(self.away, default=None)
            device, kind = (device, EventKind.LOST) if back is None else (back, EventKind.BACK)
            (self.away.add if back is None else self.away.discard)(device)
            self.machine.report(self.now, events=(DeviceEvent(device, float(self.now), kind),))
        return kind.value

    def calm(self) -> None:
        """Everything has ended, is back and clean."""
        self.now += 7
        for run_id in self.open_runs:
            self._stop(run_id, crashes=False)()
        while self.away:
            self._befalls("")
        self._scrub()


def held_twice(machines: Machines) -> list[str]:
    """Return the devices of which two grants were open at the same time."""
    with machines.database.read() as transaction:
        rows = transaction.rows(select(device_grants).order_by(device_grants.c.device_id, device_grants.c.granted_at))
    return [
        f"{one.device_id}: {one.run_id} and {two.run_id}"
        for one, two in pairwise(rows)
        if one.device_id == two.device_id and (one.released_at is None or two.granted_at < one.released_at)
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
def test_no_device_is_held_twice_and_none_is_lost(centre: Centre, seed: int) -> None:
    machines = Machines(centre)
    machines.add_slices()
    for name in PEOPLE:
        centre.member("vision", name)
    centre.award("vision", 10**9 * GPU_GFLOPS)
    machine = machines.add("gpu-1", NOW)
    whole = [gpu(number) for number in range(6)]
    slices = [each for number in (6, 7) for each in cut(gpu(number), 7)]
    uuids = machine.has(*whole, *slices)
    machine.list(NOW)
    storm = Storm(machines, machine, random.Random(seed))  # noqa: S311 - a repeatable draw, no secret
    while storm.done["start"] + storm.done["stop"] < STARTS_AND_STOPS:
        storm.round()
        assert held_twice(machines) == []
    assert min(storm.done[what] for what in ("crashed start", "crashed stop", "lost", "back", "scrub")) > 0
    storm.calm()
    assert machines.states() == dict.fromkeys(uuids, "available")
    assert [view.run_id for view in machines.views().values()] == [None] * 20
    assert (machines.counts(), machines.counts(SLICE)) == ((0, 0), (0, 0))
    machines.sound(storm.now)
