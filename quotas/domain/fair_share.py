"""Fair share: who waits longest for what they were promised comes first. The one place where floats decide.

F = 2^(-U/S): U is a project's use, decayed by half after each half-life; S is what steady use of exactly its award
would decay to. A project that used nothing has 1, one that uses its award as awarded 0.5, twice that 0.25.
"""

from __future__ import annotations

import math

from quotas.domain.units import DAY_SECONDS

HALF_LIFE = 14 * DAY_SECONDS
"""After this many seconds use counts half: two weeks of waiting for others make up for two weeks of more than one's
share. It is stored decayed, so that another value would count from its introduction on."""


def decayed(use: float, since: int, now: int, half_life: int = HALF_LIFE) -> float:
    """Return what of `use` (GFLOPS·s, as of `since`) still counts at `now`; a clock that went back changes nothing."""
    return use * math.exp2(-max(now - since, 0) / half_life)


def steady_use(award_gflops: int, half_life: int = HALF_LIFE) -> float:
    """Return the decayed use (GFLOPS·s) of a project that has always used exactly its award."""
    return award_gflops * half_life / math.log(2)


def factor(use: float, award_gflops: int, half_life: int = HALF_LIFE) -> float:
    """Return F, from 1 (has used nothing) towards 0. `use` is decayed, in GFLOPS·s; an award of 0 has no share: 0."""
    if award_gflops <= 0:
        return 0.0
    return math.exp2(-min(max(use, 0.0) / steady_use(award_gflops, half_life), 1000.0))
