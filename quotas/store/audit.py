"""Audit events: who did what to what, and when; only ever added."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, insert, select

from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import audit_events

_as_json = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode

_INSERT = Prepared(
    insert(audit_events).values(
        at=bindparam("at"),
        actor=bindparam("actor"),
        action=bindparam("action"),
        subject=bindparam("subject"),
        detail=bindparam("detail"),
    )
)
_LAST = Prepared(select(audit_events).order_by(audit_events.c.id.desc()).limit(bindparam("limit")))


def record(
    transaction: Transaction, at: int, actor: str, action: str, subject: str, detail: Mapping[str, Any] | None = None
) -> None:
    """The event is part of the transaction. Texts from outside are cut to what the columns take."""
    transaction.run(
        _INSERT,
        at=at,
        actor=actor[:80],
        action=action[:40],
        subject=subject[:80],
        detail=_as_json(detail or {})[:4000],
    )


def latest(transaction: Transaction, limit: int = 100) -> list[Row]:
    """Return the newest events, newest first."""
    return transaction.rows(_LAST, limit=limit)
