"""A process of its own that uses the engine: `python -m tests.services.worker URL WHAT NAME NOW [PEOPLE …]`.

``ask`` asks for one server for each of the people and prints each answer's code; ``loop`` reserves and settles
until it is refused and prints each run as soon as it was answered. Both wait for a line on their input before they
begin. ``rounds`` asks for each of the people in a thread of its own, at once, for each line on its input, and prints
an empty line after the answers; there a ledger that does not answer in time is asked again, as a person would.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from quotas.domain.admission import Admitted, Request
from quotas.domain.policy import Policy
from quotas.domain.refusals import Code
from quotas.domain.runs import Outcome, RunKind, new_run_id
from quotas.services import admission
from quotas.store.database import Database

POLICY = Policy()
TIMES = 5
AWAY = f"refused {Code.LEDGER_AWAY}"


def ask(database: Database, project: str, person: str, now: int) -> str:
    asked = Request(new_run_id(), RunKind.NOTEBOOK, person, project, "gpu", door="worker")
    decision = admission.reserve(database, asked, now, POLICY)
    return f"admitted {asked.run_id}" if isinstance(decision, Admitted) else f"refused {decision.code}"


def loop(database: Database, project: str, person: str, now: int) -> None:
    while True:
        answer, run_id = ask(database, project, person, now).split()
        print(answer, run_id, flush=True)
        if answer != "admitted":
            return
        admission.started(database, run_id, now)
        admission.extend(database, run_id, now + 1000, POLICY)
        admission.settle(database, run_id, admission.Ended(now, now + 1001, Outcome.STOPPED), now + 1001)
        print("settled", run_id, flush=True)
        now += 1001


def rounds(database: Database, project: str, people: Sequence[str], now: int) -> None:
    barrier = Barrier(len(people))

    def wait_and_ask(person: str) -> str:
        barrier.wait(120)
        answers = (ask(database, project, person, now) for _ in range(TIMES))
        return next((answer for answer in answers if answer != AWAY), AWAY)

    with ThreadPoolExecutor(len(people)) as threads:
        for _ in sys.stdin:
            print(*threads.map(wait_and_ask, people, timeout=200), "", sep="\n", flush=True)


def main(url: str, what: str, project: str, now: str, *people: str) -> None:
    database = Database(url)
    with database.read():
        print("ready", flush=True)
    if what == "rounds":
        rounds(database, project, people, int(now))
    else:
        sys.stdin.readline()
    if what == "loop":
        loop(database, project, people[0], int(now))
    if what == "ask":
        for person in people:
            print(ask(database, project, person, int(now)), flush=True)
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
