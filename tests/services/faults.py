"""Faults put between two statements of the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from quotas.store.database import Prepared, Transaction


@contextmanager
def failing_after(statement: int, error: Exception) -> Iterator[Callable[[], bool]]:
    """In the block, `error` is raised once, when the store has run its `statement`-th statement.

    What is given tells whether it came so far.
    """
    run, done = Transaction.run, 0

    def failing(self: Transaction, prepared: Prepared, /, **parameters: Any) -> int:
        nonlocal done
        changed = run(self, prepared, **parameters)
        done += 1
        if done == statement:
            raise error
        return changed

    Transaction.run = failing  # type: ignore[method-assign]
    try:
        yield lambda: done >= statement
    finally:
        Transaction.run = run  # type: ignore[method-assign]
