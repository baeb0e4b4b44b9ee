"""Which machines of a cluster take what a pool or a profile is for: labels that they have, taints it tolerates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quotas.domain.units import InvalidValue

_PREFIX = r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?"
_KEY = re.compile(_PREFIX + r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_OPERATORS = ("Equal", "Exists")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_FIELDS = {"key", "operator", "value", "effect", "tolerationSeconds"}

KEYS = frozenset({"node_selector", "tolerations"})
"""What the terms of a pool may hold for the backend `kubernetes`."""


@dataclass(frozen=True)
class Placement:
    """The labels that a machine must have, and the taints that keep nobody of this away, as a pod states them."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()


def placement(terms: Mapping[str, Any]) -> Placement:
    """Return what terms for the backend `kubernetes` say of machines.

    `node_selector` maps labels to values; `tolerations` is a list of objects as in a pod. Raises InvalidValue.
    """
    return Placement(_selector(terms.get("node_selector", {})), _tolerations(terms.get("tolerations", [])))


def check_pool_terms(terms: Mapping[str, Mapping[str, Any]]) -> None:
    """The terms are some that a pool can have. Raises InvalidValue with the field and what is allowed."""
    for backend in sorted(set(terms) - {"kubernetes"}):
        raise InvalidValue(
            "terms",
            f"a pool has terms for kubernetes only, not {backend!r:.40}",
            f"풀의 항목은 kubernetes만 가질 수 있습니다 (입력: {backend!r:.40})",
        )
    given = terms.get("kubernetes", {})
    for key in sorted(set(given) - KEYS):
        allowed = ", ".join(sorted(KEYS))
        raise InvalidValue(
            "terms", f"unknown key {key!r:.40}; allowed: {allowed}", f"알 수 없는 키 {key!r:.40}. 가능한 키: {allowed}"
        )
    placement(given)


def _selector(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping) or not all(_is_label(key, value) for key, value in given.items()):
        raise InvalidValue(
            "node_selector",
            'must map labels of machines to values, as in {"hall": "own"}',
            '{"hall": "own"}처럼 장비 레이블과 값의 대응이어야 합니다',
        )
    return dict(given)


def _tolerations(given: object) -> tuple[dict[str, Any], ...]:
    if not isinstance(given, list) or not all(isinstance(each, Mapping) and _tolerates(each) for each in given):
        raise InvalidValue(
            "tolerations",
            'must be a list of tolerations, as in [{"key": "hall", "operator": "Exists", "effect": "NoSchedule"}]',
            '[{"key": "hall", "operator": "Exists", "effect": "NoSchedule"}]처럼 톨러레이션의 목록이어야 합니다',
        )
    return tuple(dict(each) for each in given)


def _is_label(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, str) and bool(_KEY.fullmatch(key) and _VALUE.fullmatch(value))


def _tolerates(given: Mapping[Any, Any]) -> bool:
    """Return whether an API server takes it."""
    key, value, seconds = given.get("key"), given.get("value", ""), given.get("tolerationSeconds")
    operator, effect = given.get("operator", "Equal"), given.get("effect", "")
    if not set(given) <= _FIELDS or operator not in _OPERATORS or effect not in ("", *_EFFECTS):
        return False
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int) or effect != "NoExecute"):
        return False
    if operator == "Exists":
        return value == "" and (key is None or (isinstance(key, str) and bool(_KEY.fullmatch(key))))
    return _is_label(key, value)
