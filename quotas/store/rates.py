"""Rate cards: published whole, never changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import bindparam, insert, select

from quotas.domain.rates import Precision, Rate, RateCard, RateRule
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import profiles, rate_cards, rates

_CARDS = Prepared(select(rate_cards).order_by(rate_cards.c.version))
_IN_FORCE = Prepared(
    select(rate_cards)
    .where(rate_cards.c.effective_from <= bindparam("now"))
    .order_by(rate_cards.c.version.desc())
    .limit(1)
)
_RATES = (
    select(rates.c.version, profiles.c.code, rates.c.gflops, rates.c.rule, rates.c.reason, rates.c.approver)
    .join(profiles, profiles.c.id == rates.c.profile_id)
    .order_by(rates.c.version, profiles.c.position, profiles.c.code)
)
_ALL_RATES = Prepared(_RATES)
_RATES_OF_ONE = Prepared(_RATES.where(rates.c.version == bindparam("version")))


def add(transaction: Transaction, card: RateCard, profile_ids: Mapping[str, int], actor: str, now: int) -> None:
    """The card is stored with its rates; `profile_ids` has the id of each rate's profile. Raises Conflict."""
    transaction.run(
        insert(rate_cards).values(
            version=card.version,
            effective_from=card.effective_from,
            reference_precision=card.reference_precision.value,
            published_at=now,
            published_by=actor[:63],
        )
    )
    for rate in card.rates:
        transaction.run(
            insert(rates).values(
                version=card.version,
                profile_id=profile_ids[rate.profile],
                gflops=rate.gflops,
                rule=rate.rule.value,
                reason=rate.reason,
                approver=rate.approver,
            )
        )


def cards(transaction: Transaction) -> list[RateCard]:
    """Return every card, the first first."""
    by_version: defaultdict[int, list[Row]] = defaultdict(list)
    for row in transaction.rows(_ALL_RATES):
        by_version[row.version].append(row)
    return [_card(row, by_version[row.version]) for row in transaction.rows(_CARDS)]


def in_force(transaction: Transaction, now: int) -> RateCard | None:
    """Return the card in force at `now`, or None before the first."""
    row = transaction.one(_IN_FORCE, now=now)
    return None if row is None else _card(row, transaction.rows(_RATES_OF_ONE, version=row.version))


def _card(row: Row, its_rates: list[Row]) -> RateCard:
    return RateCard(
        version=row.version,
        effective_from=row.effective_from,
        reference_precision=Precision(row.reference_precision),
        rates=tuple(
            Rate(each.code, each.gflops, RateRule(each.rule), each.reason, each.approver) for each in its_rates
        ),
    )
