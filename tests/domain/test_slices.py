"""Legal MIG layouts, and rates of slices against their device's."""

from __future__ import annotations

from fractions import Fraction

import pytest

from quotas.domain.rates import DeviceModel
from quotas.domain.slices import excess, layouts

GIB = 2**30
H100 = DeviceModel("h100", "H100", "gpu", 80 * GIB)


def mig(name: str, units: int) -> DeviceModel:
    gigabytes = int(name.split(".")[1].removesuffix("gb"))
    return DeviceModel(f"h100-mig-{name}", name, "mig", gigabytes * GIB, "h100", units, 132)


SLICES = [mig("1g.10gb", 16), mig("1g.20gb", 26), mig("2g.20gb", 32), mig("3g.40gb", 60), mig("4g.40gb", 64)]


def fits(**counts: int) -> bool:
    wanted = {f"h100-mig-{name.replace('_', '.')}": count for name, count in counts.items()}
    return any(dict(layout) == wanted for layout in layouts(H100, SLICES))


@pytest.mark.parametrize(
    "counts",
    [
        {"1g_10gb": 7},
        {"1g_20gb": 4},
        {"2g_20gb": 3, "1g_10gb": 1},
        {"3g_40gb": 2},
        {"4g_40gb": 1, "3g_40gb": 1},
        {"3g_40gb": 1, "1g_10gb": 4},
        {},
    ],
)
def test_layouts_of_the_mig_guide_fit(counts: dict[str, int]) -> None:
    assert fits(**counts)


@pytest.mark.parametrize(
    "counts",
    [{"1g_10gb": 8}, {"1g_20gb": 5}, {"2g_20gb": 4}, {"3g_40gb": 3}, {"4g_40gb": 2}, {"3g_40gb": 2, "1g_10gb": 1}],
)
def test_layouts_beyond_the_device_do_not(counts: dict[str, int]) -> None:
    assert not fits(**counts)


def test_slices_at_their_real_share_never_exceed_the_device() -> None:
    rates = {each.code: Fraction(66_900 * each.units // each.units_total) for each in SLICES}
    assert excess([H100, *SLICES], rates | {"h100": Fraction(66_900)}) is None


def test_a_seventh_for_each_of_seven_is_just_allowed_and_a_little_more_is_not() -> None:
    rates = {"h100": Fraction(66_900), "h100-mig-1g.10gb": Fraction(66_900, 7)}
    assert excess([H100, *SLICES], rates) is None
    found = excess([H100, *SLICES], rates | {"h100-mig-1g.10gb": Fraction(9_558)})
    assert found is not None
    assert (found.device, found.layout, found.together) == ("h100", (("h100-mig-1g.10gb", 7),), Fraction(66_906))
    assert found.layout_text() == "7 × h100-mig-1g.10gb"


def test_what_has_no_rate_is_in_no_layout() -> None:
    assert excess([H100, *SLICES], {"h100-mig-1g.10gb": Fraction(10**6)}) is None
    assert excess([H100, *SLICES], {"h100": Fraction(1)}) is None


def test_slices_of_other_makers_go_by_their_units() -> None:
    device = DeviceModel("rngd", "RNGD", "npu", 48 * GIB)
    core = DeviceModel("rngd-2core", "RNGD, 2 cores", "npu", 12 * GIB, "rngd", 2, 8)
    assert max(dict(layout).get("rngd-2core", 0) for layout in layouts(device, [core])) == 4
    assert excess([device, core], {"rngd": Fraction(100), "rngd-2core": Fraction(25)}) is None
    found = excess([device, core], {"rngd": Fraction(100), "rngd-2core": Fraction(26)})
    assert found is not None
    assert found.together == 104
