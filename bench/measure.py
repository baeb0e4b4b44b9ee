"""Paired, interleaved measurements and the figure that is drawn from them.

A machine drifts: its caches warm, its clock changes, other work comes and goes. So two candidates are never measured
one after the other but in the order A B B A A B B A, each pair gives one ratio a / b, and the figure is the median of
those ratios with an interval got by drawing the pairs again with replacement.
"""

import json
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

RESAMPLES = 10_000


@dataclass(frozen=True)
class Ratio:
    """The median of the paired ratios a / b, its 95 % bootstrap interval, and the samples in the order of the pairs."""

    median: float
    low: float
    high: float
    a: tuple[float, ...]
    b: tuple[float, ...]


@dataclass(frozen=True)
class Result:
    """One figure of a benchmark: `ratio` of ours to the plain way, met when it is on the right side of `target`."""

    name: str
    ratio: float
    low: float
    high: float
    target: float
    met: bool
    better: str = "lower"
    detail: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The result is one line of JSON, its figures rounded to four decimals."""
        figures = asdict(self)
        figures.update({key: round(figures[key], 4) for key in ("ratio", "low", "high")})
        return json.dumps(figures, ensure_ascii=False)


def paired(a: Callable[[], float], b: Callable[[], float], pairs: int, *, warmups: int = 1) -> Ratio:
    """`a` and `b` have each been called `warmups` times unmeasured, then `pairs` times in the order A B B A.

    Each call does its work once and returns its own measure, in a unit common to both; a measure must be above zero.
    """
    if pairs < 1:
        raise ValueError("a comparison needs at least one pair")
    for _ in range(warmups):
        a()
        b()
    of_a: list[float] = []
    of_b: list[float] = []
    for pair in range(pairs):
        if pair % 2 == 0:
            of_a.append(a())
            of_b.append(b())
        else:
            of_b.append(b())
            of_a.append(a())
    return ratio_of(of_a, of_b)


def ratio_of(a: Sequence[float], b: Sequence[float]) -> Ratio:
    """The samples, taken as pairs in their order, have become a ratio with its 95 % interval; repeatable."""
    if min(*a, *b) <= 0:
        raise ValueError("a measure must be above zero")
    ratios = [one / other for one, other in zip(a, b, strict=True)]
    draw = random.Random(len(ratios))  # noqa: S311 - a repeatable draw, no secret
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    low, high = medians[int(RESAMPLES * 0.025)], medians[int(RESAMPLES * 0.975) - 1]
    return Ratio(statistics.median(ratios), low, high, tuple(a), tuple(b))


def at_most(name: str, ratio: Ratio, target: float, detail: dict[str, Any] | None = None) -> Result:
    """The ratio has become a result, met when its median is at most `target`; `detail` has the samples' medians."""
    return _result(name, ratio, target, ratio.median <= target, detail)


def at_least(name: str, ratio: Ratio, target: float, detail: dict[str, Any] | None = None) -> Result:
    """The ratio has become a result, met when its median is at least `target`: for measures of which more is better."""
    return replace(_result(name, ratio, target, ratio.median >= target, detail), better="higher")


def _result(name: str, ratio: Ratio, target: float, met: bool, detail: dict[str, Any] | None) -> Result:
    medians = {"a_median": round(statistics.median(ratio.a), 4), "b_median": round(statistics.median(ratio.b), 4)}
    return Result(
        name=name,
        ratio=ratio.median,
        low=ratio.low,
        high=ratio.high,
        target=target,
        met=met,
        detail={**medians, "pairs": len(ratio.a), **(detail or {})},
    )
