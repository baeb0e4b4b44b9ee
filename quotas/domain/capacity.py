"""What a centre has promised against what it powers: the sum of awards over time, in GFLOPS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from quotas.domain.units import PPM


@dataclass(frozen=True)
class Promise:
    """An award's rate in GFLOPS, from `starts_at` to `ends_at` (exclusive)."""

    gflops: int
    starts_at: int
    ends_at: int


def lowered(promise: Promise, freed: Iterable[tuple[int, int]]) -> list[Promise]:
    """Return what is left of the promise, in order of time: each (from_at, gflops) lowers it from then to its end.

    It is never below zero; where nothing is left of it nothing is promised.
    """
    parts: list[Promise] = []
    gflops, since = promise.gflops, promise.starts_at
    for from_at, less in sorted(freed):
        at = min(max(from_at, since), promise.ends_at)
        if gflops > 0 and at > since:
            parts.append(Promise(gflops, since, at))
        gflops, since = gflops - less, at
    if gflops > 0 and promise.ends_at > since:
        parts.append(Promise(gflops, since, promise.ends_at))
    return parts


@dataclass(frozen=True)
class Supply:
    """From `from_at` on, `gflops` of one kind of device in one pool are powered. `key` names the two."""

    key: tuple[str, str]
    from_at: int
    gflops: int


@dataclass(frozen=True)
class Overcommitment:
    """At `at`, `promised` GFLOPS exceed what the limit allows over `powered` GFLOPS."""

    at: int
    promised: int
    powered: int


def overcommitted(
    new: Promise, others: Iterable[Promise], supplies: Iterable[Supply], limit_ppm: int
) -> Overcommitment | None:
    """Return the worst moment of `new` at which all promises exceed powered × limit, or None if there is none.

    The worst is the one with most GFLOPS above the limit. Without any supply there is nothing to compare with: None.
    """
    supplied = sorted(supplies, key=lambda supply: supply.from_at)
    if not supplied:
        return None
    overlapping = [other for other in others if other.starts_at < new.ends_at and other.ends_at > new.starts_at]
    changes: list[tuple[int, int]] = [(new.starts_at, new.gflops)]
    for other in overlapping:
        changes += [(max(other.starts_at, new.starts_at), other.gflops), (other.ends_at, -other.gflops)]
    moments = {at for at, _ in changes} | {supply.from_at for supply in supplied}
    changes.sort(reverse=True)
    supplied.reverse()
    powered: dict[tuple[str, str], int] = {}
    promised, worst, worst_excess = 0, None, 0
    for moment in sorted(moments):
        while changes and changes[-1][0] <= moment:
            promised += changes.pop()[1]
        while supplied and supplied[-1].from_at <= moment:
            supply = supplied.pop()
            powered[supply.key] = supply.gflops
        now_powered = sum(powered.values())
        excess = promised * PPM - now_powered * limit_ppm
        if new.starts_at <= moment < new.ends_at and excess > worst_excess:
            worst, worst_excess = Overcommitment(moment, promised, now_powered), excess
    return worst


@dataclass(frozen=True)
class Strength:
    """From `from_at` on, what one kind of device in one pool comes to, in GFLOPS. `key` names the two."""

    key: tuple[str, str]
    from_at: int
    installed: int
    powered: int
    healthy: int


@dataclass(frozen=True)
class Span:
    """From `starts_at` to `ends_at` (exclusive) no phase changes: the most that is promised in it, and what there is.

    All in GFLOPS. `promised_with` is with an award that is only thought of.
    """

    starts_at: int
    ends_at: int
    promised: int
    promised_with: int
    installed: int
    powered: int
    healthy: int

    @property
    def promised_ppm(self) -> int | None:
        """What is promised, with what is thought of, in millionths of what is powered; None where nothing is."""
        return self.promised_with * PPM // self.powered if self.powered else None


def portfolio(
    promises: Sequence[Promise], strengths: Sequence[Strength], cuts: Iterable[int], new: Promise | None = None
) -> list[Span]:
    """Return one span after the other between the first and the last of `cuts`, cut there and where a phase begins."""
    ordered = sorted(set(cuts))
    if len(ordered) < 2:
        return []
    first, last = ordered[0], ordered[-1]
    phases = {each.from_at for each in strengths if first < each.from_at < last}
    bounds = sorted({*ordered, *phases})
    spans = []
    for starts_at, ends_at in pairwise(bounds):
        there = _in_force(strengths, starts_at)
        spans.append(
            Span(
                starts_at,
                ends_at,
                _peak(promises, starts_at, ends_at),
                _peak([*promises, *([new] if new else [])], starts_at, ends_at),
                sum(each.installed for each in there),
                sum(each.powered for each in there),
                sum(each.healthy for each in there),
            )
        )
    return spans


def _in_force(strengths: Iterable[Strength], at: int) -> list[Strength]:
    newest: dict[tuple[str, str], Strength] = {}
    for each in strengths:
        if each.from_at <= at and (each.key not in newest or newest[each.key].from_at < each.from_at):
            newest[each.key] = each
    return list(newest.values())


def _peak(promises: Iterable[Promise], starts_at: int, ends_at: int) -> int:
    """Return the most that is promised at once between the two."""
    changes: list[tuple[int, int]] = []
    for each in promises:
        if each.starts_at < ends_at and each.ends_at > starts_at:
            changes += [(max(each.starts_at, starts_at), each.gflops), (each.ends_at, -each.gflops)]
    peak = level = 0
    for _, change in sorted(changes):  # at one moment what ends comes before what begins
        level += change
        peak = max(peak, level)
    return peak
