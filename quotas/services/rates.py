"""Rate cards: drafted, checked, published whole, and never changed after."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from quotas.domain import card_files
from quotas.domain.devices import peaks
from quotas.domain.rate_cards import (
    ALLOWED_CHANGES,
    CardState,
    Catalogue,
    RateChange,
    changes,
    check_source,
    published_state,
)
from quotas.domain.rates import RateCard
from quotas.domain.slices import excess
from quotas.domain.texts import text
from quotas.domain.units import InvalidValue, amount, show_instant
from quotas.services.people import unknown
from quotas.store import audit
from quotas.store import profiles as profiles_store
from quotas.store import rates as store
from quotas.store.database import Conflict, Database, Row, Transaction


@dataclass(frozen=True)
class CardView:
    """A card with its state at one moment. `draft` numbers a draft, whose `card` is None when it no longer reads."""

    state: CardState
    card: RateCard | None
    made_at: int
    made_by: str
    draft: int | None = None


@dataclass(frozen=True)
class Preview:
    """What a card would change against the newest published one, `against` (None before the first)."""

    card: RateCard
    against: RateCard | None
    changes: tuple[RateChange, ...]


def publish(database: Database, card: RateCard, *, actor: str, now: int, draft: int | None = None) -> None:
    """The card is in force from its `effective_from` on, and can no longer be changed. Open holds keep their rates.

    A profile without a rate cannot be started. Raises InvalidValue for: a version other than the last + 1; a start
    not later than the last card's, or in the past when a run has been held since; another reference precision than
    the last card's; no rates, two of one profile, or one of an unknown profile; a rate that no fact gives and nobody
    assigned; slices that would be charged more together than the device that they are of; and a `draft` that is no
    open one.
    """
    _check_shape(card)
    try:
        with database.write() as transaction:
            ids = _check(transaction, card, now)
            store.add(transaction, card, ids, actor, now)
            if draft is not None and not store.publish_draft(transaction, draft, card.version):
                raise _no_open_draft(transaction, draft, CardState.PUBLISHED)
            detail = {
                "effective_from": card.effective_from,
                "rates": {rate.profile: rate.gflops for rate in card.rates},
            }
            audit.record(transaction, now, actor, "rate card published", f"rate card {card.version}", detail)
    except Conflict:
        raise InvalidValue(
            "version", f"{card.version} has just been published", f"{card.version}은(는) 방금 공표되었습니다"
        ) from None


def preview(database: Database, card: RateCard, now: int) -> Preview:
    """Return what publishing the card would change; raises InvalidValue where :func:`publish` would."""
    _check_shape(card)
    with database.read() as transaction:
        _check(transaction, card, now)
        earlier = store.cards(transaction)
    against = earlier[-1] if earlier else None
    return Preview(card, against, tuple(changes(against, card)))


def read_file(database: Database, content: str) -> RateCard:
    """Return the card that a file describes, as the next version.

    Raises InvalidValue with a line for each thing that is wrong with it. It is not checked as a whole yet.
    """
    with database.read() as transaction:
        earlier = store.cards(transaction)
        return card_files.read(content, catalogue(transaction), earlier[-1].version + 1 if earlier else 1)


def draft(database: Database, content: str, *, actor: str, now: int) -> tuple[int, Preview]:
    """The card of the file is kept as a draft; return its number and what publishing it would change.

    Raises InvalidValue where :func:`read_file` or :func:`publish` would.
    """
    found = preview(database, read_file(database, content), now)
    with database.write() as transaction:
        number = store.add_draft(transaction, content, actor, now)
        audit.record(transaction, now, actor, "rate card drafted", f"draft {number}")
    return number, found


def read_draft(database: Database, number: int) -> RateCard:
    """Return the card of an open draft, as the next version. Raises InvalidValue for one that is none."""
    with database.read() as transaction:
        row = store.draft(transaction, number)
        if row is None or _draft_state(row) is not CardState.DRAFT:
            raise _no_open_draft(transaction, number, CardState.PUBLISHED)
    return read_file(database, row.content)


def discard(database: Database, number: int, *, reason: str, actor: str, now: int) -> None:
    """The draft is discarded. Raises InvalidValue for one that is none, or was published or discarded."""
    why = text("reason", reason, 1000)
    with database.write() as transaction:
        if not store.discard_draft(transaction, number, now):
            raise _no_open_draft(transaction, number, CardState.DISCARDED)
        audit.record(transaction, now, actor, "rate card draft discarded", f"draft {number}", {"reason": why})


def _draft_state(row: Row) -> CardState:
    if row.discarded_at is not None:
        return CardState.DISCARDED
    return CardState.DRAFT if row.published_version is None else CardState.PUBLISHED


def _no_open_draft(transaction: Transaction, number: int, wanted: CardState) -> InvalidValue:
    row = store.draft(transaction, number)
    if row is None:
        return unknown("draft", str(number))
    state = _draft_state(row)
    allowed = ", ".join(sorted(ALLOWED_CHANGES[state])) or "-"
    return InvalidValue(
        "draft",
        f"{number} is {state} and cannot become {wanted}; allowed: {allowed}",
        f"{number}: {state} 상태에서 {wanted}(으)로 바꿀 수 없습니다. 가능: {allowed}",
    )


def card_in_force(database: Database, now: int) -> RateCard | None:
    """Return the card in force at `now`, or None before the first."""
    with database.read() as transaction:
        return store.in_force(transaction, now)


def cards(database: Database) -> list[RateCard]:
    """Return every card, the first first."""
    with database.read() as transaction:
        return store.cards(transaction)


def views(database: Database, now: int) -> list[CardView]:
    """Return every published card with its state at `now`, the first first, then every draft that is not published."""
    with database.read() as transaction:
        every, published = store.cards(transaction), store.published(transaction)
        rows = store.drafts(transaction)
        known = catalogue(transaction)
    found = [CardView(published_state(card, every, now), card, *published[card.version]) for card in every]
    for row in rows:
        state = _draft_state(row)
        if state is not CardState.PUBLISHED:
            card = _readable(row.content, known, every[-1].version + 1 if every else 1)
            found.append(CardView(state, card, row.made_at, row.made_by, row.id))
    return found


def _readable(content: str, known: Catalogue, version: int) -> RateCard | None:
    try:
        return card_files.read(content, known, version)
    except InvalidValue:
        return None


def catalogue(transaction: Transaction) -> Catalogue:
    """Return what rates are of: profiles, device models and facts, of this transaction's moment."""
    rows = profiles_store.every(transaction)
    return Catalogue(
        profiles={row.code: profiles_store.from_row(row) for row in rows},
        models={model.code: model for model in profiles_store.device_model_list(transaction)},
        facts=profiles_store.facts(transaction),
    )


