"""What is promised against what there is, month by month and phase by phase: also with an award that is thought of."""

from __future__ import annotations

from dataclasses import dataclass

from quotas.domain.awards import Programme
from quotas.domain.capacity import Overcommitment, Promise, Span, overcommitted, portfolio
from quotas.domain.months import month_of
from quotas.domain.rates import Precision
from quotas.domain.units import InvalidValue, amount, show_instant
from quotas.store import pools as pools_store
from quotas.store import projects as projects_store
from quotas.store.database import Database

LONGEST_MONTHS = 120


@dataclass(frozen=True)
class Portfolio:
    """`spans` follow each other, cut at months and phases; `over` is where the award would exceed the limit, if so."""

    spans: tuple[Span, ...]
    precision: Precision
    limit_ppm: int
    award: Promise | None = None
    over: Overcommitment | None = None


def plan(
    database: Database, now: int, programme: Programme, *, months: int = 12, award: Promise | None = None
) -> Portfolio:
    """Return what is promised, installed, powered and healthy from this month on, in GFLOPS; nothing is changed.

    `award` is asked about as it would be given; it is counted from now on where it would have begun before. Raises
    InvalidValue for one that ends before it begins or is over, and for a number of months that is none.
    """
    if not 1 <= months <= LONGEST_MONTHS:
        raise InvalidValue("months", f"must be 1 to {LONGEST_MONTHS}", f"1~{LONGEST_MONTHS}이어야 합니다")
    if award is not None:
        award = _checked(award, now)
    first = month_of(now)
    cuts = [first.plus(number).starts_at for number in range(months + 1)]
    precision = Precision(programme.reference_precision)
    with database.read() as transaction:
        promises = projects_store.promises(transaction, cuts[0], max(cuts[-1], award.ends_at if award else 0))
        strengths = pools_store.strengths(transaction, precision)
        supplies = pools_store.supplies(transaction, precision)
    spans = tuple(portfolio(promises, strengths, cuts, award))
    limit = programme.oversubscription_limit_ppm
    over = None if award is None else overcommitted(award, promises, supplies, limit)
    return Portfolio(spans, precision, limit, award, over)


def _checked(award: Promise, now: int) -> Promise:
    amount("award", award.gflops)
    amount("starts", award.starts_at)
    if award.ends_at <= award.starts_at:
        starts = show_instant(award.starts_at)
        raise InvalidValue("ends", f"must be after {starts}", f"{starts} 이후여야 합니다")
    if award.ends_at <= now:
        at = show_instant(now)
        raise InvalidValue("ends", f"must be after {at}: it would be over already", f"{at} 이후여야 합니다")
    return Promise(award.gflops, max(award.starts_at, now), award.ends_at)
