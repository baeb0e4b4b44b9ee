"""How many multiprocessors a GPU has, of which NVML says only how many cores they have together."""

from __future__ import annotations

CORES_PER_SM = {
    # "Arithmetic Instructions" of NVIDIA's CUDA C++ Programming Guide: FP32 lanes of a multiprocessor by capability.
    (5, 0): 128,
    (5, 2): 128,
    (5, 3): 128,
    (6, 0): 64,
    (6, 1): 128,
    (6, 2): 128,
    (7, 0): 64,
    (7, 2): 64,
    (7, 5): 64,
    (8, 0): 64,
    (8, 6): 128,
    (8, 7): 128,
    (8, 9): 128,
    (9, 0): 128,
    (10, 0): 128,
    (10, 3): 128,
    (12, 0): 128,
}


def multiprocessors(cores: int, capability: tuple[int, int]) -> int | None:
    """Return their number; None for a capability that is not known, or cores that are no multiple of one's."""
    of_one = CORES_PER_SM.get(capability)
    return None if of_one is None or not cores or cores % of_one else cores // of_one
