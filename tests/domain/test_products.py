"""The names that makers' libraries give, and the models of the catalogue that they are."""

from __future__ import annotations

import pytest

from quotas.domain.devices import MODELS
from quotas.domain.node_reports import DeviceKind, FoundDevice
from quotas.domain.products import _PRODUCTS, expected_model

GIB = 2**30


def found(name: str, memory_gib: float, profile: str | None = None) -> FoundDevice:
    kind = DeviceKind.MIG if profile else DeviceKind.GPU
    return FoundDevice("GPU-1", kind, name, int(memory_gib * GIB), 0, mig_profile=profile)


@pytest.mark.parametrize(
    ("name", "memory_gib", "code"),
    [
        ("NVIDIA H100 80GB HBM3", 79.6, "h100"),
        ("NVIDIA H100 PCIe", 79.6, "h100-pcie"),
        ("NVIDIA H200", 140.4, "h200"),
        ("NVIDIA B200", 179.1, "b200"),
        ("NVIDIA A100-SXM4-80GB", 80, "a100"),
        ("NVIDIA A100 80GB PCIe", 80, "a100"),
        ("NVIDIA A100-SXM4-40GB", 40, "a100-40gb"),
        ("A100-SXM4-40GB", 40, "a100-40gb"),
        ("NVIDIA A100-PCIE-40GB", 40, "a100-40gb"),
        ("Tesla V100-SXM2-32GB", 32, "v100"),
        ("Tesla V100-PCIE-32GB", 32, "v100-pcie"),
        ("Tesla V100-SXM2-16GB", 16, None),
        ("NVIDIA L40S", 45, "l40s"),
        ("NVIDIA RTX A6000", 48, "a6000"),
        ("RTX A6000", 48, "a6000"),
        ("Tesla T4", 15, "t4"),
        ("NVIDIA T4", 15, "t4"),
        ("RBLN-CA02", 15.7, "atom"),
        ("RBLN-CA12", 15.7, "atom"),
        ("RBLN-CA25", 62.8, "atom-max"),
        ("RBLN-CA25", 15.7, None),  # one of its four processors
        ("rngd", 48, "rngd"),
        ("FuriosaAI RNGD", 48, "rngd"),
        ("NVIDIA H100 NVL", 94, None),
        ("NVIDIA GeForce RTX 4090", 24, None),
        ("", 1, None),
    ],
)
def test_a_device_is_of_the_model_that_its_name_says(name: str, memory_gib: float, code: str | None) -> None:
    assert expected_model(found(name, memory_gib)) == code


@pytest.mark.parametrize(
    ("name", "profile", "code"),
    [
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "1g.10gb", "h100-mig-1g.10gb"),
        ("NVIDIA H100 80GB HBM3", "3g.40gb", "h100-mig-3g.40gb"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "1g.5gb", "a100-40gb-mig-1g.5gb"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", "1g.10gb+me", "h100-mig-1g.10gb+me"),
        ("NVIDIA Unheard MIG 1g.10gb", "1g.10gb", None),
    ],
)
def test_a_slice_is_of_its_gpu_s_model_and_its_profile(name: str, profile: str, code: str | None) -> None:
    assert expected_model(found(name, 9.75, profile)) == code


def test_every_name_leads_to_a_model_of_the_catalogue() -> None:
    assert set(_PRODUCTS.values()) <= {model.code for model in MODELS}
