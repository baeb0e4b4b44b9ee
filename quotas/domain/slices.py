"""Slices of a device (MIG): which may lie side by side, and whether their rates together exceed the whole device's.

NVIDIA divides a device into 7 compute slices and 8 memory slices: a ``3g.40gb`` of an 80 GB device takes 3 of the
first and 4 of the second. A slice of another kind takes its `units` of `units_total`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from quotas.domain.rates import DeviceModel

_MIG = re.compile(r"(?P<compute>[1-7])g\.\d+gb$")
_COMPUTE_SLICES = 7
_MEMORY_SLICES = 8

Layout = tuple[tuple[str, int], ...]
"""(Slice's code, how many of it), for the slices that lie side by side on one device."""


@dataclass(frozen=True)
class Excess:
    """The slices of `layout` would be charged `together` GFLOPS, above the `whole` of their device `device`."""

    device: str
    layout: Layout
    together: Fraction
    whole: Fraction

    def layout_text(self) -> str:
        return " + ".join(f"{count} × {code}" for code, count in self.layout)


def layouts(device: DeviceModel, slices: Sequence[DeviceModel]) -> Iterator[Layout]:
    """Yield every layout of `slices` that fits on `device`, those included that leave room for more."""
    sizes = [(each.code, *_shares(each, device)) for each in slices]
    yield from _layouts(sizes, Fraction(1), Fraction(1))


def _layouts(sizes: Sequence[tuple[str, Fraction, Fraction]], compute: Fraction, memory: Fraction) -> Iterator[Layout]:
    if not sizes:
        yield ()
        return
    (code, compute_share, memory_share), rest = sizes[0], sizes[1:]
    count = 0
    while count * compute_share <= compute and count * memory_share <= memory:
        mine: Layout = ((code, count),) if count else ()
        for others in _layouts(rest, compute - count * compute_share, memory - count * memory_share):
            yield mine + others
        count += 1


def _shares(part: DeviceModel, device: DeviceModel) -> tuple[Fraction, Fraction]:
    """Return which part of the device's compute and memory slots one slice takes."""
    mig = _MIG.search(part.code)
    if mig is None:
        return Fraction(part.units, part.units_total), Fraction(0)
    slots = round(Fraction(part.memory_bytes * _MEMORY_SLICES, device.memory_bytes))
    return Fraction(int(mig["compute"]), _COMPUTE_SLICES), Fraction(max(slots, 1), _MEMORY_SLICES)


def excess(models: Iterable[DeviceModel], rates: Mapping[str, Fraction]) -> Excess | None:
    """Return the layout that would be charged most above its whole device, or None.

    `rates` are GFLOPS for one device or slice, by code; what has no rate is in no layout.
    """
    by_code = {model.code: model for model in models}
    worst: Excess | None = None
    for device in by_code.values():
        slices = [each for each in by_code.values() if each.parent == device.code and each.code in rates]
        if device.code not in rates or not slices:
            continue
        whole = rates[device.code]
        for layout in layouts(device, slices):
            together = sum((rates[code] * count for code, count in layout), Fraction(0))
            if together > whole and (worst is None or together - whole > worst.together - worst.whole):
                worst = Excess(device.code, layout, together, whole)
    return worst
