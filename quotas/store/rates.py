"""Rate cards: published whole, never changed; and the drafts of those to come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import bindparam, insert, select, update

from quotas.domain.rates import Density, Precision, Rate, RateCard, RateRule
from quotas.store.database import Prepared, Row, Transaction
from quotas.store.tables import holds, profiles, rate_card_drafts, rate_cards, rates

_CARDS = Prepared(select(rate_cards).order_by(rate_cards.c.version))
_IN_FORCE = Prepared(
    select(rate_cards)
    .where(rate_cards.c.effective_from <= bindparam("now"))
    .order_by(rate_cards.c.version.desc())
    .limit(1)
)
_RATES = (
    select(
        rates.c.version,
        profiles.c.code,
        rates.c.gflops,
        rates.c.rule,
        rates.c.reason,
        rates.c.approver,
        rates.c.krw_per_device_month,
    )
    .join(profiles, profiles.c.id == rates.c.profile_id)
    .order_by(rates.c.version, profiles.c.position, profiles.c.code)
)
_ALL_RATES = Prepared(_RATES)
_RATES_OF_ONE = Prepared(_RATES.where(rates.c.version == bindparam("version")))
_PUBLISHED = Prepared(
    select(rate_cards.c.version, rate_cards.c.published_at, rate_cards.c.published_by).order_by(rate_cards.c.version)
)
_HELD_SINCE = Prepared(
    select(holds.c.run_id, holds.c.opened_at, holds.c.card_version)
    .where(holds.c.opened_at >= bindparam("since"))
    .order_by(holds.c.opened_at.desc())
    .limit(1)
)
_DRAFTS = Prepared(select(rate_card_drafts).order_by(rate_card_drafts.c.id))
_DRAFT = Prepared(select(rate_card_drafts).where(rate_card_drafts.c.id == bindparam("draft")))
_open_draft = (
    rate_card_drafts.c.id == bindparam("draft"),
    rate_card_drafts.c.published_version.is_(None),
    rate_card_drafts.c.discarded_at.is_(None),
)
_PUBLISH_DRAFT = Prepared(update(rate_card_drafts).where(*_open_draft).values(published_version=bindparam("version")))
_DISCARD_DRAFT = Prepared(update(rate_card_drafts).where(*_open_draft).values(discarded_at=bindparam("at")))


def add(transaction: Transaction, card: RateCard, profile_ids: Mapping[str, int], actor: str, now: int) -> None:
    """The card is stored with its rates; `profile_ids` has the id of each rate's profile. Raises Conflict."""
    transaction.run(
        insert(rate_cards).values(
            version=card.version,
            effective_from=card.effective_from,
            reference_precision=card.reference_precision.value,
            published_at=now,
            published_by=actor[:63],
            density=card.density.value,
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
                krw_per_device_month=rate.krw_per_device_month,
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


def published(transaction: Transaction) -> dict[int, tuple[int, str]]:
    """Return when each card was published, and by whom, by version."""
    return {row.version: (row.published_at, row.published_by) for row in transaction.rows(_PUBLISHED)}


def held_since(transaction: Transaction, since: int) -> Row | None:
    """Return the newest hold of those opened at `since` or later, or None."""
    return transaction.one(_HELD_SINCE, since=since)


def add_draft(transaction: Transaction, content: str, actor: str, now: int) -> int:
    """The draft is kept; return its number."""
    return transaction.insert(rate_card_drafts, {"content": content, "made_at": now, "made_by": actor[:80]})


def drafts(transaction: Transaction) -> list[Row]:
    """Return every draft, the first first, those included that were published or discarded."""
    return transaction.rows(_DRAFTS)


def draft(transaction: Transaction, number: int) -> Row | None:
    """Return the draft, or None."""
    return transaction.one(_DRAFT, draft=number)


def publish_draft(transaction: Transaction, number: int, version: int) -> bool:
    """The draft has become the card `version`; return whether it was open until now."""
    return transaction.run(_PUBLISH_DRAFT, draft=number, version=version) == 1


def discard_draft(transaction: Transaction, number: int, now: int) -> bool:
    """The draft is discarded; return whether it was open until now."""
    return transaction.run(_DISCARD_DRAFT, draft=number, at=now) == 1


def _card(row: Row, its_rates: list[Row]) -> RateCard:
    return RateCard(
        version=row.version,
        effective_from=row.effective_from,
        reference_precision=Precision(row.reference_precision),
        rates=tuple(
            Rate(
                profile=each.code,
                gflops=each.gflops,
                rule=RateRule(each.rule),
                reason=each.reason,
                approver=each.approver,
                krw_per_device_month=each.krw_per_device_month,
            )
            for each in its_rates
        ),
        density=Density(row.density),
    )
