"""``python -m cli.prepare``: the ledger is at its newest schema, and an evaluation platform has its example centre.

It is what a cluster does before the hub of a database of its own starts, and what `mudeung up` does by itself. With
``--wait`` nothing is made: it ends once the ledger is there at this program's schema, which the others wait for.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from cli.session import Session, with_messages
from cli.supervision import preparation
from quotas.home import VARIABLE, Home, from_environment
from quotas.store import migrate
from quotas.store.database import DatabaseAway

WAIT_SECONDS = 300.0
"""How long a database that has just been made may take until it answers."""
PAUSE_SECONDS = 2.0


class NotYet(Exception):  # noqa: N818 - it says what is so
    """The ledger is at another schema than this program's."""


def main() -> int:
    """Prepare the home that `MUDEUNG_HOME` names, or wait until somebody has."""
    parser = argparse.ArgumentParser(prog="python -m cli.prepare", description=(__doc__ or "").split(": ")[1].strip())
    parser.add_argument("--wait", action="store_true", help="make nothing, and end once the ledger is ready")
    asked = parser.parse_args()
    if VARIABLE not in os.environ:
        parser.error(f"set {VARIABLE}")
    session = Session(Path(os.environ[VARIABLE]), None, int(time.time()))
    with_messages(session, lambda: prepare(session, only_wait=asked.wait), "prepare")
    return 0


def prepare(session: Session, *, only_wait: bool) -> None:
    """The ledger is ready. Raises DatabaseAway where it did not get so for long, and UnknownRevision."""
    home = from_environment()
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            _look(home) if only_wait else preparation.ledger(home, session).close()
        except (DatabaseAway, NotYet) as away:
            if time.monotonic() > deadline:
                raise DatabaseAway(str(away)) from away
            session.say(f"waiting for the ledger: {away}", f"원장을 기다리는 중: {away}")
            time.sleep(PAUSE_SECONDS)
        else:
            session.say("The ledger is ready.", "원장이 준비되었습니다.")
            return


def _look(home: Home) -> None:
    database = home.database()
    try:
        found, newest = migrate.current(database), migrate.head()
    finally:
        database.close()
    if found is not None and found not in migrate.revisions():
        raise migrate.UnknownRevision(found)
    if found != newest:
        raise NotYet(f"it is at {found or 'no schema'}, and {newest} is needed")


if __name__ == "__main__":
    sys.exit(main())
