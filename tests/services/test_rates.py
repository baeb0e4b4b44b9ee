"""Rate cards: what may be published, and what is in force when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quotas.domain.admission import Admitted
from quotas.domain.policy import Policy
from quotas.domain.rate_cards import CardState
from quotas.domain.rates import CapabilityFact, Density, FactStatus, Precision, Rate, RateCard, RateRule
from quotas.domain.runs import Outcome
from quotas.domain.units import DAY_SECONDS, HOUR_SECONDS, InvalidValue
from quotas.services import admission, check, profiles, rates
from quotas.store import audit
from quotas.store import runs as runs_store
from quotas.store.database import Conflict
from tests.centre import NOW, Centre, start

HIGHER = Rate("h100", 67_000, RateRule.ASSIGNED, "rounded", "operator", 100_000)
SECOND = RateCard(2, NOW + HOUR_SECONDS, Precision.FP32, (HIGHER,))
FILE = """
effective_from = 2027-02-01
reference_precision = "fp32"
[rates.h100]
rule = "assigned"
gflops = 67000
reason = "rounded"
approver = "operator"
krw_per_device_month = 100000
"""


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
        (replace(SECOND, effective_from=NOW - DAY_SECONDS), "effective_from", "later than the last card's"),
        (replace(SECOND, density=Density.SPARSE), "reference_precision", "must stay fp32"),
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
    cards = [Rate("h100-1g", each, RateRule.ASSIGNED, "x", "operator")]
    cards += [Rate("h100", whole, RateRule.ASSIGNED, "x", "operator")] if whole is not None else []
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


def settled(seeded: Centre, run: str, seconds: int) -> admission.Charge:
    ended = admission.Ended(seeded.now, seeded.now + seconds, Outcome.STOPPED)
    charge = admission.settle(seeded.database, run, ended, seeded.now + seconds)
    assert charge is not None
    return charge


def started(seeded: Centre) -> Admitted:
    held = start(seeded, "h100")
    assert isinstance(held, Admitted)
    admission.started(seeded.database, held.run_id, seeded.now)
    return held


def test_a_new_card_changes_no_open_hold_and_no_past_charge(seeded: Centre) -> None:
    before = settled(seeded, started(seeded).run_id, 100)
    second = replace(seeded, now=seeded.now + 200)
    held = started(second)
    publish(second, replace(SECOND, effective_from=second.now + 60))
    extended = admission.extend(seeded.database, held.run_id, second.now + 1200, Policy())
    assert extended.standing is admission.Standing.EXTENDED
    assert settled(second, held.run_id, 2000).amount == 2000 * 66_900
    again = settled(seeded, before.run_id, 9999)
    assert (again.amount, again.settled_now) == (100 * 66_900, False)
    with seeded.database.read() as transaction:
        assert [runs_store.one(transaction, run).card_version for run in (before.run_id, held.run_id)] == [1, 1]
    later = replace(seeded, now=seeded.now + 3000)
    assert settled(later, started(later).run_id, 10).amount == 10 * 67_000
    assert check.findings(seeded.database, seeded.now + 3010) == []


def test_a_card_from_the_past_is_refused_where_a_run_was_held_since_by_another(seeded: Centre) -> None:
    publish(seeded, replace(SECOND, effective_from=NOW - HOUR_SECONDS))
    started(seeded)
    third = replace(SECOND, version=3, effective_from=NOW - 1)
    with pytest.raises(InvalidValue, match="a run was held at 2027-01-15 17:00 KST by card 2") as refused:
        rates.publish(seeded.database, third, actor=seeded.operator, now=NOW + 5)
    assert refused.value.field == "effective_from"
    rates.publish(seeded.database, replace(third, effective_from=NOW + 1), actor=seeded.operator, now=NOW + 5)
    assert len(rates.cards(seeded.database)) == 3


def test_prices_differ_where_free_unpriced_and_priced(seeded: Centre) -> None:
    by_price = (
        Rate("cpu-small", 50, RateRule.ASSIGNED, "x", "operator", 0),
        Rate("h100-1g", 8_109, RateRule.FACT, "x"),
        HIGHER,
    )
    publish(seeded, replace(SECOND, rates=by_price))
    card = rates.cards(seeded.database)[1]
    assert {rate.profile: rate.krw_per_device_month for rate in card.rates} == {
        "cpu-small": 0,
        "h100-1g": None,
        "h100": 100_000,
    }


@pytest.mark.parametrize(
    ("rate", "says"),
    [
        (Rate("h100", 67_000, RateRule.FACT, "rounded", "operator"), "gives 66,900 GFLOPS, not 67,000"),
        (Rate("cpu-small", 50, RateRule.FACT, "x", "operator"), "has no device"),
        (Rate("cpu-small", 50, RateRule.ASSIGNED, "x", "operator", 1), "must be 0 or left out"),
    ],
)
def test_a_rate_that_no_fact_gives_is_assigned_or_refused(seeded: Centre, rate: Rate, says: str) -> None:
    with pytest.raises(InvalidValue, match=says):
        publish(seeded, replace(SECOND, rates=(rate,)))


def test_an_unverified_fact_feeds_a_rate_only_with_the_name_of_an_approver(seeded: Centre) -> None:
    for fact in profiles.devices(seeded.database)[1]:
        if fact.device_model == "h100" and fact.precision is Precision.FP32:
            profiles.supersede_fact(seeded.database, "h100", fact.precision, fact.source, actor="operator", now=NOW)
    heard = CapabilityFact("h100", Precision.FP32, 70_000, "heard", FactStatus.UNVERIFIED)
    profiles.add_fact(seeded.database, heard, actor="operator", now=NOW)
    rate = Rate("h100", 70_000, RateRule.FACT, "heard")
    with pytest.raises(InvalidValue, match="is unverified; an approver must be named"):
        publish(seeded, replace(SECOND, rates=(rate,)))
    publish(seeded, replace(SECOND, rates=(replace(rate, approver="operator"),)))


def test_a_published_card_cannot_be_changed_whatever_asks(seeded: Centre) -> None:
    def change(statement: str) -> None:
        with seeded.database.engine.connect() as connection:
            connection.exec_driver_sql(statement)

    for statement in (
        "UPDATE rates SET gflops = 1",
        "UPDATE rates SET krw_per_device_month = 1",
        "UPDATE rate_cards SET effective_from = 1",
        "DELETE FROM rates",
        "DELETE FROM rate_cards",
    ):
        with pytest.raises(Exception, match="never changed or deleted"):
            change(statement)
    with pytest.raises(Conflict), seeded.database.write() as transaction:
        rates.store.add(transaction, rates.store.cards(transaction)[0], {}, "operator", NOW)


class TestDrafts:
    def test_a_draft_becomes_the_next_card_once(self, seeded: Centre) -> None:
        by = {"actor": seeded.operator, "now": seeded.now}
        number, preview = rates.draft(seeded.database, FILE, **by)
        assert [(each.profile, each.new_gflops) for each in preview.changes if each.is_change] == [
            ("h100", 67_000),
            ("cpu-small", None),
            ("h100-1g", None),
        ]
        assert [view.state for view in rates.views(seeded.database, NOW)] == [CardState.PUBLISHED, CardState.DRAFT]
        card = rates.read_draft(seeded.database, number)
        rates.publish(seeded.database, card, draft=number, **by)
        assert rates.cards(seeded.database)[1] == card
        assert [view.state for view in rates.views(seeded.database, card.effective_from)] == [
            CardState.SUPERSEDED,
            CardState.PUBLISHED,
        ]
        for refused in (
            lambda: rates.read_draft(seeded.database, number),
            lambda: rates.discard(seeded.database, number, reason="late", **by),
            lambda: rates.publish(seeded.database, replace(card, version=3, effective_from=NOW * 2), draft=1, **by),
        ):
            with pytest.raises(InvalidValue, match="is published and cannot become"):
                refused()
        assert len(rates.cards(seeded.database)) == 2

    def test_a_draft_is_discarded_with_a_reason(self, seeded: Centre) -> None:
        by = {"actor": seeded.operator, "now": seeded.now}
        number, _ = rates.draft(seeded.database, FILE, **by)
        rates.discard(seeded.database, number, reason="prices not agreed", **by)
        assert rates.views(seeded.database, NOW)[-1].state is CardState.DISCARDED
        with pytest.raises(InvalidValue, match="is discarded and cannot become published; allowed: -"):
            rates.read_draft(seeded.database, number)
        with pytest.raises(InvalidValue, match="there is no '77'"):
            rates.read_draft(seeded.database, 77)

    def test_what_could_not_be_published_is_no_draft(self, seeded: Centre) -> None:
        with pytest.raises(InvalidValue, match=r"later than the last card's"):
            rates.draft(seeded.database, FILE.replace("2027-02-01", "2027-01-01"), actor="operator", now=NOW)
        assert len(rates.views(seeded.database, NOW)) == 1

    def test_a_draft_whose_profile_has_gone_wrong_is_still_listed(self, seeded: Centre) -> None:
        rates.draft(seeded.database, FILE, actor="operator", now=NOW)
        with seeded.database.write() as transaction:
            transaction.run(rates.store.rate_card_drafts.update().values(content="no = 1"))
        view = rates.views(seeded.database, NOW)[-1]
        assert (view.state, view.card, view.draft) == (CardState.DRAFT, None, 1)

    def test_a_preview_writes_nothing(self, seeded: Centre) -> None:
        preview = rates.preview(seeded.database, SECOND, NOW)
        assert preview.against == rates.cards(seeded.database)[0]
        assert len(rates.views(seeded.database, NOW)) == 1