def _check_shape(card: RateCard) -> None:
    amount("version", card.version)
    amount("effective_from", card.effective_from)
    if not card.rates:
        raise InvalidValue("rates", "a rate card needs at least one rate", "요율표에는 요율이 하나 이상 필요합니다")


def _check(transaction: Transaction, card: RateCard, now: int) -> dict[str, int]:
    """Return the id of every profile by its code, when nothing is wrong with the card."""
    _check_succession(transaction, card, store.cards(transaction), now)
    known = catalogue(transaction)
    _check_profiles(card, set(known.profiles))
    for rate in card.rates:
        check_source(rate, card, known)
    _check_slices(card, known)
    return {row.code: row.id for row in profiles_store.every(transaction)}


def _check_succession(transaction: Transaction, card: RateCard, earlier: list[RateCard], now: int) -> None:
    last = earlier[-1] if earlier else None
    expected = last.version + 1 if last else 1
    if card.version != expected:
        raise InvalidValue(
            "version", f"must be {expected}, not {card.version}", f"{expected}이어야 합니다 (입력: {card.version})"
        )
    if last is None:
        return
    if card.effective_from <= last.effective_from:
        bound = show_instant(last.effective_from)
        raise InvalidValue(
            "effective_from",
            f"must be later than the last card's, {bound}",
            f"이전 요율표의 시행 시각 {bound}보다 뒤여야 합니다",
        )
    _check_not_in_the_past(transaction, card, now)
    if (card.reference_precision, card.density) != (last.reference_precision, last.density):
        counted = f"{last.reference_precision} ({last.density})"
        raise InvalidValue(
            "reference_precision",
            f"must stay {counted}: balances are counted in it",
            f"잔액의 기준이므로 {counted}을(를) 유지해야 합니다",
        )


def _check_not_in_the_past(transaction: Transaction, card: RateCard, now: int) -> None:
    """A card from the past would have been in force for runs that were charged by another one."""
    if card.effective_from >= now:
        return
    held = store.held_since(transaction, card.effective_from)
    if held is not None:
        at, bound = show_instant(held.opened_at), show_instant(now)
        raise InvalidValue(
            "effective_from",
            f"must not be in the past: a run was held at {at} by card {held.card_version}; from {bound} on is allowed",
            f"과거일 수 없습니다. {at}에 요율표 {held.card_version}(으)로 시작된 실행이 있습니다 ({bound}부터 가능)",
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


def _check_slices(card: RateCard, known: Catalogue) -> None:
    models = list(known.models.values())
    whole = peaks(models, known.facts, card.reference_precision)
    found = excess(models, _rates_by_model(card, known, {code: Fraction(peak) for code, peak in whole.items()}))
    if found is not None:
        together, alone = f"{float(found.together):,.0f}", f"{float(found.whole):,.0f}"
        raise InvalidValue(
            "rates",
            f"{found.layout_text()} lie on one {found.device} and would be charged {together} GFLOPS, above its own"
            f" {alone}",
            f"{found.device} 한 장에 놓이는 {found.layout_text()}의 요율 합 {together} GFLOPS가 전체 요율 {alone}을"
            " 넘습니다",
        )


def _rates_by_model(card: RateCard, known: Catalogue, whole_peaks: dict[str, Fraction]) -> dict[str, Fraction]:
    """Return GFLOPS per device: of a slice the dearest rate, of a whole device the cheapest, or its peak if unrated."""
    slices = {code for code, model in known.models.items() if model.parent is not None}
    found: dict[str, Fraction] = {}
    for rate in card.rates:
        profile = known.profiles[rate.profile]
        model = profile.device_model
        if model is not None:
            each = Fraction(rate.gflops, profile.device_count)
            choose = max if model in slices else min
            found[model] = choose(found.get(model, each), each)
    return {code: peak for code, peak in whole_peaks.items() if code not in slices} | found
