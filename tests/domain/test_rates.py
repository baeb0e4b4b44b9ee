"""Rates: from a sourced fact with one floor, or assigned by somebody with a reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotas.domain.rates import (
    MOST_KRW,
    CapabilityFact,
    DeviceModel,
    FactStatus,
    Precision,
    Rate,
    RateRule,
    rate_from_fact,
)
from quotas.domain.units import LARGEST, InvalidValue

H100 = DeviceModel("h100", "H100", "gpu", 80 * 2**30)
SLICE = DeviceModel("h100-mig-1g.10gb", "H100 1g.10gb", "mig", 10 * 2**30, "h100", 16, 132)


def fact(status: FactStatus = FactStatus.OFFICIAL, peak: int = 66_900) -> CapabilityFact:
    return CapabilityFact("h100", Precision.FP32, peak, "data sheet", status)


def test_a_whole_device_has_its_peak() -> None:
    rate = rate_from_fact("gpu-4", 4, H100, fact(), None)
    assert (rate.gflops, rate.rule, rate.approver) == (4 * 66_900, RateRule.FACT, None)
    assert "data sheet" in rate.reason
    assert "66900" in rate.reason


def test_a_slice_has_its_share_of_multiprocessors_and_not_a_seventh() -> None:
    assert rate_from_fact("slice", 1, SLICE, fact(), None).gflops == 66_900 * 16 // 132 == 8_109 != 66_900 // 7


@given(st.integers(132, 10**9), st.integers(1, 132), st.integers(1, 7))
def test_slices_together_never_cost_more_than_the_device(peak: int, units: int, count: int) -> None:
    model = DeviceModel("s", "s", "mig", 1, "h100", units, 132)
    each = rate_from_fact("slice", 1, model, fact(peak=peak), None).gflops
    assert rate_from_fact("slices", count, model, fact(peak=peak), None).gflops == count * each
    assert 132 // units * each <= peak


@pytest.mark.parametrize("status", [FactStatus.DERIVED, FactStatus.UNVERIFIED])
def test_a_fact_that_nobody_states_needs_an_approver(status: FactStatus) -> None:
    with pytest.raises(InvalidValue, match="approver"):
        rate_from_fact("gpu", 1, H100, fact(status), None)
    assert rate_from_fact("gpu", 1, H100, fact(status), "operator").approver == "operator"


@pytest.mark.parametrize("status", [FactStatus.DERIVED, FactStatus.UNVERIFIED])
def test_a_share_that_nobody_states_needs_an_approver_too(status: FactStatus) -> None:
    unread = replace(SLICE, units_status=status)
    with pytest.raises(InvalidValue, match=f"share of its device for h100-mig-1g.10gb is {status}"):
        rate_from_fact("slice", 1, unread, fact(), None)
    assert rate_from_fact("slice", 1, unread, fact(), "operator").gflops == 8_109


@pytest.mark.parametrize("krw", [None, 0, 1, 100_000, MOST_KRW])
def test_free_is_a_price_and_no_price_is_none(krw: int | None) -> None:
    assert Rate("gpu", 1, RateRule.FACT, "x", None, krw).krw_per_device_month == krw


@pytest.mark.parametrize("krw", [-1, MOST_KRW + 1, 2**63, True, 1.5, "100000"])
def test_what_is_no_price_is_refused(krw: object) -> None:
    with pytest.raises(InvalidValue, match="price of gpu: must be whole KRW from 0"):
        Rate("gpu", 1, RateRule.FACT, "x", None, krw)  # type: ignore[arg-type]


@pytest.mark.parametrize("gflops", [0, -1, LARGEST + 1, True])
def test_a_rate_is_an_amount(gflops: int) -> None:
    with pytest.raises(InvalidValue, match="rate of gpu"):
        Rate("gpu", gflops, RateRule.FACT, "a reason")


@pytest.mark.parametrize(("reason", "approver"), [("", "operator"), ("a reason", None), ("a reason", "")])
def test_an_assigned_rate_needs_a_reason_and_an_approver(reason: str, approver: str | None) -> None:
    with pytest.raises(InvalidValue, match="approver"):
        Rate("cpu", 10, RateRule.ASSIGNED, reason, approver)


@pytest.mark.parametrize(("devices", "peak"), [(0, 66_900), (-1, 66_900), (1, 0), (1, 8)])
def test_a_rate_of_nothing_is_none(devices: int, peak: int) -> None:
    with pytest.raises(InvalidValue):
        rate_from_fact("gpu", devices, SLICE, fact(peak=peak), None)
