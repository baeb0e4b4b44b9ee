"""What to do about one run, from what the ledger holds and what the backend and the hub see: a table of cases."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.launch import Seen
from quotas.domain.runs import RunKind, RunState


class Action(StrEnum):
    """The one thing to do next about a run."""

    WAIT = "wait"
    """It is starting, or too fresh to judge."""
    EXTEND = "extend"
    """It runs as it should: extend its hold, or stop it when that cannot be."""
    VOID = "void"
    """It is held but never came to run: release its hold."""
    SETTLE = "settle"
    """It has ended: charge what it ran."""
    STOP_STRAY = "stop_stray"
    """It runs, but no door knows it: stop it and charge what it ran."""


@dataclass(frozen=True)
class HeldRun:
    """An open run as the ledger has it; `door_is_gone` when the door's instance that began it was replaced.

    `in_turn`: it is held for someone whose turn in the queue has come, and whom the queue itself gives up in time.
    """

    run_id: str
    kind: RunKind
    state: RunState
    requested_at: int
    door_is_gone: bool
    in_turn: bool = False


def action(run: HeldRun, seen: Seen | None, *, known_to_hub: bool | None, now: int, start_limit_seconds: int) -> Action:
    """Return what to do. `known_to_hub` is None when the hub does not answer: then nobody is called a stray by it."""
    starting = run.state is RunState.HELD
    if seen is None or seen.started_at is None:
        if not starting:
            return Action.SETTLE
        abandoned = run.door_is_gone and run.kind is RunKind.NOTEBOOK
        given_up = abandoned or now - run.requested_at > start_limit_seconds
        return Action.VOID if given_up and not run.in_turn else Action.WAIT
    if not seen.running:
        return Action.SETTLE
    if run.kind is RunKind.BATCH:
        return Action.EXTEND
    if starting:
        return Action.STOP_STRAY if run.door_is_gone else Action.EXTEND
    return Action.STOP_STRAY if known_to_hub is False else Action.EXTEND
