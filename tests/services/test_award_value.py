"""What awards buy, read from the stored rate card and projects."""

from __future__ import annotations

import pytest

from quotas.domain.award_value import Means
from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.domain.units import DAY_SECONDS, PPM, InvalidValue
from quotas.services import award_value, rates
from tests.centre import NOW, Centre, applied, approve, award, shown


def test_every_rated_profile_by_the_card_in_force(seeded: Centre) -> None:
    found = award_value.buys(seeded.database, award(seeded, gflops=20_000), NOW)
    assert (found.card_version, found.means.ceiling_gflops) == (1, 20_000)
    assert {each.profile: each.at_once for each in found.profiles} == {"cpu-small": 400, "h100-1g": 2, "h100": 0}
    assert found.means.budget_gflops_seconds == 20_000 * 30 * DAY_SECONDS
    assert {each.profile: each.devices for each in found.profiles} == {"cpu-small": 0, "h100-1g": 1, "h100": 1}


def test_an_award_that_starts_later_is_reckoned_by_the_card_of_then(seeded: Centre) -> None:
    later = Rate("h100", 10_000, RateRule.ASSIGNED, "x", "operator", 100_000)
    card = RateCard(2, NOW + DAY_SECONDS, Precision.FP32, (later,))
    rates.publish(seeded.database, card, actor="operator", now=NOW)
    (h100,) = award_value.buys(
        seeded.database, award(seeded, gflops=20_000, starts_at=card.effective_from, ends_at=NOW * 2), NOW
    ).profiles
    assert (h100.gflops, h100.at_once, h100.krw_per_device_month) == (10_000, 2, 100_000)
    before = award_value.buys(seeded.database, award(seeded, starts_at=NOW + DAY_SECONDS - 1), NOW)
    assert before.card_version == 1


def test_a_project_by_its_award_and_what_it_may_start(seeded: Centre) -> None:
    applied(seeded, "second")
    asked = award_value.of_project(seeded.database, "second", NOW)
    assert (asked.means, len(asked.profiles)) == (Means.of(award(seeded)), 3)
    given = award(seeded, gflops=10_000, burst_ppm=7 * PPM, utilisation_ppm=PPM // 2)
    approve(seeded, "second", given, profiles=("h100",))
    found = award_value.of_project(seeded.database, "second", NOW)
    assert found.means == Means.of(given)
    assert [(each.profile, each.at_once) for each in found.profiles] == [("h100", 1)]
    assert found.means.budget_gflops_seconds == shown(seeded, "second").granted


def test_what_cannot_be_reckoned_is_refused(seeded: Centre) -> None:
    with pytest.raises(InvalidValue, match="there is no 'none'"):
        award_value.of_project(seeded.database, "none", NOW)
    with pytest.raises(InvalidValue, match="must be fp32"):
        award_value.buys(seeded.database, award(seeded, precision="fp16"), NOW)
    early = award(seeded, starts_at=1, ends_at=2)
    with pytest.raises(InvalidValue, match="no rate card is in force at 1970"):
        award_value.buys(seeded.database, early, 1)
