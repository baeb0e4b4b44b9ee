"""The seeded device models and facts."""

from __future__ import annotations

from quotas.domain.devices import FACTS, MODELS, counting_fact, peaks
from quotas.domain.rates import CapabilityFact, FactStatus, Precision


def test_every_fact_is_of_a_model_once_for_each_source() -> None:
    codes = [model.code for model in MODELS]
    assert len(set(codes)) == len(codes)
    assert {fact.device_model for fact in FACTS} <= set(codes)
    keys = [(fact.device_model, fact.precision, fact.source) for fact in FACTS]
    assert len(set(keys)) == len(keys)


def test_a_slice_comes_after_its_device_and_has_no_fact_of_its_own() -> None:
    seen: set[str] = set()
    for model in MODELS:
        assert model.parent is None or model.parent in seen
        assert model.parent is None or not any(fact.device_model == model.code for fact in FACTS)
        seen.add(model.code)


def test_peaks_at_fp32() -> None:
    assert peaks(MODELS, FACTS, Precision.FP32) == {
        "v100": 15_700,
        "a100": 19_500,
        "h100": 66_900,
        "h100-mig-1g.10gb": 8_109,
        "h100-mig-3g.40gb": 30_409,
        "h200": 66_900,
        "b200": 75_000,
        "l40s": 91_600,
        "a6000": 38_700,
        "t4": 8_100,
    }


def test_peaks_at_fp16_of_a_slice_are_its_share_of_the_multiprocessors() -> None:
    found = peaks(MODELS, FACTS, Precision.FP16)
    assert (found["h100-mig-1g.10gb"], found["h100-mig-3g.40gb"]) == (119_927, 449_727)
    assert (found["rngd"], found["atom"]) == (256_000, 32_000)


def test_the_most_trusted_fact_counts_and_of_two_the_lower() -> None:
    def fact(peak: int, status: FactStatus, source: str) -> CapabilityFact:
        return CapabilityFact("x", Precision.FP32, peak, source, status)

    copied, lower = fact(80, FactStatus.COPIED, "a"), fact(75, FactStatus.COPIED, "b")
    guessed, official = fact(60, FactStatus.UNVERIFIED, "c"), fact(90, FactStatus.OFFICIAL, "d")
    assert counting_fact("x", [copied, lower, guessed], Precision.FP32) == lower
    assert counting_fact("x", [copied, lower, guessed, official], Precision.FP32) == official
    assert counting_fact("x", [copied], Precision.FP16) is None
