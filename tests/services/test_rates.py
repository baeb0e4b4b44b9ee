"""Rate cards: what may be published, and what is in force when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.domain.units import HOUR_SECONDS, InvalidValue
from quotas.services import rates
from quotas.store import audit
from tests.centre import NOW, Centre

SECOND = RateCard(2, NOW + HOUR_SECONDS, Precision.FP32, (Rate("h100", 67_000, RateRule.FACT, "rounded"),))


def publish(seeded: Centre, card: RateCard) -> None:
    rates.publish(seeded.database, card, actor=seeded.operator, now=seeded.now)


def test_a_later_card_takes_over_at_its_instant_and_the_first_stays_as_it_was(seeded: Centre) -> None:
    first = rates.card_in_force(seeded.database, seeded.now)
    assert first is not None
    publish(seeded, SECOND)
    assert rates.card_in_force(seeded.database, SECOND.effective_from - 1) == first
    assert rates.card_in_force(seeded.database, SECOND.effective_from) == SECOND
    assert rates.cards(seeded.database) == [first, SECOND]
    assert rates.card_in_force(seeded.database, first.effective_from - 1) is None


def test_publishing_leaves_an_event_with_the_rates(seeded: Centre) -> None:
    publish(seeded, SECOND)
    with seeded.database.read() as transaction:
        event = audit.latest(transaction, 1)[0]
    assert (event.actor, event.action, event.subject) == (seeded.operator, "rate card published", "rate card 2")
    assert '"h100": 67000' in event.detail


@pytest.mark.parametrize(
    ("card", "field", "says"),
    [
        (replace(SECOND, version=1), "version", "must be 2"),
        (replace(SECOND, version=3), "version", "must be 2"),
        (replace(SECOND, version=-1), "version", "above zero"),
        (replace(SECOND, effective_from=NOW - 1), "effective_from", "not in the past"),
        (replace(SECOND, effective_from=0), "effective_from", "above zero"),
        (replace(SECOND, reference_precision=Precision.FP16), "reference_precision", "must stay fp32"),
        (replace(SECOND, rates=()), "rates", "at least one"),
        (replace(SECOND, rates=SECOND.rates * 2), "rates", "two rates"),
        (replace(SECOND, rates=(Rate("h900", 1, RateRule.FACT, "none"),)), "profile", "there is no 'h900'"),
    ],
)
def test_a_card_that_cannot_be_is_refused(seeded: Centre, card: RateCard, field: str, says: str) -> None:
    with pytest.raises(InvalidValue, match=says) as refused:
        publish(seeded, card)
    assert refused.value.field == field
    assert len(rates.cards(seeded.database)) == 1


def test_a_card_not_later_than_one_that_has_yet_to_begin_is_refused(seeded: Centre) -> None:
    publish(seeded, SECOND)
    with pytest.raises(InvalidValue) as refused:
        publish(seeded, replace(SECOND, version=3))
    assert refused.value.field == "effective_from"


def slices(each: int, whole: int | None) -> RateCard:
    cards = [Rate("h100-1g", each, RateRule.FACT, "x")]
    cards += [Rate("h100", whole, RateRule.FACT, "x")] if whole is not None else []
    return replace(SECOND, rates=tuple(cards))


def test_seven_slices_may_cost_as_much_as_the_device_and_not_more(seeded: Centre) -> None:
    with pytest.raises(InvalidValue, match=r"7 × h100-mig-1g\.10gb lie on one h100") as refused:
        publish(seeded, slices(9_558, 66_900))
    assert refused.value.field == "rates"
    publish(seeded, slices(9_557, 66_900))


def test_a_device_without_a_rate_is_taken_at_its_peak(seeded: Centre) -> None:
    with pytest.raises(InvalidValue, match="h100-mig-1g"):
        publish(seeded, slices(9_558, None))
    publish(seeded, slices(9_557, None))


@pytest.mark.parametrize("gflops", [0, -1, 2**63])
def test_a_rate_is_a_positive_amount_that_fits(gflops: int) -> None:
    with pytest.raises(InvalidValue, match="rate of h100"):
        Rate("h100", gflops, RateRule.FACT, "x")


def test_an_assigned_rate_needs_a_reason_and_an_approver() -> None:
    for reason, approver in (("", "operator"), ("measured", None)):
        with pytest.raises(InvalidValue, match="reason and an approver"):
            Rate("cpu-small", 50, RateRule.ASSIGNED, reason, approver)
