"""The table of cases of the reconciling loop."""

from __future__ import annotations

import pytest

from quotas.domain.launch import Seen
from quotas.domain.reconciliation import Action, HeldRun, action
from quotas.domain.runs import RunKind, RunState

NOW = 10_000
LIMIT = 600
RUNNING = Seen("r", running=True, ref="x", started_at=9_000.5)
ENDED = Seen("r", running=False, ref="x", started_at=9_000.5, finished_at=9_900.0, exit_code=0)
CREATED = Seen("r", running=False, ref="x")

HELD, RUNS = RunState.HELD, RunState.RUNNING
NOTEBOOK, BATCH = RunKind.NOTEBOOK, RunKind.BATCH


@pytest.mark.parametrize(
    ("kind", "state", "gone", "requested", "seen", "known", "expected"),
    [
        # starting
        (NOTEBOOK, HELD, False, NOW - 5, None, False, Action.WAIT),
        (NOTEBOOK, HELD, False, NOW - LIMIT - 1, None, False, Action.VOID),
        (NOTEBOOK, HELD, False, NOW - 5, CREATED, False, Action.WAIT),
        (NOTEBOOK, HELD, False, NOW - 5, RUNNING, False, Action.EXTEND),
        (NOTEBOOK, HELD, True, NOW - 5, None, None, Action.VOID),
        (NOTEBOOK, HELD, True, NOW - 5, RUNNING, None, Action.STOP_STRAY),
        (BATCH, HELD, True, NOW - 5, None, None, Action.WAIT),
        (BATCH, HELD, True, NOW - LIMIT - 1, None, None, Action.VOID),
        (BATCH, HELD, True, NOW - 5, RUNNING, None, Action.EXTEND),
        # running
        (NOTEBOOK, RUNS, False, NOW - 900, RUNNING, True, Action.EXTEND),
        (NOTEBOOK, RUNS, True, NOW - 900, RUNNING, True, Action.EXTEND),
        (NOTEBOOK, RUNS, True, NOW - 900, RUNNING, None, Action.EXTEND),
        (NOTEBOOK, RUNS, False, NOW - 900, RUNNING, False, Action.STOP_STRAY),
        (BATCH, RUNS, False, NOW - 900, RUNNING, False, Action.EXTEND),
        # ended, or gone
        (NOTEBOOK, RUNS, False, NOW - 900, ENDED, True, Action.SETTLE),
        (NOTEBOOK, RUNS, False, NOW - 900, None, True, Action.SETTLE),
        (NOTEBOOK, HELD, False, NOW - 900, ENDED, False, Action.SETTLE),
        (BATCH, RUNS, False, NOW - 900, ENDED, None, Action.SETTLE),
    ],
)
def test_each_case_has_its_action(
    kind: RunKind, state: RunState, gone: bool, requested: int, seen: Seen | None, known: bool | None, expected: Action
) -> None:
    run = HeldRun("r", kind, state, requested, door_is_gone=gone)
    assert action(run, seen, known_to_hub=known, now=NOW, start_limit_seconds=LIMIT) is expected


@pytest.mark.parametrize("kind", [NOTEBOOK, BATCH])
@pytest.mark.parametrize("requested", [NOW - 5, NOW - LIMIT - 1])
def test_what_is_held_for_a_turn_in_the_queue_waits_for_its_person(kind: RunKind, requested: int) -> None:
    run = HeldRun("r", kind, HELD, requested, door_is_gone=True, in_turn=True)
    assert action(run, None, known_to_hub=False, now=NOW, start_limit_seconds=LIMIT) is Action.WAIT
