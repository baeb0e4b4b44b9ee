"""A rate card's states, what feeds its rates, and what it changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quotas.domain.devices import FACTS, MODELS
from quotas.domain.profiles import Profile
from quotas.domain.rate_cards import (
    ALLOWED_CHANGES,
    CardState,
    Catalogue,
    RateChange,
    changes,
    check_source,
    published_state,
)
from quotas.domain.rates import CapabilityFact, Density, FactStatus, Precision, Rate, RateCard, RateRule
from quotas.domain.units import InvalidValue

GIB = 2**30
CARD = RateCard(1, 100, Precision.FP32, ())


def profile(code: str, device: str | None, count: int = 1) -> Profile:
    return Profile(code, code, code, "notebook", 1000, GIB, GIB, device, count if device else 0)


PROFILES = {
    each.code: each
    for each in (
        profile("cpu", None),
        profile("h100", "h100"),
        profile("h100-x2", "h100", 2),
        profile("h100-1g", "h100-mig-1g.10gb"),
        profile("b200", "b200"),
        profile("b200-1g", "b200-mig-1g.23gb"),
        profile("bow", "bow"),
        profile("rngd", "rngd"),
    )
}
CATALOGUE = Catalogue(PROFILES, {model.code: model for model in MODELS}, FACTS)


def check(rate: Rate, card: RateCard = CARD, catalogue: Catalogue = CATALOGUE) -> None:
    check_source(rate, card, catalogue)


@pytest.mark.parametrize(
    ("code", "gflops"), [("h100", 66_900), ("h100-x2", 133_800), ("h100-1g", 8_109), ("b200", 75_000)]
)
def test_a_rate_that_follows_from_a_trusted_fact_needs_nobody(code: str, gflops: int) -> None:
    check(Rate(code, gflops, RateRule.FACT, "a sheet"))
    with pytest.raises(InvalidValue, match=f"gives {gflops:,} GFLOPS, not {gflops + 1:,}"):
        check(Rate(code, gflops + 1, RateRule.FACT, "a sheet", "operator"))
    check(Rate(code, gflops + 1, RateRule.ASSIGNED, "to encourage it", "operator"))


@pytest.mark.parametrize(
    ("code", "gflops", "status"), [("bow", 87_400, "unverified"), ("b200-1g", 9_121, "unverified")]
)
def test_a_rate_from_what_nobody_states_needs_the_name_of_an_approver(code: str, gflops: int, status: str) -> None:
    with pytest.raises(InvalidValue, match=f"is {status}; an approver must be named"):
        check(Rate(code, gflops, RateRule.FACT, "a sheet"))
    check(Rate(code, gflops, RateRule.FACT, "a sheet", "operator"))


def test_a_derived_fact_needs_an_approver_too() -> None:
    sparse = replace(CARD, reference_precision=Precision.FP8)
    catalogue = replace(CATALOGUE, facts=[CapabilityFact("h100", Precision.FP8, 1_000, "halved", FactStatus.DERIVED)])
    with pytest.raises(InvalidValue, match="is derived"):
        check(Rate("h100", 1_000, RateRule.FACT, "halved"), sparse, catalogue)
    check(Rate("h100", 1_000, RateRule.FACT, "halved", "operator"), sparse, catalogue)


def test_of_two_facts_that_give_one_figure_the_trusted_one_feeds_it() -> None:
    """A derived figure that agrees with a copied one must not make the copied one need an approver."""
    check(Rate("b200", 2_250_000, RateRule.FACT, "a brief"), replace(CARD, reference_precision=Precision.FP16))


def test_a_superseded_fact_feeds_no_rate() -> None:
    with pytest.raises(InvalidValue, match="gives 75,000 GFLOPS, not 80,000"):
        check(Rate("b200", 80_000, RateRule.FACT, "the early brief", "operator"))


@pytest.mark.parametrize(
    ("rate", "card", "says"),
    [
        (Rate("rngd", 17_309, RateRule.FACT, "x", "operator"), CARD, r"no source states fp32 \(dense\) of rngd"),
        (Rate("cpu", 100, RateRule.FACT, "x", "operator"), CARD, "has no device"),
        (
            Rate("h100", 1_978_900, RateRule.FACT, "x", "operator"),
            replace(CARD, reference_precision=Precision.FP16, density=Density.SPARSE),
            r"no source states fp16 \(sparse\) of h100",
        ),
        (Rate("cpu", 100, RateRule.ASSIGNED, "x", "operator", 5), CARD, "must be 0 or left out"),
    ],
)
def test_what_no_fact_gives_is_refused_with_what_is_allowed(rate: Rate, card: RateCard, says: str) -> None:
    with pytest.raises(InvalidValue, match=says) as refused:
        check(rate, card)
    assert rate.profile in refused.value.field
    assert refused.value.message_ko


def test_a_device_that_lacks_the_precision_is_assigned_and_a_cpu_may_be_free() -> None:
    check(Rate("rngd", 17_309, RateRule.ASSIGNED, "no fp32: by its fp16", "operator", 0))
    check(Rate("cpu", 100, RateRule.ASSIGNED, "no source", "operator", 0))


def test_the_table_of_states_ends() -> None:
    assert set(ALLOWED_CHANGES) == set(CardState)
    assert {state for state, after in ALLOWED_CHANGES.items() if not after} == {
        CardState.SUPERSEDED,
        CardState.DISCARDED,
    }


def test_a_card_is_superseded_when_a_later_one_is_in_force() -> None:
    first, second = CARD, replace(CARD, version=2, effective_from=200)
    cards = [first, second]
    assert published_state(first, cards, 50) is CardState.PUBLISHED
    assert published_state(first, cards, 199) is CardState.PUBLISHED
    assert published_state(first, cards, 200) is CardState.SUPERSEDED
    assert published_state(second, cards, 150) is CardState.PUBLISHED


def test_changes_tell_what_is_new_gone_dearer_and_free() -> None:
    def rate(code: str, gflops: int, krw: int | None = None) -> Rate:
        return Rate(code, gflops, RateRule.ASSIGNED, "x", "operator", krw)

    old = replace(CARD, rates=(rate("cpu", 100), rate("h100", 66_900, 100_000), rate("rngd", 10)))
    new = replace(CARD, version=2, rates=(rate("h100", 60_210, 0), rate("bow", 5), rate("cpu", 100)))
    found = changes(old, new)
    assert found == [
        RateChange("h100", 66_900, 60_210, 100_000, 0),
        RateChange("bow", None, 5, None, None),
        RateChange("cpu", 100, 100, None, None),
        RateChange("rngd", 10, None, None, None),
    ]
    assert [each.change_ppm for each in found] == [-100_000, None, 0, None]
    assert [each.is_change for each in found] == [True, True, False, True]
    assert all(each.old_gflops is None for each in changes(None, new))
