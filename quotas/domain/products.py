"""Which device model of the catalogue a found device is, by the name that its maker's library gives."""

from __future__ import annotations

from quotas.domain.devices import MODELS
from quotas.domain.node_reports import FoundDevice

_PRODUCTS = {
    # As NVML names them, without "NVIDIA".
    "v100-sxm2-32gb": "v100",
    "v100-sxm3-32gb": "v100",
    "v100-pcie-32gb": "v100-pcie",
    "a100-sxm4-40gb": "a100-40gb",
    "a100-pcie-40gb": "a100-40gb",
    "a100-sxm4-80gb": "a100",
    "a100-sxm-80gb": "a100",
    "a100 80gb pcie": "a100",
    "a100-pcie-80gb": "a100",
    "h100 80gb hbm3": "h100",
    "h100 pcie": "h100-pcie",
    "h200": "h200",
    "b200": "b200",
    "l40s": "l40s",
    "rtx a6000": "a6000",
    "t4": "t4",
    # Rebellions' cards by their own numbers (docs.rbln.ai, support matrix); an ATOM+ has the chip of an ATOM.
    "rbln-ca02": "atom",
    "rbln-ca12": "atom",
    "rbln-ca22": "atom",
    "rbln-ca25": "atom-max",
    "rngd": "rngd",
}
_MAKERS = ("nvidia ", "tesla ", "furiosaai ", "furiosa ", "rebellions ")
_MEMORY = {model.code: model.memory_bytes for model in MODELS}


def expected_model(device: FoundDevice) -> str | None:
    """Return the code that the catalogue has, or would have, for the device; None for a name that is not known.

    A slice is of its GPU's model and has the name of its MIG profile. What has less than half of its model's memory is
    a part of it, and not the model: a card of four processors that are reported one by one.
    """
    code = _PRODUCTS.get(_plain(device.name))
    if code is None:
        return None
    if device.mig_profile is not None:
        return f"{code}-mig-{device.mig_profile}"
    return code if 2 * device.memory_bytes >= _MEMORY[code] else None


def _plain(name: str) -> str:
    """Return the product's name alone: without its maker, and without the slice that it is of."""
    plain = " ".join(name.lower().split()).split(" mig ")[0]
    for maker in _MAKERS:
        plain = plain.removeprefix(maker)
    return plain
