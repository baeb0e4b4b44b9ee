"""A process that is killed between any two statements: nothing of them is stored, and the same call does it all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import select

from quotas.domain.admission import Admitted
from quotas.domain.runs import new_run_id
from quotas.services import admission, check
from quotas.store.database import Prepared
from quotas.store.tables import metadata, transfers
from tests.services.centre import DAY, FIRST_HOLD, GPU_GFLOPS, POLICY, START, Centre
from tests.services.dying import act

NOW = START + DAY
STATEMENTS = range(1, 60)
Kill = Callable[[str, int, str, int], str]
_ALL = [Prepared(select(table)) for table in metadata.sorted_tables]


@pytest.fixture
def kill(centre: Centre) -> Iterator[Kill]:
    """Do `what` to a run in a process that is killed after its n-th statement; return whether that was its last."""
    words = [sys.executable, "-m", "tests.services.dying", centre.database.url]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

        def send(what: str, statement: int, run_id: str, now: int) -> str:
            print(what, statement, run_id, now, file=process.stdin, flush=True)
            return process.stdout.readline().strip()

        yield send
        process.stdin.close()
        assert process.wait(30) == 0


def stored(centre: Centre) -> list[list[Any]]:
    with centre.database.read() as transaction:
        return [transaction.rows(statement) for statement in _ALL]


def keys(centre: Centre, run_id: str) -> set[str]:
    """Return the keys of the run's transfers without the run."""
    with centre.database.read() as transaction:
        rows = transaction.rows(select(transfers.c.key).where(transfers.c.run_id == run_id))
    return {row.key.removeprefix(run_id) for row in rows}


EXPECTED = {
    "reserve": {":hold"},
    "extend": {":hold", ":extend:1"},
    # 5,000 s ran on a hold of 1,920 s, so that all of it is charged, and the rest is the operator's.
    "settle": {":hold", ":charge", ":overrun"},
}


@pytest.mark.parametrize("what", EXPECTED)
def test_killed_between_any_two_statements(centre: Centre, kill: Kill, what: str) -> None:
    centre.award("vision", 10**9 * GPU_GFLOPS)
    now, places = NOW, []
    for statement in STATEMENTS:
        run_id = new_run_id()
        if what != "reserve":
            act(centre.database, "reserve", run_id, now)
            admission.started(centre.database, run_id, now)
        before = stored(centre)
        places.append(kill(what, statement, run_id, now))
        assert (stored(centre) == before) == (places[-1] == "between")
        assert check.findings(centre.database, now) == []
        assert_done(what, act(centre.database, what, run_id, now), places[-1], now)
        assert_done(what, act(centre.database, what, run_id, now), "after", now)
        assert keys(centre, run_id) == EXPECTED[what]
        assert check.findings(centre.database, now + 5000) == []
        act(centre.database, "settle", run_id, now)
        now += 10_000
        if places[-1] == "after":
            break
    assert places == ["between"] * (len(places) - 1) + ["after"]
    assert len(places) > 5


def assert_done(what: str, answer: Any, place: str, now: int) -> None:
    if what == "reserve":
        assert isinstance(answer, Admitted)
        assert answer.until_at == now + FIRST_HOLD
    elif what == "extend":
        reach = now + 1000 + POLICY.hold + POLICY.stop_margin
        assert (answer.standing.value, answer.until_at) == ("extended" if place == "between" else "kept", reach)
    else:
        assert (answer.seconds, answer.overrun) == (5000, (5000 - FIRST_HOLD) * GPU_GFLOPS)
        assert answer.settled_now == (place == "between")
