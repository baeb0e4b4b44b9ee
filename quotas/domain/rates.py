"""Capability facts and the rate card: what an hour of a profile costs, in GFLOPS at the reference precision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.units import InvalidValue, amount


class Precision(StrEnum):
    """A number format whose peak rate a device states."""

    FP64 = "fp64"
    FP64_TENSOR = "fp64-tensor"
    FP32 = "fp32"
    TF32 = "tf32"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"


class FactStatus(StrEnum):
    """How a capability fact is known. Only `official` and `copied` facts may feed a rate without an approver."""

    OFFICIAL = "official"
    COPIED = "copied"
    DERIVED = "derived"
    UNVERIFIED = "unverified"


@dataclass(frozen=True)
class DeviceModel:
    """A kind of accelerator. A MIG slice has `units` of the `units_total` streaming multiprocessors of `parent`."""

    code: str
    name: str
    kind: str
    memory_bytes: int
    parent: str | None = None
    units: int = 1
    units_total: int = 1


@dataclass(frozen=True)
class CapabilityFact:
    """A sourced dense peak of one device model at one precision."""

    device_model: str
    precision: Precision
    peak_gflops: int
    source: str
    status: FactStatus


class RateRule(StrEnum):
    """Where a rate comes from: a capability fact, or assigned with a reason and an approver."""

    FACT = "fact"
    ASSIGNED = "assigned"


@dataclass(frozen=True)
class Rate:
    """What one run of `profile` takes from the ceiling, and per second from the budget: `gflops`."""

    profile: str
    gflops: int
    rule: RateRule
    reason: str
    approver: str | None = None

    def __post_init__(self) -> None:
        amount(f"rate of {self.profile}", self.gflops)
        if self.rule is RateRule.ASSIGNED and not (self.reason and self.approver):
            raise InvalidValue(
                f"rate of {self.profile}",
                "an assigned rate needs a reason and an approver",
                "지정 요율에는 사유와 승인자가 필요합니다",
            )


@dataclass(frozen=True)
class RateCard:
    """A published, immutable list of rates, in force from `effective_from` until a later card is."""

    version: int
    effective_from: int
    reference_precision: Precision
    rates: tuple[Rate, ...]


def rate_from_fact(profile: str, devices: int, model: DeviceModel, fact: CapabilityFact, approver: str | None) -> Rate:
    """Return the rate of `devices` whole devices or slices: floor(peak × units ÷ units_total) each.

    This floor is the only rounding of a rate. An unverified or derived fact needs the name of an approver.
    """
    if fact.status in {FactStatus.UNVERIFIED, FactStatus.DERIVED} and not approver:
        raise InvalidValue(
            f"rate of {profile}",
            f"the fact for {fact.device_model} is {fact.status}; an approver must be named",
            f"{fact.device_model}의 성능 자료가 {fact.status} 상태이므로 승인자 이름이 필요합니다",
        )
    each = fact.peak_gflops * model.units // model.units_total
    reason = f"{devices} × {model.code}: {fact.precision} {fact.peak_gflops} GFLOPS × {model.units}/{model.units_total}"
    return Rate(profile, each * devices, RateRule.FACT, f"{reason}; {fact.source}", approver)
