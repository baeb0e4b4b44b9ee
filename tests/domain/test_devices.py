"""The seeded device models and facts."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from quotas.domain.devices import FACTS, MODELS, counting_fact, peaks
from quotas.domain.rates import CapabilityFact, Density, FactStatus, Precision
from quotas.domain.slices import excess

BY_CODE = {model.code: model for model in MODELS}


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
    whole = {code for code, model in BY_CODE.items() if model.parent is None}
    found = peaks(MODELS, FACTS, Precision.FP32)
    assert {code: peak for code, peak in found.items() if code in whole} == {
        "v100": 15_700,
        "v100-pcie": 14_000,
        "a100-40gb": 19_500,
        "a100": 19_500,
        "h100": 66_900,
        "h100-pcie": 51_000,
        "h200": 66_900,
        "b200": 75_000,
        "l40s": 91_600,
        "a6000": 38_700,
        "t4": 8_100,
        "bow": 87_400,
    }


def test_the_figures_of_slices_by_their_multiprocessors() -> None:
    """The H100's at FP32 and FP16 and the A100's at FP16 were computed elsewhere, by hand."""
    at_fp32, at_fp16 = peaks(MODELS, FACTS, Precision.FP32), peaks(MODELS, FACTS, Precision.FP16)
    names = ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
    of_h100 = [f"h100-mig-{name}" for name in names]
    assert [at_fp32[code] for code in of_h100] == [8_109, 13_177, 16_218, 30_409, 32_436, 66_900]
    assert [at_fp16[code] for code in of_h100] == [119_927, 194_881, 239_854, 449_727, 479_709, 989_400]
    of_a100 = [at_fp16[f"a100-mig-{name}"] for name in names if name != "1g.20gb"]
    assert of_a100 == [40_444, 80_888, 121_333, 161_777, 283_111]


def test_a_slice_says_where_its_share_is_from_and_none_is_a_seventh() -> None:
    slices = [model for model in MODELS if model.parent is not None]
    assert {model.parent for model in slices} == {"a100-40gb", "a100", "h100", "h200", "b200"}
    for model in slices:
        assert model.units_source
        sevenths = int(model.code.rsplit("-", 1)[1][0])
        if sevenths < 7:
            assert model.units * 7 != model.units_total * sevenths, model.code
    unread = {model.parent for model in slices if model.units_status is FactStatus.UNVERIFIED}
    assert unread == {"b200"}


def test_the_rates_of_no_layout_of_slices_exceed_their_device() -> None:
    for precision in Precision:
        rates = {code: Fraction(peak) for code, peak in peaks(MODELS, FACTS, precision).items()}
        assert excess(MODELS, rates) is None


def test_of_two_official_tables_both_are_kept_and_one_counts() -> None:
    rows = [fact for fact in FACTS if (fact.device_model, fact.precision) == ("b200", Precision.FP32)]
    assert sorted((fact.peak_gflops, fact.superseded) for fact in rows) == [(75_000, False), (80_000, True)]
    counts = counting_fact("b200", FACTS, Precision.FP64)
    assert counts is not None
    assert counts.peak_gflops == 37_000


def test_the_page_of_rates_has_every_device_and_slice_with_its_figures() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "rates.md").read_text(encoding="utf-8")
    marks = {FactStatus.DERIVED: " d", FactStatus.UNVERIFIED: " u"}
    columns = ("fp64", "fp32", "tf32", "fp16", "fp8", "int8")
    for model in MODELS:
        if model.parent is None:
            facts = [counting_fact(model.code, FACTS, Precision(name)) for name in columns]
            shown = [
                "–" if fact is None else f"{fact.peak_gflops / 1000:g}{marks.get(fact.status, '')}" for fact in facts
            ]
            assert f"| device | {' | '.join(columns)} |" in page
            assert f"| `{model.code}` | {' | '.join(shown)} |" in page
        else:
            name = model.code.rsplit("-mig-", 1)[1]
            begins = f"| `{model.parent}` | {model.units_total} |"
            (row,) = [line for line in page.splitlines() if line.startswith(begins)]
            assert f"`{name}` {model.units}" in row
            assert row.endswith(f"| {model.units_status} |")


def test_what_a_device_lacks_has_no_fact() -> None:
    for code in ("atom", "rngd", "atom-max", "rebel-quad"):
        assert counting_fact(code, FACTS, Precision.FP32) is None
        assert counting_fact(code, FACTS, Precision.FP16) is not None
    assert counting_fact("v100", FACTS, Precision.FP8) is None


def test_sparse_figures_never_count_where_dense_ones_do() -> None:
    sparse = CapabilityFact("x", Precision.FP16, 50, "a sheet", FactStatus.OFFICIAL, Density.SPARSE)
    dense = CapabilityFact("x", Precision.FP16, 100, "a sheet, dense", FactStatus.COPIED)
    assert counting_fact("x", [sparse], Precision.FP16) is None
    assert counting_fact("x", [sparse, dense], Precision.FP16) == dense
    assert counting_fact("x", [sparse, dense], Precision.FP16, Density.SPARSE) == sparse


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
