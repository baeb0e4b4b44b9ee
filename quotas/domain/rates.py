"""Capability facts and the rate card: what an hour of a profile costs, in GFLOPS at the reference precision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.units import InvalidValue, amount

MOST_KRW = 10**9
"""The highest price of a device-month; a figure above it is a slip of the hand."""


class Precision(StrEnum):
    """A number format whose peak rate a device states."""

    FP64 = "fp64"
    FP64_TENSOR = "fp64-tensor"
    FP32 = "fp32"
    TF32 = "tf32"
    FP16 = "fp16"
    FP8 = "fp8"
    INT8 = "int8"


class Density(StrEnum):
    """Whether a peak counts all operations, or those of half the weights that structured sparsity leaves out too."""

    DENSE = "dense"
    SPARSE = "sparse"


class FactStatus(StrEnum):
    """How a capability fact is known, from the most to the least trusted.

    `official`: read at its maker. `copied`: its maker's figure, read elsewhere. `derived`: computed from such a one.
    `unverified`: none of these. Only the first two may feed a rate without the name of an approver.
    """

    OFFICIAL = "official"
    COPIED = "copied"
    DERIVED = "derived"
    UNVERIFIED = "unverified"


NEED_AN_APPROVER = frozenset({FactStatus.DERIVED, FactStatus.UNVERIFIED})


@dataclass(frozen=True)
class DeviceModel:
    """A kind of accelerator. A MIG slice has `units` of the `units_total` streaming multiprocessors of `parent`.

    `units_source` and `units_status` say how those of a slice are known.
    """

    code: str
    name: str
    kind: str
    memory_bytes: int
    parent: str | None = None
    units: int = 1
    units_total: int = 1
    units_source: str = ""
    units_status: FactStatus = FactStatus.COPIED


@dataclass(frozen=True)
class CapabilityFact:
    """A sourced peak of one device model at one precision.

    `source_date` is the source's own date as far as it is known: 2018, 2018-09 or 2018-09-13. A `superseded` fact was
    stated once and no longer counts: it is kept, as a rate of its time followed from it.
    """

    device_model: str
    precision: Precision
    peak_gflops: int
    source: str
    status: FactStatus
    density: Density = Density.DENSE
    source_date: str | None = None
    superseded: bool = False


class RateRule(StrEnum):
    """Where a rate comes from: a capability fact, or assigned with a reason and an approver."""

    FACT = "fact"
    ASSIGNED = "assigned"


@dataclass(frozen=True)
class Rate:
    """What one run of `profile` takes from the ceiling, and per second from the budget: `gflops`.

    `krw_per_device_month` is the co-payment for each of its devices in 30 days: 0 is free, None is not priced.
    """

    profile: str
    gflops: int
    rule: RateRule
    reason: str
    approver: str | None = None
    krw_per_device_month: int | None = None

    def __post_init__(self) -> None:
        amount(f"rate of {self.profile}", self.gflops)
        if self.krw_per_device_month is not None:
            _check_price(f"price of {self.profile}", self.krw_per_device_month)
        if self.rule is RateRule.ASSIGNED and not (self.reason and self.approver):
            raise InvalidValue(
                f"rate of {self.profile}",
                "an assigned rate needs a reason and an approver",
                "지정 요율에는 사유와 승인자가 필요합니다",
            )


def _check_price(field: str, krw: object) -> None:
    """0 is a price, so :func:`amount` is not asked."""
    if isinstance(krw, bool) or not isinstance(krw, int) or not 0 <= krw <= MOST_KRW:
        raise InvalidValue(
            field,
            f"must be whole KRW from 0 (free) to {MOST_KRW:,}, not {krw!r:.60}; without a price, leave it out",
            f"0(무료)부터 {MOST_KRW:,}까지의 원 단위 정수여야 합니다 (입력: {krw!r:.60}). 가격이 없으면 쓰지 마세요",
        )


@dataclass(frozen=True)
class RateCard:
    """A published, immutable list of rates, in force from `effective_from` until a later card is."""

    version: int
    effective_from: int
    reference_precision: Precision
    rates: tuple[Rate, ...]
    density: Density = Density.DENSE


def rate_from_fact(profile: str, devices: int, model: DeviceModel, fact: CapabilityFact, approver: str | None) -> Rate:
    """Return the rate of `devices` whole devices or slices: floor(peak × units ÷ units_total) each.

    This floor is the only rounding of a rate. Where the fact, or the share of a slice, is unverified or derived, it
    needs the name of an approver.
    """
    if not approver:
        _need_no_approver(profile, model, fact)
    each = fact.peak_gflops * model.units // model.units_total
    reason = f"{devices} × {model.code}: {fact.precision} {fact.peak_gflops} GFLOPS × {model.units}/{model.units_total}"
    return Rate(profile, each * devices, RateRule.FACT, f"{reason}; {fact.source}", approver)


def _need_no_approver(profile: str, model: DeviceModel, fact: CapabilityFact) -> None:
    for code, what_en, what_ko, status in (
        (fact.device_model, "fact", "성능 자료", fact.status),
        (model.code, "share of its device", "분할 비율", model.units_status if model.parent else FactStatus.OFFICIAL),
    ):
        if status in NEED_AN_APPROVER:
            raise InvalidValue(
                f"rate of {profile}",
                f"the {what_en} for {code} is {status}; an approver must be named",
                f"{code}의 {what_ko}이(가) {status} 상태이므로 승인자 이름이 필요합니다",
            )
