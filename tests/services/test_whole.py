"""Random walks over the whole engine; HYPOTHESIS_PROFILE=nightly takes many more, and makes failing ones shorter."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from quotas.domain.priorities import Priority
from tests.databases import Databases
from tests.services.test_machine import NIGHTLY, PHASES, STEPS
from tests.services.whole import Whole

WALKS = 20_000 if NIGHTLY else 500

OFTEN = frozenset(
    (
        *(f"admitted {priority}" for priority in Priority),
        *(f"extension {standing}" for standing in ("kept", "extended", "ending")),
        *("joined", "queue waits", "queue turn", "left the queue", "pressure", "drained", "undrained", "phase added"),
        *("seats approved", "seats cancelled", "window opened", "window released", "window ended"),
        *("supplement", "reduction", "move", "suspended", "resumed", "revoked", "project ended", "refunded"),
    )
)
"""What so many walks must have done; what is refused every time proves nothing."""


@pytest.mark.timeout(0 if NIGHTLY else 900)
def test_whatever_is_done_everything_that_must_be_so_is_so(databases: Databases) -> None:
    Whole.databases = databases
    Whole.done.clear()
    walks = settings(
        max_examples=WALKS,
        stateful_step_count=STEPS,
        phases=PHASES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(Whole, settings=walks)
    assert set(Whole.done) >= OFTEN
