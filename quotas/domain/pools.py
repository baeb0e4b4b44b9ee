"""Pools of devices and their dated phases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from quotas.domain.units import InvalidValue


@dataclass(frozen=True)
class CapacityPhase:
    """From `from_at` on (seconds UTC), how many devices of one model are installed, powered and healthy."""

    device_model: str
    from_at: int
    installed: int
    powered: int
    healthy: int

    def __post_init__(self) -> None:
        if not 0 <= self.healthy <= self.powered <= self.installed:
            raise InvalidValue(
                "phase",
                f"must have 0 <= healthy <= powered <= installed, not {self.healthy}, {self.powered}, {self.installed}",
                f"0 <= 정상 <= 가동 <= 설치여야 합니다 (입력: {self.healthy}, {self.powered}, {self.installed})",
            )


def healthy_at(phases: Iterable[CapacityPhase], device_model: str, now: int) -> int:
    """Return the healthy devices of the latest phase that has begun; 0 before the first."""
    begun = [phase for phase in phases if phase.device_model == device_model and phase.from_at <= now]
    return max(begun, key=lambda phase: phase.from_at).healthy if begun else 0


@dataclass(frozen=True)
class Drain:
    """`count` devices were taken out of use at `since`, for a reason that people are told; until `ended_at`."""

    id: int
    pool: str
    device_model: str
    count: int
    reason: str
    since: int
    ended_at: int | None = None


def check_drain(device_model: str, count: int, healthy: int, drained: int) -> None:
    """As many devices are healthy and not drained yet. Raises InvalidValue with how many that are."""
    left = max(healthy - drained, 0)
    if count > left:
        raise InvalidValue(
            "count",
            f"{left} {device_model} are healthy and not drained yet; allowed is 1 to {left}, not {count}"
            if left
            else f"no {device_model} is healthy and not drained yet",
            f"정상이며 중단되지 않은 {device_model}은(는) {left}대입니다. 1~{left}이어야 합니다 (입력: {count})"
            if left
            else f"정상이며 중단되지 않은 {device_model}이(가) 없습니다",
        )
