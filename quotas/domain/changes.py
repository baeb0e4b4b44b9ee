"""Changes of an award that runs: supplement, extension, reduction, and budget moved to another project."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from quotas.domain.capacity import Promise
from quotas.domain.projects import Award
from quotas.domain.units import PPM, InvalidValue, amount, show_budget, show_instant, show_rate


class ChangeKind(StrEnum):
    """What is changed."""

    SUPPLEMENT = "supplement"
    """More rate, more budget, or both."""
    EXTENSION = "extension"
    """A later end; the budget stays, unless more is asked for."""
    REDUCTION = "reduction"
    """Less rate, less budget, or both; never less than what is spent and held."""
    MOVE = "move"
    """Available budget goes to another project's award."""


class ChangeState(StrEnum):
    """Where a change is; approving one applies it, in the same transaction."""

    REQUESTED = "requested"
    APPLIED = "applied"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


ALLOWED_CHANGES: dict[ChangeState, frozenset[ChangeState]] = {
    ChangeState.REQUESTED: frozenset({ChangeState.APPLIED, ChangeState.REJECTED, ChangeState.WITHDRAWN}),
    ChangeState.APPLIED: frozenset(),
    ChangeState.REJECTED: frozenset(),
    ChangeState.WITHDRAWN: frozenset(),
}


@dataclass(frozen=True)
class Change:
    """What is to change: `gflops` and `amount` (GFLOPS·s) are what is added or taken away, `ends_at` is the new end.

    Raises InvalidValue, which names the field, for what its kind needs and has not, or has and does not take.
    """

    kind: ChangeKind
    gflops: int | None = None
    amount: int | None = None
    ends_at: int | None = None
    to_project: str | None = None

    def __post_init__(self) -> None:
        if self.gflops is not None:
            amount("rate", self.gflops)
        if self.amount is not None:
            amount("budget", self.amount)
        if self.kind in {ChangeKind.SUPPLEMENT, ChangeKind.REDUCTION}:
            self._only("gflops", "amount")
            if self.gflops is None and self.amount is None:
                raise InvalidValue("rate", "give a rate, a budget, or both", "연산 속도나 예산 중 하나 이상을 정하세요")
        elif self.kind is ChangeKind.EXTENSION:
            self._only("ends_at", "amount")
            self._must_have("ends_at")
        else:
            self._only("amount", "to_project")
            self._must_have("amount")
            self._must_have("to_project")

    def _only(self, *fields: str) -> None:
        for field, shown in _SHOWN.items():
            if field not in fields and getattr(self, field) is not None:
                raise InvalidValue(
                    shown, f"is no part of a change of this kind: {self.kind}", f"{self.kind}의 항목이 아닙니다"
                )

    def _must_have(self, field: str) -> None:
        if getattr(self, field) is None:
            raise InvalidValue(_SHOWN[field], "is missing", "필수 항목입니다")


_SHOWN = {"gflops": "rate", "amount": "budget", "ends_at": "until", "to_project": "to"}
"""What people call the fields of a change."""


@dataclass(frozen=True)
class Terms:
    """An award as it stands; `extra_gflops` is what budget beyond its rate × time comes to, as a rate."""

    award: Award
    extra_gflops: int
    available: int


@dataclass(frozen=True)
class Effect:
    """What a change comes to: the award's new terms, the `amount` that the ledger moves (0 for none), and what more
    is promised against capacity, at times that do not overlap.
    """

    award: Award
    extra_gflops: int
    amount: int
    promises: tuple[Promise, ...] = ()


def effect(change: Change, terms: Terms, now: int) -> Effect:
    """Return what the change comes to for an award that is not over. Raises InvalidValue for what cannot be."""
    if change.kind is ChangeKind.SUPPLEMENT:
        return _supplement(change, terms, now)
    if change.kind is ChangeKind.EXTENSION:
        return _extension(change, terms, now)
    if change.kind is ChangeKind.REDUCTION:
        return _reduction(change, terms, now)
    _must_be_available(change.amount or 0, terms.available)
    return Effect(terms.award, terms.extra_gflops, change.amount or 0)


def mean_gflops(gflops_seconds: int, seconds: int) -> int:
    """Return the rate that the budget comes to when it is used evenly, rounded up: a promise is never understated."""
    return -(-gflops_seconds // seconds)


def _supplement(change: Change, terms: Terms, now: int) -> Effect:
    award, gflops = terms.award, change.gflops or 0
    since = max(award.starts_at, now)
    seconds = award.ends_at - since
    by_rate = gflops * seconds * award.utilisation_ppm // PPM
    added = by_rate if change.amount is None else change.amount
    amount("budget", added)
    extra = mean_gflops(max(added - by_rate, 0), seconds)
    return Effect(
        replace(award, gflops=award.gflops + gflops),
        terms.extra_gflops + extra,
        added,
        (Promise(gflops + extra, since, award.ends_at),),
    )


def _extension(change: Change, terms: Terms, now: int) -> Effect:
    award, ends_at = terms.award, change.ends_at or 0
    if ends_at <= award.ends_at:
        end = show_instant(award.ends_at)
        raise InvalidValue("until", f"must be after the present end, {end}", f"현재 종료 시각({end}) 이후여야 합니다")
    since = max(award.starts_at, now)
    by_rate = award.gflops * (ends_at - award.ends_at) * award.utilisation_ppm // PPM
    added = change.amount or 0
    extra = mean_gflops(max(added - by_rate, 0), ends_at - since)
    promised = award.gflops + terms.extra_gflops + extra
    promises: tuple[Promise, ...] = (Promise(promised, award.ends_at, ends_at),)
    if extra:
        promises = (Promise(extra, since, award.ends_at), *promises)
    return Effect(replace(award, ends_at=ends_at), terms.extra_gflops + extra, added, promises)


def _reduction(change: Change, terms: Terms, now: int) -> Effect:
    award, gflops, taken = terms.award, change.gflops or 0, change.amount or 0
    if gflops >= award.gflops:
        most = show_rate(award.gflops)
        raise InvalidValue(
            "rate", f"must be less than the award's {most}", f"배정된 연산 속도 {most}보다 작아야 합니다"
        )
    _must_be_available(taken, terms.available)
    seconds = award.ends_at - max(award.starts_at, now)
    extra = max(terms.extra_gflops - taken // seconds, 0)
    return Effect(replace(award, gflops=award.gflops - gflops), extra, taken)


def _must_be_available(wanted: int, available: int) -> None:
    if wanted > available:
        most = show_budget(available)
        raise InvalidValue(
            "budget",
            f"must be at most the {available} GFLOPS·s ({most}) available; what is spent or held stays",
            f"사용 가능한 {available} GFLOPS·s ({most}) 이하여야 합니다. 사용했거나 예약된 양은 줄일 수 없습니다",
        )
