"""``python -m cli.prepare``: the ledger is at its newest schema, and an evaluation platform has its example centre.

It is what a cluster does before the hub of a database of its own starts, and what `mudeung up` does by itself.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from cli.session import Session, with_messages
from cli.supervision import preparation
from quotas.home import VARIABLE, from_environment
from quotas.store.database import DatabaseAway

WAIT_SECONDS = 300.0
"""How long a database that has just been made may take until it answers."""
PAUSE_SECONDS = 2.0


def main() -> int:
    """Prepare the home that `MUDEUNG_HOME` names."""
    if VARIABLE not in os.environ:
        sys.stderr.write(f"set {VARIABLE}\n")
        return 2
    session = Session(Path(os.environ[VARIABLE]), None, int(time.time()))
    with_messages(session, lambda: prepare(session), "prepare")
    return 0


def prepare(session: Session) -> None:
    """The ledger is ready. Raises DatabaseAway where it did not answer for long."""
    home = from_environment()
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            database = preparation.ledger(home, session)
        except DatabaseAway as away:
            if time.monotonic() > deadline:
                raise
            session.say(f"waiting for the ledger: {away}", f"원장을 기다리는 중: {away}")
            time.sleep(PAUSE_SECONDS)
        else:
            database.close()
            session.say("The ledger is ready.", "원장이 준비되었습니다.")
            return


if __name__ == "__main__":
    sys.exit(main())
