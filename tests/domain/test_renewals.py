"""When the next award starts, and what may be asked for."""

from __future__ import annotations

import pytest

from quotas.domain.renewals import OPEN, RenewalState, Wish, check_until, starts_at
from quotas.domain.units import InvalidValue


def test_the_next_award_starts_as_the_last_one_ends_or_now() -> None:
    assert [starts_at(100, now) for now in (99, 100, 101)] == [100, 100, 101]


@pytest.mark.parametrize("ends_at", [100, 99, 0])
def test_it_ends_after_it_starts(ends_at: int) -> None:
    with pytest.raises(InvalidValue, match="until: must be after 1970-01-01 09:01 KST"):
        check_until(ends_at, 100)
    check_until(101, 100)


@pytest.mark.parametrize(("gflops", "ends_at", "field"), [(0, 5, "award"), (-1, 5, "award"), (1, 0, "until")])
def test_a_wish_is_above_zero(gflops: int, ends_at: int, field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Wish(gflops, "fp32", ends_at)
    assert caught.value.field == field


def test_what_is_decided_is_not_open() -> None:
    assert set(RenewalState) - OPEN == {RenewalState.APPROVED, RenewalState.REJECTED, RenewalState.WITHDRAWN}
