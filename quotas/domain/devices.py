"""Device models with sourced peaks, to seed a catalogue with; and which fact counts where sources differ.

Peaks are in GFLOPS, dense (without sparsity) unless a fact says otherwise. A MIG slice is known by its real share of
streaming multiprocessors, which is not k/7 of the chip: an H100's ``1g.10gb`` has 16 of 132. Read them on the target
machine with ``nvidia-smi mig -lgip`` before a real rate card is published. What is in no source is not here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from quotas.domain.rates import CapabilityFact, Density, DeviceModel, FactStatus, Precision

_GIB = 2**30
_STATUS_ORDER = tuple(FactStatus)
"""From the most to the least trusted."""


def counting_fact(
    device_model: str, facts: Iterable[CapabilityFact], precision: Precision, density: Density = Density.DENSE
) -> CapabilityFact | None:
    """Return the fact that counts: of the most trusted status, the lowest peak; None when there is none.

    A superseded fact does not count.
    """
    fitting = [
        fact
        for fact in facts
        if fact.device_model == device_model
        and fact.precision is precision
        and fact.density is density
        and not fact.superseded
    ]
    if not fitting:
        return None
    return min(fitting, key=lambda fact: (_STATUS_ORDER.index(fact.status), fact.peak_gflops, fact.source))


def peaks(models: Iterable[DeviceModel], facts: Iterable[CapabilityFact], precision: Precision) -> Mapping[str, int]:
    """Return the peak of one device or slice in GFLOPS by code; a slice has its share of its parent's, rounded down."""
    known = list(facts)
    found: dict[str, int] = {}
    for model in models:
        fact = counting_fact(model.parent or model.code, known, precision)
        if fact is not None:
            found[model.code] = fact.peak_gflops * model.units // model.units_total
    return found


_DEVICES: tuple[DeviceModel, ...] = (
    DeviceModel("v100", "NVIDIA V100 SXM2 32GB", "gpu", 32 * _GIB),
    DeviceModel("v100-pcie", "NVIDIA V100 PCIe 32GB", "gpu", 32 * _GIB),
    DeviceModel("a100-40gb", "NVIDIA A100 40GB", "gpu", 40 * _GIB),
    DeviceModel("a100", "NVIDIA A100 80GB", "gpu", 80 * _GIB),
    DeviceModel("h100", "NVIDIA H100 SXM5 80GB", "gpu", 80 * _GIB),
    DeviceModel("h100-pcie", "NVIDIA H100 PCIe 80GB", "gpu", 80 * _GIB),
    DeviceModel("h200", "NVIDIA H200 SXM 141GB", "gpu", 141 * _GIB),
    DeviceModel("b200", "NVIDIA B200 180GB", "gpu", 180 * _GIB),
    DeviceModel("l40s", "NVIDIA L40S 48GB", "gpu", 48 * _GIB),
    DeviceModel("a6000", "NVIDIA RTX A6000 48GB", "gpu", 48 * _GIB),
    DeviceModel("t4", "NVIDIA T4 16GB", "gpu", 16 * _GIB),
    DeviceModel("bow", "Graphcore Bow IPU", "ipu", 900 * 10**6),
    DeviceModel("atom", "Rebellions ATOM 16GB", "npu", 16 * _GIB),
    DeviceModel("atom-max", "Rebellions ATOM-Max 64GB", "npu", 64 * _GIB),
    DeviceModel("rebel-quad", "Rebellions REBEL-Quad 144GB", "npu", 144 * _GIB),
    DeviceModel("rngd", "FuriosaAI RNGD 48GB", "npu", 48 * _GIB),
)

_SLICES: tuple[tuple[str, int, str, FactStatus, dict[str, int]], ...] = (
    (
        "a100-40gb",
        108,
        "nvidia-smi mig -lgip of an A100 40GB, as quoted by forums.developer.nvidia.com 170488 and others",
        FactStatus.COPIED,
        {"1g.5gb": 14, "1g.10gb": 14, "2g.10gb": 28, "3g.20gb": 42, "4g.20gb": 56, "7g.40gb": 98},
    ),
    (
        "a100",
        108,
        "nvidia-smi mig -lgip of an A100 80GB, as quoted in public listings",
        FactStatus.COPIED,
        {"1g.10gb": 14, "1g.20gb": 14, "2g.20gb": 28, "3g.40gb": 42, "4g.40gb": 56, "7g.80gb": 98},
    ),
    (
        "h100",
        132,
        "nvidia-smi mig -lgip of an H100 SXM5, as quoted by jbarrow.ai/field_notes/nvidia-mig (2026-06-11)",
        FactStatus.COPIED,
        {"1g.10gb": 16, "1g.20gb": 26, "2g.20gb": 32, "3g.40gb": 60, "4g.40gb": 64, "7g.80gb": 132},
    ),
    (
        "h200",
        132,
        "nvidia-smi mig -lgip of an H200, as quoted in public listings and measurements (2026)",
        FactStatus.COPIED,
        {"1g.18gb": 16, "1g.35gb": 26, "2g.35gb": 32, "3g.71gb": 60, "4g.71gb": 64, "7g.141gb": 132},
    ),
    (
        "b200",
        148,
        "NVIDIA's go-nvml mock of a B200, 18 for each compute slice; not read on a device",
        FactStatus.UNVERIFIED,
        {"1g.23gb": 18, "1g.45gb": 18, "2g.45gb": 36, "3g.90gb": 54, "4g.90gb": 72, "7g.180gb": 126},
    ),
)
"""Of which device, its multiprocessors, where the slices' are from, how that is known, and the slices' own."""


