"""What an award buys, by figures that were worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.award_value import AwardValue, Means, ProfileValue, show_factor, value
from quotas.domain.projects import Award
from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.domain.units import DAY_SECONDS, HOUR_SECONDS, PPM, InvalidValue, show_budget

YEAR = 365 * DAY_SECONDS
DEVICES = {"cpu": 0, "h100-1g": 1, "h100": 1, "h100-x2": 2}


def card(**krw: int) -> RateCard:
    gflops = {"cpu": 100, "h100-1g": 8_109, "h100": 66_900, "h100-x2": 133_800}
    rates = (
        Rate(code, rate, RateRule.ASSIGNED, "x", "operator", krw.get(code.replace("-", "_")))
        for code, rate in gflops.items()
    )
    return RateCard(3, 1, Precision.FP32, tuple(rates))


def award(gflops: int, **changes: int) -> Award:
    return Award(gflops, "fp32", 0, YEAR, **changes)


def reckoned(given: Award, by: RateCard | None = None) -> AwardValue:
    return value(Means.of(given), by or card(), DEVICES)


def bought(given: Award, **krw: int) -> dict[str, ProfileValue]:
    return {each.profile: each for each in reckoned(given, card(**krw)).profiles}


def test_a_share_of_the_first_year_is_11_250_hours_of_an_h100() -> None:
    """10.74 PF for 125 projects is 85.92 TF each: 752.7 PF·h in a year."""
    found = reckoned(award(85_920))
    assert found.card_version == 3
    assert show_budget(found.means.budget_gflops_seconds) == "752.659 PF·h"
    assert found.means.ceiling_gflops == 85_920
    h100 = bought(award(85_920))["h100"]
    assert h100.seconds // HOUR_SECONDS == 11_250
    assert (h100.at_once, h100.burst_needed_ppm, h100.hint("en")) == (1, None, "")


def test_20_tf_open_no_whole_h100_and_two_slices() -> None:
    found = bought(award(20_000))
    assert (found["h100"].at_once, found["h100"].burst_needed_ppm) == (0, 3_345_000)
    assert found["h100"].hint("en") == "one is 66.9 TF: needs burst ≥ 3.35"
    assert found["h100"].hint("ko") == "한 개가 66.9 TF: 순간 배수(burst) 3.35 이상 필요"
    assert found["h100-1g"].at_once == 2
    assert bought(award(20_000, burst_ppm=3_345_000))["h100"].at_once == 1
    assert bought(award(20_000, burst_ppm=3_344_999))["h100"].at_once == 0


def test_a_burst_raises_the_ceiling_and_a_share_lowers_the_budget() -> None:
    plain = Means.of(award(85_920))
    changed = Means.of(award(85_920, burst_ppm=4 * PPM, utilisation_ppm=PPM // 2))
    assert changed.budget_gflops_seconds * 2 == plain.budget_gflops_seconds
    assert changed.ceiling_gflops == 4 * plain.ceiling_gflops


def test_a_price_is_free_absent_or_something() -> None:
    found = bought(award(85_920), cpu=0, h100=100_000, h100_x2=100_000)
    assert found["h100-1g"].krw_of_an_hour is found["h100-1g"].krw_of_the_award is None
    assert (found["cpu"].krw_of_an_hour, found["cpu"].krw_of_the_award) == ((0, 0), 0)
    assert found["h100"].krw_of_an_hour == (138, 88)
    assert found["h100-x2"].krw_of_an_hour == (277, 77)
    assert found["h100"].krw_of_the_award == 100_000 * found["h100"].seconds // (30 * DAY_SECONDS) == 1_562_570
    assert found["h100-x2"].krw_of_the_award == found["h100"].krw_of_the_award


def test_a_budget_too_small_for_a_second_buys_none() -> None:
    tiny = Award(1, "fp32", 0, 100)
    assert bought(tiny)["h100"].seconds == 0
    assert bought(tiny, h100=5)["h100"].krw_of_the_award == 0


def test_profiles_that_are_not_asked_for_are_left_out() -> None:
    assert [each.profile for each in value(Means.of(award(1_000)), card(), {"h100": 1, "unrated": 1}).profiles] == [
        "h100"
    ]


def test_another_precision_is_refused() -> None:
    with pytest.raises(InvalidValue, match="must be fp32") as refused:
        reckoned(Award(1_000, "fp16", 0, YEAR))
    assert refused.value.field == "precision"


@given(st.integers(1, 10**7), st.integers(1, 10**7))
def test_the_burst_that_is_named_is_the_least_that_is_enough(gflops: int, rate: int) -> None:
    only = RateCard(1, 1, Precision.FP32, (Rate("x", rate, RateRule.ASSIGNED, "x", "o"),))

    def at_once(burst_ppm: int) -> int:
        return value(Means.of(award(gflops, burst_ppm=burst_ppm)), only, {"x": 1}).profiles[0].at_once

    needed = value(Means.of(award(gflops)), only, {"x": 1}).profiles[0].burst_needed_ppm
    if needed is None:
        assert at_once(PPM) >= 1
    else:
        assert at_once(needed) == 1
        assert at_once(needed - 1) == 0


@given(st.integers(1, 10**12))
def test_a_factor_is_shown_as_enough(ppm: int) -> None:
    shown = show_factor(ppm)
    assert 0 <= float(shown) * PPM - ppm + 1 < 10_001 + ppm * 1e-12
    assert len(shown.split(".")[1]) == 2
