"""Random walks of the engine's state machine; HYPOTHESIS_PROFILE=nightly takes many more and longer ones."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.databases import Databases
from tests.services.machine import Machine

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
WALKS, STEPS = (20_000, 50) if NIGHTLY else (200, 50)
PHASES = tuple(Phase) if NIGHTLY else (Phase.reuse, Phase.generate)
"""Making a failing walk shorter takes minutes: by night only."""


@pytest.mark.timeout(0 if NIGHTLY else 600)
def test_the_engine_does_what_the_model_does(databases: Databases) -> None:
    Machine.databases = databases
    walks = settings(
        max_examples=WALKS,
        stateful_step_count=STEPS,
        phases=PHASES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(Machine, settings=walks)