def _slices() -> Iterator[DeviceModel]:
    devices = {device.code: device for device in _DEVICES}
    for parent, total, source, status, units in _SLICES:
        maker = " ".join(devices[parent].name.split()[:2])
        for name, own in units.items():
            memory = int(name.split(".")[1].removesuffix("gb")) * _GIB
            code = f"{parent}-mig-{name}"
            yield DeviceModel(code, f"{maker} MIG {name}", "mig", memory, parent, own, total, source, status)


MODELS: tuple[DeviceModel, ...] = (*_DEVICES, *_slices())
"""Kinds of accelerator, slices after the devices that they are of."""

_TFLOPS = 1000
_HOPPER = {
    Precision.FP64: 33_500,
    Precision.FP64_TENSOR: 66_900,
    Precision.FP32: 66_900,
    Precision.TF32: 494_700,
    Precision.FP16: 989_400,
    Precision.FP8: 1_978_900,
    Precision.INT8: 1_978_900,
}
_AMPERE = {
    Precision.FP64: 9_700,
    Precision.FP64_TENSOR: 19_500,
    Precision.FP32: 19_500,
    Precision.TF32: 156 * _TFLOPS,
    Precision.FP16: 312 * _TFLOPS,
    Precision.INT8: 624 * _TFLOPS,
}
_AMPERE_SHEET = "NVIDIA A100 data sheet, as quoted by glennklockwood.com/garden/processors/A100"
_EARLY_B200 = "NVIDIA HGX B200 brief (early), as quoted by glennklockwood.com/garden/processors/B200"
_LATER_B200 = "NVIDIA HGX B200 table (later), as quoted by zdszero.github.io"
_H100_PCIE = "NVIDIA H100 data sheet (PCIe), as quoted by archive-lib.hpctech.co.jp"

