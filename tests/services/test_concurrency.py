"""Many at once: exactly as many as fit, and nothing half-written when a process is killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import select

from quotas.domain.admission import Admitted
from quotas.domain.refusals import Code
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.services import admission, check, refunds
from quotas.services.admission import Ended
from quotas.store.tables import charges, holds, runs
from tests.services.centre import DAY, FIRST_HOLD, GPU_GFLOPS, POLICY, START, Centre

NOW = START + DAY
PEOPLE = [f"person-{number}" for number in range(50)]
FITTING = 7
FIRST_HOLDS = FITTING * FIRST_HOLD * GPU_GFLOPS + POLICY.minimum * GPU_GFLOPS - 1
"""A budget of exactly `FITTING` first holds: what is left is one short of the least that is admitted."""
PLENTY = 10**9 * GPU_GFLOPS

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
ROUNDS = 1_000 if NIGHTLY else 20


@pytest.fixture
def crowd(centre: Centre) -> Centre:
    """A centre whose project has fifty members, and a pool with a device for each."""
    for name in PEOPLE:
        centre.member("vision", name)
    centre.phase(50, START + 1)
    return centre


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """All calls are made by threads of their own that begin together; return their answers."""
    barrier = Barrier(len(calls))

    def wait_and_call(call: Callable[[], Any]) -> Any:
        barrier.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(wait_and_call, calls, timeout=60))


def answers(decisions: Sequence[Any]) -> Counter[str]:
    return Counter("admitted" if isinstance(each, Admitted) else each.code.value for each in decisions)


def everybody_asks(centre: Centre, **asked: object) -> Counter[str]:
    return answers(at_once([lambda name=name: centre.reserve(NOW, person=name, **asked) for name in PEOPLE]))


class TestThreads:
    def test_of_the_last_budget_exactly_what_fits(self, crowd: Centre) -> None:
        allocation = crowd.award("vision", FIRST_HOLDS)
        rest = len(PEOPLE) - FITTING
        assert everybody_asks(crowd) == {"admitted": FITTING, Code.BUDGET_SHORT.value: rest}
        assert crowd.balances(allocation)["available"] == POLICY.minimum * GPU_GFLOPS - 1
        assert check.findings(crowd.database, NOW) == []

    def test_of_the_last_devices_exactly_what_there_are(self, crowd: Centre) -> None:
        crowd.award("vision", PLENTY)
        crowd.phase(5, NOW)
        assert everybody_asks(crowd, profile="gpu-2") == {"admitted": 2, Code.POOL_FULL.value: 48}
        assert check.findings(crowd.database, NOW) == []

    def test_under_the_ceiling_exactly_what_fits(self, crowd: Centre) -> None:
        allocation = crowd.award("vision", PLENTY, ceiling=3 * GPU_GFLOPS + 1)
        assert everybody_asks(crowd) == {"admitted": 3, Code.CEILING.value: 47}
        assert crowd.in_use(allocation) == (3 * GPU_GFLOPS, 3)

    def test_one_person_gets_one_server(self, crowd: Centre) -> None:
        crowd.award("vision", PLENTY)
        decisions = at_once([lambda: crowd.reserve(NOW)] * 20)
        assert answers(decisions) == {"admitted": 1, Code.ALREADY_RUNNING.value: 19}

    @pytest.mark.parametrize(("kind", "seconds"), [(RunKind.NOTEBOOK, None), (RunKind.BATCH, 60)])
    def test_one_request_many_times_is_one_run(self, crowd: Centre, kind: RunKind, seconds: int | None) -> None:
        crowd.award("vision", (60 + POLICY.stop_margin) * GPU_GFLOPS if seconds else PLENTY)
        run_id = new_run_id()
        decisions = at_once([lambda: crowd.reserve(NOW, run_id=run_id, kind=kind, seconds=seconds)] * 20)
        assert answers(decisions) == {"admitted": 20}
        assert len(set(decisions)) == 1
        assert crowd.count(runs) == 1

    def test_settling_at_once_charges_once(self, crowd: Centre) -> None:
        allocation = crowd.award("vision", PLENTY)
        run = crowd.admitted(NOW)
        settled = at_once([lambda end=end: crowd.settle(run.run_id, NOW, NOW + 100 + end) for end in range(8)])
        assert sum(charge.settled_now for charge in settled) == 1
        assert len({charge.amount for charge in settled}) == 1
        assert crowd.balances(allocation)["spent"] == settled[0].amount
        assert crowd.count(charges) == 1

    def test_extending_settling_and_refunding_at_once(self, crowd: Centre) -> None:
        crowd.award("vision", FIRST_HOLDS)
        open_runs = [crowd.admitted(NOW, person=name).run_id for name in PEOPLE[:FITTING]]
        ended = Ended(NOW, NOW + 500, Outcome.STOPPED)
        calls: list[Callable[[], Any]] = []
        for run_id in open_runs:
            calls += [
                lambda run_id=run_id: admission.extend(crowd.database, run_id, NOW + 1000, POLICY),
                lambda run_id=run_id: admission.settle(crowd.database, run_id, ended, NOW + 1000),
                lambda run_id=run_id: admission.seen(crowd.database, run_id, NOW + 1000),
                lambda: refunds.expire_ended(crowd.database, NOW + 1000),
            ]
        at_once(calls)
        assert check.findings(crowd.database, NOW + 1000) == []
        assert crowd.count(charges) == FITTING


def worker(centre: Centre, what: str, now: int, *people: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tests.services.worker", centre.database.url, what, "vision", str(now), *people]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@contextmanager
def workers(centre: Centre, what: str, parts: Sequence[Sequence[str]]) -> Iterator[list[subprocess.Popen[str]]]:
    """Yield a process that is ready for each part of the people; none of them runs afterwards."""
    processes = [worker(centre, what, NOW, *people) for people in parts]
    try:
        for process in processes:
            wait_until_ready(process)
        yield processes
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                process.communicate(timeout=60)


def begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


@pytest.mark.timeout(0 if NIGHTLY else 300)
class TestTheLastGpuHour:
    """Two hundred people ask at once for one GPU-hour: the first hold is whole, the second has the rest of it."""

    def test_has_room_for_two_holds_in_every_round(self, centre: Centre) -> None:
        everybody = [f"learner-{number}" for number in range(200)]
        for name in everybody:
            centre.member("vision", name)
        centre.phase(200, START + 1)
        allocation = centre.award("vision", 3600 * GPU_GFLOPS)
        with workers(centre, "rounds", [everybody[number::4] for number in range(4)]) as processes:
            for number in range(ROUNDS):
                for process in processes:
                    begin(process)
                told = [line.split() for process in processes for line in answered(process)]
                assert len(told) == len(everybody)
                assert Counter(word for word, _ in told) == {"admitted": 2, "refused": 198}
                assert {code for word, code in told if word == "refused"} == {Code.BUDGET_SHORT.value}
                assert centre.balances(allocation)["held"] == 3600 * GPU_GFLOPS
                assert centre.balances(allocation)["available"] == 0
                if number % 10 == 0:
                    assert check.findings(centre.database, NOW) == []
                for run_id in (run_id for word, run_id in told if word == "admitted"):
                    centre.settle(run_id, None, None)
            for process in processes:
                process.communicate(timeout=60)
        assert check.findings(centre.database, NOW) == []
        assert centre.count(charges) == 0


def answered(process: subprocess.Popen[str]) -> list[str]:
    """Return the lines up to an empty one."""
    assert process.stdout is not None
    return list(iter(lambda: process.stdout.readline().strip(), ""))


class TestProcesses:
    def test_of_the_last_budget_exactly_what_fits(self, crowd: Centre) -> None:
        crowd.award("vision", FIRST_HOLDS)
        with workers(crowd, "ask", [PEOPLE[number::8] for number in range(8)]) as processes:
            for process in processes:
                begin(process)
            lines = [line.split() for process in processes for line in process.communicate(timeout=60)[0].splitlines()]
        assert [process.returncode for process in processes] == [0] * 8
        told = Counter(line[0] if line[0] == "admitted" else line[1] for line in lines)
        assert told == {"admitted": FITTING, Code.BUDGET_SHORT.value: len(PEOPLE) - FITTING}
        assert check.findings(crowd.database, NOW) == []

    def test_killed_at_any_moment_nothing_is_half_written(self, crowd: Centre) -> None:
        """Twenty times a process is killed in a loop of reserving and settling; what it was told, is stored."""
        crowd.award("vision", PLENTY)
        draw = random.Random(20)  # noqa: S311 - a repeatable draw, no secret
        slower = 1 if crowd.database.is_sqlite else 3
        for number in range(20):
            process = worker(crowd, "loop", NOW, PEOPLE[number])
            wait_until_ready(process)
            begin(process)
            time.sleep(draw.uniform(0.001, 0.12) * slower)
            process.kill()
            lines = [line.split() for line in process.communicate(timeout=60)[0].splitlines() if line.count(" ") == 1]
            assert check.findings(crowd.database, NOW) == []
            self._are_stored(crowd, [run_id for word, run_id in lines if word == "admitted"], holds)
            self._are_stored(crowd, [run_id for word, run_id in lines if word == "settled"], charges)
        if crowd.database.is_sqlite:
            with closing(crowd.database.engine.raw_connection()) as connection:
                assert connection.cursor().execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert crowd.count(charges) > (20 if crowd.database.is_sqlite else 5)
        self._can_all_be_settled(crowd)

    @staticmethod
    def _are_stored(centre: Centre, run_ids: list[str], table: Any) -> None:
        with centre.database.read() as transaction:
            stored = {row.run_id for row in transaction.rows(select(table.c.run_id))}
        assert set(run_ids) <= stored

    @staticmethod
    def _can_all_be_settled(centre: Centre) -> None:
        with centre.database.read() as transaction:
            left = [row.run_id for row in transaction.rows(select(holds.c.run_id).where(holds.c.state == "open"))]
        assert left
        for run_id in left:
            admission.settle(centre.database, run_id, Ended(None, None, Outcome.STRAY), NOW + DAY)
        assert check.findings(centre.database, NOW + DAY) == []
