"""Device models with sourced peaks, to seed a catalogue with; and which fact counts where sources differ.

Peaks are dense (without sparsity), in GFLOPS. A MIG slice is known by its real share of streaming multiprocessors,
which is not k/7 of the chip: an H100's ``1g.10gb`` has 16 of 132. Read them on the target machine with
``nvidia-smi mig -lgip`` before a real rate card is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quotas.domain.rates import CapabilityFact, DeviceModel, FactStatus, Precision

_GIB = 2**30
_STATUS_ORDER = tuple(FactStatus)
"""From the most to the least trusted."""


def counting_fact(device_model: str, facts: Iterable[CapabilityFact], precision: Precision) -> CapabilityFact | None:
    """Return the fact that counts: of the most trusted status, the lowest peak; None when there is none."""
    fitting = [fact for fact in facts if fact.device_model == device_model and fact.precision is precision]
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


MODELS: tuple[DeviceModel, ...] = (
    DeviceModel("v100", "NVIDIA V100 SXM2 32GB", "gpu", 32 * _GIB),
    DeviceModel("a100", "NVIDIA A100 80GB", "gpu", 80 * _GIB),
    DeviceModel("h100", "NVIDIA H100 SXM5 80GB", "gpu", 80 * _GIB),
    DeviceModel("h100-mig-1g.10gb", "NVIDIA H100 MIG 1g.10gb", "mig", 10 * _GIB, "h100", 16, 132),
    DeviceModel("h100-mig-3g.40gb", "NVIDIA H100 MIG 3g.40gb", "mig", 40 * _GIB, "h100", 60, 132),
    DeviceModel("h200", "NVIDIA H200 SXM 141GB", "gpu", 141 * _GIB),
    DeviceModel("b200", "NVIDIA B200 180GB", "gpu", 180 * _GIB),
    DeviceModel("l40s", "NVIDIA L40S 48GB", "gpu", 48 * _GIB),
    DeviceModel("a6000", "NVIDIA RTX A6000 48GB", "gpu", 48 * _GIB),
    DeviceModel("t4", "NVIDIA T4 16GB", "gpu", 16 * _GIB),
    DeviceModel("atom", "Rebellions ATOM 16GB", "npu", 16 * _GIB),
    DeviceModel("rngd", "FuriosaAI RNGD 48GB", "npu", 48 * _GIB),
)
"""Kinds of accelerator, slices after the device that they are of."""

_TFLOPS = 1000
_Row = tuple[str, FactStatus, str, dict[Precision, int]]
_ROWS: tuple[_Row, ...] = (
    (
        "v100",
        FactStatus.COPIED,
        "NVIDIA V100 data sheet, as quoted by fudzilla.com",
        {Precision.FP64: 7_800, Precision.FP32: 15_700},
    ),
    (
        "v100",
        FactStatus.OFFICIAL,
        "developer.nvidia.com/blog/programming-tensor-cores-cuda-9",
        {Precision.FP16: 125 * _TFLOPS},
    ),
    (
        "a100",
        FactStatus.COPIED,
        "NVIDIA A100 data sheet, as quoted by glennklockwood.com/garden/processors/A100",
        {
            Precision.FP64: 9_700,
            Precision.FP64_TENSOR: 19_500,
            Precision.FP32: 19_500,
            Precision.TF32: 156 * _TFLOPS,
            Precision.FP16: 312 * _TFLOPS,
            Precision.INT8: 624 * _TFLOPS,
        },
    ),
    (
        "h100",
        FactStatus.COPIED,
        "NVIDIA H100 data sheet, as quoted by glennklockwood.com/garden/processors/h100",
        {
            Precision.FP64: 33_500,
            Precision.FP64_TENSOR: 66_900,
            Precision.FP32: 66_900,
            Precision.TF32: 494_700,
            Precision.FP16: 989_400,
            Precision.FP8: 1_978_900,
            Precision.INT8: 1_978_900,
        },
    ),
    (
        "h200",
        FactStatus.COPIED,
        "NVIDIA H200 data sheet (compute as H100 SXM), as quoted by glennklockwood.com",
        {
            Precision.FP64: 33_500,
            Precision.FP64_TENSOR: 66_900,
            Precision.FP32: 66_900,
            Precision.TF32: 494_700,
            Precision.FP16: 989_400,
            Precision.FP8: 1_978_900,
            Precision.INT8: 1_978_900,
        },
    ),
    (
        "b200",
        FactStatus.COPIED,
        "NVIDIA HGX B200 brief (early), as quoted by glennklockwood.com/garden/processors/B200",
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
        "NVIDIA HGX B200 table (later)",
        {Precision.FP64: 37 * _TFLOPS, Precision.FP32: 75 * _TFLOPS},
    ),
    (
        "b200",
        FactStatus.DERIVED,
        "NVIDIA HGX B200 table (later), sparse figures halved",
        {Precision.TF32: 1_100 * _TFLOPS, Precision.FP16: 2_250 * _TFLOPS, Precision.FP8: 4_500 * _TFLOPS},
    ),
    (
        "l40s",
        FactStatus.COPIED,
        "NVIDIA L40S data sheet, as quoted by mullet.se",
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
        {Precision.FP64: 1_210, Precision.FP32: 38_700},
    ),
    (
        "a6000",
        FactStatus.DERIVED,
        "NVIDIA RTX A6000 data sheet, sparse 309.7 TFLOPS halved",
        {Precision.TF32: 77_400, Precision.FP16: 154_800},
    ),
    (
        "t4",
        FactStatus.UNVERIFIED,
        "NVIDIA T4 data sheet, not looked up",
        {Precision.FP32: 8_100, Precision.FP16: 65 * _TFLOPS, Precision.INT8: 130 * _TFLOPS},
    ),
    (
        "atom",
        FactStatus.OFFICIAL,
        "docs.rbln.ai, ATOM architecture",
        {Precision.FP16: 32 * _TFLOPS, Precision.INT8: 128 * _TFLOPS},
    ),
    (
        "rngd",
        FactStatus.OFFICIAL,
        "developer.furiosa.ai, RNGD (BF16 listed as fp16)",
        {Precision.FP16: 256 * _TFLOPS, Precision.FP8: 512 * _TFLOPS, Precision.INT8: 512 * _TFLOPS},
    ),
)

FACTS: tuple[CapabilityFact, ...] = tuple(
    CapabilityFact(model, precision, peak_gflops, source, status)
    for model, status, source, by_precision in _ROWS
    for precision, peak_gflops in by_precision.items()
)
"""What the sources say of `MODELS`; a slice has its share of its parent's."""
