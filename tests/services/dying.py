"""A process that makes others which die: `python -m tests.services.dying URL`.

For each line ``WHAT STATEMENT RUN NOW`` on its input a child of it does WHAT (reserve, extend or settle) and is killed
(`kill -9`) right after its STATEMENT-th statement, or after all was committed where there are fewer; then a line says
``between`` or ``after``. The children are forked, as a process that starts anew takes a hundred times as long.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from quotas.domain.policy import Policy
from quotas.domain.runs import Outcome
from quotas.services import admission
from quotas.services.admission import Ended
from quotas.store.database import Database, Transaction
from tests.services.centre import request

BETWEEN, AFTER = b"b", b"a"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying_after(statement: int, told: int) -> None:
    """This process is killed when its `statement`-th statement was run, and has said so."""
    run, done = Transaction.run, 0

    def dying(self: Transaction, prepared: Any, /, **parameters: Any) -> int:
        nonlocal done
        changed = run(self, prepared, **parameters)
        done += 1
        if done == statement:
            os.write(told, BETWEEN)
            die()
        return changed

    Transaction.run = dying  # type: ignore[method-assign]


def act(database: Database, what: str, run_id: str, now: int) -> Any:
    """Reserve, extend or settle the run; it is the same call each time."""
    if what == "reserve":
        return admission.reserve(database, request(run_id=run_id), now, Policy())
    if what == "extend":
        return admission.extend(database, run_id, now + 1000, Policy())
    return admission.settle(database, run_id, Ended(now, now + 5000, Outcome.OUT_OF_MEMORY), now + 5000)


def main(url: str) -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        what, statement, run_id, now = line.split()
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            dying_after(int(statement), tell)
            act(Database(url), what, run_id, int(now))
            os.write(tell, AFTER)
            die()
        os.close(tell)
        where = os.read(told, 1)
        os.close(told)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        print({BETWEEN: "between", AFTER: "after"}[where], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