_Row = tuple[str, FactStatus, str, str | None, dict[Precision, int]]
_ROWS: tuple[_Row, ...] = (
    (
        "v100",
        FactStatus.COPIED,
        "NVIDIA V100 data sheet, as quoted by fudzilla.com",
        None,
        {Precision.FP64: 7_800, Precision.FP32: 15_700},
    ),
    (
        "v100",
        FactStatus.OFFICIAL,
        "developer.nvidia.com/blog/programming-tensor-cores-cuda-9",
        "2017",
        {Precision.FP16: 125 * _TFLOPS},
    ),
    (
        "v100-pcie",
        FactStatus.COPIED,
        "NVIDIA V100 data sheet (PCIe), as quoted by io-tech.fi",
        None,
        {Precision.FP64: 7_000, Precision.FP32: 14_000, Precision.FP16: 112 * _TFLOPS},
    ),
    ("a100-40gb", FactStatus.COPIED, _AMPERE_SHEET, None, _AMPERE),
    ("a100", FactStatus.COPIED, _AMPERE_SHEET, None, _AMPERE),
    (
        "h100",
        FactStatus.COPIED,
        "NVIDIA H100 data sheet, as quoted by glennklockwood.com/garden/processors/h100",
        None,
        _HOPPER,
    ),
    (
        "h100-pcie",
        FactStatus.COPIED,
        _H100_PCIE,
        None,
        {Precision.FP64: 26_000, Precision.FP64_TENSOR: 51_000, Precision.FP32: 51_000},
    ),
    (
        "h100-pcie",
        FactStatus.DERIVED,
        f"{_H100_PCIE}, sparse figures halved",
        None,
        {
            Precision.TF32: 378 * _TFLOPS,
            Precision.FP16: 756_500,
            Precision.FP8: 1_513 * _TFLOPS,
            Precision.INT8: 1_513 * _TFLOPS,
        },
    ),
    (
        "h200",
        FactStatus.COPIED,
        "NVIDIA H200 data sheet (compute as H100 SXM), as quoted by glennklockwood.com",
        None,
        _HOPPER,
    ),
    (
        "b200",
        FactStatus.COPIED,
        _EARLY_B200,
        None,
        {
            Precision.FP64: 40 * _TFLOPS,
            Precision.FP64_TENSOR: 40 * _TFLOPS,
            Precision.FP32: 80 * _TFLOPS,
            Precision.TF32: 1_100 * _TFLOPS,
            Precision.FP16: 2_250 * _TFLOPS,
            Precision.FP8: 4_500 * _TFLOPS,
            Precision.INT8: 4_500 * _TFLOPS,
        },
    ),
    (
        "b200",
        FactStatus.COPIED,
        _LATER_B200,
        None,
        {Precision.FP64: 37 * _TFLOPS, Precision.FP64_TENSOR: 37 * _TFLOPS, Precision.FP32: 75 * _TFLOPS},
    ),
    (
        "b200",
        FactStatus.DERIVED,
        f"{_LATER_B200}, sparse figures halved",
        None,
        {
            Precision.TF32: 1_100 * _TFLOPS,
            Precision.FP16: 2_250 * _TFLOPS,
            Precision.FP8: 4_500 * _TFLOPS,
            Precision.INT8: 4_500 * _TFLOPS,
        },
    ),
    (
        "l40s",
        FactStatus.COPIED,
        "NVIDIA L40S data sheet, as quoted by mullet.se",
        None,
        {
            Precision.FP64: 1_430,
            Precision.FP32: 91_600,
            Precision.TF32: 183 * _TFLOPS,
            Precision.FP16: 362 * _TFLOPS,
            Precision.FP8: 733 * _TFLOPS,
            Precision.INT8: 733 * _TFLOPS,
        },
    ),
    (
        "a6000",
        FactStatus.COPIED,
        "NVIDIA RTX A6000 data sheet, as quoted by sysrqmts.com",
        None,
        {Precision.FP64: 1_210, Precision.FP32: 38_700},
    ),
    (
        "a6000",
        FactStatus.DERIVED,
        "NVIDIA RTX A6000 data sheet, sparse figures halved",
        None,
        {Precision.TF32: 77_400, Precision.FP16: 154_800, Precision.INT8: 309_700},
    ),
    (
        "t4",
        FactStatus.COPIED,
        "NVIDIA's announcement of the T4, as quoted by geektopia.es",
        "2018-09-13",
        {Precision.FP32: 8_100, Precision.FP16: 65 * _TFLOPS, Precision.INT8: 130 * _TFLOPS},
    ),
    ("t4", FactStatus.UNVERIFIED, "NVIDIA T4, FP64 not looked up", None, {Precision.FP64: 250}),
    (
        "bow",
        FactStatus.DERIVED,
        "docs.graphcore.ai, Bow-2000: 1.4 PFLOPS FP16.16 of 4 IPUs",
        None,
        {Precision.FP16: 350 * _TFLOPS},
    ),
    ("bow", FactStatus.UNVERIFIED, "Graphcore, not looked up", None, {Precision.FP32: 87_400}),
    (
        "atom",
        FactStatus.OFFICIAL,
        "docs.rbln.ai, ATOM architecture",
        None,
        {Precision.FP16: 32 * _TFLOPS, Precision.INT8: 128 * _TFLOPS},
    ),
    (
        "atom-max",
        FactStatus.DERIVED,
        "docs.rbln.ai, ATOM architecture: 4 chips",
        None,
        {Precision.FP16: 128 * _TFLOPS, Precision.INT8: 512 * _TFLOPS},
    ),
    (
        "rebel-quad",
        FactStatus.UNVERIFIED,
        "tomshardware.com on ISSCC 2026, rounded by the reporter",
        "2026",
        {Precision.FP16: 1_000 * _TFLOPS, Precision.FP8: 2_000 * _TFLOPS},
    ),
    (
        "rngd",
        FactStatus.OFFICIAL,
        "developer.furiosa.ai, RNGD (BF16 listed as fp16)",
        None,
        {Precision.FP16: 256 * _TFLOPS, Precision.FP8: 512 * _TFLOPS, Precision.INT8: 512 * _TFLOPS},
    ),
)
_SUPERSEDED = frozenset(
    ("b200", precision, _EARLY_B200) for precision in (Precision.FP64, Precision.FP64_TENSOR, Precision.FP32)
)
"""The later table states other figures of these three; both are kept, and the later counts."""

FACTS: tuple[CapabilityFact, ...] = tuple(
    CapabilityFact(
        model,
        precision,
        peak_gflops,
        source,
        status,
        source_date=source_date,
        superseded=(model, precision, source) in _SUPERSEDED,
    )
    for model, status, source, source_date, by_precision in _ROWS
    for precision, peak_gflops in by_precision.items()
)
"""What the sources say of `MODELS`; a slice has its share of its parent's."""
