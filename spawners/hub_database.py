"""The hub's own database, before the hub opens it."""

from __future__ import annotations

import contextlib
import sqlite3

from sqlalchemy.engine import make_url

from quotas.home import Home
from quotas.store.drivers import BUSY_SECONDS


def hub_database(home: Home) -> str:
    """Return the SQLAlchemy URL of the hub's database; one in a file of SQLite keeps a write-ahead log from now on.

    The hub commits several times in each start, in its event loop, and everybody waits for the disk meanwhile. With a
    log a commit is as durable as before and waits for one file, without one for a journal, the file and their folder.
    The file itself remembers the mode. Raises SettingsError.
    """
    url = home.hub_database_url()
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        # What cannot be opened, or is no database, the hub itself refuses, with the reason.
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(parsed.database, timeout=BUSY_SECONDS)) as connection,
        ):
            connection.execute("PRAGMA journal_mode=WAL")
    return url
