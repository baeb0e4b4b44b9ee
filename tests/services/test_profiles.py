"""The catalogue: images, device models, facts, profiles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quotas.domain.profiles import Profile
from quotas.domain.rates import (
    CapabilityFact,
    Density,
    DeviceModel,
    FactStatus,
    Precision,
    Rate,
    RateCard,
    RateRule,
)
from quotas.domain.units import InvalidValue
from quotas.services import profiles, rates
from tests.centre import GIB, Centre

BY = {"actor": "operator", "now": 1_800_000_000}
NEW = Profile("h100-x2", "H100 두 장", "Two H100", "science", 4000, 8 * GIB, 10 * GIB, "h100", 2)


def codes(seeded: Centre) -> list[str]:
    return [view.profile.code for view in profiles.list_profiles(seeded.database)]


def test_a_profile_is_read_with_the_reference_of_its_image(seeded: Centre) -> None:
    terms = {"docker": {"shm_size": "8g"}}
    profiles.add_profile(seeded.database, replace(NEW, backend_terms=terms), 1, **BY)
    found = profiles.profile(seeded.database, "h100-x2")
    assert found == replace(NEW, image="mudeung/notebook:test", backend_terms=terms)
    assert profiles.profile(seeded.database, "nothing") is None


def test_profiles_are_listed_in_the_operators_order_with_their_rates(seeded: Centre) -> None:
    profiles.add_profile(seeded.database, NEW, 1, **BY)
    views = profiles.list_profiles(seeded.database, seeded.now)
    assert [(view.profile.code, view.image_code, view.rate_gflops, view.position) for view in views] == [
        ("cpu-small", "science", 50, 0),
        ("h100-1g", "science", 8_109, 1),
        ("h100-x2", "science", None, 1),
        ("h100", "science", 66_900, 2),
    ]
    before_the_card = profiles.list_profiles(seeded.database, seeded.starts_at - 1)
    assert {view.rate_gflops for view in before_the_card} == {None}


@pytest.mark.parametrize(
    ("profile", "field", "says"),
    [
        (replace(NEW, image="no-such-image"), "image", "not in the image catalogue"),
        (replace(NEW, device_model="h900"), "device_model", "there is no 'h900'"),
        (replace(NEW, code="h100"), "profile", "taken"),
        (replace(NEW, name_ko=""), "name_ko", "empty"),
        (replace(NEW, name_en="x" * 201), "name_en", "at most 200"),
    ],
)
def test_a_profile_that_cannot_be_is_refused(seeded: Centre, profile: Profile, field: str, says: str) -> None:
    before = codes(seeded)
    with pytest.raises(InvalidValue, match=says) as refused:
        profiles.add_profile(seeded.database, profile, 9, **BY)
    assert refused.value.field == field
    assert refused.value.message_ko
    assert codes(seeded) == before


@pytest.mark.parametrize("reference", ["", " ", "a b", "-x", "x;rm", "x" * 301, "x\n", None])
def test_what_is_no_image_reference_is_refused(seeded: Centre, reference: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        profiles.add_image(seeded.database, "new", reference, "새 이미지", "New image", **BY)
    assert refused.value.field == "reference"


def test_an_image_is_added_once(seeded: Centre) -> None:
    with pytest.raises(InvalidValue, match="taken"):
        profiles.add_image(seeded.database, "science", "other:1", "다른", "Other", **BY)


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (DeviceModel("h100", "H100", "gpu", GIB), "device_model"),
        (DeviceModel("H 100", "H100", "gpu", GIB), "device_model"),
        (DeviceModel("x1", "", "gpu", GIB), "name"),
        (DeviceModel("x1", "X1", "gpu", 0), "memory_bytes"),
        (DeviceModel("x1", "X1", "gpu", 2**63), "memory_bytes"),
        (DeviceModel("x1", "X1", "mig", GIB, "h900", 1, 7), "parent"),
        (DeviceModel("x1", "X1", "mig", GIB, "h100", 8, 7), "units"),
        (DeviceModel("x1", "X1", "mig", GIB, "h100", 0, 7), "units"),
        (DeviceModel("x1", "X1", "mig", GIB, "h100", 1, 7, "x" * 301), "units_source"),
        (DeviceModel("x1", "X1", "mig", GIB, "h100", 1, 7, "a", "heard"), "units_status"),  # type: ignore[arg-type]
    ],
)
def test_a_device_model_that_cannot_be_is_refused(seeded: Centre, model: DeviceModel, field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        profiles.add_device_model(seeded.database, model, **BY)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("fact", "field"),
    [
        (CapabilityFact("h900", Precision.FP32, 1, "a source", FactStatus.OFFICIAL), "device_model"),
        (CapabilityFact("h100", Precision.FP32, 0, "a source", FactStatus.OFFICIAL), "peak_gflops"),
        (CapabilityFact("h100", Precision.FP32, -5, "a source", FactStatus.OFFICIAL), "peak_gflops"),
        (CapabilityFact("h100", Precision.FP32, 2**63, "a source", FactStatus.OFFICIAL), "peak_gflops"),
        (CapabilityFact("h100", Precision.FP32, 5, " ", FactStatus.OFFICIAL), "source"),
        (CapabilityFact("h100", "fp31", 5, "a", FactStatus.OFFICIAL), "precision"),  # type: ignore[arg-type]
        (CapabilityFact("h100", Precision.FP32, 5, "a", "heard"), "status"),  # type: ignore[arg-type]
        (CapabilityFact("h100", Precision.FP32, 5, "a", FactStatus.OFFICIAL, "thin"), "density"),  # type: ignore[arg-type]
        *(
            (CapabilityFact("h100", Precision.FP32, 5, "a", FactStatus.OFFICIAL, source_date=date), "source_date")
            for date in ("", "18", "2018-13", "2018-09-32", "2018-9-1", "yesterday", "0999")
        ),
    ],
)
def test_a_fact_that_cannot_be_is_refused(seeded: Centre, fact: CapabilityFact, field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        profiles.add_fact(seeded.database, fact, **BY)
    assert refused.value.field == field


def test_a_fact_and_a_slice_are_read_as_they_were_added(seeded: Centre) -> None:
    fact = CapabilityFact(
        "t4", Precision.INT8, 260_000, "a sheet", FactStatus.OFFICIAL, Density.SPARSE, "2018-09", True
    )
    model = DeviceModel("x1", "X1", "mig", GIB, "h100", 3, 7, "read on the device", FactStatus.OFFICIAL)
    profiles.add_fact(seeded.database, fact, **BY)
    profiles.add_device_model(seeded.database, model, **BY)
    models, facts = profiles.devices(seeded.database)
    assert fact in facts
    assert model in models


def test_a_fact_is_superseded_once_and_kept(seeded: Centre) -> None:
    words = (seeded.database, "h100", Precision.FP32)
    source = next(
        fact.source
        for fact in profiles.devices(seeded.database)[1]
        if (fact.device_model, fact.precision) == ("h100", Precision.FP32)
    )
    profiles.supersede_fact(*words, source, **BY)
    kept = [fact for fact in profiles.devices(seeded.database)[1] if fact.source == source and fact.superseded]
    assert [fact.precision for fact in kept] == [Precision.FP32]
    for known in (source, "another"):
        with pytest.raises(InvalidValue, match="states no figure for h100 at fp32 that counts"):
            profiles.supersede_fact(*words, known, **BY)


def test_profiles_are_listed_with_their_prices(seeded: Centre) -> None:
    free = Rate("cpu-small", 50, RateRule.ASSIGNED, "x", "operator", 0)
    priced = Rate("h100", 66_900, RateRule.FACT, "x", None, 100_000)
    card = RateCard(2, BY["now"], Precision.FP32, (free, priced))
    rates.publish(seeded.database, card, **BY)
    found = {view.profile.code: view.krw_per_device_month for view in profiles.list_profiles(seeded.database)}
    assert found == {"cpu-small": 0, "h100-1g": None, "h100": 100_000}


def test_two_sources_may_differ_and_one_may_not_say_two_things(seeded: Centre) -> None:
    fact = CapabilityFact("h100", Precision.FP32, 67_000, "rounded", FactStatus.COPIED)
    profiles.add_fact(seeded.database, fact, **BY)
    with pytest.raises(InvalidValue) as refused:
        profiles.add_fact(seeded.database, replace(fact, peak_gflops=66_000), **BY)
    assert refused.value.field == "source"
