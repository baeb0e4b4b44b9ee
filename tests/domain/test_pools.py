"""Phases of a pool's capacity."""

from __future__ import annotations

import pytest

from quotas.domain.pools import CapacityPhase, healthy_at
from quotas.domain.units import InvalidValue

PHASES = [
    CapacityPhase("h100", 200, 8, 8, 4),
    CapacityPhase("h100", 100, 8, 8, 8),
    CapacityPhase("a100", 150, 2, 2, 2),
    CapacityPhase("h100", 300, 8, 0, 0),
]


@pytest.mark.parametrize(
    ("now", "healthy"), [(0, 0), (99, 0), (100, 8), (199, 8), (200, 4), (299, 4), (300, 0), (10**12, 0)]
)
def test_the_latest_phase_that_has_begun_counts(now: int, healthy: int) -> None:
    assert healthy_at(PHASES, "h100", now) == healthy


def test_a_model_without_a_phase_has_nothing() -> None:
    assert healthy_at(PHASES, "t4", 10**12) == 0
    assert healthy_at([], "h100", 10**12) == 0


@pytest.mark.parametrize("sizes", [(1, 2, 0), (2, 1, 2), (1, 1, -1), (-1, -1, -1), (0, 0, 1)])
def test_healthy_is_powered_and_powered_is_installed(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidValue, match="phase"):
        CapacityPhase("h100", 0, *sizes)
