"""A rate card from its draft to its successor: what may become of it, what feeds its rates, what it changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from quotas.domain.devices import counting_fact
from quotas.domain.profiles import Profile
from quotas.domain.rates import (
    CapabilityFact,
    Density,
    DeviceModel,
    Precision,
    Rate,
    RateCard,
    RateRule,
    rate_from_fact,
)
from quotas.domain.units import PPM, InvalidValue


class CardState(StrEnum):
    """Where a rate card is. A published one is in force from its instant on, and superseded when a later one is."""

    DRAFT = "draft"
    PUBLISHED = "published"
    SUPERSEDED = "superseded"
    DISCARDED = "discarded"


ALLOWED_CHANGES: dict[CardState, frozenset[CardState]] = {
    CardState.DRAFT: frozenset({CardState.PUBLISHED, CardState.DISCARDED}),
    CardState.PUBLISHED: frozenset({CardState.SUPERSEDED}),
    CardState.SUPERSEDED: frozenset(),
    CardState.DISCARDED: frozenset(),
}


def published_state(card: RateCard, cards: Iterable[RateCard], now: int) -> CardState:
    """Return the state at `now` of a card that was published; nothing stored has to change for it."""
    later = any(card.effective_from < other.effective_from <= now for other in cards)
    return CardState.SUPERSEDED if later else CardState.PUBLISHED


@dataclass(frozen=True)
class Catalogue:
    """What rates are of: profiles and device models by code, and all facts."""

    profiles: Mapping[str, Profile]
    models: Mapping[str, DeviceModel]
    facts: Sequence[CapabilityFact]

    def feeding(self, profile: Profile, precision: Precision, density: Density) -> list[CapabilityFact]:
        """Return the facts that count for the profile's device, the one that counts most first."""
        model = self.models.get(profile.device_model or "")
        if model is None:
            return []
        left = [fact for fact in self.facts if fact.device_model == (model.parent or model.code)]
        found: list[CapabilityFact] = []
        while (fact := counting_fact(model.parent or model.code, left, precision, density)) is not None:
            found.append(fact)
            left.remove(fact)
        return found


def check_source(rate: Rate, card: RateCard, catalogue: Catalogue) -> None:
    """The rate is assigned, or is exactly what a fact of its device gives.

    Raises InvalidValue for a rate that no fact gives, for one that only an unverified or derived fact gives without
    the name of an approver, and for a price of a profile that has no device.
    """
    profile = catalogue.profiles[rate.profile]
    if rate.krw_per_device_month and profile.device_model is None:
        raise InvalidValue(
            f"price of {rate.profile}",
            "must be 0 or left out: the profile has no device, and the price is for a device-month",
            "장치가 없는 프로필입니다. 장치·월 단위 가격이므로 0이거나 없어야 합니다",
        )
    if rate.rule is not RateRule.FACT:
        return
    if profile.device_model is None:
        raise InvalidValue(
            f"rate of {rate.profile}",
            "the profile has no device, so no fact gives it a rate; assign one with a reason and an approver",
            "장치가 없어 성능 자료에서 요율을 정할 수 없습니다. 사유와 승인자를 적어 지정하세요",
        )
    feeding = catalogue.feeding(profile, card.reference_precision, card.density)
    if not feeding:
        raise InvalidValue(
            f"rate of {rate.profile}",
            f"no source states {card.reference_precision} ({card.density}) of {profile.device_model}; assign a rate"
            " with a reason and an approver",
            f"{profile.device_model}의 {card.reference_precision}({card.density}) 성능을 밝힌 자료가 없습니다."
            " 사유와 승인자를 적어 요율을 지정하세요",
        )
    _check_against(rate, profile, feeding, catalogue)


def _check_against(rate: Rate, profile: Profile, feeding: list[CapabilityFact], catalogue: Catalogue) -> None:
    model = catalogue.models[profile.device_model or ""]
    refused: InvalidValue | None = None
    for fact in feeding:
        # An approver is lent only to learn the figure; whether the rate may stand without one is asked after it.
        if rate_from_fact(rate.profile, profile.device_count, model, fact, "approver").gflops != rate.gflops:
            continue
        try:
            rate_from_fact(rate.profile, profile.device_count, model, fact, rate.approver)
        except InvalidValue as error:
            refused = refused or error
        else:
            return
    if refused is not None:
        raise refused
    given = rate_from_fact(rate.profile, profile.device_count, model, feeding[0], "approver").gflops
    raise InvalidValue(
        f"rate of {rate.profile}",
        f"the fact that counts gives {given:,} GFLOPS, not {rate.gflops:,}; another figure is assigned, with a reason"
        " and an approver",
        f"적용되는 성능 자료로는 {given:,} GFLOPS입니다 (입력: {rate.gflops:,}). 다른 값은 사유와 승인자를 적어"
        " 지정하세요",
    )


@dataclass(frozen=True)
class RateChange:
    """One profile on two cards. None where the card has no rate, or no price, for it.

    `change_ppm` is how much more a second of it takes from the budget, None where there is nothing to compare.
    """

    profile: str
    old_gflops: int | None
    new_gflops: int | None
    old_krw: int | None
    new_krw: int | None

    @property
    def change_ppm(self) -> int | None:
        if self.old_gflops is None or self.new_gflops is None:
            return None
        return (self.new_gflops - self.old_gflops) * PPM // self.old_gflops

    @property
    def is_change(self) -> bool:
        return (self.old_gflops, self.old_krw) != (self.new_gflops, self.new_krw)


def changes(old: RateCard | None, new: RateCard) -> list[RateChange]:
    """Return every profile of either card with both rates and prices: the new card's order, then what it leaves out."""
    before = {rate.profile: rate for rate in old.rates} if old else {}
    after = {rate.profile: rate for rate in new.rates}
    found = []
    for profile in dict.fromkeys((*after, *before)):
        was, will = before.get(profile), after.get(profile)
        found.append(
            RateChange(
                profile,
                was.gflops if was else None,
                will.gflops if will else None,
                was.krw_per_device_month if was else None,
                will.krw_per_device_month if will else None,
            )
        )
    return found
