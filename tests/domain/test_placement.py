"""What an operator may say of the machines of a pool: what an API server takes, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from quotas.domain.placement import Placement, check_pool_terms, placement
from quotas.domain.units import InvalidValue

EXISTS = {"key": "hall", "operator": "Exists", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"node_selector": {"hall": "own", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "empty": ""}},
        {"tolerations": [EXISTS, {"key": "hall", "value": "own"}, {"operator": "Exists"}]},
        {"tolerations": [{"key": "a/b", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}]},
    ],
)
def test_what_a_pod_can_state_is_taken_as_it_is(terms: dict[str, Any]) -> None:
    check_pool_terms({"kubernetes": terms})
    assert placement(terms) == Placement(terms.get("node_selector", {}), tuple(terms.get("tolerations", ())))


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"docker": {}}, "terms"),
        ({"kubernetes": {"shm_bytes": 1}}, "terms"),
        ({"kubernetes": {"node_selector": ["hall"]}}, "node_selector"),
        ({"kubernetes": {"node_selector": {"hall": 1}}}, "node_selector"),
        ({"kubernetes": {"node_selector": {"hall!": "own"}}}, "node_selector"),
        ({"kubernetes": {"node_selector": {"hall": "own hall"}}}, "node_selector"),
        ({"kubernetes": {"node_selector": {"hall": "x" * 64}}}, "node_selector"),
        ({"kubernetes": {"tolerations": {"key": "hall"}}}, "tolerations"),
        ({"kubernetes": {"tolerations": ["hall"]}}, "tolerations"),
        ({"kubernetes": {"tolerations": [{}]}}, "tolerations"),
        ({"kubernetes": {"tolerations": [{**EXISTS, "operator": "Perhaps"}]}}, "tolerations"),
        ({"kubernetes": {"tolerations": [{**EXISTS, "effect": "Never"}]}}, "tolerations"),
        ({"kubernetes": {"tolerations": [{**EXISTS, "value": "own"}]}}, "tolerations"),
        ({"kubernetes": {"tolerations": [{**EXISTS, "seconds": 1}]}}, "tolerations"),
        ({"kubernetes": {"tolerations": [{**EXISTS, "tolerationSeconds": 1}]}}, "tolerations"),
    ],
)
def test_anything_else_is_refused_with_its_field(terms: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        check_pool_terms(terms)
    assert refused.value.field == field
