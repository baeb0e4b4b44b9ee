"""Rate cards: published whole, checked before, never changed after."""

from __future__ import annotations

from fractions import Fraction

from quotas.domain.devices import peaks
from quotas.domain.profiles import Profile
from quotas.domain.rates import DeviceModel, RateCard
from quotas.domain.slices import excess
from quotas.domain.units import InvalidValue, amount, show_instant
from quotas.services.people import unknown
from quotas.store import audit
from quotas.store import profiles as profiles_store
from quotas.store import rates as store
from quotas.store.database import Conflict, Database, Transaction


def publish(database: Database, card: RateCard, *, actor: str, now: int) -> None:
    """The card is in force from its `effective_from` on, and can no longer be changed. Open holds keep their rates.

    A profile without a rate cannot be started. Raises InvalidValue for: a version other than the last + 1; a start
    not later than the last card's, or in the past unless it is the first; another reference precision than the last
    card's; no rates, two of one profile, or one of an unknown profile; and slices that would be charged more together
    than the device that they are of.
    """
    amount("version", card.version)
    amount("effective_from", card.effective_from)
    if not card.rates:
        raise InvalidValue("rates", "a rate card needs at least one rate", "요율표에는 요율이 하나 이상 필요합니다")
    try:
        with database.write() as transaction:
            _check_succession(card, store.cards(transaction), now)
            rows = {row.code: row for row in profiles_store.every(transaction)}
            _check_profiles(card, set(rows))
            _check_slices(transaction, card, {code: profiles_store.from_row(row) for code, row in rows.items()})
            store.add(transaction, card, {code: row.id for code, row in rows.items()}, actor, now)
            detail = {
                "effective_from": card.effective_from,
                "rates": {rate.profile: rate.gflops for rate in card.rates},
            }
            audit.record(transaction, now, actor, "rate card published", f"rate card {card.version}", detail)
    except Conflict:
        raise InvalidValue(
            "version", f"{card.version} has just been published", f"{card.version}은(는) 방금 공표되었습니다"
        ) from None


def card_in_force(database: Database, now: int) -> RateCard | None:
    """Return the card in force at `now`, or None before the first."""
    with database.read() as transaction:
        return store.in_force(transaction, now)


def cards(database: Database) -> list[RateCard]:
    """Return every card, the first first."""
    with database.read() as transaction:
        return store.cards(transaction)


def _check_succession(card: RateCard, earlier: list[RateCard], now: int) -> None:
    last = earlier[-1] if earlier else None
    expected = last.version + 1 if last else 1
    if card.version != expected:
        raise InvalidValue(
            "version", f"must be {expected}, not {card.version}", f"{expected}이어야 합니다 (입력: {card.version})"
        )
    if last is None:
        return
    if card.effective_from <= last.effective_from or card.effective_from < now:
        bound = show_instant(max(last.effective_from, now))
        raise InvalidValue(
            "effective_from",
            f"must be later than the last card's, and not in the past (after {bound})",
            f"이전 요율표의 시행 시각보다 뒤이고 과거가 아니어야 합니다 ({bound} 이후)",
        )
    if card.reference_precision is not last.reference_precision:
        raise InvalidValue(
            "reference_precision",
            f"must stay {last.reference_precision}: balances are counted in it",
            f"잔액의 기준이므로 {last.reference_precision}을(를) 유지해야 합니다",
        )


def _check_profiles(card: RateCard, known: set[str]) -> None:
    seen: set[str] = set()
    for rate in card.rates:
        if rate.profile not in known:
            raise unknown("profile", rate.profile)
        if rate.profile in seen:
            raise InvalidValue(
                "rates", f"{rate.profile} has two rates", f"{rate.profile}의 요율이 두 번 지정되었습니다"
            )
        seen.add(rate.profile)


def _check_slices(transaction: Transaction, card: RateCard, profiles: dict[str, Profile]) -> None:
    models = profiles_store.device_model_list(transaction)
    whole = peaks(models, profiles_store.facts(transaction), card.reference_precision)
    found = excess(models, _rates_by_model(card, profiles, models, {code: Fraction(p) for code, p in whole.items()}))
    if found is not None:
        together, alone = f"{float(found.together):,.0f}", f"{float(found.whole):,.0f}"
        raise InvalidValue(
            "rates",
            f"{found.layout_text()} lie on one {found.device} and would be charged {together} GFLOPS, above its own"
            f" {alone}",
            f"{found.device} 한 장에 놓이는 {found.layout_text()}의 요율 합 {together} GFLOPS가 전체 요율 {alone}을"
            " 넘습니다",
        )


def _rates_by_model(
    card: RateCard, profiles: dict[str, Profile], models: list[DeviceModel], whole_peaks: dict[str, Fraction]
) -> dict[str, Fraction]:
    """Return GFLOPS per device: of a slice the dearest rate, of a whole device the cheapest, or its peak if unrated."""
    slices = {model.code for model in models if model.parent is not None}
    found: dict[str, Fraction] = {}
    for rate in card.rates:
        profile = profiles[rate.profile]
        model = profile.device_model
        if model is not None:
            each = Fraction(rate.gflops, profile.device_count)
            choose = max if model in slices else min
            found[model] = choose(found.get(model, each), each)
    return {code: peak for code, peak in whole_peaks.items() if code not in slices} | found
