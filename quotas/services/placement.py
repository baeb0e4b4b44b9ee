"""Where on a cluster the runs of a pool go: what an operator says of the pool, and what a launch is told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quotas.domain.admission import Admitted
from quotas.domain.launch import Launch
from quotas.domain.placement import check_pool_terms
from quotas.services.people import unknown
from quotas.store import audit
from quotas.store import pools as store
from quotas.store.database import Database

Terms = Mapping[str, Mapping[str, Any]]


def set_terms(database: Database, pool: str, terms: Terms, *, actor: str, now: int) -> None:
    """Runs of the pool that start from now on have these terms; those that run keep their own.

    Raises InvalidValue for a pool that there is not, and for terms that none can have.
    """
    check_pool_terms(terms)
    with database.write() as transaction:
        pool_id = store.pool_id(transaction, pool)
        if pool_id is None:
            raise unknown("pool", pool)
        store.set_terms(transaction, pool_id, json.dumps(terms, sort_keys=True))
        audit.record(transaction, now, actor, "pool terms set", pool, {"terms": terms})


def terms_of(database: Database, pool: str) -> dict[str, dict[str, Any]]:
    """Return the pool's terms by backend. Raises InvalidValue for a pool that there is not."""
    with database.read() as transaction:
        pool_id = store.pool_id(transaction, pool)
        if pool_id is None:
            raise unknown("pool", pool)
        return _read(store.terms(transaction, pool_id))


def held(database: Database, launch: Launch, admitted: Admitted) -> Launch:
    """Return the launch with what its hold says of it: its class, and the terms of the pool whose devices it holds."""
    terms: dict[str, dict[str, Any]] = {}
    if admitted.pool_id is not None:
        with database.read() as transaction:
            terms = _read(store.terms(transaction, admitted.pool_id))
    return replace(launch, priority=admitted.priority, simulated=admitted.simulated, pool_terms=terms)


def _read(text: str) -> dict[str, dict[str, Any]]:
    return dict(json.loads(text))
