"""What an award buys: a budget, a ceiling of concurrent rate and, for each profile of a rate card, hours and KRW.

Everything is whole numbers: what is left of a division is not bought.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quotas.domain.copayments import DEVICE_MONTH_SECONDS, numerator
from quotas.domain.projects import Award
from quotas.domain.rates import Rate, RateCard
from quotas.domain.units import HOUR_SECONDS, PPM, InvalidValue, show_rate


@dataclass(frozen=True)
class ProfileValue:
    """One profile: the whole budget is `seconds` of one of it, and `at_once` of it fit under the ceiling.

    `burst_needed_ppm` is the least burst factor under which one fits, None where one does already. A price of None is
    no price, and then there are no KRW.
    """

    profile: str
    gflops: int
    devices: int
    seconds: int
    at_once: int
    burst_needed_ppm: int | None
    krw_per_device_month: int | None

    @property
    def krw_of_an_hour(self) -> tuple[int, int] | None:
        """The co-payment of one hour, as (whole KRW, remaining hundredths of one, rounded down)."""
        if self.krw_per_device_month is None:
            return None
        hundredths = numerator(self.krw_per_device_month, self.devices, HOUR_SECONDS) * 100 // DEVICE_MONTH_SECONDS
        return divmod(hundredths, 100)

    @property
    def krw_of_the_award(self) -> int | None:
        """The co-payment when the whole budget is used on this profile, rounded down."""
        if self.krw_per_device_month is None:
            return None
        return numerator(self.krw_per_device_month, self.devices, self.seconds) // DEVICE_MONTH_SECONDS

    def hint(self, language: str) -> str:
        """Say what one needs where none fits under the ceiling; an empty text where one does."""
        if self.burst_needed_ppm is None:
            return ""
        rate, factor = show_rate(self.gflops), show_factor(self.burst_needed_ppm)
        if language == "ko":
            return f"한 개가 {rate}: 순간 배수(burst) {factor} 이상 필요"
        return f"one is {rate}: needs burst ≥ {factor}"


@dataclass(frozen=True)
class Means:
    """What there is to spend: `gflops` awarded at `precision`, and the budget and ceiling that came of it.

    Those of an award that was changed (a supplement, a recall) are not its rate × its time any more.
    """

    gflops: int
    precision: str
    starts_at: int
    ends_at: int
    budget_gflops_seconds: int
    ceiling_gflops: int

    @classmethod
    def of(cls, award: Award) -> Means:
        """Return the means of an award as it is given."""
        return cls(
            gflops=award.gflops,
            precision=award.precision,
            starts_at=award.starts_at,
            ends_at=award.ends_at,
            budget_gflops_seconds=award.budget_gflops_seconds(),
            ceiling_gflops=award.ceiling_gflops(),
        )


@dataclass(frozen=True)
class AwardValue:
    """What `means` buy of each profile by the rate card `card_version`."""

    means: Means
    card_version: int
    profiles: tuple[ProfileValue, ...]


def value(means: Means, card: RateCard, devices: Mapping[str, int]) -> AwardValue:
    """Return what the means buy of every profile in `devices`, which has the number of each one's devices.

    A profile that the card does not rate cannot be started, so it is left out. Raises InvalidValue for an award at
    another precision than the card's.
    """
    if means.precision != card.reference_precision:
        raise InvalidValue(
            "precision",
            f"must be {card.reference_precision}, in which the rate card counts, not {means.precision}",
            f"요율표의 기준 정밀도 {card.reference_precision}이어야 합니다 (입력: {means.precision})",
        )
    return AwardValue(
        means=means,
        card_version=card.version,
        profiles=tuple(
            _of_profile(rate, devices[rate.profile], means) for rate in card.rates if rate.profile in devices
        ),
    )


def _of_profile(rate: Rate, devices: int, means: Means) -> ProfileValue:
    at_once = means.ceiling_gflops // rate.gflops
    return ProfileValue(
        profile=rate.profile,
        gflops=rate.gflops,
        devices=devices,
        seconds=means.budget_gflops_seconds // rate.gflops,
        at_once=at_once,
        burst_needed_ppm=None if at_once else -(-rate.gflops * PPM // means.gflops),
        krw_per_device_month=rate.krw_per_device_month,
    )


def show_factor(ppm: int) -> str:
    """Write a factor with two decimals, rounded up, so that what is shown is enough: ``3.35``."""
    hundredths = -(-ppm * 100 // PPM)
    return f"{hundredths // 100}.{hundredths % 100:02}"
