"""The doors' instances: a door that boots replaces its older instance, whose unfinished starts are then released."""

from __future__ import annotations

from quotas.domain.runs import new_run_id
from quotas.store import runs as store
from quotas.store.database import Database


def boot(database: Database, name: str, now: int) -> str:
    """The door `name` ("hub" or "batch") has a new instance; return its id, to be given as `Request.door`."""
    instance = f"{name}:{new_run_id()}"
    with database.write() as transaction:
        store.boot_door(transaction, name, instance, now)
    return instance
